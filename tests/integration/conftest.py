"""Real processes for the integration tests: a broker and the commands of Marquee, which are stopped by their ids."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.demo.processes import free_port
from stream import broker
from tests.integration.marquee_processes import Command, Start


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """The address of a broker that all tests share; each test uses a topic of its own.

    `MARQUEE_TEST_BOOTSTRAP` names another Kafka to run them against.
    """
    if named := os.environ.get("MARQUEE_TEST_BOOTSTRAP"):
        yield named
        return
    port = free_port()
    with broker.running("127.0.0.1", port):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def environ(tmp_path: Path, bootstrap: str) -> dict[str, str]:
    """Settings of one test: its own folder and topic."""
    return {
        "MARQUEE_STREAM_VAR": str(tmp_path / "var"),
        "MARQUEE_STREAM_BOOTSTRAP": bootstrap,
        "MARQUEE_STREAM_TOPIC": f"log-{uuid.uuid4()}",
        "MARQUEE_STREAM_BATCH_SECONDS": "0.5",
    }


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `python -m …`; processes that still run after the test are killed."""
    commands: list[Command] = []

    def started(environ: dict[str, str], *arguments: str) -> Command:
        commands.append(Command(environ, tmp_path / f"{len(commands)}-{arguments[0]}.log", *arguments))
        return commands[-1]

    yield started
    for command in commands:
        if command.process.poll() is None:
            command.process.kill()
            command.process.wait()
