"""The simulated catalogue: invented movies, with ids that look like the real ones.

Attributes that influence users are in arrays, row i for movie i; purely decorative fields of the API record (overview,
companies, languages ...) are generated when the record is requested. Movies of a series are in consecutive rows in the
order of their release, so a sequel is the next row.

Guarantee: the same arguments give the same catalogue, ids are unique and consist only of `[a-z0-9+\\-._*]`.
"""

import math
import re
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from stream.settings import Generation

Rows = npt.NDArray[np.int64]
ApiRecord = dict[str, Any]
"""One record of the service's API, as JSON.

`Any`, since it is foreign data: `quality.lines.schemas` checks it, as it checks the real service's records."""

GENRE_IDS = {
    "Action": 28,
    "Adventure": 12,
    "Animation": 16,
    "Comedy": 35,
    "Crime": 80,
    "Documentary": 99,
    "Drama": 18,
    "Family": 10751,
    "Fantasy": 14,
    "History": 36,
    "Horror": 27,
    "Music": 10402,
    "Mystery": 9648,
    "Romance": 10749,
    "Science Fiction": 878,
    "TV Movie": 10770,
    "Thriller": 53,
    "War": 10752,
    "Western": 37,
}
"""TMDB's genres and their numbers there; a genre's index in this project is its position in this table."""

GENRES = tuple(GENRE_IDS)
GENRE_FREQUENCY = np.array(
    [0.31, 0.17, 0.075, 0.60, 0.22, 0.16, 0.99, 0.12, 0.11, 0.07, 0.19, 0.08, 0.12, 0.34, 0.14, 0.02, 0.36, 0.07, 0.05]
)
"""Relative frequency of each genre."""

ERAS = 8
"""Eras of cinema: before 1950, then decades, the last one from 2010 on."""

LATEST_YEAR = 2021
"""Year of the newest movies, so that the catalogue suits either generation of the service."""

ADULT_SHARE = 0.01
"""Share of movies for adults only."""
_PRICES = (0.49, 0.99, 1.49, 1.99, 2.49, 2.99, 3.99, 4.99, 5.99, 7.99)
"""What licences cost per play; new and watched movies cost more."""
_FREE, _NO_PRICE = 0.03, 0.02
"""Shares of movies that cost nothing, and whose price the service does not know."""

_DROPPED = re.compile(r"[^A-Za-z0-9\-._* ]")
_SERIES_SIZES = np.array([2, 3, 4, 5, 6, 8])
_SERIES_SIZE_ODDS = np.array([0.34, 0.30, 0.16, 0.10, 0.06, 0.04])

_NOUNS = (  # noqa: SIM905 – easier to read as words
    "Island Winter River Stranger Lantern Harbour Garden Mirror Wolf Orchid Empire Station Letter Shadow Desert "
    "Engine Orchestra Widow Compass Storm Carnival Summer Fortress Sparrow Avenue Machine Promise Silence Horizon "
    "Tailor Comet Kingdom Detective Violin Frontier Daughter Alibi Sailor Monsoon Verdict Circus Railway Prophet "
    "Meadow Vampire Sister Gambler Cathedral Tiger Archive Hostage Window Ghost Planet Soldier Bride Witness Dream "
    "Fugitive Snow Mountain Clock"
).split()
_ADJECTIVES = (  # noqa: SIM905 – easier to read as words
    "Last Silent Crimson Broken Golden Hidden Burning Endless Lonely Electric Savage Forgotten Blue Wicked Distant "
    "Brave Frozen Secret Hollow Restless Invisible Perfect Strange Midnight Wild Gentle Black Second Sunken "
    "Fearless Red Little"
).split()
_NAMES = (  # noqa: SIM905 – easier to read as words
    "Amélie Zoé Marlowe Ingrid Tobías Håkon Ruby Salomé Victor Mabel Søren Chloé Benedikt Ines Émile Oskar Lila "
    "Ramón Fiona Jürgen Clara Duke Noémie Walter Agnès Hugo Maude Ignácio Bea Leonid"
).split()
_TITLE_FORMS = (
    "The {a} {n}",
    "{a} {n}",
    "The {n}",
    "{p}",
    "The {n} of {p}",
    "{n} and {m}",
    "{p}'s {n}",
    "The {a} {n} of the {m}",
    "{p} & {q}",
    "{p} in the {n}",
    "{n}: The {a} {m}",
    "{n}, {m}",
    "{p}, the {a} {n}",
    "Dr. {p}",
    "{p} vs. {q}",
    "Half-{a} {n}",
    "Who Is {p}?",
    "¡{p}, {p}!",
    "À {n}",
    "N*I*G*H*T {n}",
    "{n} 2.0",
)
_TITLE_FORM_ODDS = (20, 12, 6, 3, 9, 8, 6, 8, 3, 5, 4, 3, 2, 2, 1, 1, 1, 0.3, 0.5, 0.2, 0.3)
_SEQUEL_NUMERALS = ("", " II", " III", " IV", " V", " VI", " VII", " VIII")
_LANGUAGES = {"en": "English", "fr": "Français", "ja": "日本語", "de": "Deutsch", "it": "Italiano"}
_COUNTRIES = {"en": ("US", "United States of America"), "fr": ("FR", "France"), "ja": ("JP", "Japan")}


def movie_id(title: str, year: int | None) -> str:
    """The service's id of a movie: lower-case words joined by `+`, then the year, or nothing where it is unknown.

    A comma becomes `_`; other punctuation than `-._*`, a literal `+` and non-ASCII letters are dropped, blanks around
    them stay. So every title gives an id of `[a-z0-9+\\-._*]`.
    """
    words = _DROPPED.sub("", title.replace(",", "_")).lower().replace(" ", "+")
    return f"{words}+{'' if year is None else year}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All movies; every array has one row per movie, in the order of `ids`."""

    seed: int
    generation: Generation
    ids: list[str]
    """The service's ids, unique."""
    titles: list[str]
    years: npt.NDArray[np.int32]
    """Year of release, also of the few movies whose id has no year."""
    genres: npt.NDArray[np.int8]
    """[movies, 3] genre indices, the main one first, padded with -1."""
    length_min: npt.NDArray[np.int32]
    """True length in minutes, also where the record says 0 or null."""
    listed_runtime: npt.NDArray[np.int32]
    """Length in minutes in the record: 0 or -1 (null in the record) where the service does not know it."""
    popularity: npt.NDArray[np.float64]
    """Chance of an untargeted visit, summing to 1: Zipf–Mandelbrot over a rank by quality, era and sequels."""
    quality: npt.NDArray[np.float64]
    """How good the movie is, mean 0, standard deviation 1; users never see it, `vote_average` follows it."""
    series: npt.NDArray[np.int32]
    """The movie's collection, as the row of its first movie; -1 for none."""
    successor: npt.NDArray[np.int32]
    """The next movie of the same series, -1 for none."""
    index: dict[str, int] = field(repr=False)
    """Row of each id."""

    def __len__(self) -> int:
        """Number of movies."""
        return len(self.ids)

    @property
    def eras(self) -> npt.NDArray[np.int8]:
        """[movies] era of each movie, 0..ERAS-1."""
        return np.clip((self.years - 1940) // 10, 0, ERAS - 1).astype(np.int8)

    def record(self, i: int) -> ApiRecord:
        """Movie i as the service's API gives it: numbers are strings, except for `tmdb_id` and `runtime`."""
        dice = Random(f"{self.seed}/{i}")
        language = dice.choices(("en", "fr", "ja", "de", "it"), (76, 8, 6, 6, 4))[0]
        code, country = _COUNTRIES.get(language, ("GB", "United Kingdom"))
        return {
            "id": self.ids[i],
            "tmdb_id": 100_000 + i,
            "imdb_id": f"tt{1_000_000 + i:07d}",
            "title": self.titles[i],
            "original_title": self.titles[i],
            "adult": str(self.is_adult(i)),
            "belongs_to_collection": self._collection(i),
            "genres": [{"id": GENRE_IDS[GENRES[g]], "name": GENRES[g]} for g in self.genres[i] if g >= 0],
            "homepage": f"http://www.example.com/movies/{i}" if dice.random() < 0.12 else "null",
            "original_language": language,
            "overview": self._overview(i, dice),
            "poster_path": f"/{dice.getrandbits(64):016x}.jpg",
            "production_companies": [{"name": f"{dice.choice(_ADJECTIVES)} {dice.choice(_NOUNS)} Pictures", "id": i}],
            "production_countries": [{"iso_3166_1": code, "name": country}],
            "release_date": f"{self.years[i]}-{dice.randint(1, 12):02d}-{dice.randint(1, 28):02d}",
            "runtime": None if self.listed_runtime[i] < 0 else int(self.listed_runtime[i]),
            "spoken_languages": [{"iso_639_1": language, "name": _LANGUAGES[language]}],
            "status": "Released",
            **self._figures(i, dice),
        }

    def _figures(self, i: int, dice: Random) -> dict[str, str]:
        """Money and votes; budget and revenue of most movies are unknown, "0"."""
        audience = self.popularity[i] * len(self)
        budget = int(audience * dice.lognormvariate(16, 1)) if dice.random() < 0.2 else 0
        figures = {
            "budget": str(budget),
            "revenue": str(int(budget * dice.lognormvariate(0.6, 0.8))),
            "popularity": f"{3.8 * audience * dice.lognormvariate(0, 0.3):.6f}",
            "vote_average": f"{min(max(6.0 + 1.1 * self.quality[i] + dice.gauss(0, 0.5), 0.5), 10.0):.1f}",
            "vote_count": str(int(260 * audience * dice.lognormvariate(0, 0.4))),
        }
        if self.generation == "2026":
            figures["cost"] = self._cost(i)
        return figures

    def is_adult(self, i: int) -> bool:
        """Whether movie i is for adults only. The older generation says so of none."""
        return self.generation == "2026" and Random(f"{self.seed}/{i}/adult").random() < ADULT_SHARE

    def _cost(self, i: int) -> str:
        """What the licence costs per play."""
        dice = Random(f"{self.seed}/{i}/cost")
        if (kind := dice.random()) < _FREE + _NO_PRICE:
            return "0.00" if kind < _FREE else "null"
        is_new = max(0, self.years[i] - LATEST_YEAR + 10) / 10
        demand = math.log2(1 + self.popularity[i] * len(self))
        place = dice.gauss(2.5 + 2.0 * is_new + 1.0 * demand, 1.2)
        return f"{_PRICES[min(max(round(place), 0), len(_PRICES) - 1)]:.2f}"

    def _collection(self, i: int) -> ApiRecord:
        series = int(self.series[i])
        if series < 0:
            return {}
        return {"id": 500_000 + series, "name": f"{self.titles[series]} Collection", "poster_path": "null"}

    def _overview(self, i: int, dice: Random) -> str:
        genre = GENRES[self.genres[i, 0]].lower()
        place, person, thing = dice.choice(_NOUNS).lower(), dice.choice(_NAMES), dice.choice(_NOUNS).lower()
        return f"A {genre} story: {person} comes to the {place} and finds a {thing} that changes everything."


def make_catalogue(movies: int, seed: int, generation: Generation = "2026") -> Catalogue:
    """Generate a catalogue; about a quarter of its movies are in series of 2..8."""
    rng = np.random.default_rng([seed, 1])
    first, part = _lay_out_series(rng, movies)
    in_series = np.append(part[1:] > 0, False) | (part > 0)
    years = _years(rng, first, part)
    quality = _standardised(0.6 * rng.standard_normal(movies)[first] + rng.standard_normal(movies) - 0.15 * part)
    length_min = _lengths(rng, movies)
    titles, ids = _titles(Random(f"{seed}/titles"), first, part, years)
    return Catalogue(
        seed=seed,
        generation=generation,
        ids=ids,
        titles=titles,
        years=years,
        genres=_genres(rng, movies)[first],
        length_min=length_min,
        listed_runtime=np.where(
            rng.random(movies) < 0.008, 0, np.where(rng.random(movies) < 0.015, -1, length_min)
        ).astype(np.int32),
        popularity=_popularity(rng, quality + 0.8 * in_series + (years - 1990) / 40),
        quality=quality,
        series=np.where(in_series, first, -1).astype(np.int32),
        successor=np.where(np.append(part[1:] > 0, False), np.arange(1, movies + 1), -1).astype(np.int32),
        index={name: i for i, name in enumerate(ids)},
    )


def _lay_out_series(rng: np.random.Generator, movies: int) -> tuple[Rows, Rows]:
    """Two [movies]: the row where each movie's series starts (its own where it stands alone), and its part, from 0."""
    sizes = np.where(rng.random(movies) < 0.1, rng.choice(_SERIES_SIZES, movies, p=_SERIES_SIZE_ODDS), 1)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)[:movies]
    return first, np.arange(movies) - first


def _years(rng: np.random.Generator, first: Rows, part: Rows) -> npt.NDArray[np.int32]:
    """int32 [movies], most of them recent; a sequel comes one to four years after the part before it."""
    opening = LATEST_YEAR - 1 - np.minimum(rng.exponential(19.0, first.size), 97).astype(np.int64)
    waits = np.where(part > 0, rng.integers(1, 5, first.size), 0)
    since_start = np.cumsum(waits)
    years = opening[first] + since_start - since_start[first]
    return np.asarray(np.minimum(years, LATEST_YEAR), dtype=np.int32)


def _genres(rng: np.random.Generator, movies: int) -> npt.NDArray[np.int8]:
    """int8 [movies, 3]: one to three different genres, -1 filling the row."""
    # Gumbel noise on log weights and the largest three: draws without replacement, all rows at once.
    scores = np.log(GENRE_FREQUENCY) + rng.gumbel(size=(movies, len(GENRES)))
    genres = np.argsort(-scores, axis=1)[:, :3].astype(np.int8)
    count = rng.choice([1, 2, 3], movies, p=[0.31, 0.36, 0.33])
    genres[np.arange(3) >= count[:, None]] = -1
    return genres


def _lengths(rng: np.random.Generator, movies: int) -> npt.NDArray[np.int32]:
    """int32 [movies] in minutes: features, a few shorts, and series played as one film of more than 1,000 minutes."""
    kind = rng.random(movies)
    minutes = np.clip(rng.normal(102, 19, movies), 62, 240)
    minutes = np.where(kind < 0.025, rng.uniform(5, 45, movies), minutes)
    return np.where(kind > 0.9993, rng.uniform(1001, 1260, movies), minutes).astype(np.int32)


def _popularity(rng: np.random.Generator, appeal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64 [movies] summing to 1. The exponent and the flat top are those of film services, where the first twenty
    of some thousands take a fifth to a quarter of all visits."""
    rank = np.empty(appeal.size)
    rank[np.argsort(-(appeal + 1.3 * rng.standard_normal(appeal.size)))] = np.arange(appeal.size)
    weights = (rank + 8.0) ** -0.97
    return np.asarray(weights / weights.sum())


def _standardised(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The values scaled to mean 0 and, unless they are all equal, standard deviation 1."""
    return np.asarray((values - values.mean()) / (values.std() or 1.0))


def _titles(dice: Random, first: Rows, part: Rows, years: npt.NDArray[np.int32]) -> tuple[list[str], list[str]]:
    """Titles and their ids. One movie in a thousand has an id without a year."""
    titles: list[str] = []
    taken: dict[str, None] = {}
    for head, nth, year in zip(first.tolist(), part.tolist(), years.tolist(), strict=True):
        shown_year = None if dice.random() < 0.001 else year
        title = titles[head] + _SEQUEL_NUMERALS[nth] if nth else _title(dice)
        while movie_id(title, shown_year) in taken:
            title = f"{title} {dice.choice(_NOUNS)}" if nth else _title(dice)
        titles.append(title)
        taken[movie_id(title, shown_year)] = None
    return titles, list(taken)


def _title(dice: Random) -> str:
    """A title like those of real movies, with a comma, an accent or a star now and then."""
    form = dice.choices(_TITLE_FORMS, _TITLE_FORM_ODDS)[0]
    nouns, names = dice.sample(_NOUNS, 2), dice.sample(_NAMES, 2)
    return form.format(a=dice.choice(_ADJECTIVES), n=nouns[0], m=nouns[1], p=names[0], q=names[1])
