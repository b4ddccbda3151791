"""The benchmark `ranking`: its figures follow from what was measured."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from batch.evaluation.splits import by_last_event
from batch.evaluation_file import ScoreDifference
from loadtest.bench import commands
from loadtest.bench.benchmark import BenchmarkInputs, SplitName
from loadtest.bench.ranking import ranking_benchmark, ranking_plot, sequences
from loadtest.bench.ranking.ranking_benchmark import RANKING, SETS, ListScores, RankingRun, RankingSize
from loadtest.bench.ranking.ranking_figures import MetricIntervals, RankedSet
from loadtest.bench.ranking.reference_models import ALS, EASE
from loadtest.bench.result import BenchmarkResult, Figures, as_figures, make_result
from loadtest.errors import LoadtestError
from quality.metrics.intervals import Interval
from tests.loadtest.ranking_data import some_sessions, write_movielens

pytestmark = [pytest.mark.blas, pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")]

TINY = RankingSize(world=(300, 80, 8), sequences=(250, 120, 30))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkResult:
    """A real run on two small sets."""
    folder = tmp_path_factory.mktemp("ranking")
    inputs = BenchmarkInputs(data=write_movielens(folder / "ml-1m"))
    measured = replace(RANKING, work=folder / "work").run(TINY, 1, ("world", "movielens"), inputs)
    assert list((folder / "work").iterdir()) == []
    return measured


def test_figures_follow_from_each_other(result: BenchmarkResult) -> None:
    figures = result.figures
    assert set(result.targets) == {
        name
        for name in RANKING.targets
        if name.startswith(("world", "movielens")) and not name.endswith(("1m_ease_ratio", "popular_high"))
    }
    for name in ("world", "movielens"):
        ranked = figures[name]
        assert ranked["chosen"] in ranked["models"]
        assert next(iter(ranked["models"])) == "popular"
        assert list(ranked["models"])[-2:] == [EASE, ALS]
        assert ranked["split"] == SETS[name]
        for row in ranked["models"].values():
            assert set(row) == {"ndcg@20", "recall@20", "hr@20"}
            assert all(0 <= interval["low"] <= interval["mean"] <= interval["high"] <= 1 for interval in row.values())
        less = figures[f"{name}_chosen_less"]
        for metric in ("ndcg@20", "recall@20", "hr@20"):
            chosen = ranked["models"][ranked["chosen"]][metric]["mean"]
            for rival, intervals in less.items():
                difference = chosen - ranked["models"][rival][metric]["mean"]
                assert intervals[metric]["mean"] == pytest.approx(difference, abs=1e-9)
            least = min(intervals[metric]["high"] for intervals in less.values())
            assert figures[f"{name}_{metric}_less_best_rival_high"] == least
        assert figures[f"{name}_above_popular"] is (figures[f"{name}_chosen_less_popular_low"] > 0)
        assert f"{name}_chosen_less_popular_high" not in figures
    assert figures["world"]["users"] == 300


def test_the_result_and_its_plot_are_kept(
    result: BenchmarkResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    data = write_movielens(tmp_path / "ml-1m")
    quick = replace(RANKING, quick=TINY, work=tmp_path / "work", parts=dict.fromkeys(RANKING.parts, two_sets(result)))
    monkeypatch.setattr(ranking_benchmark, "RANKING", quick)
    arguments = ["ranking", "--quick", "--data", str(data), "--keep", str(tmp_path / "kept")]
    output = CliRunner().invoke(commands.bench, arguments)
    assert output.exit_code == 0, output.exception
    printed = orjson.loads(output.stdout.splitlines()[-1])
    assert (printed["bench"], printed["figures"]) == ("ranking", result.figures)
    assert orjson.loads((tmp_path / "kept" / "ranking.json").read_bytes()) == printed
    ranking_plot.draw(result, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "kept" / "ranking.svg").read_bytes()


def two_sets(result: BenchmarkResult) -> Callable[[RankingRun], Figures]:
    """A part that has the archive and gives the figures that were measured before."""

    def part(run: RankingRun) -> Figures:
        assert run.inputs.data
        return result.figures

    return part


def compared(ours: float, ease: float, name: str, sessions: int, split: SplitName = "last") -> Figures:
    """The figures of a set that are claimed of this set alone, or by this split alone."""
    models = {"blend": intervals(ours), EASE: intervals(ease)}
    ranked = RankedSet(
        split=split,
        users=1,
        movies=1,
        sessions=sessions,
        measured_users=1,
        chosen="blend",
        chosen_by="",
        parameters={},
        textbook_ease_penalty=1.0,
        models=models,
    )
    above = ScoreDifference("ndcg@20", 0.03, 0.01, 0.05)
    figures = as_figures(ranking_benchmark.compare(name, ranked, {EASE: intervals(0.1)}, above), name)
    return {
        key: value for key, value in figures.items() if "ease" in key or (key.endswith("_high") and "popular" in key)
    }


def intervals(mean: float) -> MetricIntervals:
    interval = Interval(mean, mean - 0.3, mean + 0.2)
    return MetricIntervals(ndcg=interval, recall=interval, hit_rate=interval)


def test_figures_of_single_sets() -> None:
    assert compared(0.18, 0.1, "shuffled", 1_000_209) == {"shuffled_chosen_less_ease_high": pytest.approx(0.3)}
    assert compared(0.18, 0.1, "sequences", 1_000_209) == {"sequences_ease_ratio": 1.8}
    assert compared(0.18, 0.1, "movielens", 100_000) == {"movielens_ease_ratio": 1.8}
    assert compared(0.16, 0.1, "movielens", 10_000_054) == {"movielens_ease_ratio": 1.6}
    assert compared(0.18, 0.1, "world", 1_000_209, "time") == {"world_ease_ratio": 1.8}
    popular = {"charts_chosen_less_popular_high": 0.05}
    assert compared(0.18, 0.1, "charts", 9, "time") == {"charts_ease_ratio": 1.8, **popular}
    popular = {"movielens_chosen_less_popular_high": 0.05}
    assert compared(0.16, 0.1, "movielens", 1_000_209, "loo") == {"movielens_ease_ratio": 1.6, **popular}
    both = compared(0.16, 0.1, "movielens", 1_000_209)
    assert both == {"movielens_ease_ratio": 1.6, "movielens_1m_ease_ratio": 1.6}
    assert not make_result("ranking", both, RANKING.targets).met


def test_too_many_movies_are_refused_before_anything_is_fit() -> None:
    many = sequences.sequences(30, 12_001, 20, 1)
    with pytest.raises(LoadtestError, match=r"12,001 movies.*12,000 movies at most"):
        ranking_benchmark.measure("movielens", many, 1, "last")


def test_a_set_of_which_nothing_can_be_held_out_is_refused() -> None:
    history = sequences.sequences(30, 100, 20, 1)
    first = np.searchsorted(history.user, np.arange(30))
    few = some_sessions(history, first)
    with pytest.raises(LoadtestError, match="sequences is too small"):
        ranking_benchmark.measure("sequences", few, 1, "last")


def test_leave_one_out_is_also_measured_at_ten() -> None:
    history = sequences.sequences(120, 60, 12, 1)
    ranked, comparison = ranking_benchmark.measure("sequences", history, 1, "loo")
    assert ranked.split == "loo"
    at_ten = {name for name, row in ranked.models.items() if row.ndcg_10 and row.hit_rate_10}
    assert at_ten == {ranked.chosen, EASE, ALS}
    for name in (EASE, ALS):
        ours, theirs, less = ranked.models[ranked.chosen], ranked.models[name], comparison.chosen_less[name]
        assert ours.hit_rate == ours.recall  # of one relevant movie
        for metric in ("ndcg_10", "hit_rate_10"):
            ten, twenty = (getattr(theirs, key).mean for key in (metric, metric.removesuffix("_10")))
            assert 0 < ten < twenty
            difference = getattr(ours, metric).mean - ten
            assert getattr(less, metric).mean == pytest.approx(difference, abs=1e-9)


@pytest.mark.parametrize(("rank", "at_ten"), [(1, 1.0), (10, 1.0), (11, 0.0), (20, 0.0)])
def test_the_first_ten_places_are_those_of_the_list(rank: int, at_ten: float) -> None:
    history = sequences.sequences(5, 60, 20, 1)
    test = by_last_event(history).test()
    others = [np.setdiff1d(np.arange(60), test.relevant[[user]].indices)[:20] for user in test.users]
    lists = np.array(others, np.int32)
    lists[:, rank - 1] = test.relevant.indices
    scores = ListScores.of(test, lists, "loo")
    assert scores.at_10
    assert scores.at_20.hit.tolist() == [1.0] * 5
    assert scores.at_10.hit.tolist() == [at_ten] * 5
    assert scores.at_10.ndcg == pytest.approx(at_ten / np.log2(rank + 1))
    assert ListScores.of(test, lists, "last").at_10 is None


@pytest.mark.parametrize(
    ("arguments", "split"), [([], None), (["--split", "loo"], "loo"), (["--split", "time"], "time")]
)
def test_the_split_of_the_command_line_is_that_of_the_run(
    arguments: list[str], split: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits: list[SplitName | None] = []

    def part(run: RankingRun) -> Figures:
        splits.append(run.inputs.split)
        return {}

    noting = replace(RANKING, work=tmp_path, parts={"world": part})
    monkeypatch.setattr(ranking_benchmark, "RANKING", noting)
    output = CliRunner().invoke(commands.bench, ["ranking", *arguments])
    assert output.exit_code == 0, output.exception
    assert splits == [split]
