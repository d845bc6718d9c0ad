"""The composition root of the live orchestrator: constructs engine, ledger, probe, gateway and control server, and
closes them in order. A lab has one of its own (lab/program.py)."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import signal
import threading
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType

from orchestrator.assets import load_models, load_price_book, load_price_schedule
from orchestrator.clock import Now, continued_now, system_now
from orchestrator.contract.base import PROTOCOL_VERSION, SECOND_NS
from orchestrator.contract.command import Shutdown
from orchestrator.contract.frames import Hello
from orchestrator.contract.places import Places
from orchestrator.contract.snapshot import EngineKind, GpuView
from orchestrator.control.desk import Desk
from orchestrator.control.server import ControlServer
from orchestrator.controller.desk import FrontDesk
from orchestrator.controller.loop import Controller, list_observed
from orchestrator.core.events import Booted, GpusSampled
from orchestrator.core.observe import Surroundings
from orchestrator.core.pricing import PriceBook
from orchestrator.core.recovery import earliest_ns
from orchestrator.core.routing import RoutingTable
from orchestrator.core.scaling import Memory
from orchestrator.core.state import Rules, State
from orchestrator.crash import point
from orchestrator.deferred.courier import Courier
from orchestrator.deferred.desk import DeferredDesk
from orchestrator.deferred.front import DeferredFront
from orchestrator.deferred.rules import Bounds
from orchestrator.deferred.store import DeferredStore
from orchestrator.deferred.webhook import Allowance, read_allowance
from orchestrator.engine.ports import WorkerEngine
from orchestrator.engine.process_engine import ProcessEngine
from orchestrator.gateway.limits import access_of, limits_of
from orchestrator.gateway.server import Gateway
from orchestrator.gpu.declared import DeclaredProbe, parse_declaration
from orchestrator.gpu.nvml import NvmlProbe
from orchestrator.gpu.owners import worker_of
from orchestrator.gpu.ports import GpuProbe, GpuSample
from orchestrator.gpu.view import view_of
from orchestrator.ledger.metrics import MetricsStore
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.store import SqliteLedger
from orchestrator.lock import DirectoryLock
from orchestrator.mail.postman import Postman
from orchestrator.mail.server import server_of
from orchestrator.serving import settle_heap
from orchestrator.settings import Settings, SettingsError
from orchestrator.telemetry.metrics import Backlog, Doors, Metrics
from orchestrator.telemetry.watch import Recording, Watch

log = logging.getLogger(__name__)

DEFAULT_DECLARATION = "L40:3,H100:1"
"""What a host without NVML pretends to have when nothing is declared. Marked SIMULATED wherever it shows."""
FIRST_SAMPLE_TIMEOUT_S = 30.0
"""Initialising NVML takes many seconds on a host without persistence mode; a host without a driver says so at once."""
LOG_BYTES_MAX = 5 * 1024 * 1024


def version() -> str:
    """The installed version of gpudeck."""
    return importlib.metadata.version("gpudeck")


async def serve(settings: Settings, places: Places) -> None:
    """Run until told to stop. Raises Locked, SettingsError, AssetError, LedgerError, ListenError before serving."""
    for directory in (places.config, places.data, places.state, places.runtime, places.workers_dir):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = DirectoryLock(places.lock_file)
    try:
        if places.simulated_file.exists():
            raise SettingsError(f"GPUDECK_HOME: {places.data} was made by a lab; nothing real may be kept beside that")
        log_to(places.log_file, settings.log_level)
        await _Host(settings, places, system_now()).run()
    finally:
        lock.release()


@dataclass
class _Host:
    """Everything that is constructed for one run, opened and closed in order."""

    settings: Settings
    places: Places
    now: Now

    async def run(self) -> None:
        allowance_of(self.settings)  # first: a setting that cannot be used must not end a start half-way
        recording = Recording(self.settings, self.places.access_log_file, lambda: self.now(), version())
        models = load_models(self.places.models_dir)
        periods = [(period.book, period.start_ns) for period in self.settings.price_book]
        prices = load_price_schedule(periods, self.places.prices_dir)
        ledger = SqliteLedger(self.places.ledger_file, self.now)
        metrics = MetricsStore(self.places.metrics_file, self.now)
        store = DeferredStore(self.places.deferred_file, lambda: self.now())
        gpus = GpuFeed(self.settings, self.now, prices.gpu_types())
        try:
            saved = await asyncio.wrap_future(ledger.load())
            point("boot.loaded")
            self.now = continued_now(self.places.clock_file, boot_id(), earliest_ns(saved))
            engine = await choose_engine(self.settings, self.places, saved.instance, self.now)
            rules = Rules(
                instance=saved.instance,
                boot_id=boot_id(),
                models=models,
                prices=prices,
                workers_max=self.settings.workers_max,
                shutdown_grace_s=self.settings.shutdown_grace_s,
                mails=self.settings.smtp_host is not None,
                faults=self.settings.faults,
            )
            table = RoutingTable(restoring=True)
            gateway = Gateway(table, self.now, limits_of(self.settings, self.places.data), access_of(self.settings))
            recording.attach(gateway.hub)
            await gateway.start(self.settings.host, self.settings.port)
            controller = Controller(
                State(rules=rules),
                engine=engine,
                ledger=ledger,
                table=table,
                now=self.now,
                facts=self._facts(gateway.port),
                metrics=metrics,
                post=lambda effect: postman.post(effect) if postman is not None else None,
                decided=lambda entry: exposed.decided(entry),
                drop_gpus=gpus.drop,
            )
            deferred = self._deferred(store, gateway)
            exposed = _exposed(controller, table, gateway, deferred)
            postman = self._postman(controller, saved.instance)
            first = await gpus.open(controller)
            observed, view = await list_observed(engine), await engine.probe()
            booted = Booted(saved, observed, view, first, await learned(metrics))
            point("boot.listed")
            await controller.boot(booted)
            table.restoring = False
            point("boot.adopted")
            settle_heap()
            desk = FrontDesk(controller, ledger, self.now, metrics=metrics, books=self._book)
            watch = Watch(exposed, lambda: controller.state, self.now)
            front = DeferredFront(desk, deferred, lambda: controller.state.accounts)
            await self._serve(controller, front, gateway, deferred, watch, saved.instance, postman)
        finally:
            await recording.close()
            gpus.close()
            store.close()
            ledger.close()
            metrics.close()

    def _deferred(self, store: DeferredStore, gateway: Gateway) -> DeferredDesk:
        allowance = allowance_of(self.settings)
        courier = Courier(store, self.now, self.places.webhook_key_file, allowance)
        bounds = Bounds(requests=self.settings.deferred_requests_max, bytes=self.settings.deferred_bytes_max)
        return DeferredDesk(store, gateway.hub, courier, bounds, allowance)

    def _postman(self, controller: Controller, instance: str) -> Postman | None:
        server = server_of(self.settings)
        if server is None:
            return None
        assert self.settings.mail_from is not None, "the settings demand it with smtp_host"
        return Postman(
            server,
            controller.emit,
            sender=self.settings.mail_from,
            operator=self.settings.mail_to,
            instance=instance,
        )

    async def _serve(
        self,
        controller: Controller,
        desk: Desk,
        gateway: Gateway,
        deferred: DeferredDesk,
        watch: Watch,
        instance: str,
        postman: Postman | None,
    ) -> None:
        hello = Hello(protocol=PROTOCOL_VERSION, version=version(), pid=os.getpid(), instance=instance)
        control = ControlServer(desk, hello)
        await control.start(self.places.socket_file)
        point("boot.serving")
        stopping = StopSignals(desk, self.settings, self.now)
        stopping.install()
        log.info("serving on port %d with the %s engine", gateway.port, controller.engine.kind)
        try:
            await watch.start(self.settings.metrics_port)
            await deferred.start()
            await controller.run()
            grace_s = float(self.settings.shutdown_grace_s)
            await gateway.drain(grace_s, asyncio.ensure_future(deferred.drain(grace_s)))
        finally:
            await watch.close()
            await deferred.close()
            await gateway.close()
            if postman is not None:
                await postman.close()  # first: what it reports last is still written
            await controller.close()
            await control.close()
        log.info("stopped")

    def _book(self, name: str) -> PriceBook:
        return load_price_book(name, self.places.prices_dir)

    def _facts(self, port: int) -> Surroundings:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return Surroundings(
            seq=0,
            pid=os.getpid(),
            version=version(),
            home=str(self.places.data),
            gateway_url=f"http://{host}:{port}",
            lanes={},
            traffic={},
            queued_series={},
        )


def _exposed(controller: Controller, table: RoutingTable, gateway: Gateway, deferred: DeferredDesk) -> Metrics:
    """What Prometheus is told, from those who know it."""
    hub = gateway.hub
    return Metrics(
        controller.snapshot,
        table,
        lambda: Backlog(deferred.stock.requests, deferred.stock.bytes, deferred.courier.owed),
        lambda: Doors(gateway.connections, gateway.worker_connections, hub.refused),
    )


def allowance_of(settings: Settings) -> Allowance:
    """Raises SettingsError."""
    try:
        return read_allowance(settings.webhook_allow)
    except ValueError as error:
        raise SettingsError(f"webhook_allow: {error}") from None


class StopSignals:
    """SIGTERM and SIGINT stop in the way the settings say; a second one ends at once, leaving workers to adoption."""

    def __init__(self, desk: Desk, settings: Settings, now: Now) -> None:
        self._desk = desk
        self._now = now
        self._mode = settings.on_exit
        self._task: asyncio.Task[object] | None = None

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        signal.signal(signal.SIGHUP, _ignore)  # a closed terminal must not stop serving

    def _stop(self) -> None:
        if self._task is not None:
            log.warning("second signal: ending at once, workers keep running")
            os._exit(130)
        command = Shutdown(id=f"signal-{self._now()}", mode=self._mode)
        self._task = asyncio.get_running_loop().create_task(self._desk.submit(command))


class GpuFeed:
    """Chooses the probe and carries its samples from its thread into the controller's loop."""

    def __init__(self, settings: Settings, now: Now, priced: tuple[str, ...]) -> None:
        self._now = now
        self._priced = priced
        self._declared = settings.gpus
        self._probe: GpuProbe | None = None
        self._first = threading.Event()
        self._newest: tuple[GpuView, ...] = ()
        self._dropped_until_ns = 0

    async def open(self, controller: Controller) -> tuple[GpuView, ...]:
        """Start sampling; returns the first sample. Without NVML the default declaration takes its place."""
        loop = asyncio.get_running_loop()

        def on_sample(samples: tuple[GpuSample, ...]) -> None:
            if self._now() < self._dropped_until_ns:
                views = tuple(view.model_copy(update={"state": "stale"}) for view in self._newest)
            else:
                views = self._newest = tuple(view_of(s, self._now(), worker_of) for s in samples)
            self._first.set()
            loop.call_soon_threadsafe(controller.emit, GpusSampled(views))

        if self._declared is None:
            self._probe = NvmlProbe(self._now, known=self._priced)
            self._probe.start(on_sample)
            if await asyncio.to_thread(self._wait_for_gpus):
                return self._newest
            log.info("no NVML GPUs (%s): declaring %s", self._probe.problem(), DEFAULT_DECLARATION)
            self._probe.close()
        self._first.clear()
        self._probe = DeclaredProbe(parse_declaration(self._declared or DEFAULT_DECLARATION), self._now)
        self._probe.start(on_sample)
        await asyncio.to_thread(self._first.wait, FIRST_SAMPLE_TIMEOUT_S)
        return self._newest

    def drop(self, seconds: float) -> None:
        """For so many seconds go on as if the driver did not answer: the last reading stands, and is called stale."""
        self._dropped_until_ns = self._now() + round(seconds * SECOND_NS)

    def close(self) -> None:
        if self._probe is not None:
            self._probe.close()

    def _wait_for_gpus(self) -> bool:
        """True with the first sample, False as soon as NVML says that there will be none."""
        for _ in range(int(FIRST_SAMPLE_TIMEOUT_S * 20)):
            if self._first.wait(0.05):
                return bool(self._newest)
            if self._probe is not None and self._probe.problem() is not None:
                return False
        return False


async def choose_engine(settings: Settings, places: Places, instance: str, now: Now) -> WorkerEngine:
    """The engine asked for; `auto` is Docker when one answers, else processes on this host."""
    process = ProcessEngine(instance, now, places.workers_dir, places.lock_file)
    if settings.engine == "process":
        return process
    # Imported here: the Docker SDK takes longer to load than everything else, and a restart must serve within 3 s.
    from orchestrator.engine.docker_engine import DockerEngine

    docker = DockerEngine(instance, now, settings.docker_host, secrets=places.secrets_dir)
    if settings.engine == "docker":
        return docker
    view = await docker.probe()
    if view.ok:
        assert view.kind is EngineKind.DOCKER
        return docker
    log.info("no Docker engine (%s): workers run as processes", view.detail)
    await docker.close()
    return process


async def learned(metrics: MetricsStore) -> dict[str, Memory]:
    """What scaling policies remembered; they are sane without it, so a file that cannot be read stops nothing."""
    try:
        return await asyncio.wrap_future(metrics.memories())
    except LedgerError as error:
        log.warning("scaling policies begin anew: %s", error)
        return {}


def boot_id() -> str:
    """Identifies this boot of the host: intervals of another one are closed at their last heartbeat."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def log_to(file: Path, level: str) -> None:
    """Send the process's log to `file`, for its owner's eyes, a few megabytes of it at most."""
    handler = RotatingFileHandler(file, maxBytes=LOG_BYTES_MAX, backupCount=2, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    file.chmod(0o600)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """SIGHUP is not for us."""
