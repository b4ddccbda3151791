"""The catalogue: what the APIs said is kept, is what lines are held against, and every change of it is seen."""

import itertools
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.catalog import Catalog, FoundRecord, KnownIds, KnownMovie, Status, Subject
from quality.errors import RecordsError

SUBJECTS: tuple[Subject, ...] = ("movie", "user")
LARGEST = 2**32 - 1


def movie(name: str, runtime: int | None = None) -> FoundRecord:
    return name, "known", {"id": name, "runtime": runtime}, ""


def user(number: int) -> FoundRecord:
    return str(number), "known", {"user_id": number, "age": 28}, ""


def none(name: str) -> FoundRecord:
    return name, "unknown", None, ""


def bad(name: str) -> FoundRecord:
    return name, "bad", None, "HTTP 500"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path)


def test_a_catalogue_that_is_not_there_is_empty_and_is_not_made_by_looking(catalog: Catalog) -> None:
    assert catalog.known(1_000) == KnownIds()
    assert [catalog.statuses(subject) for subject in SUBJECTS] == [{}, {}]
    assert [catalog.records(subject) for subject in SUBJECTS] == [{}, {}]
    assert catalog.state() == ()
    assert not catalog.path.parent.exists()


def test_of_movies_the_runtime_is_known_and_which_there_are_not(catalog: Catalog) -> None:
    catalog.keep("movie", [movie("a+1999", 90), movie("b+1999"), none("c+1999"), bad("d+1999")])
    catalog.keep("movie", [("e+1999", "known", {"id": "e+1999"}, "")])
    known = catalog.known(1_000)
    assert known.runtimes == {"a+1999": 90, "b+1999": None, "e+1999": None}
    assert known.missing == {"c+1999"}


@pytest.mark.parametrize("most", [1, 99, 1_000_000, LARGEST])
def test_of_users_only_those_above_the_largest_are_known(catalog: Catalog, most: int) -> None:
    numbers = {9, 10, 99, 100, 1_000, 999_999, 1_000_000, 1_000_001, LARGEST - 1}
    catalog.keep("user", [user(number) for number in numbers])
    catalog.keep("user", [none(str(number + 1)) for number in numbers if number + 1 not in numbers])
    catalog.keep("user", [bad("2000000"), none("7" * 10)])
    known = catalog.known(most)
    assert known.users == {number for number in numbers if number > most}
    unknown = {number + 1 for number in numbers if number + 1 not in numbers} | {7_777_777_777}
    assert known.no_users == {number for number in unknown if number > most}


records = st.one_of(
    st.builds(movie, st.sampled_from(["a+1", "b+1", "c+1"]), st.none() | st.integers(1, 20_000)),
    st.builds(none, st.sampled_from(["a+1", "b+1", "c+1"])),
    st.builds(bad, st.sampled_from(["a+1", "b+1", "c+1"])),
)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(records, max_size=4), max_size=4))
def test_the_last_answer_counts_but_only_a_record_replaces_a_record(answers: list[list[FoundRecord]]) -> None:
    last: dict[str, FoundRecord] = {}
    for record in (record for answer in answers for record in answer):
        if record[1] == "known" or record[0] not in last or last[record[0]][1] != "known":
            last[record[0]] = record
    with tempfile.TemporaryDirectory() as folder:
        catalog = Catalog(Path(folder))
        for answer in answers:
            catalog.keep("movie", answer)
        known, again = catalog.known(1_000), Catalog(Path(folder))
        statuses: dict[str, Status] = {name: status for name, (_, status, _, _) in last.items()}
        records = {name: body for name, (_, _, body, _) in last.items() if body is not None}
        assert (again.statuses("movie"), again.records("movie")) == (statuses, records)
        assert known.runtimes == {name: body["runtime"] for name, body in records.items()}
        assert known.missing == {name for name, status in statuses.items() if status == "unknown"}


def test_a_movie_and_a_user_of_one_id_are_two_records(catalog: Catalog) -> None:
    catalog.keep("movie", [none("7")])
    catalog.keep("user", [user(7)])
    assert (catalog.statuses("movie"), catalog.statuses("user")) == ({"7": "unknown"}, {"7": "known"})


def test_only_what_is_unknown_is_forgotten(catalog: Catalog) -> None:
    catalog.keep("movie", [movie("a+"), none("b+"), none("c+"), bad("d+")])
    catalog.keep("user", [none("7")])
    assert catalog.forget_unknown() == 3
    assert (catalog.statuses("movie"), catalog.statuses("user")) == ({"a+": "known", "d+": "bad"}, {})
    assert catalog.known(0).missing == frozenset()


def test_every_change_is_seen_however_quick_it_comes(catalog: Catalog) -> None:
    states = [catalog.state()]
    for number in range(60):
        catalog.keep("user", [user(100 + number)])
        states.append(catalog.state())
    assert len(set(states)) == len(states)


def test_a_record_that_is_replaced_by_one_as_long_is_a_change(catalog: Catalog) -> None:
    states = []
    for runtime in [90, 91] * 20:
        catalog.keep("movie", [movie("a+1999", runtime)])
        states.append(catalog.state())
    assert all(before != after for before, after in itertools.pairwise(states))


def test_looking_is_no_change(catalog: Catalog) -> None:
    catalog.keep("movie", [movie("a+1999", 90)])
    before = catalog.state()
    for _ in range(3):
        assert catalog.known(1_000).runtimes == {"a+1999": 90}
        assert catalog.statuses("user") == {}
    assert catalog.state() == before


WRITER = """
import sys
from pathlib import Path
from quality.catalog import Catalog
Catalog(Path(sys.argv[1])).keep("movie", [(sys.argv[2], "known", {"id": sys.argv[2]}, "")])
"""


def test_what_another_process_writes_is_seen(catalog: Catalog, tmp_path: Path) -> None:
    catalog.keep("movie", [movie("a+1999")])
    before = catalog.state()
    subprocess.run([sys.executable, "-c", WRITER, tmp_path, "b+1999"], check=True, timeout=600)
    assert catalog.state() != before
    assert set(catalog.known(1).runtimes) == {"a+1999", "b+1999"}


def test_what_is_written_while_others_read_is_seen(catalog: Catalog) -> None:
    catalog.keep("movie", [movie("a+1999", 90)])
    with closing(sqlite3.connect(catalog.path)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM records").fetchone() == (1,)
        before = catalog.state()
        catalog.keep("movie", [movie("b+1999", 90)])
        assert catalog.state() != before
        assert set(catalog.known(1).runtimes) == {"a+1999", "b+1999"}


def test_looking_for_a_change_while_others_write_is_no_error(catalog: Catalog) -> None:
    failed: list[object] = []
    done = threading.Event()

    def look() -> None:
        try:
            while not done.is_set():
                catalog.state()
        except OSError as error:
            failed.append(error)

    looker = threading.Thread(target=look)
    looker.start()
    for number in range(200):
        catalog.keep("user", [user(number)])
    done.set()
    looker.join()
    assert failed == []


def test_many_threads_keep_and_read_at_once(catalog: Catalog) -> None:
    def work(first: int) -> None:
        for number in range(first, first + 10):
            catalog.keep("user", [user(number)])
            assert number in catalog.known(0).users

    failed: list[object] = []
    hook, threading.excepthook = threading.excepthook, lambda error: failed.append(error)
    try:
        threads = [threading.Thread(target=work, args=(first,)) for first in (100, 200, 300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = hook
    assert failed == []
    assert len(catalog.known(0).users) == 30


def test_a_damaged_file_may_be_removed_and_one_that_cannot_be_opened_is_not_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    path = Catalog(tmp_path).path
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(RecordsError, match=r"file is not a database; remove it: the records are then requested again$"):
        Catalog(tmp_path).statuses("movie")
    path.unlink()
    path.mkdir()
    with pytest.raises(RecordsError, match=r"unable to open database file$"):
        Catalog(tmp_path).statuses("movie")


def test_known_movies_have_what_their_records_say(catalog: Catalog) -> None:
    assert catalog.movies() == {}
    assert not catalog.path.exists()
    catalog.keep("movie", [movie("a+2001", 90), movie("b+2002"), none("c+2003"), bad("d+2004")])
    catalog.keep("user", [user(1)])
    assert catalog.movies() == {"a+2001": KnownMovie(90), "b+2002": KnownMovie()}
    catalog.keep("movie", [("a+2001", "known", {"id": "a+2001", "adult": True, "cost": 2.99}, "")])
    catalog.keep("movie", [("b+2002", "known", {"id": "b+2002", "adult": False, "cost": 3, "runtime": 95}, "")])
    assert catalog.movies() == {"a+2001": KnownMovie(None, True, 2.99), "b+2002": KnownMovie(95, False, 3.0)}


def test_a_catalogue_of_an_older_version_is_read_and_added_to(catalog: Catalog) -> None:
    """Commit 5e8d46d made the file: it kept `adult` as the service's text, and any finite number as a cost."""
    catalog.path.parent.mkdir()
    shutil.copy(Path(__file__).parent / "old_files" / "catalog.sqlite", catalog.path)
    old = {
        "a+2001": KnownMovie(90, True, 2.99),
        "b+2002": KnownMovie(90, False, 0.0),
        "c+2003": KnownMovie(90, False),  # -1.5
        "d+2004": KnownMovie(90),  # "NaN", and "maybe" of age
        "e+2005": KnownMovie(90),
        "f+2006": KnownMovie(90),
        "g+2007": KnownMovie(90, False),  # 1e300
    }
    assert catalog.movies() == old
    assert (catalog.people(), catalog.statuses("user")) == ([(7, 17, "F")], {"7": "known", "8": "unknown"})
    assert catalog.partly_known("movie") == {"d+2004"}
    catalog.keep("movie", [("d+2004", "known", {"id": "d+2004", "adult": True, "cost": 1.0}, "")])
    assert catalog.movies() == {**old, "d+2004": KnownMovie(None, True, 1.0)}
