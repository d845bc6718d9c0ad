"""The day of DESIGN.md ("A day, by hand"): an L40 endpoint 1-2, computed on paper, run by the core, kept by the ledger.

baseline worker      24 h x $2.67/h    = $64.080000
burst worker      1,200 s x $0.00424/s =  $5.088000
together                                 $69.168000
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.assets import load_price_book
from orchestrator.contract.base import HOUR_NS, SECOND_NS
from orchestrator.contract.query import Bill
from orchestrator.contract.snapshot import Tier
from orchestrator.core import effects as fx
from orchestrator.core.billing import due_u
from orchestrator.core.writes import AccountOpened, CommandDone, CreditAdded, Write
from tests.core.world import START_NS, World
from tests.ledger.samples import L40_AUTO_UH, L40_UH, Wall, opened

DAY_NS = 24 * HOUR_NS
CREDIT_U = 10_000_000_000
BASELINE_DAY_U = 64_080_000
BURST_S, BURST_U = 1_200, 5_088_000


def a_day() -> World:
    """24 hours of the baseline worker in virtual time. At six o'clock a second request starts a second worker, which is
    ended 1,200 s after its container started."""
    world = World("L40:2", credit_u=CREDIT_U)
    world.create("echo", "1-2", execution_timeout_s=3_600)
    world.until(lambda: world.ready() == 1)
    (baseline,) = world.workers()
    assert baseline.started_ns is not None
    world.tick_s = 20.0  # a day of quarter seconds only takes longer: no amount depends on it
    world.watchful = False  # nor lists of an engine that tells everything
    world.advance((baseline.started_ns + 6 * HOUR_NS - world.now_ns) / SECOND_NS)
    for _ in range(2):
        world.request(service_s=BURST_S * 2)
    world.until(lambda: world.ready() == 2)
    (burst,) = [worker for worker in world.workers() if worker.id != baseline.id]
    assert burst.started_ns is not None
    world.advance((burst.started_ns + BURST_S * SECOND_NS - world.now_ns) / SECOND_NS)
    world.kill(burst.id)
    world.advance((baseline.started_ns + DAY_NS - world.now_ns) / SECOND_NS)
    assert world.now_ns == baseline.started_ns + DAY_NS
    return world


def kept(world: World, path: Path) -> Bill:
    """The bill of the real ledger, given everything that the core wrote but its answers to commands."""
    with opened(path, Wall(world.now_ns)) as ledger:
        ledger.write(
            (AccountOpened("local", START_NS), CreditAdded("local", CREDIT_U, "credit", "", START_NS))
        ).result()
        batches = [effect.writes for effect in world.effects if isinstance(effect, fx.Persist)]
        for first in range(0, len(batches), 500):
            writes: list[Write] = [
                write for batch in batches[first : first + 500] for write in batch if not isinstance(write, CommandDone)
            ]
            ledger.write(writes).result()
        verification = ledger.verify(load_price_book).result()
        assert (verification.problems, verification.notes, verification.drift_u) == ((), (), 0)
        statement = ledger.statement("local", None, world.now_ns).result()
        assert statement.reconciles
        bill = ledger.bill("local", None, world.now_ns).result()
        assert statement.charged_u == bill.total_u
        assert bill.balance_u == CREDIT_U - bill.total_u
        return bill


def test_the_paper() -> None:
    assert due_u(L40_UH, DAY_NS) == BASELINE_DAY_U == 24 * 2_670_000
    assert due_u(L40_AUTO_UH, BURST_S * SECOND_NS) == BURST_U == BURST_S * 4_240


def test_with_a_burst_of_twenty_minutes_it_costs_69_168(tmp_path: Path) -> None:
    bill = kept(a_day(), tmp_path / "ledger.db")
    assert bill.total_u == BASELINE_DAY_U + BURST_U == 69_168_000
    assert [(line.tier, line.amount_u, line.seconds) for line in bill.lines] == [
        (Tier.BASELINE, BASELINE_DAY_U, 86_400.0),
        (Tier.AUTOSCALE, BURST_U, float(BURST_S)),
    ]
