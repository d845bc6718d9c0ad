"""Kill a real orchestrator at every crash point and at random, under load, and see that nothing is lost.

    python -m tests.bench.crash --points --random 200 --engine process

After each restart: the ledger verifies, no worker has a twin, books and engine agree. At the end: no orphan, every
worker's bill is within one heartbeat of its true life as a witness saw it, every request had one end. Prints one JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Accepted, CreateEndpoint, DeleteEndpoint, TopUp
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.query import Verification
from orchestrator.core.billing import HEARTBEAT_PERIOD_NS
from orchestrator.crash import POINTS, VARIABLE
from orchestrator.ledger.store import SqliteLedger
from tests.bench.books import compare
from tests.bench.pressure import Pressure
from tests.bench.witness import DockerWitness, ProcessWitness, Witness
from tests.e2e.host import Host, new_id

MAXIMUM = 3
REACH_S = 90.0
"""How long a point may take to be reached."""
AGREE_S = 90.0
"""Two re-list periods, and patience with a loaded machine."""


@dataclass
class Tally:
    """What came of it. `problems` says in words what must not be."""

    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    adopted: int = 0
    slowest_restart_s: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    workers: int = 0
    drift_u: int = 0
    absorbed_u: int = 0
    billed_u: int = 0
    over_ms: float = 0.0
    under_ms: float = 0.0
    twins: int = 0
    orphans: int = 0
    problems: list[str] = field(default_factory=list)


class Rig:
    """One home, its orchestrator of the moment, load, and a witness."""

    def __init__(self, home: Path, engine: str, tally: Tally, live_every: int = 1) -> None:
        self.host = Host(home, engine)
        self.tally = tally
        self._live_every = live_every
        self._deaths = 0
        self._pressure: Pressure | None = None
        self._witness: Witness | None = None
        self._serial = 0

    @property
    def pressure(self) -> Pressure:
        assert self._pressure is not None
        return self._pressure

    @property
    def witness(self) -> Witness:
        assert self._witness is not None
        return self._witness

    async def open(self) -> None:
        host = self.host
        await host.start()
        if host.engine == "docker":
            self._witness = DockerWitness((await host.snapshot()).instance)
        else:
            self._witness = ProcessWitness(host.places.workers_dir)
        await self.witness.open()
        await host.create(f"1-{MAXIMUM}", idle_timeout_s=1, policy={"kind": "request_count", "value": 1})
        await host.until_ready(1)
        self._pressure = Pressure(host.port, host.key, "echo")
        self.pressure.start()

    async def die_at(self, name: str, passage: int = 1) -> None:
        """Run with the point armed until it strikes, then restart and examine."""
        await self._stop_orchestrator()
        self.host.variables = {VARIABLE: f"{name}#{passage}"}
        try:
            await self._live_until_dead(name)
        finally:
            self.host.variables = {}
        self.tally.kills[name] += 1
        await self._examine(name)

    async def die_after(self, seconds: float, *, serving: bool) -> None:
        """SIGKILL `seconds` after a start, or after it serves again, then restart and examine."""
        await self._stop_orchestrator()
        self.host.process = self.host.spawn()
        if serving:
            await self.host.attach()
        busy = asyncio.create_task(self._exercise())
        await asyncio.sleep(seconds)
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        await self.host.kill()
        self.tally.kills["random"] += 1
        await self._examine(f"SIGKILL after {seconds:.2f} s")

    async def _live_until_dead(self, name: str) -> None:
        process = self.host.process = self.host.spawn()
        busy = asyncio.create_task(self._exercise())
        deadline = time.monotonic() + REACH_S
        while process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        if process.poll() is None:
            self.tally.problems.append(f"{name}: not reached within {REACH_S:.0f} s")
            self.host.process.send_signal(signal.SIGKILL)
        elif process.returncode != -signal.SIGKILL:
            self.tally.problems.append(f"{name}: ended with {process.returncode}: {self.host.output()[:3_000]}")
        await self.host.bury()

    async def _exercise(self) -> None:
        """What the load does not cause: commands, and an endpoint that comes and goes."""
        host = self.host
        with suppress(ConnectionError, AssertionError, TimeoutError):
            await host.attach()
            await self._clear()
            while True:
                self._serial += 1
                slug = f"side{self._serial}"
                spec = EndpointSpec(slug=slug, model="echo", gpu_type="L40", baseline=1, maximum=1, concurrency=1)
                await host.send(TopUp(id=new_id(), account="local", amount_u=100_000_000))
                if isinstance(await host.send(CreateEndpoint(id=new_id(), spec=spec)), Accepted):
                    await host.until_ready(1, slug)
                    await host.send(DeleteEndpoint(id=new_id(), slug=slug))
                await asyncio.sleep(0.2)

    async def _examine(self, after: str) -> None:
        """Look at the file as the dead process left it; every so often also at a new life, in peace."""
        verification = await asyncio.to_thread(self._verify)
        self._judge(after, verification)
        self._deaths += 1
        if self._deaths % self._live_every == 0:
            await self._restart(after)

    def _verify(self) -> Verification:
        ledger = SqliteLedger(self.host.places.ledger_file, time.time_ns)
        try:
            return ledger.verify().result()
        finally:
            ledger.close()

    def _judge(self, after: str, verification: Verification) -> None:
        self.tally.drift_u += verification.drift_u
        self.tally.problems += [f"{after}: {problem}" for problem in verification.problems]

    async def _restart(self, after: str) -> None:
        running = self.witness.record.running()
        began = time.monotonic()
        await self.host.start()
        self.tally.slowest_restart_s = max(self.tally.slowest_restart_s, time.monotonic() - began)
        self.tally.restarts += 1
        snapshot = await self.host.snapshot()
        known = {w.id for e in snapshot.endpoints for w in e.workers}
        self.tally.adopted += len(running & known)
        self._judge(after, await self.host.verify())
        await self._agree(after)

    async def _clear(self) -> None:
        """Delete what an interrupted life left of its coming and going."""
        for endpoint in (await self.host.snapshot()).endpoints:
            if endpoint.spec.slug != "echo":
                await self.host.send(DeleteEndpoint(id=new_id(), slug=endpoint.spec.slug))

    async def _agree(self, after: str) -> None:
        """Books and engine must come to name the same workers."""
        deadline = time.monotonic() + AGREE_S
        books: set[str] = set()
        while time.monotonic() < deadline:
            snapshot = await self.host.snapshot()
            books = {w.id for e in snapshot.endpoints for w in e.workers if w.engine_ref is not None}
            if books == self.witness.record.running():
                return
            await asyncio.sleep(0.02)
        engine = self.witness.record.running()
        self.tally.problems.append(f"{after}: books {sorted(books)}, engine {sorted(engine)}")

    async def _stop_orchestrator(self) -> None:
        """End the present process as a crash does; what comes next adopts."""
        if self.host.process is not None and self.host.process.poll() is None:
            await self.host.kill()

    async def close(self) -> None:
        """Drain, stop, and compare everything with what the witness saw."""
        tally = self.tally
        if self.host.process is None or self.host.process.poll() is not None:
            await self._restart("the last of them")
        await self.pressure.stop()
        tally.requests += self.pressure.ends
        tally.unanswered += self.pressure.sent - sum(self.pressure.ends.values())
        tally.problems += self.pressure.problems
        await self.host.stop()
        deadline = time.monotonic() + 30.0
        while (left := await self.witness.leftovers()) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        tally.orphans += len(left)
        tally.problems += [f"left behind: {each}" for each in left]
        await self.witness.close()
        self._examine_lives()

    def _examine_lives(self) -> None:
        tally, record = self.tally, self.witness.record
        tally.workers += len(record.lives)
        tally.twins += len(record.twins)
        tally.problems += [f"{worker}: started while it ran" for worker in record.twins]
        for endpoint, most in record.most.items():
            if most > (MAXIMUM if endpoint == "echo" else 1):
                tally.problems.append(f"endpoint {endpoint}: {most} workers at once")
        books = compare(self.host.places.ledger_file, record.lives)
        tally.drift_u += books.drift_u
        tally.absorbed_u += books.absorbed_u
        tally.billed_u += books.billed_u
        tally.over_ms = max(tally.over_ms, books.over_ns / 1_000_000)
        tally.under_ms = max(tally.under_ms, books.under_ns / 1_000_000)
        tally.problems += books.problems


async def run(
    engine: str, points: Sequence[str], rounds: int, root: Path, *, lanes: int = 2, seed: int = 1, live_every: int = 1
) -> Tally:
    """All `points` once and `rounds` random kills, shared out to `lanes` homes that work side by side. The ledger is
    verified after each; a life in peace examines the rest after every `live_every`-th."""
    chance = random.Random(seed)
    jobs: list[str | float] = [*points, *(chance.uniform(0.0, 2.0) for _ in range(rounds))]
    tally = Tally()

    async def work(number: int) -> None:
        rig = Rig(root / f"h{number}", engine, tally, live_every)
        await rig.open()
        while jobs:
            job = jobs.pop(0)
            if isinstance(job, str):
                await rig.die_at(job)
            else:
                await rig.die_after(job, serving=chance.random() < 0.5)
        await rig.close()

    await asyncio.gather(*(work(number) for number in range(lanes)))
    beat_ms = HEARTBEAT_PERIOD_NS / SECOND_NS * 1_000
    if tally.over_ms > beat_ms or tally.under_ms > beat_ms:
        tally.problems.append(f"a bill is off by {tally.over_ms:.0f} ms over, {tally.under_ms:.0f} ms under")
    return tally


def report(engine: str, tally: Tally, seconds: float) -> str:
    """One JSON document."""
    document = {
        "engine": engine,
        "kills": sum(tally.kills.values()),
        "kills_at_points": sum(n for name, n in tally.kills.items() if name != "random"),
        "points_reached": len([name for name in tally.kills if name != "random"]),
        "kills_random": tally.kills["random"],
        "restarts": tally.restarts,
        "slowest_restart_s": round(tally.slowest_restart_s, 2),
        "workers": tally.workers,
        "adoptions": tally.adopted,
        "requests": dict(tally.requests),
        "unanswered": tally.unanswered,
        "drift_u": tally.drift_u,
        "billed_u": tally.billed_u,
        "absorbed_u": tally.absorbed_u,
        "billed_over_ms_max": round(tally.over_ms, 1),
        "billed_under_ms_max": round(tally.under_ms, 1),
        "twins": tally.twins,
        "orphans": tally.orphans,
        "problems": tally.problems,
        "seconds": round(seconds, 1),
    }
    return json.dumps(document, indent=2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crash", description=__doc__)
    parser.add_argument("--engine", choices=["process", "docker"], default="process")
    parser.add_argument("--points", action="store_true", help="die once at every crash point")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="N SIGKILLs 0 to 2 s after a start")
    parser.add_argument("--lanes", type=int, default=2, help="homes that work side by side")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="gpudeck-crash-"))
    began = time.monotonic()
    points = POINTS if options.points else ()
    tally = asyncio.run(run(options.engine, points, options.random, root, lanes=options.lanes, seed=options.seed))
    sys.stdout.write(report(options.engine, tally, time.monotonic() - began) + "\n")
    if tally.problems:
        sys.stderr.write(f"kept: {root}\n")
        return 1
    shutil.rmtree(root)
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
