"""The processes of a demo: what cannot be started is one clear error before anything is."""

from pathlib import Path

import pytest

from loadtest.demo.processes import DemoProcesses
from loadtest.errors import DemoError


def test_a_folder_too_long_for_a_socket_is_named_before_anything_is_made(tmp_path: Path) -> None:
    longest = 107 - len("/supervisor.sock.4194304") - len(f"{tmp_path}/")
    with pytest.raises(DemoError, match=r"is 3 bytes too long for the path of a socket: give a shorter --folder"):
        DemoProcesses(tmp_path / ("x" * (longest + 1) + "é"), {})
    assert list(tmp_path.iterdir()) == []
    DemoProcesses(tmp_path / ("x" * longest), {})
