"""Candidates with lists by self-description: a good one, and bad ones that only their rule refuses."""

from collections.abc import Callable

import numpy as np

from batch.history.self_descriptions import describe
from tests.batch.gate.candidate_evaluations import JsonObject
from tests.batch.gate.candidates import TASTES, CandidateParts, Spoil
from tests.batch.gate.planted_cap_faults import with_minors

USERS, STRANGERS = 700, 240
"""The last users have seen nothing, and have described themselves."""


def first_lists(low: float = 0.001, users: int = 200) -> JsonObject:
    """What the evaluation says of them: better than the segment's list, at least by so much."""
    share, ahead = {"mean": 0.1, "low": 0.05, "high": 0.15}, {"mean": low + 0.01, "low": low, "high": low + 0.02}
    figures = {"users": users, "segment": share, "described": share, "against_segment": ahead}
    part = {"all": figures, "segment_hit_rate": share, "described_hit_rate": share, "lengths": {"0": figures}}
    return {"shipped": True, "reason": "better than the segment's list", "choice": part, "test": part}


def with_first_lists(parts: CandidateParts) -> None:
    """Strangers write which taste they have, and have lists that go with it."""
    parts.seen[-STRANGERS:] = False
    parts.facts["counts"]["sessions"] = 2 * int(parts.seen.sum())
    taste = parts.scores.reshape(len(parts.users), -1, TASTES).mean(axis=1).argmax(axis=1)
    lists = parts.made_lists()
    lists[-STRANGERS:] = parts.best_lists()[-STRANGERS:]
    parts.lists = lists
    said = [(int(user), f"I love taste{own}", None) for user, own in zip(parts.users, taste, strict=True)]
    parts.descriptions = describe(parts.users, said, parts.movies, {})
    parts.evaluation["first_lists"] = first_lists()


def with_first_lists_of_minors(parts: CandidateParts) -> None:
    """Every fourth of them is a minor, and the best movies are adult."""
    with_minors(parts)
    parts.ages |= dict.fromkeys(range(USERS - STRANGERS, USERS, 4), 17)
    with_first_lists(parts)


def adult_for_a_minor(parts: CandidateParts) -> None:
    with_first_lists_of_minors(parts)
    assert parts.lists is not None
    parts.lists[USERS - STRANGERS, 19] = min(parts.adult)


def newcomers_with_lists(parts: CandidateParts) -> None:
    parts.seen[390:] = False
    parts.lists = parts.made_lists()
    parts.lists[390:] = parts.made_fallbacks()[0, :20]


def spoilt(change: Callable[[CandidateParts], object]) -> Spoil:
    def spoil(parts: CandidateParts) -> None:
        with_first_lists(parts)
        change(parts)

    return spoil


def lists_of_others(parts: CandidateParts) -> None:
    assert parts.lists is not None
    parts.lists[-STRANGERS:] = np.random.default_rng(3).permutation(parts.lists[-STRANGERS:])


def silent(parts: CandidateParts) -> None:
    said = [(int(user), "I love taste1", None) for user in parts.users[:-1]]
    parts.descriptions = describe(parts.users, said, parts.movies, {})


def says(**changed: object) -> Spoil:
    return spoilt(lambda parts: parts.evaluation["first_lists"].update(changed))


RULE = "first_lists_suit_their_users"
FIRST_LISTS: list[tuple[str, str, dict[str, int], Spoil]] = [
    (RULE, "not shipped", {"users": USERS}, says(shipped=False)),
    (RULE, "not evaluated", {"users": USERS}, spoilt(lambda parts: parts.evaluation.pop("first_lists"))),
    (RULE, "not measured", {"users": USERS}, says(choice=None)),
    (RULE, "no better", {"users": USERS}, says(choice=first_lists(low=-0.001)["choice"])),
    (RULE, "worse on the test slice", {"users": USERS}, says(test=first_lists(low=-0.03)["test"])),
    (RULE, "measured on 29", {"users": USERS}, says(choice=first_lists(users=29)["choice"])),
    (RULE, "somebody who wrote nothing", {"users": USERS}, spoilt(silent)),
    (RULE, "texts unknown", {"users": USERS}, spoilt(lambda parts: setattr(parts, "descriptions", None))),
    (RULE, "lists of other strangers", {"users": USERS}, spoilt(lists_of_others)),
    (RULE, "newcomers with the popular list", {}, newcomers_with_lists),
    ("lists_keep_to_caps", "an adult movie for a minor by self-description", {"users": USERS}, adult_for_a_minor),
]
