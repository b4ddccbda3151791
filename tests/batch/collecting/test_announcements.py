"""`new_movies.txt`: what is announced, in its order, whatever else the file holds."""

import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

from batch.__main__ import commands
from batch.collecting.announcements import announce, read_announced
from batch.errors import CatalogError


def test_ids_are_numbered_by_line_and_later_lines_win(tmp_path: Path) -> None:
    (tmp_path / "new_movies.txt").write_bytes(b"\xef\xbb\xbfa+1999\n\n# old\r\n b+  # soon\na+1999")
    assert read_announced(tmp_path) == {"a+1999": 5, "b+": 4}


def test_without_a_file_nothing_is_announced(tmp_path: Path) -> None:
    assert read_announced(tmp_path) == {}


def test_what_is_no_id_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "new_movies.txt").write_bytes(b"a+1999\nThe Harbour\n\xff\xfe\n")
    assert read_announced(tmp_path) == {"a+1999": 1}
    assert "2 lines are no movie ids, the first is line 2" in caplog.text


def test_a_file_that_cannot_be_read_costs_no_night(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "new_movies.txt").mkdir()
    with caplog.at_level(logging.ERROR):
        assert read_announced(tmp_path) == {}
    assert "cannot be read" in caplog.text


def test_announcing_appends_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "new_movies.txt"
    path.write_bytes(b"a+1999  # the first")
    assert announce(tmp_path, ["b+", "a+1999", "b+"]) == 1
    assert path.read_bytes() == b"a+1999  # the first\nb+\n"
    assert announce(tmp_path, ["b+"]) == 0
    assert announce(tmp_path, []) == 0


def test_one_wrong_id_and_nothing_is_added(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"'Aliens' is no movie id, such as aliens\+1986; nothing was added"):
        announce(tmp_path, ["a+1999", "Aliens"])
    assert not (tmp_path / "new_movies.txt").exists()


def test_the_command_reads_a_file_or_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(tmp_path))
    (tmp_path / "ids").write_text("a+1999\n# none\nb+\n")
    for arguments, given in ((["new-movies", str(tmp_path / "ids")], None), (["new-movies", "-"], "c+\n")):
        result = CliRunner().invoke(commands, arguments, input=given)
        assert (result.exit_code, "movies announced" in result.output) == (0, True), result.output
    assert list(read_announced(tmp_path)) == ["a+1999", "b+", "c+"]
