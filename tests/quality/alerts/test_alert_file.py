"""The alert file: each alert once and whole, through several writers, kills and full disks."""

import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import orjson
import pytest

from quality.alerts.alert_file import Alert, AlertFile, raise_alert
from tests.quality.alerts.hourly_entries import raised_ids

ROOT = Path(__file__).parents[3]
OLD = (
    b'{"alert":"quarantined","batch":"log-0-1-2","lines":6,"share":0.06,"threshold":0.05,"reasons":{"time":6},'
    b'"text":"6 lines"}'
)


def alert(name: str, text: str = "x") -> Alert:
    return Alert(id=name, alert="test", text=text)


def test_an_alert_is_a_line_of_json_that_stands_in_the_file_once(tmp_path: Path) -> None:
    var = tmp_path / "not" / "there"
    file = AlertFile(var)
    assert file.append([]) == []
    assert not file.path.exists()
    assert [new.id for new in file.append([alert("a"), alert("b"), alert("a")])] == ["a", "b"]
    assert (file.ids, file.raised["test", ""]) == ({"a", "b"}, 2)
    assert file.append([alert("a"), alert("b")]) == []
    assert raise_alert(var, alert("b", "other words")) is False
    assert raise_alert(var, alert("c")) is True
    lines = [orjson.loads(line) for line in file.path.read_bytes().splitlines()]
    assert [(line["id"], line["alert"], line["text"]) for line in lines] == [(name, "test", "x") for name in "abc"]
    assert all(line["raised"].endswith("+00:00") for line in lines)


def test_places_and_lines_are_those_of_the_file(tmp_path: Path) -> None:
    file = AlertFile(tmp_path)
    file.append([alert("a", "ü\n\r"), alert("b")])
    first, second = file.read()
    data = file.path.read_bytes()
    assert data == first.line + b"\n" + second.line + b"\n"
    assert (first.end, second.end) == (len(first.line) + 1, len(data))
    assert file.read(first.end) == [second]
    assert file.read(second.end) == []


@pytest.mark.parametrize("left", range(0, 40, 3))
def test_half_a_line_does_not_count_and_goes_with_the_next_append(tmp_path: Path, left: int) -> None:
    file = AlertFile(tmp_path)
    file.append([alert("a")])
    whole = file.path.read_bytes()
    file.path.write_bytes(whole + whole.replace(b'"a"', b'"b"')[:left])
    assert raised_ids(tmp_path) == ["a"]
    AlertFile(tmp_path).append([alert("b")])
    assert raised_ids(tmp_path) == ["a", "b"]
    assert file.path.read_bytes().startswith(whole)
    assert file.append([alert("b"), alert("c")])[0].id == "c"
    assert len(file.path.read_bytes().splitlines()) == 3


def test_half_a_line_that_is_longer_than_the_next_one_leaves_nothing(tmp_path: Path) -> None:
    file = AlertFile(tmp_path)
    file.path.write_bytes(b'{"id":"' + 10_000 * b"a")
    file.append([alert("b")])
    assert (raised_ids(tmp_path), file.path.read_bytes().count(b"\n")) == (["b"], 1)
    assert file.path.read_bytes().endswith(b"}\n")


def test_a_whole_line_without_its_end_does_not_count_either(tmp_path: Path) -> None:
    file = AlertFile(tmp_path)
    file.append([alert("a")])
    file.path.write_bytes(file.path.read_bytes()[:-1])
    assert raised_ids(tmp_path) == []
    file.append([alert("a")])
    assert raised_ids(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "line", [b"", b"nonsense", b"\xff\xfe", b"[]", b'{"id":"a"}', b'{"id":5,"alert":"a","text":""}']
)
def test_a_line_that_is_no_alert_is_passed_over(tmp_path: Path, line: bytes) -> None:
    file = AlertFile(tmp_path)
    file.append([alert("a")])
    with file.path.open("ab") as broken:
        broken.write(line + b"\n")
    AlertFile(tmp_path).append([alert("b")])
    assert raised_ids(tmp_path) == ["a", "b"]


def test_alerts_of_the_time_before_ids_get_one(tmp_path: Path) -> None:
    (tmp_path / "alerts.jsonl").write_bytes(OLD + b"\n")
    [(_, line, old)] = AlertFile(tmp_path).read()
    assert (line, old.id, old.share) == (OLD, "quarantined:log-0-1-2", 0.06)
    assert not raise_alert(tmp_path, alert("quarantined:log-0-1-2"))
    assert raise_alert(tmp_path, alert("a"))


FULL_LINE = (
    b'{"id":"quarantined:time:2026-02-10T14Z","alert":"quarantined","text":"60 lines","reason":"time",'
    b'"hour":"2026-02-10T14Z","stream_time":1770732000000,"lines":60,"of":1000,"share":0.06,"threshold":0.002,'
    b'"week":null,"reasons":{"time":60},"batch":"log-0-000000000000-000000000999","hold":false,'
    b'"raised":"2026-02-10T15:00:01+00:00"}'
)


def test_a_line_has_all_fields_in_their_order_and_those_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "alerts.jsonl").write_bytes(FULL_LINE + b"\n" + FULL_LINE[:-1] + b',"later":1}\n')
    first, second = AlertFile(tmp_path).read()
    assert msgspec.json.encode(first.alert) == FULL_LINE
    assert second.alert == first.alert


def test_what_others_have_raised_is_seen_and_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    own, other = AlertFile(tmp_path), AlertFile(tmp_path)
    own.append([alert("a")])
    assert other.append([alert("a"), alert("b")])[0].id == "b"
    own.refresh()
    assert (own.ids, own.raised) == ({"a", "b"}, {("test", ""): 2})
    own.path.rename(tmp_path / "alerts.old")
    assert own.append([alert("a")])
    other.refresh()
    assert (other.ids, raised_ids(tmp_path)) == ({"a"}, ["a"])
    own.path.rename(tmp_path / "alerts.older")
    AlertFile(tmp_path).append([alert("c" * 1000), alert("d")])  # another file, and longer
    other.refresh()
    assert other.ids == {"c" * 1000, "d"}
    own.path.unlink()
    other.refresh()
    assert other.ids == set()


def test_a_writer_waits_for_another(tmp_path: Path) -> None:
    writes, may_write = threading.Event(), threading.Event()

    class Slow(AlertFile):
        def _write(self, data: bytes) -> None:
            writes.set()
            may_write.wait(600)
            super()._write(data)

    first = threading.Thread(target=Slow(tmp_path).append, args=([alert("a")],))
    second = threading.Thread(target=AlertFile(tmp_path).append, args=([alert("a")],))
    first.start()
    writes.wait(600)
    second.start()
    second.join(0.2)
    assert second.is_alive()
    may_write.set()
    first.join()
    second.join()
    assert raised_ids(tmp_path) == ["a"]


def test_many_at_once_write_each_alert_once(tmp_path: Path) -> None:
    names = [str(number) for number in range(40)]

    together = threading.Barrier(4)

    def write() -> None:
        file = AlertFile(tmp_path)
        for name in names:
            together.wait(600)
            file.append([alert(name)])

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(raised_ids(tmp_path), key=int) == names


FULL = """
import resource, sys
from pathlib import Path
from quality.alerts.alert_file import Alert, AlertFile
file = AlertFile(Path(sys.argv[1]))
most = file.path.stat().st_size + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
alerts = [Alert(id=name, alert="test", text="x") for name in "bc"]
for again in range(2):
    try:
        file.append(alerts)
    except OSError:
        print("full", file.path.stat().st_size, sorted(file.ids))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print([alert.id for alert in file.append(alerts)])
"""


@pytest.mark.parametrize("room", [0, 1, 150, 300])
def test_a_disk_that_is_full_leaves_nothing_behind_and_the_next_try_raises_it(tmp_path: Path, room: int) -> None:
    AlertFile(tmp_path).append([alert("a")])
    size = (tmp_path / "alerts.jsonl").stat().st_size
    command = [sys.executable, "-c", FULL, str(tmp_path), str(room)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.splitlines() == [f"full {size} ['a']"] * 2 + ["['b', 'c']"]
    assert raised_ids(tmp_path) == ["a", "b", "c"]
