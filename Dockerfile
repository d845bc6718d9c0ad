# Two images from one file:
#   docker build --target worker -t gpudeck/worker:0.1.0 .     the demonstration model server (sketch, echo)
#   docker build --target app    -t gpudeck/gpudeck:0.1.0 .    gpudeck itself
#
# BASE_IMAGE  any image with python3 (>= 3.11), its venv module and pip. Where no registry can be reached, .ci/engine
#             makes one with debootstrap.
# PIP_ARGS    options for pip. With wheels in .cache/wheels, "--no-index --find-links=/build/wheels" builds without a
#             network; the folder may be absent.
#
# No BuildKit syntax: the builder of Docker 20.10 must be able to read this.

ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /build
# uv.lock is named so that COPY finds something when the glob matches nothing.
COPY uv.lock .cache/wheels* /build/wheels/
# The locked versions as pip constraints. A package locked at two versions (one per Python) is left to its range.
RUN python3 -c "import collections, tomllib; lock = tomllib.load(open('wheels/uv.lock', 'rb')); found = collections.defaultdict(list); [found[p['name']].append(p['version']) for p in lock['package'] if 'registry' in p['source']]; print('\n'.join(f'{n}=={v[0]}' for n, v in sorted(found.items()) if len(v) == 1))" > constraints.txt \
 && python3 -m venv --without-pip /opt/venv

FROM build AS worker-packages
ARG PIP_ARGS=""
RUN python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --constraint constraints.txt ${PIP_ARGS} \
      "aiohttp>=3.14,<4" "numpy>=2,<3" "opencv-python-headless>=5,<6" \
 && find /opt/venv -type d -name tests -prune -exec rm -rf {} +

FROM ${BASE_IMAGE} AS worker
LABEL org.opencontainers.image.title="gpudeck worker" \
      org.opencontainers.image.description="Demonstration model server of gpudeck: sketch (images) and echo (load, faults)" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 worker \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin worker
COPY --from=worker-packages /opt/venv /opt/venv
COPY orchestrator/__init__.py /srv/orchestrator/__init__.py
COPY orchestrator/worker /srv/orchestrator/worker
# Compiled here: at run time the root is read-only and the user owns nothing in it.
RUN python3 -m compileall -q /srv/orchestrator
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /srv
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["python", "-m", "orchestrator.worker"]
CMD ["echo", "--host", "0.0.0.0", "--port", "8000"]

FROM build AS app-packages
ARG PIP_ARGS=""
COPY pyproject.toml README.md LICENSE /build/source/
COPY app /build/source/app
COPY assets /build/source/assets
COPY orchestrator /build/source/orchestrator
RUN python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --constraint constraints.txt ${PIP_ARGS} \
      /build/source

FROM ${BASE_IMAGE} AS app
LABEL org.opencontainers.image.title="gpudeck" \
      org.opencontainers.image.description="Dedicated GPU endpoints on your own machine: a terminal UI and its orchestrator" \
      org.opencontainers.image.licenses="Apache-2.0"
# The home is made here so that a volume mounted on it starts with the right owner.
RUN groupadd --gid 10001 gpudeck \
 && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin gpudeck
COPY --from=app-packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8
USER 10001:10001
WORKDIR /home/gpudeck
ENTRYPOINT ["gpudeck"]
