"""Lists by self-description: what words mean is learned from what their writers watch; other words mean nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.history.interactions import Interactions
from batch.history.self_descriptions import SelfDescriptions, describe
from batch.models.described_taste import LEAST_WRITERS, DescribedTaste
from batch.models.text_features import BUCKETS, count_features
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings
from quality.lines.schemas import USER, usable
from tests.batch.evaluation.planted_tastes import history

USERS, MOVIES = 300, 60
WORDS = ("cowboys", "zombies")
NAMES = [f"movie+{number:02}+2000" for number in range(MOVIES)]
GENRES = {name: ["Western" if number < 30 else "Horror"] for number, name in enumerate(NAMES)}
STRANGERS = np.arange(USERS, USERS + 6)
SAID = [("I love Cowboys!", None), ("ZOMBIES", None), (None, "zombies"), ("zxqv wlkj", None), (None, None), ("", "")]


def watched(users: int = USERS) -> Interactions:
    """Users watch 12 movies of one half of the catalogue each, most of them the first of it."""
    rng = np.random.default_rng(1)
    odds = 1 / np.arange(1, 31)
    odds /= odds.sum()
    starts = [
        (user, int(movie) + 30 * (user % 2), hour)
        for user in range(users)
        for hour, movie in enumerate(rng.choice(30, 12, replace=False, p=odds))
    ]
    past = history(starts, users + 6)
    return past.before(past.until, 14.0)


def described(said: list[tuple[str | None, str | None]], users: int = USERS) -> SelfDescriptions:
    own = [(user + 1, f"I love {WORDS[user % 2]}, user{user}", None) for user in range(users)]
    texts = own + [(users + 1 + k, *texts) for k, texts in enumerate(said)]
    return describe(np.arange(1, users + 7, dtype=np.uint32), texts, NAMES, GENRES)


def fitted(said: list[tuple[str | None, str | None]]) -> DescribedTaste:
    model = DescribedTaste(described(said), BatchSettings())
    model.fit(DATA, np.zeros(0, np.int64))
    return model


DATA = watched()


@pytest.fixture(scope="module")
def model() -> DescribedTaste:
    return fitted(SAID)


def test_words_stand_for_what_their_writers_watch(model: DescribedTaste) -> None:
    assert model.known(STRANGERS).tolist() == [True, True, True, False, False, False]
    westerns = (top_lists(model, DATA, STRANGERS) < 30).mean(axis=1)
    assert westerns[0] > 0.8  # who loves cowboys
    assert westerns[1] < 0.2
    assert westerns[2] > 0.8  # who dislikes zombies
    assert 0.3 < westerns[3] < 0.7


def test_without_a_known_word_the_list_is_that_of_the_segment(model: DescribedTaste) -> None:
    lists = top_lists(model, DATA, STRANGERS)
    assert (lists[3:] == lists[3]).all()


def test_unknown_words_beside_a_known_one_draw_the_list_to_the_segment(model: DescribedTaste) -> None:
    noise = " ".join(f"zq{number}" for number in range(60))
    scores = fitted([("cowboys", None), (f"cowboys {noise}", None)]).score(DATA, STRANGERS)
    plain = model.score(DATA, STRANGERS[3:4])[0]
    assert np.abs(scores[1] - plain).sum() < 0.5 * np.abs(scores[0] - plain).sum()


def test_who_is_left_out_teaches_nothing() -> None:
    model = DescribedTaste(described(SAID), BatchSettings())
    model.fit(DATA, np.arange(LEAST_WRITERS - 1, USERS))
    assert not model.known(STRANGERS).any()


def test_equal_data_give_equal_scores(model: DescribedTaste) -> None:
    assert np.array_equal(fitted(SAID).score(DATA, STRANGERS), model.score(DATA, STRANGERS))


HOSTILE = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="\x00\x1b\n\r,<>%${}\u202e\u200b\ufeff🎬 zombies'\";\ud83d", max_size=300),
    st.sampled_from(["A" * 10_000, "zombies " * 1_500, "<script>,\n" * 1_000, "\u0130\ufb03" * 99, "a " * 5_000]),
    st.none(), st.integers(), st.lists(st.text(max_size=3), max_size=3), st.booleans(), st.floats(),
)  # fmt: skip


@given(st.lists(st.tuples(HOSTILE, HOSTILE), min_size=6, max_size=6))
def test_whatever_users_write_all_get_a_whole_list(said: list[tuple[object, object]]) -> None:
    texts = []
    for likes, dislikes in said:
        person = {"user_id": 1, "age": 30, "gender": "F"}
        record, _ = usable({**person, "self_description_likes": likes, "self_description_dislikes": dislikes}, USER)
        assert record is not None
        texts.append((record["self_description_likes"], record["self_description_dislikes"]))
    scores = with_texts(texts).score(DATA, STRANGERS)
    assert np.isfinite(scores).all()
    assert (scores > 0).all()


def with_texts(texts: list[tuple[str | None, str | None]]) -> DescribedTaste:
    """The fitted model, of strangers with other texts."""
    model = fitted_once()
    model._descriptions = described(texts)
    return model


_FITTED: list[DescribedTaste] = []


def fitted_once() -> DescribedTaste:
    if not _FITTED:
        _FITTED.append(fitted(SAID))
    return _FITTED[0]


@given(st.lists(st.text(max_size=40), max_size=8))
def test_features_of_a_text_depend_on_this_text_alone(texts: list[str]) -> None:
    together = count_features(texts)
    assert together.shape == (len(texts), BUCKETS)
    for number, text in enumerate(texts):
        assert np.array_equal(count_features([text]).indices, together[number].indices)


def test_case_punctuation_and_order_do_not_count() -> None:
    first, same, other = count_features(["Not funny!", "  funny\tNOT", "funny, funny"])
    assert np.array_equal(first.indices, same.indices)
    assert first.nnz == 2
    assert other.data.tolist() == [2.0]
