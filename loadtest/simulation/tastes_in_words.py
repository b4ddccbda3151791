"""What users of the 2026 generation write about themselves, from their true tastes and in words of their own.

About 70 % of the users write something; the others have null twice. A text names some of what its user really likes or
avoids: genres, the favourite era, the idol of a circle, the charts. It never spells a genre as the catalogue does but
by synonyms, moods and subjects, so that a recommender cannot look the words up; it has to learn what they mean from
what their writers watch. As in real life some phrases are untrue, some texts say what they like by what it is not, and
many have typing errors. A few are empty, nonsense or hostile.

Guarantee: a text depends on the seed of the world, the user and the user's taste alone.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.simulation.catalogue import GENRES

WRITERS = 0.7
"""Share of users who have written anything."""
EMPTY, NONSENSE, HOSTILE = 0.02, 0.03, 0.005
"""Shares of the writers whose texts are empty, nonsense or hostile."""
HOSTILE_BYTES = 10_000
"""Least size of a hostile text."""
_TYPING_ERRORS = 0.25
"""Share of texts with typing errors."""
_UNTRUE = 0.1
"""Share of phrases about a genre that is drawn at random."""

_PHRASES: dict[str, tuple[str, ...]] = {
    "Action": ("car chases", "explosions and stunts", "shootouts", "adrenaline", "martial arts", "one man armies"),
    "Adventure": ("treasure hunts", "epic journeys", "explorers in the jungle", "swashbucklers", "lost cities"),
    "Animation": ("cartoons", "anime", "hand-drawn films", "stop motion puppets", "talking animals on screen"),
    "Comedy": ("a good laugh", "slapstick", "funny films", "stand-up humour", "silly jokes", "satire", "screwball"),
    "Crime": ("gangsters", "heists", "mob bosses", "cops and robbers", "the underworld", "hard-boiled detectives"),
    "Documentary": ("true stories as they happened", "nature programmes", "interviews", "reportage", "real people"),
    "Drama": ("slow character studies", "a good cry", "serious cinema", "films about grief", "kitchen sink realism"),
    "Family": ("films for the kids", "something the children can watch", "wholesome evenings", "cosy holiday films"),
    "Fantasy": ("dragons", "wizards and elves", "fairy tales", "magic kingdoms", "myths and swords"),
    "History": ("period costumes", "kings and queens", "ancient Rome", "biographies of great men", "the Tudors"),
    "Horror": ("being scared", "slashers", "zombies", "haunted houses", "gore", "creepy dolls", "nightmares"),
    "Music": ("concert films", "rock bands", "singers on stage", "jazz clubs", "song and dance"),
    "Mystery": ("whodunits", "puzzles", "unsolved cases", "Agatha Christie types", "plots that keep me guessing"),
    "Romance": ("love stories", "happy endings with a kiss", "films about couples", "date nights", "weddings"),
    "Science Fiction": ("spaceships", "robots", "aliens", "time travel", "dystopias", "sci-fi", "the far future"),
    "TV Movie": ("things made for television", "Sunday afternoon broadcasts", "small screen specials"),
    "Thriller": ("suspense", "edge of the seat stuff", "twists", "conspiracies", "cat and mouse games", "spies"),
    "War": ("soldiers at the front", "trenches", "submarines", "films about Vietnam", "D-Day", "battlefields"),
    "Western": ("cowboys", "gunslingers", "the wild frontier", "saloons and sheriffs", "spaghetti oaters"),
}
"""By genre: what users call it."""
_ERA_PHRASES: tuple[tuple[str, ...], ...] = (
    ("silent pictures", "the golden age", "anything before colour"),
    ("the fifties", "Technicolor epics", "my grandparents' favourites"),
    ("the sixties", "new wave directors", "60s cinema"),
    ("the seventies", "gritty 70s films", "the disco years"),
    ("the eighties", "VHS classics", "80s nostalgia"),
    ("the nineties", "what I saw as a nineties kid", "90s cinema"),
    ("the noughties", "DVD era films", "early digital films"),
    ("brand new releases", "recent stuff", "modern pictures"),
)
_CHART_PHRASES = ("blockbusters", "whatever everyone is talking about", "big hits", "popular stuff")
_FIRST = ("Ottoline", "Casimir", "Delphine", "Bartholomew", "Yevgenia", "Thaddeus", "Marisol", "Alaric")
_LAST = ("Brandt", "Okonkwo", "Lindqvist", "Vasari", "Quennell")
_LIKES = (
    "I enjoy {}.", "love {}", "{}!", "Big fan of {}.", "{}, mostly", "Give me {} any day.", "mainly {} :)",
    "I could watch {} all night", "My favourites: {}", "{} and a cup of tea",
)  # fmt: skip
_DISLIKES = (
    "I can't stand {}.", "not into {}", "no {} please", "{} bore me", "I switch off at {}.", "hate {}", "Spare me {}!",
)  # fmt: skip
_NEGATIONS = ("anything but {}", "nothing with {}", "not {} though", "just no {}")
_NONSENSE = ("asdf", "qwertz uiop", ".", "???", "n/a", "lorem ipsum dolor sit amet", "-", "test test", "🎬🍿🎬", "xxx")
_HOSTILE = (
    "<script>alert('x')</script>,", "'; DROP TABLE records; --\n", "\x00\x01\x1b[31m", "../../etc/passwd,\r\n",
    "%s%n{0}${jndi:ldap://x}", "\u202eevil\u200b,", "2026-01-01T00:00,1,GET /rate/x=5\n", "=cmd|' /C calc'!A0,",
)  # fmt: skip


class WrittenTaste(NamedTuple):
    """What a text can tell of its user."""

    genre_weights: npt.NDArray[np.float32]
    """[genres], sums to 1."""
    era: int
    circles: tuple[int, int]
    chart_odds: float
    circle_odds: float


def self_description(taste: WrittenTaste, dice: Random) -> tuple[str | None, str | None]:
    """The texts about likes and dislikes of one user, either of which may be None or empty."""
    if dice.random() >= WRITERS:
        return None, None
    kind = dice.random()
    if kind < EMPTY:
        return dice.choice(("", " ", "\n")), dice.choice(("", None))
    if kind < EMPTY + NONSENSE:
        return dice.choice(_NONSENSE), dice.choice((*_NONSENSE, None))
    if kind < EMPTY + NONSENSE + HOSTILE:
        return _hostile(dice), dice.choice((_hostile(dice), None))
    likes = _likes(taste, dice) if dice.random() < 0.9 else None
    dislikes = _dislikes(taste, dice) if likes is None or dice.random() < 0.6 else None
    return likes, dislikes


def _likes(taste: WrittenTaste, dice: Random) -> str:
    phrases = [dice.choice(_PHRASES[genre]) for genre in _genres(taste.genre_weights, dice)]
    if dice.random() < 0.4:
        phrases.append(dice.choice(_ERA_PHRASES[taste.era]))
    if dice.random() < taste.circle_odds:
        phrases.append(f"everything by {_idol(dice.choice(taste.circles))}")
    if dice.random() < taste.chart_odds:
        phrases.append(dice.choice(_CHART_PHRASES))
    dice.shuffle(phrases)
    text = dice.choice(_LIKES).format(_joined(phrases, dice))
    if dice.random() < 0.15:
        (avoided,) = _genres(_aversion(taste.genre_weights), dice, 1)
        text = f"{text} {dice.choice(_NEGATIONS).format(dice.choice(_PHRASES[avoided]))}"
    return _typed(text, dice)


def _dislikes(taste: WrittenTaste, dice: Random) -> str:
    phrases = [dice.choice(_PHRASES[genre]) for genre in _genres(_aversion(taste.genre_weights), dice)]
    return _typed(dice.choice(_DISLIKES).format(_joined(phrases, dice)), dice)


def _aversion(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[genres] odds that a user speaks up against a genre: hardly any for genres that are liked at all."""
    return np.exp(-30.0 * weights)


def _genres(weights: npt.NDArray[np.float32], dice: Random, most: int = 3) -> list[str]:
    """One to three genres, each once, drawn by weight, or now and then at random."""
    count = dice.randint(1, most)
    drawn = [
        dice.choice(GENRES) if dice.random() < _UNTRUE else dice.choices(GENRES, weights.tolist())[0]
        for _ in range(count)
    ]
    return list(dict.fromkeys(drawn))


def _idol(circle: int) -> str:
    """The person whom a circle adores."""
    return f"{_FIRST[circle % len(_FIRST)]} {_LAST[circle // len(_FIRST) % len(_LAST)]}"


def _joined(phrases: Sequence[str], dice: Random) -> str:
    *first, last = phrases
    return f"{', '.join(first)}{dice.choice((' and ', ', ', ' & '))}{last}" if first else last


def _typed(text: str, dice: Random) -> str:
    """The text as it is typed: in any case, with errors."""
    text = dice.choice((str, str, str.lower, str.lower, str.upper))(text)
    if dice.random() >= _TYPING_ERRORS:
        return text
    for _ in range(dice.randint(1, 3)):
        k = dice.randrange(max(len(text) - 1, 1))
        text = dice.choice((
            text[:k] + text[k + 1 :],
            text[:k] + text[k : k + 1] + text[k:],
            text[:k] + text[k + 1 : k + 2] + text[k : k + 1] + text[k + 2 :],
        ))  # fmt: skip
    return text


def _hostile(dice: Random) -> str:
    pieces, size = [], 0
    while size < HOSTILE_BYTES:
        pieces.append(dice.choice((*_HOSTILE, "A" * 50)))
        size += len(pieces[-1])
    return "".join(pieces)
