"""Are lists by self-description better than the segment's popular list, for users who have watched nothing yet?

They are measured on strangers with a text. Where a slice has fewer than `ENOUGH` of them, half of the known users join
in, those with the shortest histories, as if they were strangers: the model is not fitted to them, and neither list sees
their histories, but for leaving out what they have seen. Both lists keep to the caps. Those are shipped if they rank
above the segment's beyond noise on the choice slice, are not below it beyond noise among the strangers alone or on the
test slice, and the chosen model is personal: a release of a popular model has no lists of other kinds.
"""

import numpy as np

from batch import models
from batch.evaluation.contest import drawn
from batch.evaluation.figures import MeasuredLists, measure_lists
from batch.evaluation.splits import Slice
from batch.evaluation_file import (
    HISTORY_LENGTHS,
    FirstListFigures,
    FirstListLength,
    FirstLists,
    what_speaks_against,
)
from batch.history.interactions import Interactions
from batch.history.segments import NAMES
from batch.history.self_descriptions import SelfDescriptions
from batch.models.described_taste import DescribedTaste
from batch.models.list_caps import ListCaps
from batch.models.top_lists import RESERVE, popular_lists, top_lists
from batch.settings import BatchSettings
from quality.metrics.intervals import interval_text, mean_difference_interval, mean_interval
from quality.metrics.ranking import HIT_RATE

ENOUGH = 4_000
"""Users that should be measured: a gain of .004 in NDCG@20 is then beyond noise in most nights."""


class SegmentLists:
    """Scores that rank as the popular list of the user's segment in a release does, which keeps to the caps."""

    name = "segment list"

    def __init__(self, data: Interactions, caps: ListCaps | None = None) -> None:
        kept_off = None if caps is None else caps.kept_off
        lists = popular_lists(data.popularity, data.matrix > 0, data.segments, len(NAMES) - 1, kept_off)
        self._scores = np.full((len(lists), data.shape[1]), -np.inf, np.float32)
        for segment, movies in enumerate(lists):
            listed = movies[movies >= 0]
            self._scores[segment, listed] = RESERVE - np.arange(len(listed))

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        """As `Model.score`; -inf for movies that are not among the first `RESERVE`."""
        return self._scores[data.segments[users]]


def measure_first_lists(
    part: Slice, descriptions: SelfDescriptions | None, settings: BatchSettings, caps: ListCaps | None = None
) -> FirstListFigures | None:
    """Measure both lists on a slice; None if nobody with a text, or nobody with a known word, can be measured."""
    users = _like_strangers(part, descriptions, settings) if descriptions else np.zeros(0, np.int64)
    if descriptions is None or not len(users):
        return None
    model = DescribedTaste(descriptions, settings)
    model.fit(part.known, left_out=users)
    users = users[model.known(users)]
    if not len(users):
        return None
    segment, described = (
        measure_lists(part, users, top_lists(own, part.known, users, caps=caps))
        for own in (SegmentLists(part.known, caps), model)
    )
    lengths = part.lengths[users]
    by_length = {}
    for name, (least, most) in HISTORY_LENGTHS.items():
        rows = np.flatnonzero((lengths >= least) & (lengths <= most))
        if len(rows):
            by_length[name] = _figures(segment, described, rows)
    return FirstListFigures(
        _figures(segment, described, np.arange(len(users))),
        mean_interval(HIT_RATE.scores(segment.scores)),
        mean_interval(HIT_RATE.scores(described.scores)),
        by_length,
    )


def decide(choice: FirstListFigures | None, test: FirstListFigures | None, chosen: str) -> FirstLists | None:
    """Whether a release of the chosen model has lists by self-description; None if nothing was measured."""
    if choice is None:
        return None
    why_not = _why_not_shipped(choice, test, chosen)
    ahead = interval_text(choice.all.against_segment, "+.4f")
    reason = why_not or f"better than the segment's list on the choice slice ({ahead})"
    return FirstLists(shipped=why_not is None, reason=reason, choice=choice, test=test)


def _why_not_shipped(choice: FirstListFigures, test: FirstListFigures | None, chosen: str) -> str | None:
    if not models.is_personal(chosen):
        return f"{chosen} makes the lists, which are not personal"
    return what_speaks_against(choice, test)


def _like_strangers(part: Slice, descriptions: SelfDescriptions, settings: BatchSettings) -> np.ndarray:
    """Strangers and users with short histories who have written anything: int64 rows, ascending."""
    users = np.concatenate([part.strangers, drawn(part.users, len(part.users) // 2, settings.seed)])
    users = users[descriptions.written_by(users)]
    lengths = part.lengths[users]
    longest = np.sort(lengths)[:ENOUGH].max(initial=0)
    return drawn(np.sort(users[lengths <= longest]), settings.evaluation_users, settings.seed)


def _figures(segment: MeasuredLists, described: MeasuredLists, rows: np.ndarray) -> FirstListLength:
    by_segment, by_text = segment.scores.ndcg[rows], described.scores.ndcg[rows]
    difference = mean_difference_interval(by_text, by_segment)
    return FirstListLength(len(rows), mean_interval(by_segment), mean_interval(by_text), difference)
