"""The users of the simulated service: their records, tastes and hours.

A taste is a nested choice, deliberately not a product of latent factors: a recommender that factorises a matrix must
not find its own formula here. On a visit a user first takes one of four paths: the next part of a series just watched,
the chart of popular movies, one of the small circles with favourites of all genres, or a genre and then an era. `World`
walks these paths; this file has their odds, one row per user.

Guarantee: equal settings give equal users; no array grows faster than the number of users.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from loadtest.settings import USUAL_CHART_SHARE, WorldSettings
from loadtest.simulation.catalogue import ERAS, GENRE_FREQUENCY, GENRES, ApiRecord
from loadtest.simulation.tastes_in_words import WrittenTaste, self_description
from stream.settings import Generation

CIRCLES = 40
"""Small communities that share a handful of favourites."""

OCCUPATIONS = (
    ("college/grad student", 0.24),
    ("executive/managerial", 0.19),
    ("sales/marketing", 0.14),
    ("scientist", 0.09),
    ("other or not specified", 0.07),
    ("self-employed", 0.07),
    ("academic/educator", 0.04),
    ("homemaker", 0.03),
    ("artist", 0.025),
    ("clerical/admin", 0.02),
    ("technician/engineer", 0.02),
    ("programmer", 0.015),
    ("K-12 student", 0.01),
    ("retired", 0.01),
    ("tradesman/craftsman", 0.007),
    ("writer", 0.006),
    ("lawyer", 0.005),
    ("customer service", 0.004),
    ("doctor/health care", 0.004),
    ("unemployed", 0.003),
    ("farmer", 0.001),
)
"""The service's 21 occupations, and how common each is among working ages."""

_OCCUPATION_NAMES = tuple(name for name, _ in OCCUPATIONS)
_AGE_BANDS = (18, 25, 35, 50)
_CHRONOTYPES = np.array([[20.5, 2.6, 0.55], [23.5, 2.8, 0.15], [14.0, 3.2, 0.15], [19.0, 6.0, 0.15]])
"""Favourite hour, spread in hours and share of users, for evening, night, day and any-hour users."""


@dataclass(frozen=True, slots=True)
class Activity:
    """How often and at which hours each user visits."""

    visits_per_day: npt.NDArray[np.float64]
    """[users] expected visits per day: log-normal around the mean of the settings; a few users watch all day, most of
    them seldom."""
    chronotype: npt.NDArray[np.int8]
    """[users] row of `HOUR_WEIGHTS`."""
    joining_day: npt.NDArray[np.float64]
    """[users] days from the opening of the service to the moment when each newcomer joins; -1 for the others, who are
    there when it opens."""

    def visits_in_hour(self, hour: int) -> npt.NDArray[np.float64]:
        """[users] expected visits in that hour of the service's day, 0..23."""
        return np.asarray(self.visits_per_day * HOUR_WEIGHTS[self.chronotype, hour])


@dataclass(frozen=True, slots=True)
class Population:
    """All users; row i of every array is the user with id i + 1."""

    seed: int
    generation: Generation
    ages: npt.NDArray[np.int8]
    """In years, 8..90."""
    women: npt.NDArray[np.bool_]
    """Whether the record's gender is F."""
    occupations: npt.NDArray[np.int8]
    """Index into OCCUPATIONS."""
    genre_weights: npt.NDArray[np.float32]
    """[users, genres] odds of each genre on the genre path, rows sum to 1: Dirichlet around the segment's profile."""
    favourite_era: npt.NDArray[np.int8]
    """The user's favourite era; users also like nearby eras."""
    chart_odds: npt.NDArray[np.float32]
    """Odds of the chart path: how much the user follows the crowd."""
    circle_odds: npt.NDArray[np.float32]
    """Odds of the circle path; the rest goes to the genre path."""
    loyalty: npt.NDArray[np.float32]
    """Odds of continuing a series whose last seen part has a successor; this path is tried before any other."""
    circles: npt.NDArray[np.int8]
    """[users, 2] the user's circles; the same one twice for a user of one circle."""
    rating_odds: npt.NDArray[np.float32]
    """Odds that the user rates a watched movie, 0.55 on average."""
    mood: npt.NDArray[np.float32]
    """How kindly the user rates, in standard deviations."""
    activity: Activity

    def __len__(self) -> int:
        """Number of users."""
        return len(self.ages)

    def record(self, i: int) -> ApiRecord:
        """User i as the service's API gives it."""
        record: ApiRecord = {
            "user_id": i + 1,
            "age": int(self.ages[i]),
            "occupation": _OCCUPATION_NAMES[self.occupations[i]],
            "gender": "F" if self.women[i] else "M",
        }
        if self.generation == "2026":
            record |= self._self_description(i)
        return record

    def _self_description(self, i: int) -> dict[str, str | None]:
        taste = WrittenTaste(
            self.genre_weights[i],
            int(self.favourite_era[i]),
            (int(self.circles[i, 0]), int(self.circles[i, 1])),
            float(self.chart_odds[i]),
            float(self.circle_odds[i]),
        )
        likes, dislikes = self_description(taste, Random(f"{self.seed}/self-description/{i}"))
        return {"self_description_likes": likes, "self_description_dislikes": dislikes}


def make_population(settings: WorldSettings) -> Population:
    """Make users with tastes."""
    users, rng = settings.users, np.random.default_rng([settings.seed, 2])
    charts = settings.chart_share
    taste = (1 - charts) / (1 - USUAL_CHART_SHARE)
    ages, women = _ages(rng, users), rng.random(users) < 0.17
    segment = np.digitize(ages, _AGE_BANDS) * 2 + women
    circles = rng.integers(0, CIRCLES, (users, 2)).astype(np.int8)
    one_circle = rng.random(users) < 0.5
    circles[one_circle, 1] = circles[one_circle, 0]
    return Population(
        seed=settings.seed,
        generation=settings.generation,
        ages=ages,
        women=women,
        occupations=_occupations(rng, ages),
        genre_weights=_genre_weights(rng, segment),
        favourite_era=np.clip(np.rint(rng.normal(6.0, 1.6, users)), 0, ERAS - 1).astype(np.int8),
        chart_odds=rng.beta(10 * charts, 10 * (1 - charts), users).astype(np.float32),
        # For very few users this and the chart exceed 1; they have no genre path.
        circle_odds=(0.75 * taste * rng.beta(3.0, 4.0, users)).astype(np.float32),
        loyalty=np.minimum(taste * rng.beta(2.0, 3.0, users), 1.0).astype(np.float32),
        circles=circles,
        rating_odds=rng.beta(2.2, 1.8, users).astype(np.float32),
        mood=(0.4 * rng.standard_normal(users)).astype(np.float32),
        activity=_activity(rng, settings),
    )


def _ages(rng: np.random.Generator, users: int) -> npt.NDArray[np.int8]:
    """int8 [users]: most near thirty, a tenth of any age from 8 to 90."""
    ages = np.where(rng.random(users) < 0.1, rng.uniform(8, 91, users), rng.normal(29, 4.5, users))
    return np.clip(ages, 8, 90).astype(np.int8)


def _occupations(rng: np.random.Generator, ages: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """int8 [users]: children are students, the old mostly retired, the rest as in OCCUPATIONS."""
    odds = np.array([share for _, share in OCCUPATIONS])
    drawn = rng.choice(len(odds), ages.size, p=odds / odds.sum())
    drawn[ages < 18] = _OCCUPATION_NAMES.index("K-12 student")
    drawn[(ages > 64) & (rng.random(ages.size) < 0.8)] = _OCCUPATION_NAMES.index("retired")
    return drawn.astype(np.int8)


def _genre_weights(rng: np.random.Generator, segment: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """float32 [users, genres], rows sum to 1; a segment is an age band and a gender."""
    profiles = np.sqrt(GENRE_FREQUENCY) * np.exp(0.6 * rng.standard_normal((2 * len(_AGE_BANDS) + 2, len(GENRES))))
    profiles /= profiles.sum(axis=1, keepdims=True)
    # A concentration of 4: a user has two or three favourite genres rather than the segment's average.
    weights = rng.standard_gamma(4.0 * profiles[segment]).astype(np.float32) + np.float32(1e-6)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _activity(rng: np.random.Generator, settings: WorldSettings) -> Activity:
    users = settings.users
    visits = rng.lognormal(0.0, 0.8, users)
    chronotype = rng.choice(len(_CHRONOTYPES), users, p=_CHRONOTYPES[:, 2])
    joins = rng.random(users) < settings.newcomers
    return Activity(
        visits_per_day=settings.visits_per_day * visits / visits.mean(),
        chronotype=chronotype.astype(np.int8),
        joining_day=np.where(joins, settings.joining_days * rng.random(users), -1.0),
    )


def _hour_weights() -> npt.NDArray[np.float64]:
    """float64 [chronotypes, 24]: a bump around the favourite hour, across midnight, above a low floor."""
    peaks, widths = _CHRONOTYPES[:, :1], _CHRONOTYPES[:, 1:2]
    away = np.abs(np.arange(24) - peaks)
    weights = 0.04 + np.exp(-0.5 * (np.minimum(away, 24 - away) / widths) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


HOUR_WEIGHTS = _hour_weights()
"""[chronotypes, 24] share of a day's visits in each hour of the service's day; rows sum to 1."""
