"""When workers really ran, seen by somebody else than the orchestrator: the kernel, or Docker's own events."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from orchestrator.core.workload import LABEL_PREFIX
from tests.engine.docker_harness import client


@dataclass
class Life:
    """One worker's true life, wall-clock nanoseconds."""

    worker_id: str
    endpoint: str
    started_ns: int
    ended_ns: int | None = None


@dataclass
class Record:
    """Everything that was seen."""

    lives: dict[str, Life] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    """The most workers of an endpoint that ran at the same time."""
    twins: list[str] = field(default_factory=list)
    """Workers that were started while they ran."""

    def began(self, worker_id: str, endpoint: str, at_ns: int) -> None:
        before = self.lives.get(worker_id)
        if before is not None and before.ended_ns is None:
            self.twins.append(worker_id)
        self.lives[worker_id] = Life(worker_id, endpoint, at_ns)
        running = sum(1 for life in self.lives.values() if life.endpoint == endpoint and life.ended_ns is None)
        self.most[endpoint] = max(self.most.get(endpoint, 0), running)

    def ended(self, worker_id: str, at_ns: int) -> None:
        life = self.lives.get(worker_id)
        if life is not None and life.ended_ns is None:
            life.ended_ns = at_ns

    def running(self) -> set[str]:
        return {life.worker_id for life in self.lives.values() if life.ended_ns is None}


class Witness(Protocol):
    record: Record

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def leftovers(self) -> list[str]:
        """What still runs or was left behind."""
        ...


class ProcessWitness:
    """Holds a descriptor of every model process: the kernel says when it ends, whoever ended it."""

    def __init__(self, workers_dir: Path) -> None:
        self.record = Record()
        self._dir = workers_dir
        self._pids: dict[tuple[str, int], int] = {}
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for descriptor in self._pids.values():
            if descriptor >= 0:
                asyncio.get_running_loop().remove_reader(descriptor)
                os.close(descriptor)

    async def leftovers(self) -> list[str]:
        left = [path.name for path in self._dir.iterdir()] if self._dir.is_dir() else []
        return [*left, *(f"pid {pid}" for (_, pid), fd in self._pids.items() if fd >= 0 and _alive(pid))]

    async def _watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(0.01)

    def _look(self) -> None:
        for path in self._dir.glob("*/shim.json"):
            if path.parent.name.startswith("."):
                continue  # being removed
            try:
                shim = json.loads(path.read_bytes())
                endpoint = json.loads(path.with_name("spec.json").read_bytes())["endpoint"]
            except (OSError, ValueError):
                continue  # being written or removed
            pid, started_ns = shim.get("model_pid"), shim.get("started_ns")
            if pid is not None and started_ns is not None and (path.parent.name, pid) not in self._pids:
                self._meet(path.parent.name, endpoint, pid, started_ns)

    def _meet(self, worker_id: str, endpoint: str, pid: int, started_ns: int) -> None:
        self.record.began(worker_id, endpoint, started_ns)
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._pids[worker_id, pid] = -1
            self.record.ended(worker_id, time.time_ns())
            return
        self._pids[worker_id, pid] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._gone, worker_id, pid, descriptor)

    def _gone(self, worker_id: str, pid: int, descriptor: int) -> None:
        self.record.ended(worker_id, time.time_ns())
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        self._pids[worker_id, pid] = -1


class DockerWitness:
    """Listens to the engine's events of one instance, on a connection of its own."""

    def __init__(self, instance: str) -> None:
        self.record = Record()
        self._instance = instance
        self._label = f"{LABEL_PREFIX}instance={instance}"
        self._stream: Any = None
        self._thread: threading.Thread | None = None
        self._closing = False

    async def open(self) -> None:
        since = int(time.time()) - 1
        api = client()
        api.timeout = None
        self._stream = api.events(
            decode=True, since=since, filters={"type": "container", "event": ["start", "die"], "label": self._label}
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    async def close(self) -> None:
        self._closing = True
        self._stream.close()

    async def leftovers(self) -> list[str]:
        return await asyncio.to_thread(self._ours)

    def _ours(self) -> list[str]:
        with client() as api:
            return [each["Names"][0] for each in api.containers(all=True, filters={"label": self._label})]

    def _listen(self) -> None:
        for event in self._stream:
            labels = event["Actor"]["Attributes"]
            worker_id = labels[f"{LABEL_PREFIX}worker"]
            if event["Action"] == "start":
                self.record.began(worker_id, labels[f"{LABEL_PREFIX}endpoint"], event["timeNano"])
            else:
                self.record.ended(worker_id, event["timeNano"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
