"""Users whose answers are hits with a known probability: a day whose true hit rate and uplift are known."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

AnswersByUser = Literal["one", "poisson", "pareto"]
"""One each; 1 + Poisson(2); or rounded down from Pareto's distribution with shape 1.5, whose variance is infinite."""

_POPULAR = 0.5
"""Hits of the popular list, as a share of those of the shown lists."""
_SHARED = 0.6
"""Share of them that are for answers whose shown list was a hit as well."""


@dataclass(frozen=True, slots=True)
class SimulatedDay:
    """Hits, hits of the popular list, answers that are a hit of only one of both, and answers: int64 [users] each."""

    hits: np.ndarray
    popular_hits: np.ndarray
    differing: np.ndarray
    answers: np.ndarray


@dataclass(frozen=True, slots=True)
class SimulatedUsers:
    """A population; equal days come from equal generators."""

    users: int
    rate: float
    """True hit rate."""
    answers: AnswersByUser
    correlation: float
    """Of two answers to one user: users' probabilities have a beta distribution; 0: all have the same."""

    @property
    def name(self) -> str:
        """`50 users, 1 %, pareto, correlation 0.2`."""
        return f"{self.users} users, {100 * self.rate:g} %, {self.answers}, correlation {self.correlation:g}"

    @property
    def uplift(self) -> float:
        """True uplift."""
        return self.rate * (1 - _POPULAR)

    def day(self, rng: np.random.Generator) -> SimulatedDay:
        """A day of these users."""
        answers = self._answers(rng)
        probability = np.full(self.users, self.rate)
        if self.correlation:
            weight = 1 / self.correlation - 1
            probability = rng.beta(self.rate * weight, (1 - self.rate) * weight, self.users)
        hits = rng.binomial(answers, probability)
        own = (1 - _SHARED) * probability  # so that each user's popular hits are `_POPULAR` of the hits
        both = rng.binomial(hits, _POPULAR * (_SHARED + own))
        popular_hits = both + rng.binomial(answers - hits, _POPULAR * own)
        return SimulatedDay(hits, popular_hits, hits + popular_hits - 2 * both, answers)

    def _answers(self, rng: np.random.Generator) -> np.ndarray:
        match self.answers:
            case "one":
                return np.ones(self.users, np.int64)
            case "poisson":
                return 1 + rng.poisson(2, self.users)
            case "pareto":
                return np.floor((1 - rng.random(self.users)) ** (-1 / 1.5)).astype(np.int64)


def populations() -> Iterator[SimulatedUsers]:
    """All that are measured, the fewest users first; with one answer each, correlation has no meaning."""
    for users, rate in product((10, 20, 50, 200, 1000), (0.01, 0.05, 0.2, 0.5, 0.99)):
        yield SimulatedUsers(users, rate, "one", 0.0)
        for correlation in (0.0, 0.2):
            yield SimulatedUsers(users, rate, "poisson", correlation)
            yield SimulatedUsers(users, rate, "pareto", correlation)
