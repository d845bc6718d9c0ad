"""Secret variables on their way into a container, past everything that Docker shows.

`docker inspect` prints a container's Env to everyone who may use the engine, and keeps it in a file of the engine's. So
the variables whose names say that they are secret (contract/secrets.py) are no part of the request: they are in a file
of ours that is mounted read-only, and a shell reads it before it becomes the image's own program. What is left is the
environment of that one process, which nobody but its user and root can read.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from docker import APIClient
from docker.errors import NotFound

from orchestrator.engine.ports import EngineError, Fault

VARIABLES_PATH: Final = "/run/secrets/gpudeck.env"
"""Where a container finds its file."""
SHELL: Final = "/bin/sh"
WRAPPER: Final = (SHELL, "-c", f'set -a; . {VARIABLES_PATH}; set +a; exec "$@"', "gpudeck")
"""Entry point: the words that follow are the program. `exec` keeps its signals, its exit code and its place as the
child of Docker's init."""
_SUFFIX: Final = ".env"
_DRAFT: Final = ".draft"


@dataclass(frozen=True, slots=True)
class Handover:
    """What a request needs in order to hand secrets over: the file on this host, and what the image runs by itself."""

    file: Path
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]


def read_image(inspected: Mapping[str, Any], file: Path) -> Handover:
    """The handover for an image, from its inspect JSON."""
    config = inspected.get("Config") or {}
    return Handover(file, tuple(config.get("Entrypoint") or ()), tuple(config.get("Cmd") or ()))


def shell_assignments(variables: Mapping[str, str]) -> str:
    """The file's text: one assignment a line, quoted so that every POSIX shell reads the very same value."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())


def require_shell(client: APIClient, container: str, image: str, names: Collection[str]) -> None:
    """Raises EngineError (MODEL_UNSUPPORTED) when the image of a created container has no shell to read the file with:
    started all the same, it would crash in a loop with nothing but `exec /bin/sh failed` in its log."""
    try:
        stream, _ = client.get_archive(container, SHELL)
    except NotFound as error:
        raise EngineError(
            Fault.MODEL_UNSUPPORTED,
            f"env.{', env.'.join(names)}: image {image} has no {SHELL}, and gpudeck needs one there to hand over a "
            "secret without `docker inspect` showing it; unset the variable, or build the image with a shell",
        ) from error
    for _ in stream:  # to its end, so that the connection can be used again
        pass


class SecretFiles:
    """The files of this host's workers, below `directory`, which is made 0700. Thread-safe; every call blocks.

    A file is 0444: inside the container its reader is whatever user the image chooses, and on the host nobody gets
    past the directory. It stays as long as its container, since one that is restarted by hand is mounted anew.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._lock = threading.Lock()
        self._starting: set[str] = set()

    @contextmanager
    def starting(self, worker_id: str, variables: Mapping[str, str]) -> Iterator[Path]:
        """Write the worker's file, and keep `sweep` off it until its container exists. Raises EngineError."""
        with self._lock:
            self._starting.add(worker_id)
        try:
            yield self._write(worker_id, variables)
        finally:
            with self._lock:
                self._starting.discard(worker_id)

    def settled(self) -> frozenset[str]:
        """Names of the files whose start is over: each belongs to a container, or is a leftover."""
        with self._lock:
            begun = {self._path(worker_id).name for worker_id in self._starting}
            try:
                found = {entry.name for entry in self._directory.iterdir()}
            except FileNotFoundError:
                return frozenset()
        ours = {name for name in found if name.removesuffix(_DRAFT).endswith(_SUFFIX)}
        return frozenset(name for name in ours if name.removesuffix(_DRAFT) not in begun)

    def sweep(self, settled: frozenset[str], worker_ids: Collection[str]) -> None:
        """Remove the leftovers among `settled`, as it was BEFORE the containers of `worker_ids` were listed: a start
        that began since then has a file and no container in that list."""
        with self._lock:
            kept = {self._path(worker_id).name for worker_id in (*worker_ids, *self._starting)}
            for name in settled - kept:
                (self._directory / name).unlink(missing_ok=True)

    def remove(self, worker_id: str) -> None:
        """Idempotent."""
        self._path(worker_id).unlink(missing_ok=True)

    def _path(self, worker_id: str) -> Path:
        # Quoted, an id holds no slash and its file is always below the directory.
        return self._directory / f"{quote(worker_id, safe='')}{_SUFFIX}"

    def _write(self, worker_id: str, variables: Mapping[str, str]) -> Path:
        path = self._path(worker_id)
        draft = path.with_name(path.name + _DRAFT)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(shell_assignments(variables))
            draft.chmod(0o444)
            draft.rename(path)
        except OSError as error:
            text = f"{self._directory} cannot hold the secrets of worker {worker_id}: {error.strerror}"
            raise EngineError(Fault.REFUSED, text) from error
        return path
