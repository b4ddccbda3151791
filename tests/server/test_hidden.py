"""Hidden movies stay hidden: harmless mistakes are forgiven, and an unreadable list fails closed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import HiddenUnreadable
from server.hidden import HIDDEN, LAST_HIDDEN, HiddenState, parse, read, read_hidden_state
from server.release_watcher import ReleaseWatcher
from stream import durable
from stream.grammar import MOVIE
from tests.polling import until
from tests.server.sample_releases import MOVIES, names, write_release
from tests.server.scraped_metrics import scraped
from tests.server.worker_processes import WorkerProcess, serving

ALL = names(*range(20))


def answer(current: ReleaseWatcher) -> str | None:
    """The answer to user 1; None if nothing is answered."""
    return None if current.ready is None else current.ready.find(1)[0].decode()


# Lines


@pytest.mark.parametrize(
    "line",
    [
        "movie+0+2000", "Movie+0+2000", "MOVIE+0+2000\r", "  movie+0+2000\t", '"movie+0+2000"', "'movie+0+2000',",
        "“movie+0+2000”", "movie%2B0%2B2000", "movie%2b0%2b2000", "movie 0 2000", "movie%200%202000",
        "movie+0+2000,", "movie+0+2000;", ",movie+0+2000", "movie+0+2000\0", "\ufeffmovie+0+2000",
        "movie+0+2000 # gone", "never+1999, movie+0+2000", '"movie+0+2000","Movie 0",2000',
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_harmless_mistakes_are_forgiven(line: str, encoding: str) -> None:
    text = f"# hidden\r\n{line}\nmovie+1+2000"
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    assert {"movie+0+2000", "movie+1+2000"} <= parse(mark + text.encode(encoding))


@given(st.lists(st.from_regex(MOVIE, fullmatch=True), max_size=5))
def test_an_id_is_hidden_as_it_is_written(movies: list[str]) -> None:
    assert parse("\n".join(movies).encode()) == frozenset(movies)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data: bytes) -> None:
    assert all(parse(data))


def test_only_listed_movies_are_hidden() -> None:
    assert parse(b"movie+1+2000x\nmovie+2+200\nmovie+3") == {"movie+1+2000x", "movie+2+200", "movie+3"}


# An unreadable file


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def far_too_long(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(17 << 20)


UNREADABLE = [folder, pipe, link_to_itself, link_to_nowhere, far_too_long]


def removed(path: Path) -> None:
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


@pytest.mark.parametrize("make", UNREADABLE)
def test_an_unreadable_file_is_one_clear_error(var: Path, make: Callable[[Path], None]) -> None:
    assert read(var) == frozenset()
    make(var / HIDDEN)
    with pytest.raises(HiddenUnreadable, match=r"hidden\.txt cannot be read: .*; mend it, or remove it"):
        read(var)


def test_without_var_the_hidden_movies_are_unknown(tmp_path: Path) -> None:
    with pytest.raises(HiddenUnreadable, match="mounted"):
        read(tmp_path / "var")


@pytest.mark.parametrize("make", UNREADABLE)
def test_a_worker_that_starts_uses_the_last_list_that_could_be_read(var: Path, make: Callable[[Path], None]) -> None:
    (var / HIDDEN).write_text("movie+0+2000")
    ReleaseWatcher(var).check_now()
    removed(var / HIDDEN)
    make(var / HIDDEN)
    current = ReleaseWatcher(var)
    current.check_now()
    assert str(answer(current)).startswith(names(1, 2))
    status = current.status()
    assert "hidden.txt cannot be read" in str(status.hidden_fault)
    assert "the last list of hidden movies is used: " in status.detail()
    removed(var / HIDDEN)
    current.check_now()
    assert (answer(current), current.status().hidden_fault) == (ALL, None)


@pytest.mark.parametrize("make", UNREADABLE)
def test_without_a_list_nothing_is_answered_until_there_is_one(var: Path, make: Callable[[Path], None]) -> None:
    make(var / HIDDEN)
    current = ReleaseWatcher(var)
    for _ in range(2):
        current.check_now()
        assert answer(current) is None
        assert "hidden.txt cannot be read" in current.status().detail()
        assert not current.searchable
    removed(var / HIDDEN)
    (var / HIDDEN).write_text("movie+0+2000")
    current.check_now()
    assert str(answer(current)).startswith(names(1, 2))
    assert current.swaps == {"taken": 1, "refused": 0, "last_good": 0}


@pytest.mark.parametrize("garbage", [b'{"movies": 7}', b'{"movies": ["\xff"]}'])
def test_a_list_that_was_garbled_is_no_list(var: Path, garbage: bytes) -> None:
    (var / HIDDEN).mkdir()
    (var / LAST_HIDDEN).write_bytes(garbage)
    current = ReleaseWatcher(var)
    current.check_now()
    assert answer(current) is None


def test_without_the_file_nothing_is_hidden_and_without_var_the_old_list_stays(var: Path) -> None:
    (var / HIDDEN).write_text("movie+0+2000")
    current = ReleaseWatcher(var)
    current.check_now()
    (var / HIDDEN).unlink()
    current.check_now()
    assert answer(current) == ALL
    (var / HIDDEN).write_text("movie+0+2000")
    current.check_now()
    var.rename(var.parent / "away")
    current.check_now()
    assert str(answer(current)).startswith(names(1, 2))
    var.mkdir()  # a mount point, with nothing mounted
    current.check_now()
    assert str(answer(current)).startswith(names(1, 2))
    assert "mounted" in current.status().detail()
    var.rmdir()
    (var.parent / "away").rename(var)
    (var / HIDDEN).unlink()
    current.check_now()
    assert answer(current) == ALL


def test_a_list_that_becomes_readable_while_a_release_is_opened_is_in_its_first_answer(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if `var` was mounted between the two reads."""
    real = read_hidden_state
    looks: list[HiddenState] = []

    def late(folder: Path, before: HiddenState) -> HiddenState:
        if looks:
            (var / HIDDEN).write_text("movie+0+2000")
        looks.append(before)
        return real(folder, before)

    monkeypatch.setattr("server.hidden.read_hidden_state", late)
    current = ReleaseWatcher(var)
    for step in current._steps():
        step.apply(step.read(lambda: None))
        assert answer(current) != ALL


def test_a_folder_that_cannot_be_written_to_does_no_harm_and_is_told_once(
    var: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(path: Path, data: bytes) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("stream.durable.write_bytes", refused)
    (var / HIDDEN).write_text("movie+0+2000")
    current = ReleaseWatcher(var)
    for _ in range(5):
        current.check_now()
    assert str(answer(current)).startswith(names(1, 2))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len([line for line in warnings if "last-hidden.json cannot be written" in line]) == 1
    assert len([line for line in warnings if "cannot be noted as the last good release" in line]) == 1


def test_the_whole_list_is_kept_unknown_entries_included(var: Path) -> None:
    (var / HIDDEN).write_text("a%2523b\nb%23c\nmovie+0+2000 # x\n%25252C\n" + "\n".join(MOVIES[20:]))
    state = read_hidden_state(var, HiddenState())
    before = (var / LAST_HIDDEN).stat().st_mtime_ns
    for _ in range(3):
        state = read_hidden_state(var, state)
    assert (var / LAST_HIDDEN).stat().st_mtime_ns == before
    (var / HIDDEN).unlink()
    (var / HIDDEN).mkdir()
    assert read_hidden_state(var, HiddenState()).movies == state.movies


# Entries that hide nothing


def test_entries_without_a_movie_are_logged_once_per_change(var: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_release(var / "releases", "two", shift=1)
    (var / HIDDEN).write_text("movie+0+2000\nnobody+1999\n" + "\n".join(f"x{number}" for number in range(30)))
    current = ReleaseWatcher(var)
    for _ in range(3):
        current.check_now()
    durable.point(var / "releases" / "current", "two")
    current.check_now()
    status = current.status()
    assert (status.hidden_count, status.hidden_unmatched_count, len(status.hidden_unmatched)) == (1, 31, 10)
    assert "31 lines of hidden.txt name no movie: nobody+1999, x0, x1" in status.detail()
    records = [record for record in caplog.records if "name no movie" in record.getMessage()]
    assert len(records) == 1
    (var / HIDDEN).write_text("movie+0+2000\n")
    current.check_now()
    assert current.status().detail() == "two answers"


# Real workers


def test_a_worker_fails_closed_and_says_so(var: Path) -> None:
    (var / HIDDEN).mkdir()
    with serving(var) as worker:
        for path in ("/recommend/1", "/recommend/1?n=3"):
            response = worker.get(path)
            assert (response.status, response.body) == (503, "hidden.txt cannot be read"), path
        assert [worker.get(path).status for path in ("/readyz", "/similar/movie+3+2000")] == [503, 503]
        worker.until_detail(lambda detail: f"{var / HIDDEN} cannot be read" in detail)
        until(lambda: scraped(worker).get(("marquee_hidden_fault_workers", "")) == 1)
        (var / HIDDEN).rmdir()
        (var / HIDDEN).write_text("MOVIE%2B0%2B2000,\nnobody+1999\n")
        # between the two lines above there is no file and nothing is hidden
        worker.get_until(
            "/recommend/1", lambda response: response.status == 200 and response.body.startswith(names(1, 2))
        )
        worker.until_detail(lambda detail: "1 lines of hidden.txt name no movie: nobody+1999" in detail)
        until(lambda: scraped(worker)["marquee_hidden_unmatched", ""] == 1)
        assert scraped(worker)["marquee_hidden_movies", ""] == 1
        assert scraped(worker)["marquee_hidden_fault_workers", ""] == 0
        (var / HIDDEN).unlink()
        os.mkfifo(var / HIDDEN)
        worker.until_detail(lambda detail: "the last list of hidden movies is used" in detail)
        _restarted(var)


def _restarted(var: Path) -> None:
    second: WorkerProcess
    with serving(var) as second:
        assert second.get("/recommend/1").body.startswith(names(1, 2))
        assert second.get("/readyz").status == 200
        assert "not a regular file" in second.text()
