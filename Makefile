# `make demo` and `make test` need Python ≥ 3.11, a C++ compiler and make; everything else is installed in .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
# As in the Dockerfile: Annoy's own flags without -march=native, so that an index is the same on every machine.
ANNOY_FLAGS := -D_CRT_SECURE_NO_WARNINGS,-fpermissive,-O3,-ffast-math,-fno-associative-math,-DANNOYLIB_MULTITHREADED_BUILD,-std=c++14

# Where Python may not keep bytecode, each of the hundreds of processes that the tests start compiles Marquee anew.
unexport PYTHONDONTWRITEBYTECODE

# A lock pins every package by version and every file by hash, so an installation is the same on any later day:
#   --no-deps             the lock is complete; pip before 23.3 would resolve coverage[toml] to the newest release
#   --no-build-isolation  Annoy is built with the setuptools of the lock, not with the newest one
#   --only-binary         nothing but Annoy is built
#   --no-cache-dir        pip caches builds whatever their flags: the cached one may be for another CPU
# The user chooses where files come from (PIP_INDEX_URL, PIP_CERT, pip.conf, ...), so pip is not run --isolated: a
# company's mirror must work, and hashes verify its files. Variables that would change the result do not reach pip.
unexport PIP_CONSTRAINT PIP_REQUIREMENT PIP_EDITABLE PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_DRY_RUN
PIP := $(VENV)/bin/pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --no-deps --no-build-isolation
LOCKED := $(INSTALL) --require-hashes --only-binary :all:
# The lock's entry of one package.
ENTRY = awk '/^[^ ]/ { wanted = /^$(1)==/ } wanted' requirements.lock > $(VENV)/$(1).lock

.PHONY: help setup demo stop restart test test-kernels test-kafka chaos lint bench fuzz lock clean
help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## make .venv from requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "error: $(PYTHON) is missing or older than 3.11: install Python 3.11, or run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || command -v g++ >/dev/null || \
		{ echo "error: no C++ compiler, and Annoy is built from source: install one (Debian: apt-get install g++)" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig; raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || \
		{ echo "error: no Python.h, and Annoy is built against it: install it (Debian: apt-get install python3-dev)" >&2; exit 1; }
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || \
		{ echo "error: no libgomp.so.1, which implicit and LightGBM run on: install it (Debian: apt-get install libgomp1)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { echo "error: no venv module: install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(call ENTRY,setuptools)
	$(call ENTRY,annoy)
	$(LOCKED) -r $(VENV)/setuptools.lock
	ANNOY_COMPILER_ARGS=$(ANNOY_FLAGS) $(LOCKED) --no-binary annoy --use-pep517 --no-cache-dir -r $(VENV)/annoy.lock
	$(LOCKED) -r requirements.lock
	$(INSTALL) -e .
	$(PIP) check
	@touch $@

PORT ?= 8082
demo: $(READY)  ## the whole loop on real processes, in a few minutes; KEEP=1 keeps it running, PORT=... sets the port
	@exec $(RUN) -m loadtest demo --port $(PORT) $(if $(KEEP),--keep)

stop: $(READY)  ## stop a demo that was kept running
	@exec $(RUN) -m loadtest stop

restart: $(READY)  ## restart the workers under the supervisord of MARQUEE_RUN one by one; no request is lost
	@exec $(RUN) -m server restart

test: $(READY)  ## lint, types, unit and integration tests with coverage
	$(MAKE) --no-print-directory lint
	$(RUN) -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --cov --cov-report=term --cov-fail-under=90 --durations=25

test-kernels: $(READY)  ## the numerical tests under every other BLAS kernel of this processor
	$(RUN) -m tests.kernels -n logical --maxprocesses 4 --dist loadfile

test-kafka: $(READY)  ## the tests against a real Apache Kafka, which Maven fetches once; needs Java 17 and Maven
	$(RUN) -m pytest -m kafka tests/integration/kafka

chaos: $(READY)  ## telemetry, killed a hundred times while it reads: its reports stay the same; some ten minutes
	$(RUN) -m pytest -m chaos tests/integration

# For Python 3.12 and later the lock has newer numpy and scipy, whose types need fewer exceptions than 3.11's.
lint: $(READY)  ## ruff and mypy
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy $$($(RUN) -c 'import sys; print(*["--no-warn-unused-ignores"] * (sys.version_info >= (3, 12)))')

# The libraries that benchmarks compare with are installed for benchmarks only.
BENCH_READY := $(VENV)/.bench-ready
BENCHES := quality serving night ranking newmovies telemetry intervals exposure
$(BENCH_READY): $(READY) requirements-bench.lock
	$(LOCKED) -r requirements-bench.lock
	$(PIP) check
	@touch $@

bench: $(BENCH_READY)  ## measure every claim of speed and quality, and write the figures to docs/bench
	@PATH="$$PATH:/usr/sbin:/usr/local/sbin"; command -v wrk >/dev/null && command -v nginx >/dev/null || \
		{ echo "error: serving is compared with nginx, using wrk: install them (Debian: apt-get install wrk nginx-light)" >&2; exit 1; }
	@status=0; for bench in $(BENCHES); do $(RUN) -m loadtest bench $$bench --keep docs/bench || status=1; done; exit $$status

fuzz: $(READY)  ## judge millions of random bad lines; COUNT=... sets how many, SEED=... repeats a run
	@exec $(RUN) -m loadtest bench fuzz $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

COMPILE := $(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate
lock: $(READY)  ## rewrite requirements.lock, -run.lock (the image) and -bench.lock from pyproject.toml
	$(COMPILE) --extra test -o requirements.lock pyproject.toml
	$(COMPILE) --extra run --constraint requirements.lock -o requirements-run.lock pyproject.toml
	$(COMPILE) --extra bench --constraint requirements.lock -o requirements-bench.lock pyproject.toml

clean:  ## remove everything generated, but not var/
	rm -rf $(VENV) *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
