"""Benchmarks: what is claimed of Marquee, measured against others in one run; one command a claim.

    door.py         `python -m loadtest bench <name>`: the registry, one command a benchmark
    outcome.py      figures, targets and where they were measured: the one JSON object that a benchmark prints
    clock.py        one core, contestants in turn, medians
    quality.py      the benchmark `quality`; its parts are in the modules below
    lines.py        lines to measure with, played by the simulated world or recorded
    damage.py       the fault of the stream, and far worse ones
    judging.py      the only place that knows how `quality` judges a batch
    contestants.py  pydantic, pandera and Cerberus at the same work
    mending.py      precision and recall of repair
    collecting.py   Kafka to the archive, as a process
    serving.py      the benchmark `serving`; its parts are in the modules below
    releases.py     releases of any size, written straight in their layout
    rivals.py       who is compared, and how each is started; rival_apps.py: our look-up behind other servers
    processes.py    processes that are started, measured by /proc and stopped
    wrk.py          the closed loop: what an answer costs
    openloop.py     the open loop: what a client sees at a given rate
    steady.py       10,000 requests a second, without swaps and with them
    nearby.py       recall of `/similar`
    picture.py      the plot of `serving`
    night.py        the benchmark `night`; its parts are in the modules below
    crowd.py        how people behave; busy_day.py: a day of it as lines of the archive; past.py: all that a night finds
    watched.py      a command that is watched: time, memory, phases
    ranking.py      the benchmark `ranking`; its parts are in the modules below
    sequences.py    histories to rank by, with order in them and without
    textbook.py     EASE and ALS as they are known
    plotting.py     the sheet that night_picture.py and ranking_picture.py draw on

Each benchmark is a module with a function that returns an `Outcome`. A further one (telemetry) is such a module and a
command of a few lines in `door.py`.
"""
