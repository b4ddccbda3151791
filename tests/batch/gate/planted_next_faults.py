"""Bad candidates that come after a current release, each by the rule that is there for it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from server.release import Release
from tests.batch.gate.candidate_evaluations import NOW
from tests.batch.gate.candidates import (
    DAYS,
    CandidateParts,
    against,
    measured_on,
    popular,
    proven,
    unmeasured,
)
from tests.batch.gate.current_releases import lost, made_without_api, sessions


def numbered(current: Release, users: int = 400, movies: int = 120) -> Release:
    return replace(current, users=np.arange(users, dtype=np.uint32), names=[b"a+2000"] * movies)


def against_another(parts: CandidateParts, current: Release) -> None:
    """As the current release was, but nothing was measured."""
    parts.evaluation["against_current"] = {"release": "20300105T030000Z-00000000", "none": "only 9 users"}


def not_measured_of_120(parts: CandidateParts, _: Release) -> None:
    parts.seen[120:] = False
    unmeasured(parts)


def lost_without_an_api_again(parts: CandidateParts, current: Release) -> None:
    proven(parts, 1)
    parts.current = made_without_api(numbered(current, movies=241))


def half_lost_one_less_proven(parts: CandidateParts, current: Release) -> None:
    """Two nights without an API: of the second, fewer movies are proven since sessions were lost."""
    proven(parts, 2)
    parts.current = made_without_api(numbered(current, movies=241), 3)


def half_lost_few_answered(parts: CandidateParts, current: Release) -> None:
    """The API answered at last, but on fewer than half of the movies that were open."""
    current = replace(current, names=[b"a+2000", b"b+2000", *current.names[2:]])
    parts.current = made_without_api(sessions(current, 10**6), 3)
    parts.facts["counts"]["unknown_movie"] = 10**6


def half_lost_not_denied(parts: CandidateParts, current: Release) -> None:
    """The API answered, but it has not denied what is lost."""
    parts.catalog_movies.add("a+2000")
    parts.current = made_without_api(numbered(current, movies=241))


def half_lost_after_an_answer(parts: CandidateParts, current: Release) -> None:
    """The API answered both times; the record of one movie was bad the first time."""
    parts.denied_movies.add("a+2000")
    parts.current = made_without_api(numbered(current, movies=241), api_answered=True)


def worse_one_less_proven(parts: CandidateParts, current: Release) -> None:
    proven(parts, 2)
    parts.current = made_without_api(current, 3)
    parts.evaluation.update(against_current=against(current, -0.02, 0.01))


def fall(parts: CandidateParts, _: Release) -> None:
    """The popular list won on one user fewer than a tenth of all."""
    popular(parts)
    measured_on(parts, 39, 30)


def measured_on_few(choice: int, test: int) -> Callable[[CandidateParts, Release], object]:
    def spoil(parts: CandidateParts, current: Release) -> None:
        measured_on(parts, choice, test)
        parts.evaluation["against_current"] = {"release": current.id, "none": "only 9 users"}

    return spoil


NEXT: list[tuple[str, str, Callable[[CandidateParts, Release], object]]] = [
    ("input_goes_on", "the stream turned back",
     lambda parts, now: setattr(parts, "current", lost(now, stream_time=NOW + 1, offsets=parts.facts["offsets"]))),
    ("input_goes_on", "a day in between is gone", lambda parts, _: parts.facts["days"].remove("2030-01-04")),
    ("input_goes_on", "the newest day is gone",
     lambda parts, now: setattr(parts, "current", lost(now, days=[*DAYS, "2030-01-08"]))),
    ("input_goes_on", "lines taken back",
     lambda parts, now: setattr(parts, "current", lost(now, offsets={"movielog1-0": [0, 1000]}))),
    ("input_goes_on", "a partition gone",
     lambda parts, now: setattr(parts, "current", lost(now, offsets={"movielog1-1": [0, 0]}))),
    ("counts_hold", "users lost", lambda parts, now: setattr(parts, "current", numbered(now, users=801))),
    ("counts_hold", "movies lost", lambda parts, now: setattr(parts, "current", numbered(now, movies=241))),
    ("counts_hold", "sessions lost",
     lambda parts, now: setattr(parts, "current", sessions(now, 2 * parts.facts["counts"]["sessions"] + 1))),
    ("counts_hold", "movies lost, without an API as before", lost_without_an_api_again),
    ("counts_hold", "movies lost, one less proven without an API", half_lost_one_less_proven),
    ("counts_hold", "sessions lost, the API has answered on few", half_lost_few_answered),
    ("counts_hold", "movies lost, which the API has not denied", half_lost_not_denied),
    ("counts_hold", "movies lost, the API answered before", half_lost_after_an_answer),
    ("counts_hold", "sessions lost, though an API answered",
     lambda parts, now: setattr(parts, "current", made_without_api(sessions(now, 10**6)))),
    ("not_below_current", "ranks lower, one less proven without an API", worse_one_less_proven),
    ("counts_hold", "users lost after one without an API",
     lambda parts, now: setattr(parts, "current", made_without_api(numbered(now, users=801)))),
    ("measured_on_enough", "nothing held out", lambda parts, _: unmeasured(parts)),
    ("measured_on_enough", "nothing held out of 120 users", not_measured_of_120),
    ("measured_on_enough", "chosen on few", measured_on_few(29, 200)),
    ("measured_on_enough", "tested on few", measured_on_few(200, 29)),
    ("measured_on_enough", "popular, chosen on few", fall),
    ("not_below_current", "worse than the current one",
     lambda parts, now: parts.evaluation.update(against_current=against(now, -0.01, 0.009))),
    ("not_below_current", "held against another one",
     lambda parts, now: parts.evaluation["against_current"].update(release="yesterday")),
    ("not_below_current", "not compared with another one", against_another),
    ("not_below_current", "the evaluation of the first night",
     lambda parts, now: parts.evaluation.update(against_current={"none": "there is no current release"})),
]  # fmt: skip
"""Spoilt releases of the next night."""
