"""Strangers who wrote about themselves get lists of their own where the evaluation ships them; their texts stay put."""

import logging
from pathlib import Path

import msgspec
import numpy as np
import pytest

from batch.errors import GateRefusal
from batch.evaluation_file import FirstListFigures, FirstListLength, FirstLists, read_evaluation, write_evaluation
from batch.history.self_descriptions import TEXTS
from batch.releases import publish
from quality.catalog import Catalog, FoundRecord
from quality.metrics.intervals import Interval
from server.release import Release
from stream.archive import Archive
from stream.event import Event
from tests.batch.nights.small_nights import answer_of, archive_events, night, run

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")
SECRET = "xyzzyplugh"
WRITER, NONSENSE, SILENT, MINOR = 901, 902, 903, 904
_SHARE = Interval(0.1, 0.05, 0.15)
_BETTER = FirstListLength(200, _SHARE, _SHARE, Interval(0.02, 0.01, 0.03))
SHIPPED = FirstLists(
    shipped=True, reason="better", choice=FirstListFigures(_BETTER, _SHARE, _SHARE, {"0": _BETTER}), test=None
)


def write_texts(var: Path) -> None:
    """Everyone writes the secret word; four strangers open an account, one of whom is 15."""
    texts: dict[int, str | None] = dict.fromkeys(range(1, 301), f"I love {SECRET}")
    texts |= {WRITER: f"{SECRET}!", NONSENSE: "zxcv", SILENT: None, MINOR: SECRET}
    people: list[FoundRecord] = []
    for user, text in texts.items():
        age = 15 if user == MINOR else 30
        record = {"user_id": user, "age": age, "gender": "M", "self_description_likes": text}
        people.append((str(user), "known", record, ""))
    Catalog(var).keep("user", people)
    archive_events(Archive(var), "live", [Event("account", 1_893_500_000_000, user) for user in texts if user > 900])


def ship(var: Path, first_lists: FirstLists | None) -> None:
    evaluation = read_evaluation(var / "night")
    write_evaluation(var / "night", msgspec.structs.replace(evaluation, first_lists=first_lists))


def test_lists_are_of_those_who_wrote_a_known_word_and_no_text_leaves_the_night(
    var: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    write_texts(var)
    steps = night(var, model="ease")
    run(steps, "sessions", "history", "evaluate")
    assert read_evaluation(var / "night").first_lists is not None
    ship(var, SHIPPED)
    run(steps, "train")
    assert run(steps, "publish")["publish"].current
    release = Release.open(var / "releases" / "current")
    own, none = release.lists[np.searchsorted(release.users, [WRITER, NONSENSE, SILENT])], np.iinfo(release.lists.dtype)
    assert (own[0] != none.max).all()
    assert (own[1:] == none.max).all()
    assert answer_of(release, WRITER)[1] == "personal"
    assert answer_of(release, NONSENSE) == answer_of(release, SILENT)
    assert answer_of(release, SILENT)[1] == "segment"
    logged = (caplog.text, *capfd.readouterr())
    assert not any(SECRET in text for text in logged)
    files = [path for path in var.rglob("*") if path.is_file() and path.parent.name != "catalog" and path.name != TEXTS]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_first_lists_keep_to_caps_and_lack_hidden_movies(var: Path) -> None:
    write_texts(var)
    catalog = Catalog(var)
    movies = catalog.records("movie")
    adult, dear, hidden = (set(sorted(movies)[first::4]) for first in range(3))
    facts: list[FoundRecord] = [
        (name, "known", {**record, "adult": name in adult, "cost": 9.0 if name in dear else 1.0}, "")
        for name, record in movies.items()
    ]
    catalog.keep("movie", facts)
    (var / "hidden.txt").write_text("".join(f"{name}\n" for name in hidden))
    steps = night(var, model="ease", max_cost=5.0)
    run(steps, "sessions", "history", "evaluate")
    ship(var, SHIPPED)
    run(steps, "train")
    assert run(steps, "publish")["publish"].current
    release = Release.open(var / "releases" / "current")
    lists = {user: {*answer_of(release, user)[0]} for user in (WRITER, MINOR)}
    assert answer_of(release, MINOR)[1] == "personal"
    assert lists[WRITER].isdisjoint(dear | hidden)
    assert lists[MINOR].isdisjoint(adult | dear | hidden)
    assert not lists[WRITER].isdisjoint(adult)
    assert [len(movies) for movies in lists.values()] == [20, 20]


def test_the_gate_refuses_lists_that_the_evaluation_does_not_ship(var: Path) -> None:
    write_texts(var)
    steps = night(var, model="ease")
    run(steps, "sessions", "history", "evaluate")
    ship(var, SHIPPED)
    run(steps, "train")
    ship(var, None)
    with pytest.raises(GateRefusal, match="2 users who have seen nothing have a list"):
        run(steps, "publish")
    assert publish.current_release(var) is None
