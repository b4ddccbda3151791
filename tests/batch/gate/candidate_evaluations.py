"""Evaluations of candidates for the gate, made by hand: one that is sound, and what its figures may be."""

from collections.abc import Iterable
from typing import Any

from stream.zone import DAY_MS

NOW = 1_894_046_400_000  # 2030-01-07T20:00Z
JsonObject = dict[str, Any]
"""A part of a file as JSON: planted faults also write values that the file's own Struct would not hold."""


def evaluation(until: int = NOW) -> JsonObject:
    """One in which ALS is chosen, with nothing to doubt."""
    ends = (until - 2 * DAY_MS, until - DAY_MS, until)
    models = {"popular": 0.08, "als": 0.12}
    slices = {
        name: {
            "from_ms": ends[at],
            "until_ms": ends[at + 1],
            "models": {model: figures(ndcg + 0.01 * at) for model, ndcg in models.items()},
            "history_lengths": by_length({"1": 60, "6-10": 100, "51+": 40}, models),
        }
        for at, name in enumerate(("choice", "test"))
    }
    return {
        "chosen": "als",
        "chosen_by": "ndcg@20 on the choice slice",
        "parameters": {},
        "slices": slices,
        "against_popular": {"metric": "ndcg@20", "mean": 0.04, "low": 0.03, "high": 0.05},
        "against_current": {"none": "there is no current release"},
    }


def by_length(users: dict[str, int], models: Iterable[str]) -> JsonObject:
    """Figures by length of history; no model is below the popular list."""
    share, ahead = {"mean": 0.1, "low": 0.05, "high": 0.15}, {"mean": 0.01, "low": 0.0, "high": 0.02}
    one = {"ndcg@20": share, "against_popular": ahead}
    return {name: {"users": count, "models": {model: dict(one) for model in models}} for name, count in users.items()}


def figures(ndcg: float, users: int = 200) -> JsonObject:
    shares = {"hr@20": 0.6, "recall@20": 0.2, "ndcg@20": ndcg, "mrr": 0.1}
    named = {name: {"mean": mean, "low": 0.9 * mean, "high": 1.1 * mean} for name, mean in shares.items()}
    return {"users": users, **named, "coverage": 0.5, "novelty_bits": 5.0, "personal": 0.9, "segments": {},
            "largest_gap": None}  # fmt: skip
