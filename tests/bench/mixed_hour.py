"""An hour of mixed load on the whole data plane, in virtual time: no wrong answer, nothing left behind, flat memory.

    python -m tests.bench.mixed_hour                 an hour, seventy thousand clients
    python -m tests.bench.mixed_hour --minutes 1     the short form

The site (tests/bench/mixed_site.py) is the real gateway and the real core on a network in memory, so an hour takes as
long as its work. Clients come at rates that change: small and large bodies by length and by chunks, streams and events,
connections that are kept, pipelined requests, WebSockets, slow readers and writers, asynchronous calls, wrong keys,
nonsense, and some that leave. Meanwhile workers die or hang, the setup changes and updates roll. Every byte of every
answer is checked against its own request, events against their instants too. A client may be told 503 or 504; 502, or
a connection that breaks off, only while a worker that died had requests in hand. After each quarter all is quiet for a
while: then memory is read, and what must be 0 is. Ends with 1 when any of it does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from orchestrator.contract.base import DOLLAR_U
from orchestrator.contract.deferred import RequestState
from tests.bench.mixed_site import CALM_S, EVENT_S, EVENTS, Premises, Site, scratch
from tests.bench.soak import KINDS, Crowd, proof, rss_bytes
from tests.gateway.rig import Caller
from tests.gateway.virtual_loop import VirtualLoop

RATES = (3.0, 8.0, 15.0, 25.0, 60.0)
"""Clients a second. Six workers can do with some 35; the last rate is more than anybody could serve."""
SPELL_S = (10.0, 90.0)
"""How long a rate lasts."""
EXCUSED_S = 0.05
"""How long after the death of a worker its requests may be told of it; clients that do not look hear later."""
EXCUSED_SLOW_S = 0.5
LATE_S = 0.005
"""An event may be this much later than the one before it was: what the network does, and no more."""
POLL_S = 0.5
TROUBLE_S = 30.0
"""Mean time from one trouble to the next; a short run has a dozen all the same."""
QUARTERS = 4
GROWTH_MAX_BYTES = 4 * 1024**2
"""From the first quarter's end to the last one's. The core keeps an hour of samples, and the ledger of the simulation
every posting: the best part of a megabyte is theirs."""
PASSING = (
    "admission.ModelCall", "chunks.ChunkDecoder", "deferral.Sending", "deferral.Waiting", "early.Early",
    "exchange.Exchange", "inbound.ClientConnection", "intake.Intake", "spool.Spool", "tunnel.Tunnel", "upload.Upload",
    "upstream.WorkerConnection",
)  # fmt: skip
"""What lives as long as a request or a connection, in the gateway's modules."""


class Guests(Crowd):
    """Soak's clients and some more, at rates that change."""

    kinds = {**KINDS, "kept": 10, "events": 6, "slow writer": 3, "deferred": 4}  # noqa: RUF012
    patience_s = 600.0

    def __init__(self, site: Site, port: int, seed: int) -> None:
        super().__init__(port, RATES[0], seed)
        self.site = site
        self.lost = 0
        """Requests that a dying worker took with it, each visibly."""
        self._spell_ends_s = 0.0

    async def come(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        while loop.time() < end_s:
            if loop.time() >= self._spell_ends_s:
                self.rate = self.chance.choice(RATES)
                self._spell_ends_s = loop.time() + self.chance.uniform(*SPELL_S)
            await asyncio.sleep(self.chance.expovariate(self.rate))
            self.one_more()
        await self.gone()

    def excused(self, kind: str) -> bool:
        """A worker has just died, and this request may have been in its hands."""
        since_s = asyncio.get_running_loop().time() - self.site.died_s
        died = since_s < (EXCUSED_SLOW_S if kind.startswith("slow") else EXCUSED_S)
        self.lost += died
        return died

    def turned_away(self, status: int) -> bool:
        return super().turned_away(status) or (status == 502 and self.excused("answer"))

    async def _kept(self, caller: Caller, serial: int) -> str:
        """Five requests, one after the other, on one connection."""
        for n in range(5):
            method = self.chance.choice(("GET", "HEAD", "POST"))
            target, body = f"/t?{serial}-{n}", self._body(500) if method == "POST" else b""
            caller.request(method, f"/v1/sketch{target}", body=body)
            if method == "HEAD":
                reply = await caller.reply(head_only=True)
                if reply.status == 200 and reply.get("x-proof") != proof(target.encode()).decode():
                    self.wrong.append(f"HEAD {serial}-{n}: {reply.fields}")
                told = "200" if reply.status == 200 or self.turned_away(reply.status) else "WRONG"
            else:
                told = await self._answer(caller, target.encode() + body)
            if told == "WRONG":
                return told
            await asyncio.sleep(self.chance.random() * 2)
        return "200"

    async def _events(self, caller: Caller, serial: int) -> str:
        """Each event must be here before the worker sends the next one."""
        loop, answer = asyncio.get_running_loop(), proof(b"/events?%d" % serial)
        caller.request("GET", f"/v1/sketch/events?{serial}")
        head = await caller.head()
        if self.turned_away(head.status):
            return str(head.status)
        came_s: list[float] = []
        text = b""
        while chunk := await caller.chunk():
            text += chunk
            came_s += [loop.time()] * (text.count(b"\n\n") - len(came_s))
        gaps_s = [after - before for before, after in pairwise(came_s)]
        whole = text == b"".join(b"data: %d %b\n\n" % (n, answer) for n in range(EVENTS))
        if head.status != 200 or not whole or any(abs(gap_s - EVENT_S) > LATE_S for gap_s in gaps_s):
            self.wrong.append(f"events {serial}: {head.status} {text[:40]!r} {gaps_s}")
            return "WRONG"
        return "200"

    async def _slow_writer(self, caller: Caller, serial: int) -> str:
        pieces = [self._body(8_000) for _ in range(self.chance.randrange(2, 10))]
        body = b"".join(pieces)
        caller.request("POST", f"/v1/sketch/t?{serial}", f"Content-Length: {len(body)}")
        reading = asyncio.ensure_future(self._answer(caller, b"/t?%d" % serial + body))
        for piece in pieces:
            if not reading.done():
                caller.send(piece)
                await asyncio.sleep(self.chance.random())
        return await reading

    async def _deferred(self, caller: Caller, serial: int) -> str:
        """An asynchronous call: handed in, asked about until it is over, fetched."""
        body = self._body(400_000)
        caller.request("POST", f"/v2/sketch/t?{serial}", body=body)
        reply = await caller.reply()
        if reply.status != 202:
            return self._expect(reply, (503,))
        place = f"/v2/requests/{reply.json()['request_id']}"
        state = None
        while state not in (RequestState.COMPLETED, RequestState.FAILED):
            await asyncio.sleep(POLL_S)
            caller.request("GET", place)
            told = (await caller.reply()).json()
            state = told["state"]
        caller.request("GET", f"{place}/result")
        reply = await caller.reply()
        if (state, reply.status, reply.body) != ("COMPLETED", 200, proof(b"/t?%d" % serial + body)):
            self.wrong.append(f"deferred {serial}: {told} {reply}")
            return "WRONG"
        return "202"


@dataclass
class Outcome:
    """What came of it. `left` and `rss_bytes` are read when all is quiet: before, and after each quarter."""

    seconds: float
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    rss_bytes: list[int] = field(default_factory=list)
    lost: int = 0
    deaths: int = 0
    hangs: int = 0
    changes: int = 0
    rolls: int = 0
    workers: int = 0
    billed_u: int = 0
    cpu_s: float = 0.0

    @property
    def requests(self) -> int:
        return self.counts.total()

    @property
    def served(self) -> int:
        return sum(count for told, count in self.counts.items() if told.endswith((": 200", ": 101", ": 202")))

    @property
    def growth_bytes(self) -> int:
        return self.rss_bytes[-1] - self.rss_bytes[1]

    @property
    def good(self) -> bool:
        return not self.wrong and not self.left


def passing_objects() -> int:
    """How many of what should be gone are alive."""
    names = {f"orchestrator.gateway.{name}" for name in PASSING}
    kinds = [type(thing) for thing in gc.get_objects()]
    return sum(f"{kind.__module__}.{kind.__qualname__}" in names for kind in kinds)


def look(premises: Premises, outcome: Outcome) -> None:
    """Nobody calls: write down what is there, and what must not be."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is the system's again, not the allocator's to hold
    outcome.rss_bytes.append(rss_bytes(os.getpid()))
    for what, count in {**premises.held(), "objects of requests": passing_objects()}.items():
        if count:
            outcome.left[what] = max(count, outcome.left.get(what, 0))


async def live_through(seconds: float, seed: int, directory: Path) -> Outcome:
    """So many simulated seconds of it."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    outcome = Outcome(seconds)
    loop.set_exception_handler(lambda _loop, context: outcome.wrong.append(f"error in the loop: {context}"))
    premises = Premises(loop, seed, directory)
    await premises.open()
    site = premises.site
    guests = Guests(site, premises.gateway.port, seed)
    look(premises, outcome)
    for _ in range(QUARTERS):
        trouble = loop.create_task(site.be_troubled(min(TROUBLE_S, seconds / 12)))
        await guests.come(seconds / QUARTERS)
        trouble.cancel()
        await asyncio.sleep(CALM_S)
        look(premises, outcome)
    outcome.counts, outcome.lost = guests.counts, guests.lost
    outcome.wrong += guests.wrong
    outcome.deaths, outcome.hangs = site.deaths, site.hangs
    outcome.changes, outcome.rolls = site.changes, site.rolls
    await premises.close()
    outcome.workers, outcome.billed_u = len(site.ledger.workers), site.billed_u
    return outcome


def run(seconds: float, seed: int) -> Outcome:
    with scratch() as directory, asyncio.Runner(loop_factory=lambda: VirtualLoop(seed)) as runner:
        outcome = runner.run(live_through(seconds, seed, Path(directory)))
    outcome.cpu_s = sum(os.times()[:2])
    return outcome


def report(outcome: Outcome) -> str:
    lines = [f"{told:<44}{count:>9}" for told, count in sorted(outcome.counts.items())]
    memory = ", ".join(f"{size / 2**20:.1f}" for size in outcome.rss_bytes)
    lines += [
        f"{outcome.seconds / 60:g} simulated minutes in {outcome.cpu_s:.0f} s of CPU: {outcome.requests} clients, "
        f"{outcome.served} served, {len(outcome.wrong)} wrong answers",
        f"{outcome.workers} workers started; {outcome.deaths} were killed and {outcome.hangs} hung, which took "
        f"{outcome.lost} requests along; {outcome.changes} changes of setup, {outcome.rolls} rolling updates",
        f"memory in MiB, before and after each quarter: {memory}",
        f"bill ${outcome.billed_u / DOLLAR_U:.2f}, every posting checked; left behind: "
        + (", ".join(f"{count} {what}" for what, count in outcome.left.items()) or "nothing"),
        *outcome.wrong[:20],
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.mixed_hour",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcome = run(options.minutes * 60, options.seed)
    sys.stdout.write(report(outcome) + "\n")
    return 0 if outcome.good and outcome.growth_bytes <= GROWTH_MAX_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
