"""Benchmarks: what is claimed of Marquee, measured against others in one run; one command a claim.

    commands.py     `python -m loadtest bench <name>`: the registry, one command a benchmark
    result.py       figures, targets and where they were measured: the JSON object that a benchmark prints
    cpu_clock.py    one core, contestants in turn, medians
    plotting.py     the sheet that the plots are drawn on
    lines/          `bench quality`: speed and verdicts of judging lines, accuracy of repair, the collector's speed
    serving/        `bench serving`: CPU time beside other servers, latency, restarts, probes, memory
    night/          `bench night`: time and memory of a night, on a synthetic history
    ranking/        `bench ranking`: lists beside textbook models

Each folder has a module `<name>_benchmark.py` with a function `run` that returns a `BenchmarkResult`, and a command of
a few lines in `commands.py`.
"""
