"""Lists by self-description are shipped where they are better than the segment's list for strangers, and only there."""

import msgspec
import numpy as np
import pytest

from batch.evaluation import first_lists
from batch.evaluation.figures import MeasuredLists, measure_lists
from batch.evaluation.first_lists import SegmentLists, decide, measure_first_lists
from batch.evaluation.splits import Slice, by_time
from batch.evaluation_file import FirstListFigures, FirstListLength
from batch.history.list_facts import ListFacts
from batch.history.self_descriptions import SelfDescriptions, describe
from batch.models.list_caps import ListCaps
from batch.models.top_lists import popular_lists, top_lists
from batch.settings import BatchSettings
from quality.metrics.intervals import Interval
from tests.batch.evaluation.planted_tastes import HOURS, history

USERS, SETTINGS = 900, BatchSettings(test_hours=48)
NAMES = [f"movie+{number:02}+2000" for number in range(60)]
GENRES = {name: ["Western" if number < 30 else "Horror"] for number, name in enumerate(NAMES)}
WORDS = ("cowboys", "zombies")


@pytest.fixture(scope="module")
def part() -> Slice:
    """The choice slice of users who watch one half of the catalogue; a third of them joins late."""
    rng, starts = np.random.default_rng(1), []
    for user in range(USERS):
        first = 144 if user % 3 == 0 else 0
        movies = rng.choice(30, 8, replace=False) + 30 * (user % 2)
        starts += [(user, int(movie), int(rng.integers(first, HOURS))) for movie in movies]
    return by_time(history(starts, USERS), SETTINGS).choice()


def written(shuffled: bool) -> SelfDescriptions:
    order = np.random.default_rng(2).permutation(USERS) if shuffled else np.arange(USERS)
    texts = [(user + 1, f"I love {WORDS[order[user] % 2]}", None) for user in range(USERS)]
    return describe(np.arange(1, USERS + 1, dtype=np.uint32), texts, NAMES, GENRES)


def test_true_texts_are_better_than_the_segment_and_false_ones_are_not_shipped(part: Slice) -> None:
    true = measure_first_lists(part, written(shuffled=False), SETTINGS)
    assert true is not None
    assert (true.all.against_segment.low or 0) > 0.1
    assert true.lengths["0"].users > 30
    assert sum(length.users for length in true.lengths.values()) == true.all.users
    decision = decide(true, true, "blend")
    assert decision is not None
    assert decision.shipped
    false = decide(measure_first_lists(part, written(shuffled=True), SETTINGS), None, "blend")
    assert false is None or not false.shipped


def test_nobody_is_measured_without_texts(part: Slice) -> None:
    nobody = describe(np.arange(1, USERS + 1, dtype=np.uint32), [], NAMES, GENRES)
    assert measure_first_lists(part, nobody, SETTINGS) is None
    assert measure_first_lists(part, None, SETTINGS) is None
    assert decide(None, None, "blend") is None


def test_the_segment_list_is_that_of_a_release(part: Slice) -> None:
    known = part.known
    expected = popular_lists(known.popularity, known.matrix > 0, known.segments, 12)[:, :20]
    lists = top_lists(SegmentLists(known), known, part.strangers)
    assert (lists == expected[known.segments[part.strangers]]).all()


def test_both_lists_keep_to_the_caps(part: Slice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second user is a minor; every third movie is adult, and every seventh costs too much."""
    movies, users = np.arange(60), np.arange(USERS)
    facts = ListFacts(
        np.where(users % 4 < 2, 15, 40).astype(np.uint8), (movies % 3 == 0).astype(np.int8), 1.0 + 9 * (movies % 7 == 0)
    )
    made: list[tuple[np.ndarray, np.ndarray]] = []

    def measure(part: Slice, users: np.ndarray, lists: np.ndarray) -> MeasuredLists:
        made.append((users, lists))
        return measure_lists(part, users, lists)

    monkeypatch.setattr(first_lists, "measure_lists", measure)
    caps = ListCaps.of(facts, msgspec.structs.replace(SETTINGS, max_cost=5.0, adult_share_minors=0.05))
    assert measure_first_lists(part, written(shuffled=False), SETTINGS, caps) is not None
    assert len(made) == 2
    (users, by_segment), (_, described) = made
    adult = [(caps.adult[lists] & (lists >= 0)).sum(axis=1) for lists in (by_segment, described)]
    assert not any((caps.too_dear[lists] & (lists >= 0)).any() for _, lists in made)
    assert not adult[0].any()  # minors may be of any segment
    assert adult[1][caps.minors[users]].max() == 1
    assert adult[1][~caps.minors[users]].max() > 1


def figures(
    low: float, high: float, users: int = 200, strangers: tuple[float, float] | None = None
) -> FirstListFigures:
    share = Interval(0.1, 0.05, 0.15)
    ahead = FirstListLength(users, share, share, Interval((low + high) / 2, low, high))
    own = strangers or (low, high)
    stranger = msgspec.structs.replace(ahead, against_segment=Interval(sum(own) / 2, *own))
    return FirstListFigures(ahead, share, share, {"0": stranger})


@pytest.mark.parametrize(
    ("choice", "test", "chosen", "why"),
    [
        (figures(-0.001, 0.02), None, "blend", "beyond noise on the choice slice"),
        (figures(0.001, 0.02, 29), None, "blend", "30 are needed"),
        (figures(0.001, 0.02, strangers=(-0.02, -0.001)), None, "blend", "strangers of the choice slice"),
        (figures(0.001, 0.02), figures(-0.02, -0.001), "blend", "users of the test slice"),
        (figures(0.001, 0.02), None, "segment", "not personal"),
        (figures(0.001, 0.02), figures(-0.02, -0.001, 29), "blend", None),
        (figures(0.001, 0.02), figures(-0.02, 0.001), "blend", None),
    ],
)
def test_the_lists_are_shipped_only_where_nothing_speaks_against_them(
    choice: FirstListFigures, test: FirstListFigures | None, chosen: str, why: str | None
) -> None:
    decision = decide(choice, test, chosen)
    assert decision is not None
    assert decision.shipped == (why is None)
    assert why is None or why in decision.reason
