"""Damaged MovieLens archives are refused with one error that names the line, and leave nothing behind."""

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from batch.errors import MovieLensError
from batch.movielens.archives import MovieLensArchive
from batch.movielens.importing import import_archive
from quality.catalog import Catalog
from tests.batch.movielens.small_archives import FORMS, as_csv, settings, small_archive, write_archive

CSV = b"userId,movieId,rating,timestamp\n1,1,3.5,964982703\n2,2,4.0,964982704\n"
BAD_RATINGS = {
    "three columns": (CSV + b"1,2,3\n", "line 4"),
    "five columns": (CSV + b"1,2,3,4,5\n", "line 4"),
    "a bad line after blank lines": (CSV + b"\n\r\n1,1,9.0,964982703\n", "line 6.*stars"),
    "a short line after blank lines": (CSV + b"\n\n1,1\n", "line 6: Expected 4 columns, got 2"),
    "a line of blanks": (CSV + b"   \n1,1,1.0,964982703\n", "line 4"),
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
    files = {**as_csv(small_archive(half=True)), "ratings.csv": data}
    with pytest.raises(MovieLensError, match=rf"ratings\.csv.*{where}") as caught:
        import_archive(MovieLensArchive(write_archive(tmp_path / "ml", files, zipped)), settings(tmp_path / "var"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "var" / "sessions").exists()
    assert not Catalog(tmp_path / "var").path.exists()


def test_the_line_is_told_right_far_behind_the_first_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch.movielens.archives._BLOCK_BYTES", 1 << 10)
    for bad in (b"1,2,0.7,964982703\n", b"1,x,3.0,964982703\n"):
        files = {
            **as_csv(small_archive(half=True)),
            "ratings.csv": CSV + b"5,7,2.0,964982705\n" * 3000 + bad + CSV.split(b"\n", 1)[1],
        }
        with pytest.raises(MovieLensError, match=r"ratings\.csv, line 3004:"):
            MovieLensArchive(write_archive(tmp_path / "ml", files, zipped=False)).ratings(np.array([1, 2, 7]))


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
        import_archive(
            MovieLensArchive(write_archive(tmp_path / "ml", files, zipped=False)), settings(tmp_path / "var")
        )


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
        import_archive(MovieLensArchive(write_archive(tmp_path / "ml", files, zipped)), settings(tmp_path / "var"))


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9, "byte"])
def test_a_damaged_zip_is_one_error(cut: float | str, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "ml", as_csv(small_archive(half=True)), zipped=True)
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


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9])
def test_a_damaged_tar_is_one_error(cut: float, tmp_path: Path) -> None:
    folder, path = (
        write_archive(tmp_path / "ml", as_csv(small_archive(half=True)), zipped=False),
        tmp_path / "ml.tar.gz",
    )
    with tarfile.open(path, "w:gz") as file:
        file.add(folder, "ml")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    with pytest.raises(MovieLensError, match=r"no \.zip or \.tar\.gz, or a damaged one"):
        import_archive(MovieLensArchive(path), settings(tmp_path / "var"))
    assert not (tmp_path / "var" / "sessions").exists()
