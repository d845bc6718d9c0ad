"""Two concurrent creates with credit for one, again and again: exactly one must pass, on disk as well.

    python -m tests.bench.creates --rounds 1000

Real controller and SQLite ledger, virtual workers. Prints how many rounds of how many were right.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from orchestrator.assets import load_models, load_price_book
from orchestrator.clock import system_now
from orchestrator.contract.command import Accepted, CreateAccount, CreateEndpoint, DeleteEndpoint, RefusalCode, TopUp
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.controller.loop import Controller
from orchestrator.core.events import Booted
from orchestrator.core.observe import Surroundings
from orchestrator.core.pricing import always
from orchestrator.core.routing import RoutingTable
from orchestrator.core.state import Rules, State
from orchestrator.engine.virtual import VirtualEngine
from orchestrator.ledger.store import SqliteLedger
from tests.core.world import gpus
from tests.e2e.host import new_id
from tests.ledger.memory import MEMORY

PRICE_OF_A_DAY_U = 64_080_000
ROUNDS_PER_LEDGER = 90
"""Each round has an account of its own; a ledger takes a hundred."""


@asynccontextmanager
async def controller_over(file: Path) -> AsyncIterator[Controller]:
    """A controller that ticks, over a ledger in `file`."""
    now = system_now()
    ledger = SqliteLedger(file, now)
    saved = await asyncio.wrap_future(ledger.load())
    engine = VirtualEngine(saved.instance, now)
    rules = Rules(
        instance=saved.instance, boot_id="boot", models=load_models(None), prices=always(load_price_book("2025-seed"))
    )
    facts = Surroundings(0, 1, "0", str(file.parent), "http://127.0.0.1:1", {}, {}, {})
    controller = Controller(
        State(rules=rules), engine=engine, ledger=ledger, table=RoutingTable(), now=now, facts=facts
    )
    await controller.boot(Booted(saved, (), await engine.probe(), gpus("L40:8")))
    running = asyncio.create_task(controller.run())
    try:
        yield controller
    finally:
        controller.left.set()
        await running
        await controller.close()
        ledger.close()


async def one_round(controller: Controller, file: Path, number: int) -> bool:
    """True if one of two passed, the other was refused for credit, and the ledger holds one endpoint of the two."""
    account = f"a{number}"
    await controller.submit(CreateAccount(id=new_id(), name=account))
    await controller.submit(TopUp(id=new_id(), account=account, amount_u=PRICE_OF_A_DAY_U))
    slugs = [f"{side}{number}" for side in ("left", "right")]
    specs = [
        EndpointSpec(slug=slug, model="echo", gpu_type="L40", account=account, baseline=1, maximum=1) for slug in slugs
    ]
    answers = await asyncio.gather(*(controller.submit(CreateEndpoint(id=new_id(), spec=spec)) for spec in specs))
    passed = [slug for slug, answer in zip(slugs, answers, strict=True) if isinstance(answer, Accepted)]
    refused = [answer.code for answer in answers if not isinstance(answer, Accepted)]
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as reader:
        held = [slug for (slug,) in reader.execute("SELECT slug FROM endpoint WHERE account = ?", (account,))]
    for slug in passed:
        await controller.submit(DeleteEndpoint(id=new_id(), slug=slug))
    return len(passed) == 1 and refused == [RefusalCode.CREDIT] and held == passed


async def race(rounds: int, directory: Path) -> int:
    """How many of `rounds` were right."""
    right = 0
    for first in range(0, rounds, ROUNDS_PER_LEDGER):
        file = directory / f"{first}.db"
        async with controller_over(file) as controller:
            for number in range(first, min(rounds, first + ROUNDS_PER_LEDGER)):
                right += await one_round(controller, file, number)
    return right


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.creates", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1_000)
    rounds = parser.parse_args().rounds
    directory = Path(tempfile.mkdtemp(prefix="gpudeck-creates-", dir=MEMORY))
    right = asyncio.run(race(rounds, directory))
    shutil.rmtree(directory)
    sys.stdout.write(f"{right}/{rounds}\n")
    return 0 if right == rounds else 1


if __name__ == "__main__":
    sys.exit(main())
