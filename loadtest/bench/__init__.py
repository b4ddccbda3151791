"""Benchmarks: measure every claim about Marquee's speed and quality, and compare with other tools in the same run.

    commands.py     `python -m loadtest bench <name>`: one command for each benchmark
    benchmark.py    `Benchmark`: name, sizes, parts and targets, and how to run them
    result.py       figures, targets and where they were measured: the JSON object that a benchmark prints
    cpu_clock.py    one core, contestants in turn, medians
    plotting.py     the sheet that the plots are drawn on
    lines/          `QUALITY`: speed and verdicts of judging lines, accuracy of repair, the collector's speed
    serving/        `SERVING`: CPU time beside other servers, latency, restarts, probes, memory
    night/          `NIGHT`: time and memory of a night, on a synthetic history
    ranking/        `RANKING`: lists compared with those of textbook models

Each folder declares its `Benchmark` in `<name>_benchmark.py`; every part describes its figures in a Struct.
"""
