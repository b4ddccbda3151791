"""Settings of all rooms: precedence, defaults, and errors that name what is mistyped."""

import os
import re
from pathlib import Path
from typing import get_args

import msgspec
import msgspec.inspect
import pytest

from batch.settings import BatchSettings
from quality.lines import context_checks
from quality.lines.repair import KAFKA_TIME, ONE_CHARACTER
from quality.lines.schemas import event_schemas
from quality.settings import NORMAL, AlertLimits, Fault, QualitySettings, Thresholds, VerdictLimits, limits_of
from server.settings import ServerSettings
from stream.errors import SettingsError
from stream.grammar import Reason
from stream.ledger_entry import FATES
from stream.redaction import Secret
from stream.settings import ROOMS, StreamSettings, load
from tests.room_settings import SETTINGS

ROOT = Path(__file__).parents[1]
NUMBERS = (msgspec.inspect.IntType, msgspec.inspect.FloatType)
rooms = pytest.mark.parametrize(("room", "kind"), SETTINGS.items())

DEFAULTS = {
    "stream": {
        "bootstrap": "127.0.0.1:9092", "topic": "movielog1", "generation": "2022", "timezone": "America/New_York",
        "var": Path("var"), "max_user": 1_000_000, "batch_lines": 100_000, "batch_seconds": 30.0,
        "fetch_timeout_ms": 500, "stall_seconds": 120.0, "clock_lines": 20, "clock_users": 10,
        "clock_ahead_minutes": 60.0, "idle_minutes": 5.0, "security_protocol": "PLAINTEXT", "sasl_mechanism": "",
        "sasl_user": "", "sasl_password": Secret(), "sasl_password_file": "", "ssl_ca_file": "",
        "ssl_certificate_file": "", "ssl_key_file": "", "ssl_key_password": Secret(), "ssl_key_password_file": "",
    },
    "quality": {
        "window_hours": 24.0, "grace_minutes": 10.0, "session_gap_hours": 6.0, "report_every_minutes": 60.0,
        "commit_seconds": 2.0, "time_window_minutes": 60.0,
        "late_hours": 24.0, "deadline_ms": 600, "verdict": VerdictLimits(), "thresholds": Thresholds(),
        "week_lines": 100_000, "silent_seconds": 60.0, "webhook": "", "webhook_timeout_s": 5.0,
    },
    "batch": {
        "api": "http://127.0.0.1:8080", "api_timeout_s": 5.0, "api_connections": 4, "api_retries": 8,
        "proven_users": 10, "history_days": 90, "test_hours": 24.0, "evaluation_users": 20_000, "model": "best",
        "factors": 64,
        "iterations": 12, "regularization": 5.0, "confidence": 10.0, "fit_users": 200_000, "dense_movies": 8_192,
        "ease_penalty": 300.0, "order_penalty": 300.0, "half_life_days": 14.0, "minimum_segment": 100,
        "adult_share_minors": 0.0, "minor_below_age": 18, "max_cost": 1_000_000.0,
        "new_movie_share": 0.05, "new_movie_reach": 0.3, "new_movie_starts": 20, "new_movie_trials": 500, "trees": 50,
        "answers": "auto", "seed": 1, "night_at": "03:00", "explore_share": 0.0,
        "young_archive_days": 3, "young_archive_hours": 4.0, "keep_releases": 14,
        "keep_archive_days": 14, "keep_quarantine_days": 30, "keep_alert_days": 90,
        "keep_damaged_days": 30, "keep_revision_days": 365, "keep_experiment_days": 365,
        "least_free_mb": 1024,
    },
    "server": {
        "host": "127.0.0.1", "port": 8082, "operator_host": "127.0.0.1",
        "operator_port": 9082, "lane": True, "swap_poll_s": 0.5, "drain_s": 5.0, "hung_s": 30.0,
        "stall_s": 10.0,
        "max_connections": 10_000, "request_s": 10.0, "idle_s": 75.0, "write_s": 10.0, "shed_s": 0.2,
        "max_header_bytes": 8192, "max_body_bytes": 65_536, "access_log": 0.0,
    },
}  # fmt: skip


def written(path: Path, text: str) -> dict[str, str]:
    path.write_text(text, "utf-8")
    return {"MARQUEE_SETTINGS": str(path)}


def test_every_room_has_a_class() -> None:
    assert set(SETTINGS) == set(ROOMS)


@pytest.mark.parametrize("room", DEFAULTS)
def test_defaults_are_as_expected(room: str) -> None:
    kind = SETTINGS[room]
    assert {name: getattr(kind(), name) for name in kind.__struct_fields__} == DEFAULTS[room]


@rooms
def test_the_settings_of_this_project_are_read(room: str, kind: type[msgspec.Struct]) -> None:
    assert isinstance(load(room, kind, {"MARQUEE_SETTINGS": str(ROOT / "settings.toml")}), kind)


@rooms
def test_without_a_file_the_defaults_count(
    room: str, kind: type[msgspec.Struct], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(room, kind, {}) == kind()


def test_the_file_of_the_working_folder_counts_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.toml").write_text("[server]\nport = 1234\n")
    named = written(tmp_path / "other.toml", "[server]\nport = 4321\n")
    monkeypatch.chdir(tmp_path)
    assert load("server", ServerSettings, {}).port == 1234
    assert load("server", ServerSettings, named).port == 4321


def test_the_environment_is_stronger_than_the_file(tmp_path: Path) -> None:
    environ = written(tmp_path / "s.toml", '[stream]\ntopic = "a"\nvar = "below"\n[server]\nport = 1\n')
    environ |= {"MARQUEE_STREAM_TOPIC": "b", "MARQUEE_STREAM_MAX_USER": "7", "MARQUEE_STREAM_BATCH_SECONDS": "2"}
    got = load("stream", StreamSettings, environ)
    assert (got.topic, got.max_user, got.batch_seconds, got.var) == ("b", 7, 2.0, Path("below"))
    assert load("stream", StreamSettings, {**environ, "MARQUEE_STREAM_VAR": "/x/y"}).var == Path("/x/y")


def test_the_process_environment_is_the_one_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARQUEE_SERVER_PORT", "4711")
    assert load("server", ServerSettings).port == 4711


def test_names_that_belong_to_no_room_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"MARQUEE_COMMIT": "abc", "MARQUEE_RUN": "x", "MARQUEE_PYTHON": "y", "HOME": "z"}
    assert load("stream", StreamSettings, environ) == StreamSettings()


@pytest.mark.parametrize("name", ["SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT_8082_TCP", "PORT_8082_TCP_ADDR"])
def test_what_kubernetes_sets_beside_a_service_named_marquee_is_left_alone(name: str) -> None:
    settings = {"MARQUEE_SETTINGS": str(ROOT / "settings.toml"), f"MARQUEE_{name}": "tcp://10.0.0.1:8082"}
    assert isinstance(load("stream", StreamSettings, settings), StreamSettings)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("MARQUEE_BOGUS", "docs/operations.md lists them"),
        ("MARQUEE_", "docs/operations.md lists them"),
        ("MARQUEE_STREAM", "docs/operations.md lists them"),
        ("MARQUEE_STRAEM_VAR", "did you mean MARQUEE_STREAM_VAR?"),
        ("MARQUEE_SETTING", "did you mean MARQUEE_SETTINGS?"),
        ("MARQUEE_WORKER", "did you mean MARQUEE_WORKERS?"),
    ],
)
def test_a_variable_that_means_nothing_is_an_error_that_names_it(name: str, advice: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load("server", ServerSettings, {name: "1"})
    assert str(refused.value) == f"settings: unknown variable of the environment {name}; {advice}"


def test_a_value_that_is_not_utf8_is_an_error_that_names_its_variable() -> None:
    with pytest.raises(SettingsError) as refused:
        load("stream", StreamSettings, {"MARQUEE_STREAM_VAR": os.fsdecode(b"/v\xe4r")})
    assert str(refused.value) == "settings: the value of MARQUEE_STREAM_VAR is not text in UTF-8"


@rooms
def test_a_mistyped_key_is_an_error_that_names_it(room: str, kind: type[msgspec.Struct], tmp_path: Path) -> None:
    environ = written(tmp_path / "s.toml", f"[{room}]\nno_such_key = 1\n")
    with pytest.raises(SettingsError, match=rf"\[{room}\].*no_such_key"):
        load(room, kind, environ)
    with pytest.raises(SettingsError, match="no_such_key"):
        load(room, kind, {**written(tmp_path / "s.toml", ""), f"MARQUEE_{room.upper()}_NO_SUCH_KEY": "1"})


@pytest.mark.parametrize(
    "text", ["[sream]\ntopic = 'a'\n", "topic = 'a'\n", "stream = 'a'\n", "[[stream]]\nport = 1\n"]
)
def test_an_unknown_table_or_a_stray_key_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="unknown table or stray key"):
        load("server", ServerSettings, written(tmp_path / "s.toml", text))


@pytest.mark.parametrize("data", [b"[stream", b"\xff", b"[stream]\ntopic = a\n", b"[a]\n[a]\n"])
def test_a_file_that_is_no_toml_is_an_error_that_names_it(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s.toml"
    path.write_bytes(data)
    with pytest.raises(SettingsError, match=f"cannot read {path}"):
        load("stream", StreamSettings, {"MARQUEE_SETTINGS": str(path)})


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load("stream", StreamSettings, {"MARQUEE_SETTINGS": str(tmp_path / "none.toml")})


WRONG = [
    ("stream", 'var = ""'),
    ("stream", 'var = " "'),
    ("stream", 'bootstrap = "127.0.0.1:99999"'),
    ("stream", 'bootstrap = "127.0.0.1:9092,127.0.0.1:0"'),
    ("quality", "webhook = 'http://127.0.0.1:65536/'"),
    ("batch", "adult_share_minors = 1.01"),
    ("batch", "minor_below_age = 0"),
    ("batch", "max_cost = -0.01"),
    ("batch", "max_cost = 1000001"),
    ("batch", "api = ''"),
    ("batch", "api = '127.0.0.1:8080'"),
    ("batch", "api = 'http://127.0.0.1:99999'"),
    ("loadtest", "server = 'http://127.0.0.1:99999'"),
    ("stream", "max_user = 0"),
    ("stream", "max_user = 4294967296"),
    ("stream", 'max_user = "many"'),
    ("stream", "topic = 5"),
    ("stream", 'generation = "2023"'),
    ("stream", "generation = 2022"),
    ("stream", "batch_seconds = 0"),
    ("stream", "batch_lines = 1.5"),
    ("stream", "var = 5"),
    ("quality", "window_hours = -1"),
    ("quality", "thresholds = 1"),
    ("quality", "thresholds.quarantned = { share = 0.1 }"),
    ("quality", "thresholds.quarantined = 0.1"),
    ("quality", "thresholds.movie_unknown = { share = 1.5 }"),
    ("quality", "thresholds.movie_unknown.shar = 0.5"),
    ("quality", "thresholds.time = { count = 0 }"),
    ("quality", "thresholds.time = { times = 0.5 }"),
    ("quality", "thresholds.time = { hold = 'yes' }"),
    ("quality", "thresholds.time = { hold = 1.1 }"),
    ("quality", "deadline_ms = 0"),
    ("quality", "verdict = 1"),
    ("quality", "verdict.availabilty = 0.9"),
    ("quality", "verdict.availability = 1.5"),
    ("quality", "verdict.least_answers = 0"),
    ("quality", "week_lines = 0"),
    ("quality", "webhook = 'ftp://127.0.0.1/'"),
    ("quality", "webhook = 'http:///x'"),
    ("quality", "webhook = 'http://127.0.0.1:port/'"),
    ("quality", "webhook = 'http://127.0.0.1/a b'"),
    ("quality", "webhook_timeout_s = 0"),
    ("quality", "window_hours = true"),
    ("batch", 'model = "package.module:"'),
    ("batch", 'night_at = "24:00"'),
    ("batch", 'night_at = "3:00"'),
    ("batch", "night_at = 03:00:00"),
    ("batch", "factors = 0"),
    ("server", "port = 65536"),
    ("server", 'host = ["a"]'),
    ("loadtest", "users = 0"),
    ("loadtest", "corrupted = 2"),
]


@pytest.mark.parametrize(("room", "line"), WRONG)
def test_a_wrong_value_is_an_error_that_names_its_key(tmp_path: Path, room: str, line: str) -> None:
    key = line.partition(" ")[0]
    with pytest.raises(SettingsError, match=rf"^settings: \[{room}\] .*{key.rpartition('.')[2]}.*$"):
        load(room, SETTINGS[room], written(tmp_path / "s.toml", f"[{room}]\n{line}\n"))


OUT_OF_RANGE = [
    ("stream", "fetch_timeout_ms", "99999999999999", "at least 1 and at most 60_000"),
    ("stream", "fetch_timeout_ms", "-1", "at least 1 and at most 60_000"),
    ("stream", "batch_seconds", "inf", "above 0 and at most 86_400"),
    ("stream", "stall_seconds", "nan", "above 0 and at most 86_400"),
    ("quality", "grace_minutes", "-0.5", "at least 0 and at most 60_000_000"),
    ("batch", "seed", "99999999999999999999999", "at least 0 and below 4_294_967_296"),
    ("quality", "thresholds.time.share", "1.5", "at least 0 and at most 1"),
    ("batch", "api_connections", "100000", "at least 1 and at most 1_000"),
    ("server", "port", "99999", "at least 1 and at most 65_535"),
    ("server", "operator_port", "0", "at least 1 and at most 65_535"),
    ("server", "drain_s", "1e300", "above 0 and at most 86_400"),
    ("loadtest", "api_port", "99999", "at least 0 and at most 65_535"),
]


@pytest.mark.parametrize(("room", "key", "value", "allowed"), OUT_OF_RANGE)
def test_a_number_out_of_range_is_an_error_with_its_value_and_the_range(
    tmp_path: Path, room: str, key: str, value: str, allowed: str
) -> None:
    environments = [written(tmp_path / "s.toml", f"[{room}]\n{key} = {value}\n")]
    if "." not in key:
        environments.append({f"MARQUEE_{room.upper()}_{key.upper()}": value})
    for environ in environments:
        with pytest.raises(SettingsError) as refused:
            load(room, SETTINGS[room], environ)
        message = str(refused.value).replace("1e+300", "1e300")
        expected = f"settings: [{room}] {key} = {value} is out of range; it must be {allowed} (see settings.toml"
        assert message.startswith(expected)


@rooms
def test_every_number_has_limits_on_both_sides(room: str, kind: type[msgspec.Struct]) -> None:
    described = msgspec.inspect.type_info(kind)
    assert isinstance(described, msgspec.inspect.StructType)
    numbers = {field.name: field.type for field in described.fields if isinstance(field.type, NUMBERS)}
    assert len(numbers) > 4
    open_ended = [
        name
        for name, number in numbers.items()
        if (number.ge is None and number.gt is None) or (number.le is None and number.lt is None)
    ]
    assert open_ended == []


@pytest.mark.parametrize("digits", [400, 5_000])
def test_a_number_of_very_many_digits_is_a_short_error(tmp_path: Path, digits: int) -> None:
    with pytest.raises(SettingsError, match=r"stall_seconds|cannot read") as refused:
        load("stream", StreamSettings, written(tmp_path / "s.toml", f"[stream]\nstall_seconds = {'9' * digits}\n"))
    assert len(str(refused.value)) < 400


def test_a_text_of_the_wrong_form_is_not_shown_but_its_form_is() -> None:
    with pytest.raises(SettingsError, match=r"\[batch\] api must be `http://host:port`.*65535") as refused:
        load("batch", SETTINGS["batch"], {"MARQUEE_BATCH_API": "http://me:hunter2@host:99999"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("port", [1, 9, 80, 8082, 9999, 10_000, 59_999, 60_000, 64_999, 65_000, 65_499, 65_529, 65_535])
def test_every_port_may_stand_in_an_address(port: int) -> None:
    environ = {"MARQUEE_STREAM_BOOTSTRAP": f"kafka:{port},b:{port}"}
    assert load("stream", StreamSettings, environ).bootstrap == f"kafka:{port},b:{port}"
    with pytest.raises(SettingsError):
        load("stream", StreamSettings, {"MARQUEE_STREAM_BOOTSTRAP": f"kafka:{port + 65_535}"})


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "https://api.example.org", "http://me:pw@a:80/v1/", "http://[::1]:8080"]
)
def test_the_api_is_a_url(url: str) -> None:
    assert load("batch", BatchSettings, {"MARQUEE_BATCH_API": url}).api == url


def test_a_wrong_value_in_the_environment_is_an_error() -> None:
    with pytest.raises(SettingsError, match="port"):
        load("server", ServerSettings, {"MARQUEE_SERVER_PORT": "eighty"})


def test_thresholds_are_read_table_by_table(tmp_path: Path) -> None:
    text = """
    [quality.thresholds]
    quarantined = { count = 500 }
    duplicate.hold = true
    [quality.thresholds.reason]
    times = inf
    [quality.thresholds.movie_unknown]
    share = 0.01
    hold = 0.5
    hold_count = 7
    """
    limits = load("quality", QualitySettings, written(tmp_path / "s.toml", text)).thresholds
    assert limits_of(limits, "quarantined") == AlertLimits(share=0.003, count=500, times=5, hold=0.2, hold_count=1000)
    assert limits_of(limits, "repaired") == NORMAL["repaired"]
    assert limits_of(limits, "duplicate") == AlertLimits(share=0.005, count=1000, times=20, hold=0, hold_count=1)
    never = float("inf")
    assert limits_of(limits, "quarantined", "movie_unknown") == AlertLimits(
        share=0.01, count=50, times=never, hold=0.5, hold_count=7
    )
    assert limits_of(limits, "quarantined", "time") == AlertLimits(
        share=0.002, count=50, times=never, hold=None, hold_count=1000
    )


def test_default_limits() -> None:
    assert {name: msgspec.structs.astuple(limits) for name, limits in NORMAL.items()} == {
        "quarantined": (0.003, 100, 5, 0.2, 1000),
        "repaired": (0.003, 100, 5, None, 1000),
        "duplicate": (0.005, 1000, 20, None, 1000),
        "reason": (0.002, 50, 5, None, 1000),
    }


def test_every_reason_and_nothing_else_can_have_a_threshold() -> None:
    fields = [item for schema in event_schemas(StreamSettings()).values() for item in schema.items()]
    limits = {f"{field}_{rule}" for field, rules in fields for rule in {"min", "max"} & set(rules)}
    assert len(limits) > 8
    checked = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+.*?)\|", context_checks.__doc__ or "", re.MULTILINE)))
    )
    assert checked >= {"time_ahead", "time_behind", "status_list"}
    rules = {ONE_CHARACTER, KAFKA_TIME}
    assert {*FATES[1:], "reason", *get_args(Reason), *limits, *checked, *rules} == set(get_args(Fault))


@pytest.mark.parametrize(
    "url", ["", "http://a", "https://a.b:8443/x?y#z", "http://[::1]:80/", "http://10.0.0.1?token=a", "https://a/%20"]
)
def test_a_webhook_is_a_url(url: str) -> None:
    assert load("quality", QualitySettings, {"MARQUEE_QUALITY_WEBHOOK": url}).webhook == url


def test_compose_passes_on_how_to_log_in_to_kafka() -> None:
    """Without values, which leaves a variable that is not set unset: empty text is no `security_protocol`."""
    passed = re.findall(r"^ +MARQUEE_STREAM_(\w+):$", (ROOT / "compose.yaml").read_text("utf-8"), re.MULTILINE)
    connection = [name for name in StreamSettings.__struct_fields__ if re.match("security_|sasl_|ssl_", name)]
    assert [name.lower() for name in passed] == connection
