"""Constructs a lab and serves it (`python -m orchestrator.lab`): what wiring.py is for the live orchestrator."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import deque
from concurrent.futures import Future
from typing import Final

from orchestrator.assets import load_models, load_price_book
from orchestrator.contract.base import DOLLAR_U, PROTOCOL_VERSION
from orchestrator.contract.command import CreateEndpoint, Shutdown, TopUp
from orchestrator.contract.endpoint import Auto, EndpointSpec
from orchestrator.contract.frames import Answer, Hello
from orchestrator.contract.lab import MARK, SPEEDS
from orchestrator.contract.places import Places
from orchestrator.contract.query import Query
from orchestrator.control.server import ControlServer
from orchestrator.controller.desk import FrontDesk
from orchestrator.controller.upkeep import Upkeep
from orchestrator.core.observe import Surroundings
from orchestrator.core.pricing import PriceBook, always
from orchestrator.core.state import Rules
from orchestrator.core.writes import Write
from orchestrator.lab.owner import Lab, LabDeck
from orchestrator.ledger.metrics import MetricsStore
from orchestrator.ledger.store import SqliteLedger
from orchestrator.lock import DirectoryLock
from orchestrator.settings import SettingsError
from orchestrator.simulator.deck import START_NS
from orchestrator.simulator.host import gpu_views
from orchestrator.simulator.setup import ColdStarts
from orchestrator.wiring import log_to, version

log = logging.getLogger(__name__)

SEED_BOOK: Final = "2025-seed"
DEFAULT_GPUS: Final = "L40:6,H100:2"
DEMO: Final = EndpointSpec(
    slug="demo", model="sketch", gpu_type="L40", baseline=1, maximum=3, concurrency=1, policy=Auto(),
)  # fmt: skip
COLD_S: Final = 30.0
CREDIT_U: Final = 400 * DOLLAR_U
"""With the welcome credit it lasts the demo endpoint for most of a day: then come the warning and the shut-off."""


def book(name: str, places: Places) -> PriceBook:
    """The book that `name` names, under a name that says what it is used for. Raises AssetError."""
    plain = name.removeprefix(f"{MARK}-")
    return load_price_book(plain, places.prices_dir).model_copy(update={"name": f"{MARK}-{plain}"})


class LabDesk(FrontDesk):
    """Says with every answer about money that it is not real."""

    async def answer(self, query: Query) -> Answer:
        answer = await super().answer(query)
        marked = "simulated" in type(answer).model_fields
        return answer.model_copy(update={"simulated": True}) if marked else answer


def claim(places: Places) -> None:
    """Make the home one of a lab. Raises SettingsError if something real was kept there."""
    if places.ledger_file.exists():
        raise SettingsError(f"GPUDECK_HOME: {places.data} holds a ledger; a lab needs a home of its own, and empty")
    places.simulated_file.write_text("Everything here was made by a lab: no worker ran and nobody owes anything.\n")


async def serve_lab(places: Places, *, gpus: str, speed: int, seed: int) -> None:
    """Run until told to stop. Raises Locked, SettingsError, AssetError, LedgerError before serving."""
    if not SPEEDS[0] <= speed <= SPEEDS[-1]:
        raise SettingsError(f"--speed: give {SPEEDS[0]} to {SPEEDS[-1]}, not {speed}")
    for directory in (places.config, places.data, places.state, places.runtime):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = DirectoryLock(places.lock_file)
    try:
        claim(places)
        log_to(places.log_file, "info")
        await _serve(places, gpus, speed, seed)
    finally:
        lock.release()


async def _serve(places: Places, gpus: str, speed: int, seed: int) -> None:
    decks: list[LabDeck] = []

    def now() -> int:
        return decks[0].now_ns if decks else START_NS

    ledger, metrics = SqliteLedger(places.ledger_file, now), MetricsStore(places.metrics_file, now)
    try:
        saved = await asyncio.wrap_future(ledger.load())
        unwritten: deque[Future[None]] = deque()

        def write(writes: tuple[Write, ...]) -> None:
            unwritten.append(ledger.write(writes))

        rules = Rules(
            instance=saved.instance,
            boot_id=MARK.lower(),
            models=load_models(places.models_dir),
            prices=always(book(SEED_BOOK, places)),
            faults=True,
        )
        deck = LabDeck(gpu_views(gpus), rules, ColdStarts(COLD_S, seed), write)
        decks.append(deck)
        facts = Surroundings(0, os.getpid(), version(), str(places.data), f"{MARK.lower()}:", {}, {}, {})
        lab = Lab(deck, facts, unwritten, speed=speed, seed=seed)
        deck.upkeep = Upkeep(metrics, ledger, deck.now_ns, log.error)
        deck.decided = lambda effect: deck.upkeep.decided(effect.entry) if deck.upkeep is not None else None
        await lab.submit(TopUp(id="lab-first-credit", account=DEMO.account, amount_u=CREDIT_U, memo="credit for a day"))
        await lab.submit(CreateEndpoint(id="lab-demo-endpoint", spec=DEMO))
        desk = LabDesk(lab, ledger, now, metrics=metrics, books=lambda name: book(name, places))
        hello = Hello(protocol=PROTOCOL_VERSION, version=version(), pid=os.getpid(), instance=saved.instance)
        control = ControlServer(desk, hello)
        await control.start(places.socket_file)
        _stop_on_signals(lab)
        try:
            await lab.run()
        finally:
            await deck.upkeep.close()
            await control.close()
    finally:
        ledger.close()
        metrics.close()


def _stop_on_signals(lab: Lab) -> None:
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[object]] = []

    def stop() -> None:
        stopping.append(loop.create_task(lab.submit(Shutdown(id="signal-to-stop", mode="drain"))))

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
