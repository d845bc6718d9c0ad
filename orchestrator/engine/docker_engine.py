"""Workers as containers of a Docker engine. Blocking calls run on threads of our own, never in the event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from docker import APIClient
from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import RequestException

from orchestrator.contract.snapshot import EngineKind, EngineView
from orchestrator.core.workload import LABEL_PREFIX, Exit, ExitCause, Observed, WorkerSpec
from orchestrator.engine import docker_faults
from orchestrator.engine.docker_answer import (
    EVIDENCE_LINES,
    belongs_to,
    has_ended,
    log_lines,
    read_die_event,
    read_worker,
)
from orchestrator.engine.docker_client import DEFAULT_ADDRESS, Clients, address_problem, connect
from orchestrator.engine.docker_events import EventWatch
from orchestrator.engine.docker_request import NETWORK, container_request, image_of, network_request, secret_variables
from orchestrator.engine.docker_secrets import SecretFiles, read_image, require_shell
from orchestrator.engine.health import http_healthy
from orchestrator.engine.ports import EngineError, EngineUnavailable, Fault

_LOG: Final = logging.getLogger(__name__)

CALL_THREADS: Final = 8
STOP_THREADS: Final = 16
PROBE_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 15.0
START_TIMEOUT_S: Final = 60.0
"""Create and start copy layers and set up GPUs: slow on a busy disk, and a time-out leaves the outcome unknown."""
STOP_MARGIN_S: Final = 20.0
"""Beyond the grace: Docker kills, unmounts and writes the exit code before it answers."""
TAIL_MAX: Final = 10_000
_PAUSE_S: Final = 0.1
_NAME_ATTEMPTS: Final = 50
_REMOVE_ATTEMPTS: Final = 20

T = TypeVar("T")


class DockerEngine:
    """Implements orchestrator.engine.ports.WorkerEngine for the containers labelled with `instance`.

    `now` gives wall-clock nanoseconds. `base_url` is DOCKER_HOST or the default socket when None; anything but a Unix
    socket is refused (by every call, as EngineError, and by `probe`) unless `allow_remote`. `secrets` is a directory,
    best in memory, for the files by which secret variables are handed over.
    """

    def __init__(
        self,
        instance: str,
        now: Callable[[], int],
        base_url: str | None = None,
        allow_remote: bool = False,
        *,
        secrets: Path,
    ) -> None:
        self._instance = instance
        self._now = now
        self._address = base_url or os.environ.get("DOCKER_HOST") or DEFAULT_ADDRESS
        self._problem = address_problem(self._address, allow_remote=allow_remote)
        self._clients = Clients(self._address)
        self._calls = ThreadPoolExecutor(CALL_THREADS, thread_name_prefix="gpudeck-docker")
        # Stops wait out their grace; on the threads of the other calls ten of them would hold up every inspect.
        self._stops = ThreadPoolExecutor(STOP_THREADS, thread_name_prefix="gpudeck-docker-stop")
        self._network_lock = threading.Lock()
        self._secrets = SecretFiles(secrets)
        self._shells: set[str] = set()
        """Ids of images that were seen to have a shell."""
        self._watch: EventWatch | None = None
        self._oom_ids: set[str] = set()
        self._closed = False

    @property
    def kind(self) -> EngineKind:
        return EngineKind.DOCKER

    async def open(self, on_change: Callable[[str, Exit | None], None]) -> None:
        if self._problem is not None:
            raise self._problem
        loop = asyncio.get_running_loop()

        def deliver(worker_id: str, exit_: Exit | None) -> None:
            if not self._closed:
                on_change(worker_id, exit_)

        def from_thread(worker_id: str, exit_: Exit | None) -> None:
            try:
                loop.call_soon_threadsafe(deliver, worker_id, exit_)
            except RuntimeError as error:  # the loop ended before close() was called
                _LOG.debug("change of %s not delivered: %s", worker_id, error)

        self._watch = EventWatch(
            self._instance,
            lambda: connect(self._address, PROBE_TIMEOUT_S),
            from_thread,
            self._evidence,
            self._oom_ids.add,
            self._now,
        )
        self._watch.start()

    async def probe(self) -> EngineView:
        try:
            version = await self._call(lambda client: client.version(), PROBE_TIMEOUT_S)
        except EngineError as error:
            return EngineView(kind=self.kind, ok=False, detail=error.message)
        detail = f"Docker {version.get('Version', '?')} (API {version.get('ApiVersion', '?')}) at {self._address}"
        return EngineView(kind=self.kind, ok=True, detail=detail)

    async def start(self, spec: WorkerSpec) -> Observed:
        if spec.instance != self._instance:
            raise EngineError(Fault.REFUSED, f"instance: {spec.instance!r} is not this engine's, {self._instance!r}")
        if not secret_variables(spec):
            body = container_request(spec)
            return await self._call(
                lambda client: self._start(client, spec, lambda: body), START_TIMEOUT_S, image=spec.model.image
            )
        image = image_of(spec)
        return await self._call(
            lambda client: self._start_with_secrets(client, spec, image), START_TIMEOUT_S, image=image
        )

    async def healthy(self, worker: Observed, path: str, timeout_s: float) -> bool:
        if worker.host is None or worker.port is None:
            return False
        return await http_healthy(worker.host, worker.port, path, timeout_s)

    async def inspect(self, worker_id: str) -> Observed | None:
        def look(client: APIClient) -> Observed | None:
            container = self._find(client, worker_id)
            return None if container is None else self._look(client, container)

        return await self._call(look)

    async def list_workers(self) -> list[Observed]:
        def look(client: APIClient) -> list[Observed]:
            settled = self._secrets.settled()
            found = self._containers(client)
            self._secrets.sweep(settled, [each["Labels"].get(f"{LABEL_PREFIX}worker", "") for each in found])
            seen = (self._look(client, each["Id"]) for each in found)
            return [worker for worker in seen if worker is not None]

        return await self._call(look)

    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        grace = max(0, math.ceil(grace_s))
        return await self._call(
            lambda client: self._stop(client, worker_id, grace), STOP_MARGIN_S, executor=self._stops
        )

    async def remove(self, worker_id: str) -> None:
        def forget(client: APIClient) -> None:
            self._remove(client, worker_id)
            self._secrets.remove(worker_id)

        await self._call(forget, START_TIMEOUT_S)

    async def logs(self, worker_id: str, tail: int) -> list[str]:
        wanted = min(max(tail, 0), TAIL_MAX)

        def read(client: APIClient) -> list[str] | None:
            container = self._find(client, worker_id)
            return None if container is None else list(self._log(client, container, wanted))

        lines = await self._call(read)
        if lines is None:
            raise KeyError(worker_id)
        return lines

    async def kill(self, worker_id: str) -> None:
        await self._break(worker_id, docker_faults.kill)

    async def freeze(self, worker_id: str, *, on: bool) -> None:
        await self._break(worker_id, lambda client, container: docker_faults.freeze(client, container, on=on))

    async def squeeze(self, worker_id: str) -> None:
        await self._break(worker_id, docker_faults.squeeze)

    async def _break(self, worker_id: str, how: Callable[[APIClient, str], None]) -> None:
        def strike(client: APIClient) -> bool:
            container = self._find(client, worker_id)
            if container is None or not self._runs(client, container):
                return False
            how(client, container)
            return True

        if not await self._call(strike):
            raise KeyError(worker_id)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._watch is not None:
            # Waits for the thread, so not in the loop; and not on our executors, which may be full of stuck calls.
            await asyncio.to_thread(self._watch.close)
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._stops.shutdown(wait=False, cancel_futures=True)
        self._clients.close()

    async def _call(
        self,
        call: Callable[[APIClient], T],
        timeout_s: float = READ_TIMEOUT_S,
        *,
        image: str | None = None,
        executor: ThreadPoolExecutor | None = None,
    ) -> T:
        """Run `call` on a thread with its client. Raises EngineError; a cancelled caller leaves the call running."""
        if self._problem is not None:
            raise self._problem
        if self._closed:
            raise EngineUnavailable("the connection to Docker has been closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor or self._calls, self._clients.run, call, timeout_s, image)

    # --- everything below runs on a thread of ours ---------------------------------------------------------------

    def _containers(self, client: APIClient, *labels: str) -> list[dict[str, Any]]:
        wanted = [f"{LABEL_PREFIX}instance={self._instance}", *labels]
        found: list[dict[str, Any]] = client.containers(all=True, filters={"label": wanted})
        return found

    def _find(self, client: APIClient, worker_id: str) -> str | None:
        """Id of the worker's container. By label, so that a rename by hand changes nothing."""
        found = self._containers(client, f"{LABEL_PREFIX}worker={worker_id}")
        # More than one only when somebody copied our labels: ours is the oldest.
        return str(min(found, key=lambda each: each["Created"])["Id"]) if found else None

    def _look(self, client: APIClient, container: str) -> Observed | None:
        """The container as a worker, with its last lines once it has ended; None when it was removed meanwhile."""
        try:
            inspected = client.inspect_container(container)
        except NotFound:
            return None
        log = self._log(client, container, EVIDENCE_LINES) if has_ended(inspected) else ()
        return read_worker(inspected, log, self._now(), oom=inspected["Id"] in self._oom_ids)

    def _log(self, client: APIClient, container: str, tail: int) -> tuple[str, ...]:
        if tail == 0:
            return ()
        try:
            raw: bytes = client.logs(container, stdout=True, stderr=True, tail=tail)
        except APIError as error:
            # Removed meanwhile, or a log driver that cannot be read. The worker's evidence is worth having without it.
            _LOG.debug("no log of %s: %s", container[:12], error)
            return ()
        return log_lines(raw, tail)

    def _start_with_secrets(self, client: APIClient, spec: WorkerSpec, image: str) -> Observed:
        """A start that fails leaves its file to the next list's sweep, which knows whether a container needs it."""
        with self._secrets.starting(spec.worker_id, secret_variables(spec)) as file:

            def body() -> dict[str, Any]:
                inspected = client.inspect_image(image)  # type: ignore[no-untyped-call]
                return container_request(spec, read_image(inspected, file))

            return self._start(client, spec, body)

    def _start(self, client: APIClient, spec: WorkerSpec, body: Callable[[], dict[str, Any]]) -> Observed:
        container = self._find(client, spec.worker_id) or self._create(client, spec, body())
        inspected = client.inspect_container(container)
        if inspected["State"]["Status"] == "created":
            self._run_created(client, container, spec, inspected["Image"])
        seen = self._look(client, container)
        if seen is None:
            raise EngineUnavailable(f"container {spec.name} was removed by somebody else while it started")
        return seen

    def _create(self, client: APIClient, spec: WorkerSpec, body: dict[str, Any]) -> str:
        """Id of the new container, or of ours that has the name. Raises EngineError(NAME_CONFLICT) when a foreign one
        has it."""
        self._ensure_network(client)
        for _ in range(_NAME_ATTEMPTS):
            try:
                made = client.create_container_from_config(body, spec.name)  # type: ignore[no-untyped-call]
                return str(made["Id"])
            except APIError as error:
                if error.status_code != 409:
                    raise
            try:
                holder = client.inspect_container(spec.name)
            except NotFound:
                # The holder is being removed: its name is free in a moment.
                threading.Event().wait(_PAUSE_S)
                continue
            if belongs_to(holder, spec.labels()):
                return str(holder["Id"])
            raise EngineError(
                Fault.NAME_CONFLICT,
                f"a container called {spec.name} exists that is not this worker's; remove or rename it "
                f"(`docker rm {spec.name}`)",
            )
        raise EngineError(
            Fault.NAME_CONFLICT, f"the container name {spec.name} stays taken by one that is being removed"
        )

    def _run_created(self, client: APIClient, container: str, spec: WorkerSpec, image_id: str) -> None:
        """Start a created container. One that Docker or we refuse to start is removed: it never ran, and a created
        container would be taken for a worker that is about to."""
        secrets = secret_variables(spec)
        try:
            if secrets and image_id not in self._shells:
                require_shell(client, container, spec.model.image or image_id, secrets)
                self._shells.add(image_id)
            client.start(container)
        except (APIError, EngineError):
            try:
                client.remove_container(container, v=True, force=True)
            except (DockerException, RequestException) as error:
                _LOG.warning("container %s could not be removed after a failed start: %s", container[:12], error)
            raise

    def _ensure_network(self, client: APIClient) -> None:
        # Docker allows two networks of one name; without the lock two first starts could make them.
        with self._network_lock:
            try:
                found = client.inspect_network(NETWORK)
            except NotFound:
                try:
                    client.create_network(**network_request())
                except APIError as error:
                    if error.status_code != 409:  # another orchestrator was quicker
                        raise
                return
        if f"{LABEL_PREFIX}network" not in (found.get("Labels") or {}):
            raise EngineError(
                Fault.NAME_CONFLICT,
                f"a Docker network called {NETWORK} exists that gpudeck did not make; remove or rename it "
                f"(`docker network rm {NETWORK}`)",
            )

    def _stop(self, client: APIClient, worker_id: str, grace: int) -> Exit | None:
        container = self._find(client, worker_id)
        if container is None:
            return None
        try:
            # docker-py adds the grace to the client's own time-out for this one call.
            client.stop(container, timeout=grace)
        except NotFound:
            return None
        seen = self._look(client, container)
        if seen is None:
            return None
        return seen.exit or Exit(ExitCause.VANISHED, None, None, "it was created but never started")

    def _remove(self, client: APIClient, worker_id: str) -> None:
        for attempt in range(_REMOVE_ATTEMPTS):
            container = self._find(client, worker_id)
            if container is None:
                return
            try:
                # Anonymous volumes go with it, named ones (model caches) stay. A running worker is never removed by
                # force: its evidence would be lost.
                client.remove_container(container, v=True, force=attempt > 0)
            except NotFound:
                return
            except APIError as error:
                if error.status_code != 409:
                    raise
            else:
                self._oom_ids.discard(container)
                return
            if self._runs(client, container):
                raise EngineError(Fault.REFUSED, f"worker {worker_id} still runs and is not removed; stop it first")
            threading.Event().wait(_PAUSE_S)
        raise EngineError(Fault.REFUSED, f"worker {worker_id} could not be removed: Docker is still busy with it")

    def _runs(self, client: APIClient, container: str) -> bool:
        try:
            return bool(client.inspect_container(container)["State"].get("Running"))
        except NotFound:
            return False

    def _evidence(self, client: APIClient, event: dict[str, Any]) -> Exit | None:
        """The exit behind a `die` event; None when the container runs again already."""
        container = event["Actor"]["ID"]
        try:
            seen = self._look(client, container)
        except (DockerException, RequestException) as error:
            _LOG.debug("no evidence of %s: %s", container[:12], error)
            return None
        return read_die_event(event, self._now()) if seen is None else seen.exit
