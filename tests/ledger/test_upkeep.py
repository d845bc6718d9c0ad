"""History and backups in a real orchestrator: requests stand beside the money they caused, also after a restart."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.contract.accounting import BackupMade, Statement
from orchestrator.contract.history import History
from orchestrator.contract.query import AskBackup, AskHistory, AskStatement, Query, Unanswered
from orchestrator.controller.upkeep import BACKUP_PERIOD_NS, Upkeep
from orchestrator.core.history import MINUTE_NS
from orchestrator.core.routing import RoutingTable
from orchestrator.core.state import State
from orchestrator.ledger import backups, opening
from orchestrator.ledger.metrics import MetricsStore
from tests.core.world import World
from tests.e2e.host import Host
from tests.ledger.samples import T0, Wall, account, opened
from tests.waiting import until


@pytest.fixture
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    async with Host(tmp_path_factory.mktemp("h"), "process", "L40:1").running() as running:
        yield running


async def ask(host: Host, query: Query) -> object:
    assert host.client is not None
    return await host.client.ask(query)


async def test_requests_stand_beside_the_money_they_caused(host: Host) -> None:
    await host.create("1-1")
    await host.until_ready(1)
    async with host.http() as http:
        for _ in range(6):
            assert (await http.post("/v1/echo", json={})).status_code == 200
    since_ns = (await host.snapshot()).started_at_ns
    assert await host.terminate() == 0
    await host.start()
    statement = await ask(host, AskStatement())
    assert isinstance(statement, Statement)
    assert [(line.label, line.requests) for line in statement.lines] == [("w1", 6)]
    until_ns = (await host.snapshot()).taken_at_ns
    history = await ask(host, AskHistory(slug="echo", since_ns=since_ns, until_ns=until_ns))
    assert isinstance(history, History)
    assert (history.total.requests, history.step_s) == (6, 60)
    assert history.total.p50_us is not None
    assert history.total.p50_us > 0
    [line] = statement.lines
    assert line.amount_u <= sum(point.amount_u for point in history.spent) <= line.amount_u + line.rate_uh // 60
    empty = await ask(host, AskHistory(slug="echo", since_ns=until_ns, until_ns=since_ns))
    assert isinstance(empty, Unanswered)
    assert empty.message == "until_ns: must be later than since_ns"
    made = await ask(host, AskBackup())
    assert isinstance(made, BackupMade)
    assert backups.examine(Path(made.path)).head == made.head > 0
    directory = backups.backups_of(host.places.ledger_file)
    assert len(backups.list_backups(directory)) >= 2, "each start makes one"


def tick(upkeep: Upkeep, now_ns: int, state: State) -> None:
    upkeep.tick(now_ns, RoutingTable(), {}, state)


async def test_a_backup_at_start_and_each_day(tmp_path: Path) -> None:
    state, wall = World().state, Wall()
    metrics = MetricsStore(tmp_path / "metrics.db", wall)
    with opened(tmp_path / "ledger.db", wall) as ledger:
        ledger.write(account()).result()
        upkeep = Upkeep(metrics, ledger, T0, pytest.fail)
        directory = backups.backups_of(ledger.path)
        for count, at_ns in enumerate((T0, T0 + BACKUP_PERIOD_NS, T0 + 2 * BACKUP_PERIOD_NS), 1):
            wall.ns = at_ns
            tick(upkeep, at_ns, state)
            await until(lambda: upkeep._backing_up is None)
            tick(upkeep, at_ns + MINUTE_NS, state)
            assert upkeep._backing_up is None
            assert len(backups.list_backups(directory)) == count
        await upkeep.close()
    metrics.close()


async def test_damage_found_by_a_backup_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "QUICK_CHECK_BYTES", 0)
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write(account()).result()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'event'").fetchone()
    with (tmp_path / "ledger.db").open("r+b") as file:
        file.seek((page - 1) * 4_096)
        file.write(b"\xff" * 4_096)
    found: list[str] = []
    metrics = MetricsStore(tmp_path / "metrics.db", Wall())
    with opened(tmp_path / "ledger.db") as ledger:
        upkeep = Upkeep(metrics, ledger, T0, found.append)
        tick(upkeep, T0, World().state)
        await until(lambda: bool(found))
        await upkeep.close()
    metrics.close()
    assert "malformed" in found[0] or "corrupt" in found[0]


async def test_minutes_wait_for_a_disk_that_takes_them(tmp_path: Path) -> None:
    """The history's file cannot be opened for three minutes: nothing is lost, nothing raises."""
    world = World()
    world.create("echo", "1-1")
    world.until(lambda: world.ready() == 1)
    route = world.table.routes["echo"]
    metrics = MetricsStore(tmp_path / "metrics.db", Wall())
    (tmp_path / "metrics.db").mkdir()
    with opened(tmp_path / "ledger.db") as ledger:
        upkeep = Upkeep(metrics, ledger, T0, pytest.fail)
        upkeep._backup_due_ns = T0 + BACKUP_PERIOD_NS
        for number in range(4):
            route.meter.record(T0 + number, total_ns=5, queue_ns=1, failed=False)
            upkeep.tick(T0 + number * MINUTE_NS, world.table, world.routes.lanes_seen(), world.state)
            await until(lambda: upkeep._adding is None)
        assert len(upkeep._waiting) == 3
        (tmp_path / "metrics.db").rmdir()
        await upkeep.close()
    found = await asyncio.wrap_future(metrics.history("echo", T0 - MINUTE_NS, T0 + 5 * MINUTE_NS, 60))
    metrics.close()
    assert found.total.requests == 4
