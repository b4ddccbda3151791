"""An evaluation made up, for what commands say of one."""

from batch.evaluation_file import (
    AgainstCurrent,
    Evaluation,
    HistoryLength,
    LengthFigures,
    MeasuredSlices,
    ModelFigures,
    ScoreDifference,
    SliceFigures,
)
from quality.metrics.intervals import Interval

NDCG = Interval(0.25, 0.2, 0.3)
FIGURES = ModelFigures(
    users=9, hit_rate=NDCG, recall=NDCG, ndcg=NDCG, mrr=NDCG, coverage=0.5, novelty_bits=3.0, personal=0.9,
    segments={}, largest_gap=None,
)  # fmt: skip
POPULAR_NDCG, AHEAD = Interval(0.2, 0.1, 0.3), Interval(0.05, 0.01, 0.09)
OF_LENGTH = {"popular": LengthFigures(POPULAR_NDCG, Interval(0.0, 0.0, 0.0)), "ease": LengthFigures(NDCG, AHEAD)}
EVALUATION = Evaluation(
    chosen="ease",
    chosen_by="settings",
    parameters={},
    slices=MeasuredSlices(test=SliceFigures(0, 1, {"ease": FIGURES}, {"6-10": HistoryLength(9, OF_LENGTH)})),
    against_popular=ScoreDifference("ndcg@20", 0.1, 0.0, 0.2),
    against_current=AgainstCurrent(reason="there is no current release"),
)
