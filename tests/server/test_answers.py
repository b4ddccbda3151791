"""Answers compared with a naive reference: lists, fallbacks, hidden movies, neighbours."""

import gc
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.answers import SOURCES, Answers, finder
from server.errors import BadRelease
from server.release import Release
from tests.server.sample_releases import MOVIES, NO_MOVIE, names, write_release
from tests.server.worker_processes import parsed_head, undated

LENGTH = 20


def answered(answers: Answers, user: int) -> tuple[str, str]:
    body, source = answers.find(user)
    return body.decode(), SOURCES[source]


@dataclass(frozen=True)
class Naive:
    """The definition of an answer, regardless of speed."""

    movies: list[str]
    arrays: dict[str, np.ndarray]
    hidden: frozenset[str]

    def named(self, row: np.ndarray) -> list[str]:
        none = 2**32 - 1 if row.dtype == np.uint32 else NO_MOVIE
        return [self.movies[item] for item in row.tolist() if item != none]

    def shown(self, row: np.ndarray) -> list[str]:
        return [movie for movie in self.named(row) if movie not in self.hidden]

    def answer(self, user: int) -> tuple[list[str], str]:
        users, lists, fallbacks, segments = (self.arrays[name] for name in ("users", "lists", "fallbacks", "segments"))
        everyone = self.shown(fallbacks[0]) or [movie for movie in self.movies if movie not in self.hidden][:LENGTH]
        if user not in users.tolist():
            return everyone[:LENGTH], "popular"
        row = users.tolist().index(user)
        segment = int(segments[row])
        own, fallback = self.shown(lists[row]), self.shown(fallbacks[segment]) if segment else everyone
        if own and self.hidden.intersection(self.named(lists[row])):
            own = [*own, *(movie for movie in fallback if movie not in own)][:LENGTH]
        if own:
            return own, "exploring" if row in self.arrays.get("explorers", []) else "personal"
        return (fallback or everyone)[:LENGTH], "segment" if segment and fallback else "popular"


@st.composite
def drawn_arrays(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Arrays of a release: few or no users, dense or sparse ids, short and empty lists, long and short fallbacks."""
    kind = draw(st.sampled_from([np.uint16, np.uint32]))
    none, count = 2**32 - 1 if kind is np.uint32 else NO_MOVIE, draw(st.integers(0, 12))
    ids = st.integers(0, 30) if draw(st.booleans()) else st.integers(0, 2**32 - 1)
    users = sorted(draw(st.sets(ids, min_size=count, max_size=count)))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))

    def listed(width: int, least: int) -> np.ndarray:
        row = np.full(width, none, kind)
        length = int(rng.choice([least, LENGTH, int(rng.integers(least, min(width, 30) + 1))]))
        row[:length] = rng.permutation(30)[:length]
        return row

    width, segments = draw(st.sampled_from([20, 25, 30, 100])), draw(st.integers(0, 3))
    lists = np.array([listed(LENGTH, 0) for _ in users], kind).reshape(-1, LENGTH)
    explorers = np.flatnonzero(rng.random(count) < draw(st.sampled_from([0, 0.3, 1]))).astype(np.uint32)
    chances = np.where(lists[explorers] == none, 0, 0.5).astype(np.float32)
    return {
        **({"explorers": explorers, "propensities": chances} if draw(st.booleans()) else {}),
        "users": np.array(users, np.uint32),
        "lists": lists,
        "fallbacks": np.array([listed(width, 1) for _ in range(segments + 1)], kind),
        "segments": rng.integers(0, segments + 1, count).astype(np.uint8),
    }


hidden_sets = st.one_of(
    st.just(frozenset[str]()),
    st.frozensets(st.sampled_from([*MOVIES, "never+heard+of+1999", "ä", "movie+1", ""]), max_size=34),
    st.just(frozenset(MOVIES)),
    st.just(frozenset(MOVIES[:25])),
)


def made(releases: Path, text: bool, arrays: Mapping[str, Any]) -> Release:
    return Release.open(write_release(releases, "rendered" if text else "compact", text=text, **arrays))


@settings(deadline=None, max_examples=60)
@given(arrays=drawn_arrays(), hidden=hidden_sets, strangers=st.lists(st.integers(0, 10**19 - 1), max_size=5))
def test_both_ways_to_hold_a_list_answer_as_the_definition_says(
    tmp_path_factory: pytest.TempPathFactory,
    arrays: dict[str, np.ndarray],
    hidden: frozenset[str],
    strangers: list[int],
) -> None:
    releases = tmp_path_factory.mktemp("releases")
    naive = Naive(MOVIES, arrays, hidden)
    known = arrays["users"].tolist()
    beside = [user + by for user in known for by in (-1, 1, 2**32) if user + by >= 0]
    listed = bool((arrays["lists"] != np.iinfo(arrays["lists"].dtype).max).any())
    for text in (False, True) if listed else (False,):  # a release without any text has a test of its own
        answers = Answers(made(releases, text, arrays), hidden)
        for user in {*known, *beside, *strangers, 0, 2**32 - 1, 2**32, 2**63, 10**19 - 1}:
            movies, source = naive.answer(user)
            assert answered(answers, user)[0] == ",".join(movies)
            assert answered(answers, user)[1] == source
            assert len(movies) == len(set(movies)) <= LENGTH
            assert hidden.isdisjoint(movies)
            assert movies or answers.empty
        assert answers.empty == (naive.answer(10**19 - 1)[0] == [])


@pytest.fixture(scope="module", params=[False, True], ids=["compact", "rendered"])
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Release:
    return made(tmp_path_factory.mktemp("releases"), request.param, {})


@pytest.mark.parametrize(
    ("user", "answer", "source"),
    [
        (1, names(*range(20)), "personal"),
        (5, names(7, 0, 29), "personal"),
        (2**32 - 1, names(*range(29, 9, -1)), "personal"),
        (9, names(25, 24, 23, 22), "segment"),
        (11, names(*range(20)), "popular"),
        (0, names(*range(20)), "popular"),
        (2, names(*range(20)), "popular"),
        (2**32, names(*range(20)), "popular"),
        (2**32 + 1, names(*range(20)), "popular"),
        (10**19 - 1, names(*range(20)), "popular"),
    ],
)
def test_every_user_gets_their_list_their_segments_or_the_popular_one(
    release: Release, user: int, answer: str, source: str
) -> None:
    assert answered(Answers(release), user) == (answer, source)


@pytest.mark.parametrize(
    ("model", "sources"),
    [
        # users 1, 5, 9, 11, a stranger; 9 and 11 have no list, 5 and 11 no segment
        ("blend", ["personal", "personal", "segment", "popular", "popular"]),
        ("popular", ["popular", "popular", "segment", "popular", "popular"]),
        ("segment", ["segment", "popular", "segment", "popular", "popular"]),
    ],
)
@pytest.mark.parametrize("text", [False, True])
def test_a_popular_list_does_not_call_itself_personal(
    tmp_path: Path, model: str, sources: list[str], text: bool
) -> None:
    folder = write_release(tmp_path, "one", text=text, model=model)
    for hidden in (frozenset[str](), frozenset({"movie+19+2000"})):
        answers = Answers(Release.open(folder), hidden)
        assert [answered(answers, user)[1] for user in (1, 5, 9, 11, 12)] == sources


@pytest.mark.parametrize("model", [None, "blend", [], {}, {"lists": None}, {"lists": ["popular"]}])
def test_lists_are_personal_unless_the_manifest_calls_them_popular(tmp_path: Path, model: Any) -> None:
    folder = write_release(tmp_path, "one")
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(orjson.dumps({**manifest, "model": model}))
    assert answered(Answers(Release.open(folder)), 1)[1] == "personal"


def test_the_gap_of_a_hidden_movie_is_filled_from_the_fallback(release: Release) -> None:
    answers = Answers(release, frozenset({"movie+0+2000", "movie+19+2000"}))
    # user 1 is of segment 1, whose list goes from 5 to 24
    assert answered(answers, 1) == (names(*range(1, 19), 20, 21), "personal")
    assert answered(answers, 2**32 - 1) == (names(*range(29, 19, -1), *range(18, 9, -1)), "personal")


def test_users_of_whose_list_nothing_is_hidden_keep_it(release: Release) -> None:
    answers = Answers(release, frozenset({"movie+7+2000"}))
    assert answered(answers, 2**32 - 1) == answered(Answers(release), 2**32 - 1)
    assert answered(answers, 9) == answered(Answers(release), 9)


def test_hiding_movies_unknown_to_the_release_changes_nothing(release: Release) -> None:
    answers = Answers(release, frozenset({"never+heard+of+1999", "", "movie+1"}))
    assert [answered(answers, user) for user in (1, 5, 9, 11)] == [
        answered(Answers(release), user) for user in (1, 5, 9, 11)
    ]


def test_a_segment_whose_list_is_hidden_gets_everyones_and_it_is_called_so(release: Release) -> None:
    answers = Answers(release, frozenset(MOVIES[22:26]))
    assert answered(answers, 9) == (names(*range(20)), "popular")


def test_a_list_that_is_hidden_as_a_whole_is_not_called_personal(release: Release) -> None:
    answers = Answers(release, frozenset({"movie+7+2000", "movie+0+2000", "movie+29+2000"}))
    assert answered(answers, 5) == (names(*range(1, 7), *range(8, 20)), "popular")


def test_where_everything_is_hidden_there_is_nothing_to_answer_with(release: Release) -> None:
    answers = Answers(release, frozenset(MOVIES))
    assert answers.empty
    assert {answers.find(user)[0] for user in (1, 5, 9, 11, 12)} == {b""}
    with pytest.raises(BadRelease, match="self-test"):
        answers.self_test()


def test_a_release_without_users_answers_everyone_with_the_popular_list(tmp_path: Path) -> None:
    nobody = np.zeros(0, np.uint32)
    empty: dict[str, np.ndarray] = {"users": nobody, "lists": np.zeros((0, 20), np.uint16)}
    empty["segments"] = np.zeros(0, np.uint8)
    answers = Answers(made(tmp_path, False, empty), frozenset({"movie+3+2000"}))
    answers.self_test()
    assert {answered(answers, user) for user in (0, 1, 2**32 - 1, 2**32)} == {
        (names(0, 1, 2, *range(4, 20)), "popular")
    }


@given(st.integers(0, 10**19 - 1))
def test_a_reply_is_the_answer_as_http(release: Release, user: int) -> None:
    answers = Answers(release, frozenset({"movie+7+2000"}))
    body, place = answers.find(user)
    head, _, rest = undated(answers.heads[place][len(body)]).partition(b"\r\n\r\n")
    assert rest == b""
    assert parsed_head(head) == (
        200,
        {
            "x-marquee-release": release.id,
            "x-marquee-source": SOURCES[place],
            "date": "now",
            "content-length": str(len(body)),
            "connection": "keep-alive",
            "content-type": "text/plain; charset=utf-8",
        },
    )


@st.composite
def user_ids(draw: st.DrawFn) -> list[int]:
    """Ascending ids: dense, sparse, with gaps, at both ends of 32 bits."""
    base = draw(st.sampled_from([0, 1, 2**31, 2**32 - 5000]))
    steps = draw(st.lists(st.one_of(st.just(1), st.integers(1, 5), st.integers(1, 2**26)), max_size=60))
    ids = np.cumsum([base, *steps]).tolist()
    return [user for user in ids if user < 2**32][: draw(st.integers(0, 61))]


def test_answers_are_freed_as_soon_as_nothing_refers_to_them(release: Release) -> None:
    """Not only at the next garbage collection: the answers hold the maps of a whole release."""
    gc.disable()
    try:
        answers = Answers(release, frozenset({"movie+3+2000"}))
        assert answers.find(1)[0]
        alive = weakref.ref(answers)
        del answers
        assert alive() is None
    finally:
        gc.enable()


@settings(deadline=None)
@given(user_ids(), st.lists(st.integers(-5, 2**66), max_size=20))
def test_every_user_is_found_in_their_row_and_other_ids_are_not(ids: list[int], strangers: list[int]) -> None:
    find = finder(np.array(ids, np.uint32))
    assert [find(user) for user in ids] == list(range(len(ids)))
    for user in [*strangers, *(user + 1 for user in ids), *(user - 1 for user in ids)]:
        if user not in ids:
            assert find(user) == -1


@pytest.mark.parametrize("step", [1, 1000])
def test_a_look_up_does_not_grow_with_the_users(step: int) -> None:
    def seconds(find: Callable[[int], int], count: int) -> float:
        began = time.process_time()
        for number in range(20_000):
            assert find(number * 997 % count * step + 1) >= 0
        return time.process_time() - began

    few, many = (finder(np.arange(1, count * step + 1, step, dtype=np.uint32)) for count in (1_000, 1_000_000))
    assert min(seconds(many, 1_000_000) for _ in range(3)) < 8 * min(seconds(few, 1_000) for _ in range(3))


def test_the_movies_nearest_to_a_movie_come_nearest_first_and_without_itself(release: Release) -> None:
    answers = Answers(release)
    for item, movie in enumerate(release.movies):
        near = answers.similar(movie, 10)
        unit = release.items / np.linalg.norm(release.items, axis=1, keepdims=True)
        best = [MOVIES[one] for one in np.argsort(-(unit @ unit[item]), kind="stable").tolist() if one != item]
        assert near == best[:10]


@pytest.mark.parametrize("count", [1, 5, 20])
def test_hidden_movies_are_no_neighbours_and_the_next_ones_take_their_places(release: Release, count: int) -> None:
    near = Answers(release).similar("movie+3+2000", 29)
    assert near is not None
    gone = {near[0], near[2], near[17]}
    answers = Answers(release, frozenset(gone))
    assert answers.similar("movie+3+2000", count) == [movie for movie in near if movie not in gone][:count]


def test_a_movie_that_is_not_known_has_no_neighbours(release: Release) -> None:
    assert Answers(release).similar("never+heard+of+1999", 5) is None


def test_where_all_others_are_hidden_a_movie_has_no_neighbours(release: Release) -> None:
    assert Answers(release, frozenset(MOVIES[1:])).similar(MOVIES[0], 5) == []


def clustered(count: int, dimensions: int, seed: int) -> np.ndarray:
    """Embeddings like those of a factor model: overlapping genres, longer vectors for popular movies."""
    rng = np.random.default_rng(seed)
    spread = 1 / np.sqrt(1 + np.arange(dimensions))
    genres = rng.normal(size=(40, dimensions)) * spread
    items = genres[rng.integers(0, 40, count)] + 0.7 * rng.normal(size=(count, dimensions)) * spread
    return (items * rng.pareto(2, (count, 1))).astype(np.float32)


def test_nearly_all_of_the_nearest_movies_are_found(tmp_path: Path) -> None:
    count = 3000
    items = clustered(count, 64, 7)
    movies = [f"m{item}+1999" for item in range(count)]
    answers = Answers(Release.open(write_release(tmp_path, "many", movies=movies, trees=50, items=items)))
    unit = items / np.linalg.norm(items, axis=1, keepdims=True)
    asked, hits = range(0, count, 30), 0
    for item in asked:
        score = unit @ unit[item]
        score[item] = -2
        best = {movies[one] for one in np.argpartition(-score, 20)[:20].tolist()}
        hits += len(best.intersection(answers.similar(movies[item], 20) or []))
    assert hits / (20 * len(asked)) >= 0.98
