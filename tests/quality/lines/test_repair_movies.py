"""Repair of movie ids and lists: the catalogue decides what can have been meant."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given

from quality.catalog import KnownIds
from quality.lines.context_checks import JudgingContext
from quality.lines.repair import ONE_CHARACTER, repair_candidates, unconfirmed_movies
from stream.clock import ClockLimit, Quorum
from stream.event import Event
from stream.grammar import LineRefused, parse
from tests.quality.lines.faulty_lines import (
    CLOCK,
    HEAD,
    HELD,
    INSERTED,
    MOVIE,
    MOVIES,
    NEVER,
    NOW,
    UNTOLD,
    by_brute_force,
    context,
    fault_of,
    knowing,
    repair,
    with_one_inserted,
)


def test_the_catalogue_decides_between_several_movies() -> None:
    line = f"{HEAD}GET /rate/das+boot+19811=3"
    event = Event("rate", NOW, 5, "das+boot+1981", rating=3)
    assert repair(line, UNTOLD) is None
    assert repair(line, knowing("das+boot+1981")) == (ONE_CHARACTER, event)
    assert repair(line, knowing("das+boot+1981", "das+boot+1911")) is None


def test_a_movie_that_is_not_in_the_catalogue_is_no_repair() -> None:
    line = f"{HEAD}GET /rate/so+new+2022=3-"
    assert repair(line, knowing("other+1999")) is None
    assert repair(line, UNTOLD) == (ONE_CHARACTER, Event("rate", NOW, 5, "so+new+2022", rating=3))


def test_a_movie_known_not_to_exist_is_no_repair() -> None:
    line, missing = f"{HEAD}GET /rate/so+new+2022=3-", context(known=KnownIds({}, frozenset({"so+new+2022"})))
    assert repair(line, missing) is None


def test_a_movie_that_does_not_exist_is_restored_to_one_that_does() -> None:
    line = f"{HEAD}GET /rate/so+neww+2022=3"
    held = context(known=KnownIds({"so+new+2022": None}, frozenset({"so+neww+2022"})))
    assert repair(line, held) == (ONE_CHARACTER, Event("rate", NOW, 5, "so+new+2022", rating=3))


@pytest.mark.parametrize(("minute", "is_repaired"), [(26, True), (27, False)])
def test_a_minute_past_the_end_is_no_repair(minute: int, is_repaired: bool) -> None:
    held = knowing("short+1999", runtime=20)
    assert (repair(f"{HEAD}GET /data/m/short+1999/{minute}.mpg-", held) is not None) is is_repaired


@pytest.mark.parametrize("minute", [1000, 1234])
def test_a_minute_past_the_end_is_quarantined_though_one_digit_fewer_would_fit(minute: int) -> None:
    held = knowing("long+1999", runtime=100)
    assert repair(f"{HEAD}GET /data/m/long+1999/{minute}.mpg", held) is None


@pytest.mark.parametrize("user", [1_111_111, 10_000_000, 5_521_777])
def test_a_user_above_the_largest_is_quarantined_though_one_digit_fewer_would_fit(user: int) -> None:
    assert repair(f"2022-10-07T09:40,{user},GET /data/m/{MOVIE}/5.mpg") is None


def test_a_damaged_user_is_not_restored_to_one_above_the_largest() -> None:
    assert repair(f"2022-10-07T09:40,12345678x,GET /data/m/{MOVIE}/5.mpg") is None


def test_every_movie_of_a_list_must_be_known() -> None:
    line = f"{HEAD}recommendation request a:1, status 200, result: {MOVIES[1]}, {MOVIES[2]}, 5 ms-"
    assert repair(line) is not None
    assert repair(line, knowing(*MOVIES[:2])) is None
    assert repair(line, context(known=KnownIds({}, frozenset({MOVIES[2]})))) is None


@pytest.mark.parametrize(
    "damaged",
    [
        "m+1999,  n+1999, o+1999", "m+1999,, n+1999, o+1999", "m+1999, n+1999, o+19999", "m+1999, n+ 1999, o+1999",
        "[m+1999, n+1999, o+1999", "m+1999 , n+1999, o+1999", "m+1999, n+1999, xo+1999",
    ],
)  # fmt: skip
def test_a_list_is_restored_if_its_movies_leave_one_reading(damaged: str) -> None:
    names = ("m+1999", "n+1999", "o+1999")
    held = context(known=KnownIds(dict.fromkeys(names), frozenset({"xo+1999"})))
    line = f"2022-10-07T09:40:00.123,5,recommendation request a:1, status 200, result: {damaged}, 5 ms"
    event = Event("recommend", NOW + 123, 5, host="a:1", status=200, movies=names, latency_ms=5)
    assert repair(line, held) == (ONE_CHARACTER, event)


LISTED = "recommendation request a.b:1, status 200, result: M, N, O, 5 ms"


@pytest.mark.parametrize("letter", ["x", " ", ",", "0", "+", ":"])
def test_an_inserted_character_anywhere_in_a_recommendation_is_repaired_if_possible(letter: str) -> None:
    names = {"M": MOVIES[1], "N": MOVIES[2], "O": MOVIES[3]}
    for at in range(len(LISTED) + 1):
        line = (HEAD + "".join(names.get(one, one) for one in LISTED[:at] + letter + LISTED[at:])).encode()
        reason = fault_of(line, HELD, NOW)
        if reason is not None and reason not in NEVER:
            assert repair_candidates(line, NOW, reason, HELD) == by_brute_force(line, HELD, NOW)


@pytest.mark.parametrize("status", ["2010", "2100", "2001", "1200", "20x0"])
def test_an_answer_of_known_movies_implies_status_200(status: str) -> None:
    line = f"{HEAD}recommendation request a:1, status {status}, result: {MOVIES[1]}, {MOVIES[2]}, 5 ms"
    event = Event("recommend", NOW, 5, host="a:1", status=200, movies=tuple(MOVIES[1:3]), latency_ms=5)
    assert repair(line) == (ONE_CHARACTER, event)
    assert status == "20x0" or repair(line, UNTOLD) is None


@pytest.mark.parametrize("result", [MOVIE, ", ".join(MOVIES[:3]), "++"])
def test_a_list_beside_another_status_than_200_is_quarantined(result: str) -> None:
    line, held = (
        f"{HEAD}recommendation request a:1, status 400, result: {result}, 5 ms",
        knowing("++", MOVIE, *MOVIES[:3]),
    )
    assert fault_of(line.encode(), held, NOW) == "status_list"
    assert repair(line, held) is None


NO_MOVIES = {"other+1999": None}


def movie_of(line: bytes) -> frozenset[str]:
    """The movie that a well-formed line names."""
    try:
        movie = parse(line, CLOCK).movie
    except LineRefused:
        return frozenset()
    return frozenset() if movie is None else frozenset({movie})


def unconfirmed(line: bytes, held: JudgingContext) -> frozenset[str]:
    """The movies that would make a line valid if they existed; none if one of the catalogue does, or no movie would."""
    reason = fault_of(line, held, NOW)
    assert reason is not None
    [group] = unconfirmed_movies(pa.array([line], pa.binary()), np.array([NOW]), {0: reason}, held) or [frozenset()]
    return group


def test_a_line_ahead_of_the_clock_asks_for_the_same_movies() -> None:
    """When the clock has come to it, the catalogue must know them."""
    line = f"{HEAD}GET /rate/das+boot+19811=3".encode()
    held = knowing("aliens+1986")
    ahead = replace(held, clock=ClockLimit(NOW - 1, Quorum()))
    assert unconfirmed(line, ahead) == unconfirmed(line, held) > {"das+boot+1981"}


@given(with_one_inserted())
def test_all_movies_that_a_corrupt_line_may_mean_must_be_confirmed(line: bytes) -> None:
    held = context(known=KnownIds(NO_MOVIES, movie_of(line)))
    reason = fault_of(line, held, NOW)
    assume(reason is not None and reason not in {"rating_max", *NEVER})
    valid = by_brute_force(line, context(known=KnownIds({}, held.known.missing)), NOW)
    meant = {movie for event in valid for movie in event.movies or (event.movie,)} - {None}
    assert unconfirmed(line, held) == (set() if by_brute_force(line, held, NOW) else meant)


@pytest.mark.parametrize("letter", INSERTED)
def test_the_movies_that_must_be_confirmed_decide_what_is_repaired(letter: str) -> None:
    true = "everyone+else+2009"
    line = f"{HEAD}GET /rate/everyo{letter}ne+else+2009=4".encode()
    denied = movie_of(line)
    group = unconfirmed(line, context(known=KnownIds(NO_MOVIES, denied)))
    assert true in group
    for movie in group:
        confirmed = context(known=KnownIds(NO_MOVIES | {movie: None}, denied | group - {movie}))
        assert repair(line, confirmed) == (ONE_CHARACTER, Event("rate", NOW, 5, movie, rating=4))
    two = dict.fromkeys([true, next(iter(group - {true}), true)])
    assert (repair(line, context(known=KnownIds(NO_MOVIES | two, denied))) is None) is (len(two) == 2)
    assert not unconfirmed(line, context(known=KnownIds(NO_MOVIES, denied | group)))


def test_a_list_that_contradicts_its_status_needs_no_movie_confirmed() -> None:
    line = f"{HEAD}recommendation request a:1, status 400, result: {MOVIES[1]}, {MOVIES[2]}, 5 ms-".encode()
    assert unconfirmed(line, knowing(*MOVIES[1:3])) == frozenset()
