"""An archive like those of MovieLens: every user rates many movies within an hour, by taste, and never returns."""

import random

from tests.batch.movielens.small_archives import ArchiveContent, Rating

_GENRES = ("Comedy", "Drama", "Horror", "War")
_HOUR_S = 3_600


def sign_up_forms(
    users: int = 240, movies: int = 200, days: int = 40, years: int = 4, by_taste: bool = True, seed: int = 1
) -> ArchiveContent:
    """Users sign up on some days over years; each gives 20 to 200 ratings (median 45) to different movies.

    A taste is one genre: its movies are chosen eight times as often as others that are as popular.
    """
    rng = random.Random(seed)
    genre_of = [_GENRES[number % len(_GENRES)] for number in range(movies)]
    popularity = [(5 + rank) ** -0.7 for rank in rng.sample(range(movies), movies)]
    sign_up_days = sorted(rng.sample(range(365 * years), days))
    ratings: list[Rating] = []
    for user in range(1, users + 1):
        taste = rng.choice(_GENRES)
        begins_s = 900_000_000 + sign_up_days[user * days // (users + 1)] * 24 * _HOUR_S + rng.randrange(12 * _HOUR_S)
        count = min(200, movies * 2 // 3, max(20, round(rng.lognormvariate(3.8, 0.6))))
        liked = [8 if by_taste and genre == taste else 1 for genre in genre_of]
        # drawn one after the other without replacement, as the order of Efraimidis & Spirakis (2006)
        keys = [rng.random() ** (1 / (liking * weight)) for liking, weight in zip(liked, popularity, strict=True)]
        chosen = sorted(range(movies), key=lambda movie: -keys[movie])[:count]
        times = sorted(rng.randrange(_HOUR_S) for _ in chosen)
        stars = [rng.choice((4, 5)) if liked[movie] > 1 else rng.choice((2, 3, 4)) for movie in chosen]
        for movie, given, at in zip(chosen, stars, times, strict=True):
            ratings.append((user, movie + 1, given, begins_s + at))
    return ArchiveContent(
        ratings=ratings,
        movies=[(number + 1, f"Movie {number} (1990)", [genre]) for number, genre in enumerate(genre_of)],
        people=[(user, 18 + user % 50, "FM"[user % 2], 1) for user in range(1, users + 1)],
    )
