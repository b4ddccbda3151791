"""A size of the serving benchmark that takes seconds."""

from loadtest.bench.serving.contestant_costs import CostPlan
from loadtest.bench.serving.serving_benchmark import ServingSize

USERS, MOVIES = 3_000, 500
TINY = ServingSize(
    users=USERS,
    movies=MOVIES,
    costs=CostPlan(rounds=1, seconds=1, starts=1),
    steady_s=1.0,
    steady_rounds=1,
    restarts=1,
    probes=5,
    queries=20,
)
