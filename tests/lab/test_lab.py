"""The lab: time at a chosen speed, everything marked, nothing real touched."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from app.present.recovery import Recovery, follow
from orchestrator.assets import load_models
from orchestrator.contract.accounting import Statement
from orchestrator.contract.base import HOUR_NS, SECOND_NS
from orchestrator.contract.command import Accepted, CreateEndpoint, CreateKey, Refused, Shutdown
from orchestrator.contract.ended import AskEnded, EndedWorkers
from orchestrator.contract.faults import FaultKind, InjectFault
from orchestrator.contract.lab import SetSpeed
from orchestrator.contract.places import HOME_VARIABLE, Places, places
from orchestrator.contract.query import AskBill, AskStatement, AskVerify, Bill, Unanswered, Verification
from orchestrator.core.observe import Surroundings
from orchestrator.core.pricing import always
from orchestrator.core.state import Rules
from orchestrator.core.writes import CreditAdded, IntervalOpened, Write
from orchestrator.lab import owner
from orchestrator.lab.owner import Lab, LabDeck
from orchestrator.lab.program import DEMO, LabDesk, book, claim
from orchestrator.ledger.store import SqliteLedger
from orchestrator.settings import SettingsError
from orchestrator.simulator.deck import START_NS
from orchestrator.simulator.host import gpu_views
from orchestrator.simulator.setup import ColdStarts
from tests.core.world import World

FACTS = Surroundings(0, 1, "0", "/home", "simulated:", {}, {}, {})


def home(directory: Path) -> Places:
    found = places({HOME_VARIABLE: str(directory)})
    for each in (found.config, found.data, found.state, found.runtime):
        each.mkdir(parents=True, exist_ok=True)
    return found


def stopwatch() -> float:
    """A machine that is fast enough for anything."""
    return 0.0


class Rig:
    """A lab over a ledger of its own, without a socket."""

    def __init__(self, where: Places) -> None:
        self.where = where
        self.written: list[Write] = []
        self.unwritten: deque[Future[None]] = deque()
        self.deck: LabDeck | None = None
        self.ledger = SqliteLedger(where.ledger_file, lambda: self.deck.now_ns if self.deck else START_NS)
        rules = Rules(
            instance="f" * 32, boot_id="lab", models=load_models(None), prices=always(book("2025-seed", where))
        )
        self.deck = LabDeck(gpu_views("L40:4"), rules, ColdStarts(10.0), self._write)
        self.lab = Lab(self.deck, FACTS, self.unwritten, speed=60, seed=0)
        self.desk = LabDesk(self.lab, self.ledger, lambda: self.lab.deck.now_ns, books=lambda name: book(name, where))

    def _write(self, writes: tuple[Write, ...]) -> None:
        self.written += writes
        self.unwritten.append(self.ledger.write(writes))

    async def create(self) -> None:
        outcome = await self.lab.submit(CreateEndpoint(id="create-the-demo", spec=DEMO))
        assert isinstance(outcome, Accepted)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(home(tmp_path))
    yield made
    made.ledger.close()


async def test_time_runs_at_the_chosen_speed(rig: Rig) -> None:
    rig.lab.advance(1.0, stopwatch)
    assert rig.lab.deck.now_ns == START_NS + 60 * SECOND_NS
    assert isinstance(await rig.lab.submit(SetSpeed(id="set-speed-1", speed=600)), Accepted)
    rig.lab.advance(0.5, stopwatch)
    assert rig.lab.deck.now_ns == START_NS + 360 * SECOND_NS
    view = rig.lab.snapshot()
    assert view.lab is not None
    assert (view.lab.speed, view.taken_at_ns) == (600, START_NS + 360 * SECOND_NS)


async def test_a_machine_that_is_too_slow_lets_time_fall_behind_and_loses_nothing(rig: Rig) -> None:
    await rig.create()
    ticking = iter(range(10_000))
    rig.lab.speed = 600
    rig.lab.advance(1.0, lambda: float(next(ticking)) / 1_000)
    behind_ns = rig.lab.deck.now_ns
    assert START_NS < behind_ns < START_NS + 600 * SECOND_NS
    rig.lab.advance(1.0, stopwatch)
    assert rig.lab.deck.now_ns == behind_ns + 600 * SECOND_NS


async def test_a_day_of_scaling_the_warning_and_the_shut_off(rig: Rig) -> None:
    """With the welcome credit alone it takes five hours; the calls come by themselves."""
    await rig.create()
    rig.lab.speed = 600
    rig.lab.deck.tick_s = 20.0  # the dashboard's lanes want one a second; nothing else does
    most = 0
    for _ in range(40):
        rig.lab.advance(60.0, stopwatch)
        most = max(most, len(rig.lab.state.workers))
        if rig.lab.state.accounts["local"].suspended and not rig.lab.state.workers:
            break
        for write in list(rig.unwritten):
            write.result()
    texts = [event.text for event in rig.lab.state.events]
    assert most > 1
    assert any("credit lasts" in text for text in texts)
    assert any("is below $10.00" in text for text in texts)
    assert START_NS + 2 * HOUR_NS < rig.lab.deck.now_ns < START_NS + 30 * HOUR_NS
    bill = await rig.desk.answer(AskBill(account="local"))
    assert isinstance(bill, Bill)
    assert bill.simulated
    assert 9_000_000 < bill.balance_u < 10_000_000
    ended = await rig.desk.answer(AskEnded(slug="demo", limit=200))
    assert isinstance(ended, EndedWorkers)
    assert ended.total == len(ended.workers) > most
    assert sum(worker.amount_u for worker in ended.workers) == bill.total_u, "everything has stopped"
    assert isinstance(await rig.desk.answer(AskEnded(slug="nobody")), Unanswered)
    verified = await rig.desk.answer(AskVerify())
    assert isinstance(verified, Verification)
    assert (verified.ok, verified.problems) == (True, ())


async def test_everything_that_is_written_says_that_it_is_simulated(rig: Rig) -> None:
    await rig.create()
    rig.lab.advance(10.0, stopwatch)
    assert {w.price_book for w in rig.written if isinstance(w, IntervalOpened)} == {"SIMULATED-2025-seed"}
    assert all(w.memo.startswith("SIMULATED ") for w in rig.written if isinstance(w, CreditAdded))
    assert rig.lab.snapshot().price_book == "SIMULATED-2025-seed"
    statement = await rig.desk.answer(AskStatement(account="local"))
    assert isinstance(statement, Statement)
    assert statement.simulated
    assert statement.topups[0].memo == "SIMULATED welcome credit"
    [worker_id] = list(rig.lab.state.workers)[:1]
    assert (await rig.lab.logs(worker_id, 10))[0].startswith("SIMULATED")


async def test_what_a_lab_has_not_is_refused(rig: Rig) -> None:
    outcome = await rig.lab.submit(CreateKey(id="create-a-key", name="mine"))
    assert isinstance(outcome, Refused)
    assert "no gateway" in outcome.message
    with pytest.raises(KeyError):
        await rig.lab.logs("nobody-1", 10)


@pytest.mark.parametrize("kind", list(FaultKind))
async def test_a_fault_is_done_and_heals_in_virtual_time(rig: Rig, kind: FaultKind) -> None:
    deck = rig.lab.deck
    deck.state = replace(deck.state, rules=replace(deck.state.rules, faults=True))
    await rig.create()
    rig.lab.advance(2.0, stopwatch)
    told: tuple[Recovery, ...] = ()
    begun_ns = deck.now_ns
    outcome = await rig.lab.submit(InjectFault(id=f"fault-{kind}", slug=DEMO.slug, fault=kind))
    assert isinstance(outcome, Accepted)
    while not told or not told[0].over:
        rig.lab.advance(0.01, stopwatch)
        told = follow(told, rig.lab.snapshot(), DEMO.slug, 0)
        assert deck.now_ns - begun_ns < 200 * SECOND_NS, told
    [one] = told
    assert one.fault is kind
    assert None not in [step.at_ns for step in one.steps]
    assert one.ready_ns is not None
    if kind is FaultKind.SLOW_START:
        assert one.ready_ns - one.at_ns > 25 * SECOND_NS, "ten seconds of cold start, and fifteen of standing still"


async def test_a_lab_that_nobody_looks_at_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its front end was killed: nobody else would ever stop it."""
    await rig.create()
    monkeypatch.setattr(owner, "ABANDONED_S", 0.3)
    await asyncio.wait_for(rig.lab.run(), 20)
    assert not rig.lab.state.workers


async def test_stopping_closes_every_interval_at_once(rig: Rig) -> None:
    await rig.create()
    rig.lab.advance(10.0, stopwatch)
    assert rig.lab.state.intervals
    assert isinstance(await rig.lab.submit(Shutdown(id="shut-it-down", mode="leave")), Accepted)
    await asyncio.wait_for(rig.lab.left.wait(), 5)
    assert not rig.lab.state.workers
    assert rig.lab.deck.ledger.opened.keys() == rig.lab.deck.ledger.closed.keys()


def test_a_real_orchestrator_has_no_speed() -> None:
    refused = World().refused(SetSpeed(id="set-speed-1", speed=60))
    assert "only a lab has a clock to set" in refused.message


def test_a_home_with_a_ledger_is_none_for_a_lab(tmp_path: Path) -> None:
    where = home(tmp_path)
    SqliteLedger(where.ledger_file, lambda: START_NS).close()
    before = where.ledger_file.read_bytes()
    with pytest.raises(SettingsError, match="holds a ledger; a lab needs a home of its own"):
        claim(where)
    assert not where.simulated_file.exists()
    assert where.ledger_file.read_bytes() == before


@pytest.mark.parametrize(("module", "arguments"), [("orchestrator", ["serve", "--port", "0", "--gpus", "L40:1"])])
def test_a_lab_s_home_is_none_for_a_real_orchestrator(tmp_path: Path, module: str, arguments: list[str]) -> None:
    claim(home(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], env={**os.environ, HOME_VARIABLE: str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 78
    assert "was made by a lab" in done.stderr
    assert not places({HOME_VARIABLE: str(tmp_path)}).ledger_file.exists()


def test_a_speed_beyond_the_limits_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.lab", "--speed", "601"],
        env={**os.environ, HOME_VARIABLE: str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 78
    assert "--speed: give 1 to 600, not 601" in done.stderr
