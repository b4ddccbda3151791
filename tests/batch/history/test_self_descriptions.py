"""What users wrote about themselves goes from the catalogue into the night, by user; movies by genre and decade."""

from pathlib import Path

import numpy as np

from batch.history import self_descriptions
from batch.history.self_descriptions import describe, load, save
from quality.catalog import Catalog

USERS = np.array([3, 5, 8, 9], np.uint32)
MOVIES = ["alien+1979", "endeavour+", "heat+1995"]
GENRES = {"alien+1979": ["Horror", "Science Fiction"], "heat+1995": ["Crime"]}


def test_texts_are_those_of_the_users_of_the_history() -> None:
    made = describe(
        USERS, [(9, None, "gore"), (4, "not in the history", None), (5, "zombies, robots", None)], MOVIES, {}
    )
    assert made.rows.tolist() == [1, 3]
    assert made.written_by(np.arange(4)).tolist() == [False, True, False, True]
    assert made.texts_of(np.array([3, 0, 1])) == (["", "", "zombies, robots"], ["gore", "", ""])


def test_nobody_has_written_anything() -> None:
    for users in (USERS, USERS[:0]):
        made = describe(users, [], MOVIES, {})
        rows = np.arange(len(users))
        assert not made.written_by(rows).any()
        assert made.texts_of(rows) == ([""] * len(users), [""] * len(users))


def test_attributes_are_genres_that_add_up_to_one_and_the_decade() -> None:
    attributes = describe(USERS, [], MOVIES, GENRES).attributes.toarray()
    assert attributes.tolist() == [[1, 0, 0, 0.5, 0.5], [0, 0, 0, 0, 0], [0, 1, 1, 0, 0]]
    assert describe(USERS, [], ["endeavour+"], {}).attributes.shape == (1, 0)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    made = describe(USERS, [(9, "a\u202e, b", "\U0001f3ac"), (3, "ä", None)], MOVIES, GENRES)
    save(tmp_path, made)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(self_descriptions.FILES)
    loaded = load(tmp_path)
    assert loaded.texts_of(np.arange(4)) == made.texts_of(np.arange(4))
    assert np.array_equal(loaded.attributes.toarray(), made.attributes.toarray())


def test_the_catalogue_gives_texts_and_genres(tmp_path: Path) -> None:
    catalog, person = Catalog(tmp_path), {"age": 30, "gender": "F"}
    texts = {"self_description_likes": "zombies", "self_description_dislikes": None}
    catalog.keep("user", [("5", "known", {"user_id": 5, **person, **texts}, ""), ("8", "known", {"user_id": 8}, "")])
    catalog.keep("movie", [("heat+1995", "known", {"id": "heat+1995", "genres": ["Crime"]}, "")])
    self_descriptions.store(tmp_path, USERS, MOVIES, catalog)
    loaded = load(tmp_path)
    assert loaded.rows.tolist() == [1]
    assert loaded.attributes.sum() == 3
