"""What simulated users write tells of their tastes, in words of its own, and some of it is no text at all."""

import re
from random import Random

import numpy as np
import pytest

from loadtest.settings import WorldSettings
from loadtest.simulation import tastes_in_words
from loadtest.simulation.catalogue import GENRES
from loadtest.simulation.population import Population, make_population

USERS = 8_000


@pytest.fixture(scope="module")
def people() -> Population:
    return make_population(WorldSettings(users=USERS, seed=5, generation="2026"))


@pytest.fixture(scope="module")
def texts(people: Population) -> list[tuple[str | None, str | None]]:
    records = [people.record(i) for i in range(USERS)]
    return [(record["self_description_likes"], record["self_description_dislikes"]) for record in records]


def test_seven_in_ten_users_write(texts: list[tuple[str | None, str | None]]) -> None:
    assert 0.68 < np.mean([texts_of_one != (None, None) for texts_of_one in texts]) < 0.72


def test_no_genre_is_spelt_as_in_the_catalogue() -> None:
    phrases = [*tastes_in_words._CHART_PHRASES, *tastes_in_words._LIKES, *tastes_in_words._DISLIKES]
    phrases += [phrase for own in tastes_in_words._PHRASES.values() for phrase in own]
    phrases += [phrase for own in tastes_in_words._ERA_PHRASES for phrase in own]
    words = {word for phrase in phrases for word in re.findall(r"[a-z-]+", phrase.lower())}
    assert words.isdisjoint({part for genre in GENRES for part in genre.lower().split()} - {"science", "fiction", "tv"})
    assert not any(genre.lower() in phrase.lower().split() for genre in GENRES for phrase in phrases)


def test_what_is_said_to_be_liked_is_liked_more_than_what_is_not(
    people: Population, texts: list[tuple[str | None, str | None]]
) -> None:
    liked, disliked = [], []
    for genre, phrases in tastes_in_words._PHRASES.items():
        weight = people.genre_weights[:, GENRES.index(genre)]
        for user, (likes, dislikes) in enumerate(texts):
            if any(f"{phrase}," in (likes or "").lower() for phrase in phrases):
                liked.append(weight[user] - weight.mean())
            if any(f"{phrase}," in (dislikes or "").lower() for phrase in phrases):
                disliked.append(weight[user] - weight.mean())
    assert min(len(liked), len(disliked)) > 200
    assert np.mean(liked) > 0.1
    assert np.mean(disliked) < -0.02


def test_some_texts_are_empty_and_some_hostile(texts: list[tuple[str | None, str | None]]) -> None:
    likes = [text for text, _ in texts if text is not None]
    assert sum(not text.strip() for text in likes) > 20
    hostile = [text for text in likes if len(text) >= tastes_in_words.HOSTILE_BYTES]
    assert len(hostile) > 5
    for sign in ("\x00", "\n", ",", "<script>"):
        assert any(sign in text for text in hostile)


def test_typing_errors_keep_all_but_a_few_letters() -> None:
    dice = Random(1)
    typed = [tastes_in_words._typed("cowboys and zombies", dice) for _ in range(200)]
    assert all(abs(len(text) - 19) <= 3 for text in typed)
    assert 20 < sum(text.lower() != "cowboys and zombies" for text in typed) < 90
