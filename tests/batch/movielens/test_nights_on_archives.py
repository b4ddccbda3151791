"""A night on an imported archive, by the documented commands: personal lists, though hardly a user ever returns."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from batch.evaluation_file import LEAST_USERS, read_evaluation
from server.release import Release
from tests.batch.movielens.sign_up_forms import sign_up_forms
from tests.batch.movielens.small_archives import as_100k, write_archive

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")


def batch(var: Path, *arguments: str) -> tuple[str, str]:
    """What a command of the batch room prints, and its log."""
    environment = {**os.environ, "MARQUEE_STREAM_VAR": str(var)}
    done = subprocess.run(
        [sys.executable, "-m", "batch", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `var` folder after import and night."""
    folder = tmp_path_factory.mktemp("forms")
    batch(folder / "var", "import-movielens", str(write_archive(folder, as_100k(sign_up_forms()), zipped=True)))
    summary, _ = batch(folder / "var", "nightly")
    (folder / "var" / "printed.json").write_text(summary)
    return folder / "var"


def test_users_who_never_return_get_a_personal_release(imported: Path) -> None:
    release = Release.open(imported / "releases" / "current")
    evaluation = read_evaluation(release.folder)
    assert (evaluation.split, len(release.users)) == ("last", 240)
    assert evaluation.chosen not in ("popular", "segment")
    assert "the last events of each user" in evaluation.chosen_by
    assert min(evaluation.measured_users(evaluation.chosen).values()) > LEAST_USERS
    assert (evaluation.against_popular.low or 0) > 0.02
    assert release.manifest.model.chosen_by == evaluation.chosen_by
    listed, _ = batch(imported, "releases")
    assert f"{release.id}: {evaluation.chosen} makes the lists: {evaluation.chosen_by}" in listed
    assert "11-50" in listed
    assert orjson.loads((imported / "printed.json").read_bytes())["chosen_by"] == evaluation.chosen_by
