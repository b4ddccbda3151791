"""Passwords of Kafka are planted, everything runs, and nothing that was written or answered holds one."""

import signal
from pathlib import Path

import pytest
import urllib3

from loadtest.demo.processes import answers, free_port
from tests.certificates import encrypted
from tests.integration.kafka.secured_kafka import PASSWORD, SCRAM, SecuredKafka
from tests.integration.marquee_processes import Start
from tests.integration.topics import Topic
from tests.polling import until

pytestmark = pytest.mark.kafka

KEY_PASSWORD = "pl4nted-of-the-K3y"
ROUTES = ("/recommend/1", "/similar/alien+1979", "/healthz", "/readyz", "/docs", "/docs/openapi.json")
OF_OPERATOR = ("/healthz", "/readyz", "/release", "/metrics", "/docs/openapi.json", "/")


@pytest.fixture(scope="module")
def bootstrap(secured: SecuredKafka) -> str:
    """The listener of those who may do everything, which makes the topic."""
    return secured.address["plain"]


@pytest.fixture
def planted(environ: dict[str, str], secured: SecuredKafka) -> dict[str, str]:
    """Settings of a small service, whose Kafka wants a login, and is shown a certificate with an encrypted key."""
    api, port, operator_port = (str(free_port()) for _ in range(3))
    return environ | {
        "MARQUEE_STREAM_GENERATION": "2026",
        "MARQUEE_LOADTEST_USERS": "300",
        "MARQUEE_LOADTEST_MOVIES": "150",
        "MARQUEE_LOADTEST_API_PORT": api,
        "MARQUEE_BATCH_API": f"http://127.0.0.1:{api}",
        "MARQUEE_BATCH_MODEL": "popular",
        "MARQUEE_BATCH_TEST_HOURS": "6",
        "MARQUEE_SERVER_PORT": port,
        "MARQUEE_SERVER_OPERATOR_PORT": operator_port,
        **secured.environ(
            "secure",
            security_protocol="SASL_SSL",
            ssl_ca_file=secured.authority.certificate,
            ssl_certificate_file=secured.client,
            ssl_key_file=encrypted(secured.client, KEY_PASSWORD),
            ssl_key_password=KEY_PASSWORD,
            **SCRAM,
        ),
    }


def holding(text: str, folder: Path) -> list[Path]:
    """The files below a folder that hold a text."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def bodies(port: str, routes: tuple[str, ...]) -> str:
    """What the routes of a port answer, with headers."""
    got = [urllib3.request("GET", f"http://127.0.0.1:{port}{route}", retries=False) for route in routes]
    return "\n".join(f"{answer.status} {dict(answer.headers)}\n{answer.data.decode()}" for answer in got)


def test_no_password_is_written_or_answered(
    environ: dict[str, str], planted: dict[str, str], start: Start, tmp_path: Path
) -> None:
    topic = Topic(environ)
    topic.make()
    topic.write(200)
    history = start(planted, "loadtest", "history", "--days", "3")
    assert history.ends() == 0, history.text()
    reading = [start(planted, "batch", "collect"), start(planted, "quality", "telemetry")]
    until(lambda: len(topic.archived()) == 200 and list((tmp_path / "var" / "reports").glob("*.json")))
    for process in reading:
        process.process.send_signal(signal.SIGTERM)
        assert process.ends() == 0, process.text()

    start(planted, "loadtest", "api")
    until(lambda: answers(f"{planted['MARQUEE_BATCH_API']}/healthz"))
    night = start(planted, "batch", "nightly")
    assert night.ends() == 0, night.text()
    start(planted, "server")
    start(planted, "server", "operator")
    port, operator_port = planted["MARQUEE_SERVER_PORT"], planted["MARQUEE_SERVER_OPERATOR_PORT"]
    until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
    until(lambda: answers(f"http://127.0.0.1:{operator_port}/readyz"))
    answered = bodies(port, ROUTES) + bodies(operator_port, OF_OPERATOR)

    assert "marquee_" in answered
    assert holding(topic.name, tmp_path)  # what is looked for in this way is found
    for password in (PASSWORD, KEY_PASSWORD):
        assert password not in answered
        assert holding(password, tmp_path) == []
