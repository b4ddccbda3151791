"""The facts that lists are capped by: as the catalogue has them, in the order of a history, also after reading."""

from pathlib import Path

import numpy as np
import pytest

from batch.history.list_facts import LIST_FACTS, ListFacts, load_list_facts, save_list_facts
from quality.catalog import KnownMovie

USERS, MOVIES = np.array([3, 7, 4_294_967_295], np.uint32), ["a+2001", "b+2002", "c+2003"]


def facts() -> ListFacts:
    known = {"b+2002": KnownMovie(90, True, 2.5), "a+2001": KnownMovie(adult=False), "other+1999": KnownMovie(cost=9.0)}
    return ListFacts.of(USERS, [(1, 50, "M"), (7, 17, "F"), (8, 60, "F")], MOVIES, known)


def save(folder: Path) -> None:
    np.save(folder / "users.npy", USERS)
    (folder / "watched.txt").write_text("".join(f"{movie}\n" for movie in MOVIES))
    save_list_facts(folder, facts())


def test_facts_are_those_of_users_and_movies_and_unknown_where_the_catalogue_has_none() -> None:
    found = facts()
    assert (found.ages.tolist(), found.adult.tolist()) == ([0, 17, 0], [0, 1, -1])
    assert [values.dtype.str for values in (found.ages, found.adult, found.costs)] == ["|u1", "|i1", "<f8"]
    assert np.array_equal(found.costs, [np.nan, 2.5, np.nan], equal_nan=True)
    assert ListFacts.of(USERS, [], MOVIES, {}).ages.tolist() == [0, 0, 0]


def test_facts_are_read_as_they_were_written(tmp_path: Path) -> None:
    save(tmp_path)
    read, written = load_list_facts(tmp_path), facts()
    for name in ("ages", "adult", "costs"):
        assert getattr(read, name).dtype == getattr(written, name).dtype
        assert getattr(read, name).tobytes() == getattr(written, name).tobytes()


def test_a_history_has_the_first_of_the_movies(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "watched.txt").write_text("".join(f"{movie}\n" for movie in MOVIES[:2]))
    watched = load_list_facts(tmp_path).first(2)
    assert (watched.ages.tolist(), watched.adult.tolist()) == (facts().ages.tolist(), [0, 1])
    assert np.array_equal(watched.costs, [np.nan, 2.5], equal_nan=True)


@pytest.mark.parametrize("name", LIST_FACTS)
def test_facts_of_another_history_are_refused(tmp_path: Path, name: str) -> None:
    save(tmp_path)
    np.save(tmp_path / name, np.load(tmp_path / name)[:-1])
    with pytest.raises(ValueError, match="not of its users and movies"):
        load_list_facts(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError):
        load_list_facts(tmp_path)
