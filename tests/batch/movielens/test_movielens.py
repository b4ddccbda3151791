"""Import of MovieLens: what is read back is what the archive says, in every format; anything else is one error."""

import csv
import io
import random
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batch.errors import MixedSources, MovieLensError
from batch.history.assemble import assemble, gather_days
from batch.history.day_store import DayStore
from batch.history.segments import NAMES, segments_of
from batch.movielens import importing
from batch.movielens.archives import Movie, MovieLensArchive
from batch.movielens.importing import STAGED, ids_of, import_archive, import_movielens, movie_id
from quality.catalog import Catalog
from quality.lines.schemas import MOVIE_RECORD, USER, checked
from stream.archive import Archive
from stream.grammar import MOVIE
from stream.settings import StreamSettings
from stream.zone import zone_named

Rating = tuple[int, int, float, int]
"""User, movie, stars, seconds since 1970."""


@dataclass
class Small:
    """What a small archive says."""

    ratings: list[Rating]
    movies: list[tuple[int, str, list[str]]] = field(
        default_factory=lambda: [
            (1, "Toy Story (1995)", ["Animation", "Comedy"]),
            (2, "American President, The (1995)", ["Drama"]),
            (7, 'Amélie "Poulain", (Fabuleux destin, Le) (2001)', []),
            (90, "Chaos (2005)", ["Crime"]),
            (91, "Chaos (2005)", ["Drama"]),
            (300, "Star Wars: Episode IV (1977)", ["War"]),
        ]
    )
    people: list[tuple[int, int, str, int]] = field(default_factory=lambda: [(1, 1, "F", 10), (2, 56, "M", 16)])
    """User, age, gender, code of the occupation."""


def small(half: bool, count: int = 60, seed: int = 1) -> Small:
    rng = random.Random(seed)
    pairs = rng.sample([(user, movie) for user in (1, 2, 5, 4_000_000_000) for movie in (1, 2, 7, 90, 91)] * 3, count)
    stars = [value / 2 for value in range(1, 11)] if half else [1.0, 2.0, 3.0, 4.0, 5.0]
    return Small([(*pair, rng.choice(stars), 900_000_000 + rng.randrange(400_000)) for pair in dict.fromkeys(pairs)])


IDS = [
    "toy+story+1995", "the+american+president+1995", "amlie+poulain_+2001", "chaos+2005", "chaos+ml91+2005",
    "star+wars+episode+iv+1977",
]  # fmt: skip


def as_100k(said: Small) -> dict[str, bytes]:
    from batch.movielens.archives import _GENRES

    def movie(number: int, title: str, genres: list[str]) -> str:
        flags = "|".join(str(int(genre in genres or (genre == "unknown" and not genres))) for genre in _GENRES)
        return f"{number}|{title}|01-Jan-1995||http://us.imdb.com/M/title|{flags}\n"

    ratings = "".join(f"{user}\t{movie}\t{stars:.0f}\t{time}\n" for user, movie, stars, time in said.ratings)
    people = [f"{user}|{age}|{gender}|writer|85711\n" for user, age, gender, _ in said.people]
    return {
        "u.data": ratings.encode(),
        "u.item": "".join(movie(*row) for row in said.movies).encode("latin-1") + b"\n",
        "u.user": "".join(people).encode(),
    }


def as_dat(said: Small, people: bool) -> dict[str, bytes]:
    ratings = "".join(f"{user}::{movie}::{stars:g}::{time}\n" for user, movie, stars, time in said.ratings)
    kinds = [(number, title, "|".join(genres) or "(no genres listed)") for number, title, genres in said.movies]
    movies = "".join(f"{number}::{title}::{genres}\n" for number, title, genres in kinds)
    found = {"ratings.dat": ratings.encode(), "movies.dat": movies.encode("latin-1" if people else "utf-8")}
    if people:
        lines = [f"{user}::{gender}::{age}::{code}::48067\n" for user, age, gender, code in said.people]
        found["users.dat"] = "".join(lines).encode()
    return found


def as_csv(said: Small) -> dict[str, bytes]:
    def written(header: str, rows: list[tuple[object, ...]]) -> bytes:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([header.split(","), *rows])
        return out.getvalue().encode()

    movies = [(number, title, "|".join(genres) or "(no genres listed)") for number, title, genres in said.movies]
    return {
        "ratings.csv": written("userId,movieId,rating,timestamp", list(said.ratings)),
        "movies.csv": written("movieId,title,genres", list(movies)),
        "tags.csv": b"userId,movieId,tag,timestamp\n",
    }


FORMS: dict[str, Callable[[], tuple[Small, dict[str, bytes]]]] = {
    "100k": lambda: (said := small(half=False), as_100k(said)),
    "1M": lambda: (said := small(half=False), as_dat(said, people=True)),
    "10M": lambda: (said := small(half=True), as_dat(said, people=False)),
    "20M": lambda: (said := small(half=True), as_csv(said)),
}


def packed(folder: Path, files: dict[str, bytes], zipped: bool, crlf: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if crlf:
        files = {name: data.replace(b"\n", b"\r\n") for name, data in files.items()}
    if not zipped:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("ml-small/", b"")
        out.writestr("__MACOSX/ml-small/._ratings.csv", b"\x00")
        for name, data in files.items():
            out.writestr(f"ml-small/{name}", data)
    return path


def settings(var: Path, generation: str = "2026") -> StreamSettings:
    return msgspec.convert(
        {"var": str(var), "generation": generation}, StreamSettings, dec_hook=lambda kind, v: Path(v)
    )


@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_read_back_is_what_the_archive_says(form: str, zipped: bool, crlf: bool, tmp_path: Path) -> None:
    said, files = FORMS[form]()
    counts = import_archive(MovieLensArchive(packed(tmp_path / "ml", files, zipped, crlf)), settings(tmp_path / "var"))
    day_store = DayStore(tmp_path / "var")
    name = dict(zip([number for number, *_ in said.movies], IDS, strict=True))
    expected = sorted((user, name[movie], time * 1000, int(stars * 2)) for user, movie, stars, time in said.ratings)
    rows = day_store.read("ratings", day_store.days()).to_pylist()
    assert sorted((row["user"], row["movie"], row["time"], row["rating"]) for row in rows) == expected
    sessions = day_store.read("sessions", day_store.days()).to_pylist()
    assert [(row["user"], row["movie"], row["start"]) for row in sessions] == [
        (row["user"], row["movie"], row["time"]) for row in rows
    ]
    assert all(row["start"] == row["last"] and row["minutes"] == 0 for row in sessions)
    clock = zone_named("America/New_York")
    for day, made in day_store.days().items():
        own = day_store.read("ratings", [day]).to_pylist()
        assert {clock.day(row["time"]) for row in own} == {day}
        assert own == sorted(own, key=lambda row: (row["user"], row["movie"], row["time"]))
        assert made.imported == counts["source"]
        assert made.counts == {"ratings": len(own)}
    assert (counts["ratings"], counts["users"], counts["movies"]) == (len(said.ratings), 4, 6)
    assert not (tmp_path / "var" / STAGED).exists()


@pytest.mark.parametrize("form", FORMS)
def test_the_catalogue_holds_the_movies_and_the_users_as_its_schemas_want_them(form: str, tmp_path: Path) -> None:
    said, files = FORMS[form]()
    import_archive(MovieLensArchive(packed(tmp_path / "ml", files, zipped=False)), settings(tmp_path / "var"))
    catalog = Catalog(tmp_path / "var")
    movies, users = catalog.records("movie"), catalog.records("user")
    assert {name: record["genres"] for name, record in movies.items()} == dict(
        zip(IDS, [genres for *_, genres in said.movies], strict=True)
    )
    assert len(users) == (2 if form in ("100k", "1M") else 0)
    segments = segments_of(np.array([1, 2, 5], np.uint32), catalog.people())
    assert [NAMES[segment] for segment in segments] == (
        ["under 18, F", "55 and over, M", "everyone"] if users else ["everyone"] * 3
    )
    for record in users.values():
        assert checked(record, USER)[0] == record
    for name, record in movies.items():
        as_told = {**record, "genres": [{"id": 1, "name": genre} for genre in record["genres"]]}
        assert checked(as_told, MOVIE_RECORD)[0] == record
        assert (record["id"], record["runtime"]) == (name, None)


def test_an_import_gives_a_history_of_as_many_sessions_in_order_of_time(tmp_path: Path) -> None:
    said = small(half=True)
    import_archive(MovieLensArchive(packed(tmp_path / "ml", as_csv(said), zipped=False)), settings(tmp_path / "var"))
    day_store, known = DayStore(tmp_path / "var"), Catalog(tmp_path / "var").known(10).runtimes
    gathered = gather_days(day_store, list(day_store.days()), known, 6 * 3_600_000)
    history = assemble(gathered, np.full(len(gathered.movies), np.nan), 10, np.zeros(len(gathered.users), np.uint8))
    name = dict(zip([number for number, *_ in said.movies], IDS, strict=True))
    expected = sorted((user, time * 1000, name[movie], stars / 5) for user, movie, stars, time in said.ratings)
    found = zip(
        history.users[history.user].tolist(), history.start.tolist(), history.movie, history.rating, strict=True
    )
    assert [(user, start, history.movies[movie], round(float(rating), 6)) for user, start, movie, rating in found] == [
        (user, start, movie, round(rating, 6)) for user, start, movie, rating in expected
    ]
    assert (history.minutes == 0).all()
    assert (history.rated == history.start).all()
    assert gathered.unknown == 0


def test_the_same_archive_gives_the_same_bytes_in_any_order_and_form(tmp_path: Path) -> None:
    said = small(half=False)
    other = Small(said.ratings[::-1], said.movies[::-1], said.people)
    trees = []
    for place, files in enumerate((as_100k(said), as_100k(other), as_csv(said))):
        import_archive(
            MovieLensArchive(packed(tmp_path / str(place), files, zipped=False)), settings(tmp_path / f"var{place}")
        )
        folder = tmp_path / f"var{place}" / "sessions"
        trees.append({str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.parquet")})
    assert trees[0] == trees[1] == trees[2]
    assert trees[0]


def test_whole_stars_fit_both_scales_and_half_stars_only_that_of_2026(tmp_path: Path) -> None:
    whole = packed(tmp_path / "whole", as_csv(small(half=False)), zipped=False)
    counts = import_archive(MovieLensArchive(whole), settings(tmp_path / "var", "2022"))
    day_store = DayStore(tmp_path / "var")
    assert counts["best_rating"] == 5
    assert set(day_store.read("ratings", day_store.days())["rating"].to_pylist()) == {1, 2, 3, 4, 5}
    half = packed(tmp_path / "half", as_csv(small(half=True)), zipped=False)
    with pytest.raises(MovieLensError, match='generation = "2026"'):
        import_archive(MovieLensArchive(half), settings(tmp_path / "other", "2022"))
    assert not list((tmp_path / "other").glob("sessions"))


CSV = b"userId,movieId,rating,timestamp\n1,1,3.5,964982703\n2,2,4.0,964982704\n"
BAD_RATINGS = {
    "three columns": (CSV + b"1,2,3\n", "line 4"),
    "five columns": (CSV + b"1,2,3,4,5\n", "line 4"),
    "a blank line": (CSV + b"\n1,1,1.0,964982703\n", "line 4"),
    "a user that is text": (CSV + b"x,2,3.0,964982703\n", "line 4"),
    "user 0": (CSV + b"0,2,3.0,964982703\n", "line 4"),
    "a user beyond 32 bits": (CSV + b"4294967296,2,3.0,964982703\n", "line 4"),
    "an unknown movie": (CSV + b"1,3,3.0,964982703\n", "line 4.*list of movies"),
    "no rating": (CSV + b"1,2,,964982703\n", "line 4"),
    "not a number": (CSV + b"1,2,nan,964982703\n", "line 4.*stars"),
    "endless stars": (CSV + b"1,2,inf,964982703\n", "line 4.*stars"),
    "no stars": (CSV + b"1,2,0,964982703\n", "line 4.*stars"),
    "six stars": (CSV + b"1,2,5.5,964982703\n", "line 4.*stars"),
    "a quarter star": (CSV + b"1,2,3.25,964982703\n", "line 4.*stars"),
    "milliseconds": (CSV + b"1,2,3.0,964982703000\n", "line 4.*time"),
    "a time that was cut off": (CSV + b"1,2,3.0,96498", "line 4.*time"),
    "another header": (b"user,movie,rating,timestamp\n1,1,3.0,964982703\n", "line 1"),
    "no header": (b"1,1,3.0,964982703\n1,2,3.0,964982703\n", "line 1"),
    "a header alone": (b"userId,movieId,rating,timestamp\n", "no rating"),
    "nothing": (b"", "line 1"),
    "bytes that are no text": (CSV + b"\xff\xfe,2,3.0,964982703\n", "line 4"),
    "bytes that move the cursor": (CSV + b"\x1b[2J\r\n", "line 4[^\x1b\r]*$"),
}


@pytest.mark.parametrize("why", BAD_RATINGS)
@pytest.mark.parametrize("zipped", [False, True])
def test_ratings_that_are_not_as_they_should_be_are_one_error_with_the_line(
    why: str, zipped: bool, tmp_path: Path
) -> None:
    data, where = BAD_RATINGS[why]
    files = {**as_csv(small(half=True)), "ratings.csv": data}
    with pytest.raises(MovieLensError, match=rf"ratings\.csv.*{where}") as caught:
        import_archive(MovieLensArchive(packed(tmp_path / "ml", files, zipped)), settings(tmp_path / "var"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "var" / "sessions").exists()
    assert not Catalog(tmp_path / "var").path.exists()


def test_the_line_is_told_right_far_behind_the_first_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch.movielens.archives._BLOCK_BYTES", 1 << 10)
    for bad in (b"1,2,0.7,964982703\n", b"1,x,3.0,964982703\n"):
        files = {
            **as_csv(small(half=True)),
            "ratings.csv": CSV + b"5,7,2.0,964982705\n" * 3000 + bad + CSV.split(b"\n", 1)[1],
        }
        with pytest.raises(MovieLensError, match=r"ratings\.csv, line 3004:"):
            MovieLensArchive(packed(tmp_path / "ml", files, zipped=False)).ratings(np.array([1, 2, 7]))


BAD_OTHERS = [
    ("100k", "u.data", b"1\t1\t3\t900000000\t\n", "line 1"),
    ("100k", "u.item", b"1|Toy Story (1995)|01-Jan-1995||http|1|0\n", "line 1: 7 columns"),
    ("100k", "u.user", b"1|24|X|writer|85711\n", "line 1: 'X'"),
    ("100k", "u.user", b"1|24|F|writer\n", "line 1: 4 columns"),
    ("1M", "ratings.dat", b"1::1::3::900000000\n1:9:1::3::900000000\n", "line 2: something between"),
    ("1M", "ratings.dat", b"1::1::3::900000000\n1,1,3,900000000\n", "line 2"),
    ("1M", "movies.dat", b"1::Toy Story (1995)::Drama\nx::Toy Story::Drama\n", "line 2: 'x'"),
    ("1M", "movies.dat", b"1::Toy Story (1995)::Drama\n1::Toy Story::Drama\n", "line 2: 1 for the second time"),
    ("1M", "users.dat", b"1::F::1::21::48067\n", "line 1: '21'"),
    ("1M", "movies.dat", b"\n", "nothing in it"),
    ("20M", "movies.csv", b"movieId,title,genres\n1,Toy, Story (1995),Drama\n", "line 2: 4 columns"),
    ("20M", "movies.csv", b'movieId,title,genres\n1,"Toy Story (1995),Drama\n', "line 2"),
    ("20M", "movies.csv", b"movieId,name\n", "line 1"),
]


@pytest.mark.parametrize(("form", "name", "data", "where"), BAD_OTHERS)
def test_other_files_that_are_not_as_they_should_be_are_one_error_with_the_line(
    form: str, name: str, data: bytes, where: str, tmp_path: Path
) -> None:
    files = {**FORMS[form]()[1], name: data}
    with pytest.raises(MovieLensError, match=f"{re.escape(name)}[:,].*{where}"):
        import_archive(MovieLensArchive(packed(tmp_path / "ml", files, zipped=False)), settings(tmp_path / "var"))


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, "none of u.data, ratings.dat, ratings.csv"),
        ({"ratings.csv": CSV}, "movies.csv: it is missing"),
        ({"ratings.csv": CSV, "u.data": b"1\t1\t3\t900000000\n"}, "ratings of one archive"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_what_is_no_archive_is_said_to_be_none(
    files: dict[str, bytes], what: str, zipped: bool, tmp_path: Path
) -> None:
    with pytest.raises(MovieLensError, match=what):
        import_archive(MovieLensArchive(packed(tmp_path / "ml", files, zipped)), settings(tmp_path / "var"))


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9, "byte"])
def test_a_damaged_zip_is_one_error(cut: float | str, tmp_path: Path) -> None:
    path = packed(tmp_path / "ml", as_csv(small(half=True)), zipped=True)
    data = bytearray(path.read_bytes())
    if isinstance(cut, str):
        at = data.index(b"ml-small/ratings.csv") + 60  # within the compressed ratings
        data[at : at + 8] = bytes(8)
    else:
        data = data[: int(len(data) * cut)]
    path.write_bytes(data)
    with pytest.raises(MovieLensError, match=r"damaged|line"):
        import_archive(MovieLensArchive(path), settings(tmp_path / "var"))
    assert not (tmp_path / "var" / "sessions").exists()


def test_nothing_is_imported_beside_an_archive_or_another_import_or_another_catalogue(tmp_path: Path) -> None:
    source = packed(tmp_path / "ml", as_csv(small(half=True)), zipped=False)
    var = settings(tmp_path / "var")
    import_archive(MovieLensArchive(source), var)
    before = {path: path.read_bytes() for path in var.var.rglob("*.parquet")}
    with pytest.raises(MixedSources, match="days of MovieLens ml, sha256"):
        import_archive(MovieLensArchive(source), var)
    assert before == {path: path.read_bytes() for path in var.var.rglob("*.parquet")}
    other = settings(tmp_path / "other")
    Catalog(other.var).keep("movie", [("heat+1995", "known", {"id": "heat+1995"}, "")])
    with pytest.raises(MixedSources, match="records of another source"):
        import_archive(MovieLensArchive(source), other)


def test_nothing_is_imported_beside_an_archive(tmp_path: Path, past: Path) -> None:
    source = packed(tmp_path / "ml", as_csv(small(half=True)), zipped=False)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "archive").symlink_to(past / "archive")
    assert Archive(tmp_path / "var").entries()
    with pytest.raises(MixedSources, match="holds an archive"):
        import_archive(MovieLensArchive(source), settings(tmp_path / "var"))


@pytest.mark.parametrize("step", ["write", "keep", "rename"])
def test_an_import_that_was_killed_left_no_session_and_is_run_again(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    source = packed(tmp_path / "ml", as_100k(small(half=False)), zipped=False)
    var = settings(tmp_path / "var")
    whole = settings(tmp_path / "whole")
    import_archive(MovieLensArchive(source), whole)
    target, name = {"write": (importing, "_tables"), "keep": (Catalog, "keep"), "rename": (Path, "rename")}[step]
    with monkeypatch.context() as patch:
        patch.setattr(target, name, killed)
        with pytest.raises(Killed):
            import_archive(MovieLensArchive(source), var)
    assert not DayStore(var.var).days()
    import_archive(MovieLensArchive(source), var)
    assert DayStore(var.var).days() == DayStore(whole.var).days()
    for path in (whole.var / "sessions").rglob("*.parquet"):
        assert path.read_bytes() == (var.var / path.relative_to(whole.var)).read_bytes()


def test_nothing_of_an_import_that_was_killed_gets_into_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    var, said = settings(tmp_path / "var"), small(half=True)
    with monkeypatch.context() as patch:
        patch.delattr(Catalog, "keep")
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(AttributeError):
            import_archive(MovieLensArchive(packed(tmp_path / "one", as_csv(said), zipped=False)), var)
    later = [(user, movie, stars, time + 10**7) for user, movie, stars, time in said.ratings]
    counts = import_archive(MovieLensArchive(packed(tmp_path / "two", as_csv(Small(later)), zipped=False)), var)
    assert {made.imported for made in DayStore(var.var).days().values()} == {counts["source"]}
    assert DayStore(var.var).read("ratings", DayStore(var.var).days()).num_rows == len(later)


def test_an_import_that_fails_leaves_nothing_on_the_disk_that_may_be_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    var = settings(tmp_path / "var")
    monkeypatch.delattr(Catalog, "keep")
    with pytest.raises(AttributeError):
        import_archive(MovieLensArchive(packed(tmp_path / "ml", as_csv(small(half=True)), zipped=False)), var)
    assert not [*var.var.rglob("*.parquet")]


def test_a_zip_may_hold_the_archive_deeper_down_and_what_macos_adds(tmp_path: Path) -> None:
    files = as_csv(small(half=True))
    plain = MovieLensArchive(packed(tmp_path / "ml", files, zipped=False))
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as file:
        for name, data in files.items():
            file.writestr(f"downloads/{plain.name}/{name}", data)
            file.writestr(f"__MACOSX/downloads/{plain.name}/._{name}", b"\0")
            file.writestr(f"__MACOSX/{name}", b"\0")
    one, other = (
        import_archive(archive, settings(tmp_path / name))
        for name, archive in (("a", plain), ("b", MovieLensArchive(tmp_path / "deep.zip")))
    )
    assert one == other


def test_an_id_that_was_made_to_tell_movies_apart_is_told_apart_from_a_title_too() -> None:
    movies = [Movie(1, "Chaos", []), Movie(2, "Chaos ml3", []), Movie(3, "Chaos", [])]
    assert ids_of(movies) == ["chaos+", "chaos+ml3+", "chaos+ml3+ml3+"]


def test_the_command_prints_what_it_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("MARQUEE_STREAM_GENERATION", "2026")
    source = packed(tmp_path / "ml", as_csv(small(half=True)), zipped=True)
    result = CliRunner().invoke(import_movielens, [str(source)], catch_exceptions=False)
    counts = msgspec.json.decode(result.stdout)
    assert counts["source"].startswith("MovieLens ml-small, sha256 ")
    assert (counts["movies"], counts["rated_movies"], counts["described_users"]) == (6, 5, 0)
    assert counts["days"] == len(DayStore(tmp_path / "var").days())


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Toy Story (1995)", "toy+story+1995"),
        ("Usual Suspects, The (1995)", "the+usual+suspects+1995"),
        ("City of Lost Children, The (Cité des enfants perdus, La) (1995)", "the+city+of+lost+children+1995"),
        ("M*A*S*H (a.k.a. MASH) (1970)", "m*a*s*h+1970"),
        ("(500) Days of Summer (2009)", "500+days+of+summer+2009"),
        ("You, the Living (2007)", "you_+the+living+2007"),
        ("Amélie (2001)", "amlie+2001"),
        ("À nos amours (1983)", "+nos+amours+1983"),
        ("101 Dalmatians II: Patch's London Adventure (2003)", "101+dalmatians+ii+patchs+london+adventure+2003"),
        ("10th & Wolf (2006)", "10th++wolf+2006"),
        ("Dr. Strangelove (1964) ", "dr.+strangelove+1964"),
        ("Endeavour", "endeavour+"),
        ("Fawlty Towers (1975-1979)", "fawlty+towers+1975"),
        ("The 100 (2014– )", "the+100+2014"),
        ("Avventura, L' (Adventure, The) (1960)", "lavventura+1960"),
        ("", "+"),
        ("(1995)", "+1995"),
    ],
)
def test_a_title_gets_the_id_that_the_service_would_give_it(title: str, expected: str) -> None:
    assert movie_id(title) == expected


@given(st.lists(st.text(st.sampled_from("aAé ,(')1952+-*&:"), max_size=12), max_size=12))
@hypothesis_settings(max_examples=300, deadline=None)
def test_ids_are_well_formed_and_all_different_and_the_first_of_a_title_has_the_plain_one(titles: list[str]) -> None:
    movies = [Movie(number, title, []) for number, title in enumerate(titles, 1)]
    ids = ids_of(movies)
    assert len(set(ids)) == len(ids) == len(titles)
    assert all(MOVIE.fullmatch(name) for name in ids)
    for place, movie in enumerate(movies):
        if movie_id(movie.title) not in ids[:place]:
            assert ids[place] == movie_id(movie.title)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_large_archive_takes_little_memory(tmp_path: Path) -> None:
    rows = 400_000
    rng = np.random.default_rng(1)
    table = np.stack([np.sort(rng.integers(1, 5000, rows)), rng.integers(1, 2000, rows)], 1)
    stars, times = rng.integers(1, 11, rows) / 2, rng.integers(9 * 10**8, 9 * 10**8 + 864_000, rows)
    lines = [f"{u},{m},{s},{t}" for (u, m), s, t in zip(table.tolist(), stars.tolist(), times.tolist(), strict=True)]
    source = tmp_path / "ml"
    source.mkdir()
    (source / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(lines) + "\n")
    movies = "".join(f"{number},Movie {number} (2000),Drama\n" for number in range(1, 2000))
    (source / "movies.csv").write_text("movieId,title,genres\n" + movies)
    program = (
        "import sys, resource; from pathlib import Path; from batch.movielens.importing import import_archive; "
        "from batch.movielens.archives import MovieLensArchive; from stream.settings import StreamSettings;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "import_archive(MovieLensArchive(Path(sys.argv[1])), StreamSettings(var=Path(sys.argv[2]), generation='2026'));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    call = [sys.executable, "-c", program, str(source), str(tmp_path / "var")]
    ran = subprocess.run(call, capture_output=True, text=True, timeout=600, check=True)
    assert int(ran.stdout) / 1024 < 150  # MB: 100 bytes a rating would be 40, and Arrow holds some blocks
