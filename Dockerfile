# Marquee as one image: workers, collector, telemetry and the nightly run under supervisord (supervisord.conf).
#
#   docker build --build-arg MARQUEE_COMMIT=$(git rev-parse HEAD) -t marquee .
#   docker run -p 8082:8082 -v marquee:/var/lib/marquee \
#       -e MARQUEE_STREAM_BOOTSTRAP=kafka:9092 -e MARQUEE_BATCH_API=http://api:8080 marquee
#
# The operator's port (9082) listens inside the container only. For Prometheus or an orchestrator's probes from outside,
# add -p 127.0.0.1:9082:9082 -e MARQUEE_SERVER_OPERATOR_HOST=0.0.0.0.
#
# The builder has a compiler; the image has only what production imports. Its data are in the volume; outside of it only
# logs are written. BASE may be any Debian with Python 3.11, its headers, venv and pip; builder and image must share it,
# because the venv refers to its interpreter.
# Build with the Docker format (buildah: --format docker): the OCI format has no place for the health check.
#
# What can change between builds: Python's release is pinned and every library is pinned by hash, but the tag below is
# rebuilt with Debian's security fixes, and apt-get installs the g++, libgomp1 and libstdc++6 of Debian 12 at that time.
# This is intended: a frozen snapshot of Debian keeps its vulnerabilities. For builds identical byte for byte, also pin
# the base:
#   docker buildx imagetools inspect python:3.11.15-slim-bookworm     # prints its digest
#   docker build --build-arg BASE=python:3.11.15-slim-bookworm@sha256:... -t marquee .
ARG BASE=python:3.11.15-slim-bookworm

FROM ${BASE} AS builder
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build

# Annoy has no wheels, and its setup.py compiles with -march=native: on an older CPU than the builder's the index would
# crash with an illegal instruction. ANNOY_COMPILER_ARGS (commas, no blanks) replaces setup.py's flags; these are its
# own flags without that one.
ENV ANNOY_COMPILER_ARGS=-D_CRT_SECURE_NO_WARNINGS,-fpermissive,-O3,-ffast-math,-fno-associative-math,-DANNOYLIB_MULTITHREADED_BUILD,-std=c++14

# requirements-run.lock pins every file of production by hash, and is complete: with --no-deps pip resolves nothing. All
# are wheels except Annoy, which is built with the setuptools of the lock; build isolation would fetch the newest.
# PIP_INDEX_URL may name a mirror (--build-arg): the hashes verify its files.
ARG PIP_INDEX_URL
COPY requirements-run.lock ./
RUN python3 -m venv tools \
 && awk '/^[^ ]/ { wanted = /^setuptools==/ } wanted' requirements-run.lock > setuptools.lock \
 && tools/bin/pip install --quiet --no-deps --require-hashes --only-binary :all: -r setuptools.lock \
 && tools/bin/pip wheel --quiet --no-deps --require-hashes --only-binary :all: --no-binary annoy \
        --no-build-isolation --use-pep517 --wheel-dir wheels -r requirements-run.lock

# Install exactly these wheels, by path: no index is used. The venv has no pip. Its modules are compiled here, because
# the running image cannot write beside them. The libraries' own tests, 100 MB, are removed.
RUN python3 -m venv --without-pip /venv \
 && tools/bin/pip --python /venv/bin/python install --quiet --no-index --no-deps wheels/*.whl \
 && tools/bin/pip --python /venv/bin/python check \
 && find /venv -type d -name tests -prune -exec rm -r {} +

# The same layout as in the checkout: settings.toml is read from the working folder.
COPY settings.toml supervisord.conf LICENSE /app/
COPY stream /app/stream
COPY quality /app/quality
COPY batch /app/batch
COPY server /app/server
RUN chmod -R a+rX /app && /venv/bin/python -m compileall -q /app


FROM ${BASE}
# The wheels of implicit and LightGBM include neither the OpenMP nor the C++ library; Annoy also needs the latter.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 libstdc++6 \
 && rm -rf /var/lib/apt/lists/*
# A fixed numeric user id: a host's volume can be owned by it, and an orchestrator can see that it is not root.
RUN groupadd --gid 10001 marquee \
 && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin marquee \
 && install -d -o marquee -g marquee -m 0750 /var/lib/marquee /run/marquee
COPY --from=builder /venv /venv
COPY --from=builder /app /app

# Every key of settings.toml can be set the same way: MARQUEE_<ROOM>_<KEY>.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/app \
    MARQUEE_PYTHON=/venv/bin/python \
    MARQUEE_RUN=/run/marquee \
    MARQUEE_BIND=0.0.0.0:8082 \
    MARQUEE_WORKERS=2 \
    MARQUEE_SERVER_OPERATOR_PORT=9082 \
    MARQUEE_STREAM_VAR=/var/lib/marquee
# Last, because it differs in every build: the commit that a release's manifest names.
ARG MARQUEE_COMMIT=
ENV MARQUEE_COMMIT=${MARQUEE_COMMIT}

WORKDIR /app
USER 10001:10001
VOLUME /var/lib/marquee
EXPOSE 8082 9082
# Liveness, not readiness: before the first night there is no release, and a restart would not create one. Uses the
# operator's port, where load on the public port cannot delay the probe.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-c", "import os, urllib.request as web; port = os.environ['MARQUEE_SERVER_OPERATOR_PORT']; web.build_opener(web.ProxyHandler({})).open(f'http://127.0.0.1:{port}/healthz', timeout=3)"]
# supervisord then stops its programs, which takes up to 60 s: allow more than Docker's 10 s.
STOPSIGNAL SIGTERM
CMD ["supervisord", "-c", "/app/supervisord.conf"]
