"""Where the evaluation says that short histories are better off with the popular list, the release shows it, and the
gate holds the release to it."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from batch.errors import GateRefusal
from batch.evaluation_file import read_evaluation, write_evaluation
from tests.batch.nights.small_nights import night, run

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")
BELOW = 11


def test_lists_and_gate_go_by_what_the_evaluation_says_of_short_histories(var: Path) -> None:
    # under a cap, the baseline lacks adult movies that users of age are shown
    steps = night(var, model="ease", adult_share_minors=1.0)
    run(steps, "sessions", "history", "evaluate")
    as_measured = read_evaluation(var / "night")
    write_evaluation(var / "night", msgspec.structs.replace(as_measured, popular_below={"ease": BELOW}))
    run(steps, "train")
    history, _ = steps._history()
    seen = np.diff(history.before(history.until, 14.0).matrix.indptr)
    lists, popular = (np.load(var / "night" / name) for name in ("lists.npy", "baseline.npy"))
    is_short = (seen > 0) & (seen < BELOW)
    assert 20 < is_short.sum() < 280
    assert (lists[is_short] == popular[is_short]).all()
    assert (lists[seen >= BELOW] != popular[seen >= BELOW]).any(axis=1).mean() > 0.9
    assert run(steps, "publish")["publish"].current
    write_evaluation(var / "night", msgspec.structs.replace(as_measured, popular_below={"ease": BELOW + 20}))
    with pytest.raises(GateRefusal, match="with a short history do not have the popular list"):
        run(steps, "publish")
