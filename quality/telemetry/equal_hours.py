"""Releases that served on one day, compared at equal hours of the day.

Users choose more readily in the evening than in the morning, with any list. So the hit rates of a release that served
in the morning and of one that served at night say nothing about the releases. Only answers in hours in which both
served are compared, hour by hour; how much better each did than its popular list there is a second comparison, in which
the kind of users who asked is a control, too.
"""

from itertools import pairwise

import msgspec
import numpy as np

from quality.metrics.intervals import Interval
from quality.metrics.strata import StratifiedMeans, stratified_means
from quality.telemetry.judged_day import JudgedAnswers, JudgedDay
from quality.telemetry.report_figures import Count, Share


class EqualHours(msgspec.Struct, frozen=True, kw_only=True):
    """Two releases, compared over the closed answers in hours of the day in which both served."""

    earlier: str
    """Release that served first."""
    later: str
    comparable: bool
    """False: there is no hour with closed answers of both; nothing is compared."""
    hours: list[str]
    """In which both served."""
    earlier_answers: Count
    later_answers: Count
    earlier_hit_rate: Share | None
    """Means over the same mixture of hours."""
    later_hit_rate: Share | None
    difference: Interval
    """Later hit rate less earlier, within hours (Mantel-Haenszel)."""
    uplift_difference: Interval
    """The same of the uplifts over the popular lists, where these are known."""


def compare_releases(day: JudgedDay) -> list[EqualHours]:
    """Each release that served on the day compared with the one before it."""
    release = day.requests.release
    numbers, firsts = np.unique(release[release >= 0], return_index=True)
    in_order = numbers[np.argsort(firsts)].tolist()
    return [_compare(day, earlier, later) for earlier, later in pairwise(in_order)]


def _compare(day: JudgedDay, earlier: int, later: int) -> EqualHours:
    closed = day.closed
    hours = np.intersect1d(closed.hour[closed.release == earlier], closed.hour[closed.release == later])
    both = closed[np.flatnonzero(np.isin(closed.release, (earlier, later)) & np.isin(closed.hour, hours))]
    compared = both[np.flatnonzero(both.baseline >= 0)]
    is_later = both.release == later

    def means(answers: JudgedAnswers, values: np.ndarray, widest: float) -> StratifiedMeans:
        return stratified_means(values, answers.release == later, answers.hour, answers.user, widest)

    rates = means(both, both.rank > 0, 1)
    uplifts = means(compared, (compared.rank > 0).astype(np.int64) - (compared.baseline > 0), 2)
    return EqualHours(
        earlier=day.names.release[earlier],
        later=day.names.release[later],
        comparable=len(hours) > 0,
        hours=[day.names.hour[hour] for hour in hours.tolist()],
        earlier_answers=int(np.count_nonzero(~is_later)),
        later_answers=int(np.count_nonzero(is_later)),
        earlier_hit_rate=rates.first,
        later_hit_rate=rates.second,
        difference=rates.difference,
        uplift_difference=uplifts.difference,
    )
