"""Can an evaluation be believed? Signs of a broken measurement or of a leak."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

_METRICS = ("hr@20", "recall@20", "ndcg@20", "mrr")
_SHARES = ("coverage", "personal")
_FEW_USERS, _FEW_MOVIES = 100, 100
"""With fewer, the best figures may be chance, or come of a list that holds half of all movies."""
_TOO_GOOD = 0.9
"""NDCG@20 that nobody reaches without having seen the answers."""
_ROUNDING = 1e-9
_LEAP, _LEAP_FROM = 3, 0.2
"""A model that ranks so many times better on the test slice than on the one that it was tuned on, beyond both
intervals, and at least so well, has seen the answers."""


def evaluation_problems(evaluation: dict[str, Any], movies: int, until: int) -> str:
    """Why an evaluation on two slices, over so many movies, is not to be believed; "" for no reason.

    `until` is where the history ends, ms UTC. Raises `KeyError` and the like where figures are missing.
    """
    choice, test = evaluation["slices"]["choice"], evaluation["slices"]["test"]
    found = [_in_time(choice, test, until)]
    measured = choice["models"].keys() & test["models"].keys()
    found += [f"{name} was not measured" for name in (evaluation["chosen"], "popular") if name not in measured]
    for one, part in evaluation["slices"].items():
        for name, figures in part["models"].items():
            found += [f"{what} of {name} on the {one} slice" for what in _garbled(figures)]
            if figures["users"] >= _FEW_USERS and movies >= _FEW_MOVIES and _is_too_good(figures):
                found.append(f"{name} is too good to be true on the {one} slice")
    if movies >= _FEW_MOVIES:
        leaping = (name for name in sorted(measured) if _leaps(choice["models"][name], test["models"][name]))
        found += [f"{name} leaps from slice to slice" for name in leaping]
    found.append(_does_not_add_up(evaluation, test["models"]))
    return "; ".join(filter(None, found))


def day_ms(day: str) -> int:
    """When a day (YYYY-MM-DD) begins in UTC, ms since 1970."""
    return int(dt.datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 1000


def _in_time(choice: dict[str, Any], test: dict[str, Any], until: int) -> str:
    """The slices follow each other, and the last one ends with the history."""
    if not choice["from_ms"] < choice["until_ms"] <= test["from_ms"] < test["until_ms"]:
        return "the slices are not one after the other"
    if test["until_ms"] != until:
        return "the test slice does not end with the history"
    return ""


def _does_not_add_up(evaluation: dict[str, Any], models: dict[str, Any]) -> str:
    """The difference from the popular list is that of the figures."""
    if not {evaluation["chosen"], "popular"} <= models.keys():
        return ""
    against = evaluation["against_popular"]
    one, other = (models[name][against["metric"]]["mean"] for name in (evaluation["chosen"], "popular"))
    if against["metric"] != "ndcg@20" or not abs(one - other - against["mean"]) <= _ROUNDING:
        return "the difference from the popular list is not that of the figures"
    return ""


def _garbled(figures: dict[str, Any]) -> Iterator[str]:
    """What cannot be: the names of such figures."""
    if not figures["users"] > 0:
        yield "users"
    for name in _METRICS:
        ends = [figures[name][end] for end in ("low", "mean", "high")]
        if not all(map(_is_share, ends)) or ends[0] > ends[2]:
            yield name
    for name in _SHARES:
        if not _is_share(figures[name]):
            yield name


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _is_too_good(figures: dict[str, Any]) -> bool:
    return bool(figures["ndcg@20"]["mean"] > _TOO_GOOD or figures["hr@20"]["mean"] >= 1)


def _leaps(before: dict[str, Any], after: dict[str, Any]) -> bool:
    if min(before["users"], after["users"]) < _FEW_USERS or after["ndcg@20"]["mean"] < _LEAP_FROM:
        return False
    return bool(after["ndcg@20"]["low"] > _LEAP * before["ndcg@20"]["high"])
