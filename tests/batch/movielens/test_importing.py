"""Import of MovieLens: the days and the catalogue hold what the archive says, in every format."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from batch.errors import MixedSources, MovieLensError
from batch.history.assemble import assemble, gather_days
from batch.history.day_store import DayPart, DayStore
from batch.history.segments import NAMES, segments_of
from batch.movielens import importing
from batch.movielens.archives import MovieLensArchive
from batch.movielens.importing import STAGED, ImportSummary, import_archive, import_movielens
from quality.catalog import Catalog
from quality.lines.schemas import MOVIE_RECORD, USER, checked
from stream import durable
from stream.archive import Archive
from stream.zone import zone_named
from tests.batch.movielens.small_archives import (
    FORMS,
    IDS,
    ArchiveContent,
    as_100k,
    as_csv,
    settings,
    small_archive,
    write_archive,
)


@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_read_back_is_what_the_archive_says(form: str, zipped: bool, crlf: bool, tmp_path: Path) -> None:
    content, files = FORMS[form]()
    counts = import_archive(
        MovieLensArchive(write_archive(tmp_path / "ml", files, zipped, crlf)), settings(tmp_path / "var")
    )
    day_store = DayStore(tmp_path / "var")
    name = dict(zip([number for number, *_ in content.movies], IDS, strict=True))
    expected = sorted((user, name[movie], time * 1000, int(stars * 2)) for user, movie, stars, time in content.ratings)
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
        assert made.imported == counts.source
        assert made.counts == {"ratings": len(own)}
    assert (counts.ratings, counts.users, counts.movies) == (len(content.ratings), 4, 6)
    assert not (tmp_path / "var" / STAGED).exists()


@pytest.mark.parametrize("form", FORMS)
def test_the_catalogue_holds_the_movies_and_the_users_as_its_schemas_want_them(form: str, tmp_path: Path) -> None:
    content, files = FORMS[form]()
    import_archive(MovieLensArchive(write_archive(tmp_path / "ml", files, zipped=False)), settings(tmp_path / "var"))
    catalog = Catalog(tmp_path / "var")
    movies, users = catalog.records("movie"), catalog.records("user")
    assert {name: record["genres"] for name, record in movies.items()} == dict(
        zip(IDS, [genres for *_, genres in content.movies], strict=True)
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
    content = small_archive(half=True)
    import_archive(
        MovieLensArchive(write_archive(tmp_path / "ml", as_csv(content), zipped=False)), settings(tmp_path / "var")
    )
    day_store, known = DayStore(tmp_path / "var"), Catalog(tmp_path / "var").known(10).runtimes
    gathered = gather_days(day_store, list(day_store.days()), known, 6 * 3_600_000)
    history = assemble(gathered, np.full(len(gathered.movies), np.nan), 10, np.zeros(len(gathered.users), np.uint8))
    name = dict(zip([number for number, *_ in content.movies], IDS, strict=True))
    expected = sorted((user, time * 1000, name[movie], stars / 5) for user, movie, stars, time in content.ratings)
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
    content = small_archive(half=False)
    other = ArchiveContent(content.ratings[::-1], content.movies[::-1], content.people)
    trees = []
    for place, files in enumerate((as_100k(content), as_100k(other), as_csv(content))):
        import_archive(
            MovieLensArchive(write_archive(tmp_path / str(place), files, zipped=False)),
            settings(tmp_path / f"var{place}"),
        )
        folder = tmp_path / f"var{place}" / "sessions"
        trees.append({str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.parquet")})
    assert trees[0] == trees[1] == trees[2]
    assert trees[0]


def test_whole_stars_fit_both_scales_and_half_stars_only_that_of_2026(tmp_path: Path) -> None:
    whole = write_archive(tmp_path / "whole", as_csv(small_archive(half=False)), zipped=False)
    counts = import_archive(MovieLensArchive(whole), settings(tmp_path / "var", "2022"))
    day_store = DayStore(tmp_path / "var")
    assert counts.best_rating == 5
    assert set(day_store.read("ratings", day_store.days())["rating"].to_pylist()) == {1, 2, 3, 4, 5}
    half = write_archive(tmp_path / "half", as_csv(small_archive(half=True)), zipped=False)
    with pytest.raises(MovieLensError, match='generation = "2026"'):
        import_archive(MovieLensArchive(half), settings(tmp_path / "other", "2022"))
    assert not list((tmp_path / "other").glob("sessions"))


def test_nothing_is_imported_beside_an_archive_or_another_import_or_another_catalogue(tmp_path: Path) -> None:
    source = write_archive(tmp_path / "ml", as_csv(small_archive(half=True)), zipped=False)
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
    source = write_archive(tmp_path / "ml", as_csv(small_archive(half=True)), zipped=False)
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

    source = write_archive(tmp_path / "ml", as_100k(small_archive(half=False)), zipped=False)
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
    var, content = settings(tmp_path / "var"), small_archive(half=True)
    with monkeypatch.context() as patch:
        patch.delattr(Catalog, "keep")
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(AttributeError):
            import_archive(MovieLensArchive(write_archive(tmp_path / "one", as_csv(content), zipped=False)), var)
    later = [(user, movie, stars, time + 10**7) for user, movie, stars, time in content.ratings]
    counts = import_archive(
        MovieLensArchive(write_archive(tmp_path / "two", as_csv(ArchiveContent(later)), zipped=False)), var
    )
    assert {made.imported for made in DayStore(var.var).days().values()} == {counts.source}
    assert DayStore(var.var).read("ratings", DayStore(var.var).days()).num_rows == len(later)


def test_an_import_that_fails_leaves_nothing_on_the_disk_that_may_be_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    var = settings(tmp_path / "var")
    monkeypatch.delattr(Catalog, "keep")
    with pytest.raises(AttributeError):
        import_archive(
            MovieLensArchive(write_archive(tmp_path / "ml", as_csv(small_archive(half=True)), zipped=False)), var
        )
    assert not [*var.var.rglob("*.parquet")]


def test_a_zip_may_hold_the_archive_deeper_down_and_what_macos_adds(tmp_path: Path) -> None:
    files = as_csv(small_archive(half=True))
    plain = MovieLensArchive(write_archive(tmp_path / "ml", files, zipped=False))
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


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("form", FORMS)
def test_a_tar_compressed_or_not_is_read_as_the_folder_in_it(
    form: str, mode: Literal["w", "w:gz", "w:xz"], tmp_path: Path
) -> None:
    folder = write_archive(tmp_path / "ml", FORMS[form]()[1], zipped=False)
    with tarfile.open(tmp_path / "ml.tar.gz", mode) as file:
        file.add(folder, "./ml")
    counts = [
        import_archive(MovieLensArchive(path), settings(tmp_path / name))
        for name, path in (("a", folder), ("b", tmp_path / "ml.tar.gz"))
    ]
    assert counts[0] == counts[1]


def test_a_folder_may_hold_the_archive_two_folders_down_and_not_deeper(tmp_path: Path) -> None:
    files = as_csv(small_archive(half=True))
    write_archive(tmp_path / "downloads" / "movielens" / "ml", files, zipped=False)
    write_archive(tmp_path / "downloads" / "__MACOSX" / "ml", files, zipped=False)
    assert MovieLensArchive(tmp_path / "downloads").name == "ml"
    with pytest.raises(MovieLensError, match=r"none of u\.data, ratings\.dat, ratings\.csv"):
        MovieLensArchive(tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_blank_lines_are_skipped(form: str, tmp_path: Path) -> None:
    content, files = FORMS[form]()
    blank = {
        name: data.replace(b"\n", b"\n\n").replace(b"\n\n", b"\n\r\n\n", 1) + b"\n" for name, data in files.items()
    }
    counts = import_archive(
        MovieLensArchive(write_archive(tmp_path / "ml", blank, zipped=False)), settings(tmp_path / "var")
    )
    assert counts.ratings == len(content.ratings)


def test_days_are_the_same_files_as_those_that_are_written_one_by_one(tmp_path: Path) -> None:
    source = write_archive(tmp_path / "ml", as_csv(small_archive(half=True)), zipped=False)
    import_archive(MovieLensArchive(source), settings(tmp_path / "var"))
    day_store, one_by_one = DayStore(tmp_path / "var"), DayStore(tmp_path / "other")
    for day, made in day_store.days().items():
        parts: tuple[DayPart, ...] = ("sessions", "ratings")
        one_by_one.write(day, made, {part: day_store.read(part, [day]) for part in parts})
        for path in (day_store.folder / f"day={day}").iterdir():
            assert path.read_bytes() == (one_by_one.folder / path.parent.name / path.name).read_bytes()


def test_all_days_are_on_disk_before_they_are_moved_into_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Path] = []
    sync, rename = durable.sync, Path.rename

    def moved(path: Path, target: Path) -> Path:
        if path.name == "sessions":
            files = {file.relative_to(path) for file in path.rglob("*")}
            assert files == {file.relative_to(path) for file in done if file.is_relative_to(path)} - {Path()}
            assert path in done
        return rename(path, target)

    def synced(path: Path) -> None:
        sync(path)
        done.append(path)

    monkeypatch.setattr(durable, "sync", synced)
    monkeypatch.setattr(Path, "rename", moved)
    source = write_archive(tmp_path / "ml", as_csv(small_archive(half=True)), zipped=False)
    import_archive(MovieLensArchive(source), settings(tmp_path / "var"))
    assert len(done) > 10


def test_the_command_prints_what_it_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("MARQUEE_STREAM_GENERATION", "2026")
    source = write_archive(tmp_path / "ml", as_csv(small_archive(half=True)), zipped=True)
    result = CliRunner().invoke(import_movielens, [str(source)], catch_exceptions=False)
    counts = msgspec.json.decode(result.stdout, type=ImportSummary)
    assert counts.source.startswith("MovieLens ml-small, sha256 ")
    assert (counts.movies, counts.rated_movies, counts.described_users) == (6, 5, 0)
    assert counts.days == len(DayStore(tmp_path / "var").days())


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
