"""The tour: one scenario walked through on a running orchestrator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from app.client import SocketClient, command_id
from app.demo.report import Seen
from app.demo.scenario import ROUNDS_MAX, Picture, Scenario, burst, fit, shot
from app.demo.timeline import Timeline, endpoint_in
from app.format import money, rate_per_hour
from app.loadtest.engine import LoadReport, Reply, Shot, run_load, summarise
from orchestrator.contract.command import (
    Accepted,
    Command,
    CreateEndpoint,
    CreateKey,
    DisableEndpoint,
    Refused,
    TopUp,
)
from orchestrator.contract.query import AskBill, AskQuote, AskVerify, Bill, Query, Quote, Verification
from orchestrator.contract.snapshot import EndpointState, EngineKind, Snapshot, WorkerState

SNAPSHOTS_PER_S: Final = 10.0
KEY_TTL_S: Final = 3_600
ACCOUNT: Final = "local"

Kind = TypeVar("Kind")
Narrate = Callable[[str], None]
Pause = Callable[[], Awaitable[None]]


class TourFailed(Exception):
    """The tour cannot go on; the message says at which step and why."""


@dataclass
class _Watch:
    """Follows the feed, keeps the timeline, and wakes up whoever waits for a condition."""

    client: SocketClient
    timeline: Timeline
    news: Narrate
    newest: Snapshot | None = None
    ended: bool = False

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        try:
            async for snapshot in self.client.snapshots(per_second=SNAPSHOTS_PER_S):
                self.newest = snapshot
                for sentence in self.timeline.observe(snapshot):
                    self.news(sentence)
                self._changed.set()
        except ConnectionError:
            self.news("the orchestrator has ended")
        finally:
            self.ended = True
            self._changed.set()

    async def until(self, condition: Callable[[Snapshot], bool], what: str) -> Snapshot:
        """The first snapshot from now on for which `condition` holds. The whole tour has a time-out, this has none."""
        while self.newest is None or not condition(self.newest):
            if self.ended:
                raise TourFailed(f"the orchestrator ended while the tour waited for {what}")
            self._changed.clear()
            await self._changed.wait()
        return self.newest


async def run_tour(
    client: SocketClient,
    scenario: Scenario,
    pictures: Sequence[Picture],
    narrate: Narrate,
    *,
    news: Narrate | None = None,
    any_gpu: bool = False,
    pause: Pause | None = None,
    disable: bool = True,
) -> Seen:
    """Walk through `scenario` and return everything seen.

    `narrate` hears each step and why, `news` (by default the same) what happens to the workers. `any_gpu` takes the GPU
    type of which there are most. `pause` is awaited between steps (for an audience). With `disable` the endpoint is
    disabled at the end, so that its bill is closed; without, it goes on.
    Raises TourFailed, Unfit and ConnectionError.
    """
    timeline = Timeline(scenario.slug)
    watch = _Watch(client, timeline, news or narrate)
    following = asyncio.create_task(watch.follow(), name="tour feed")
    try:
        state = await watch.until(lambda _: True, "the first snapshot")
        fitted = fit(scenario, state.capacity, any_type=any_gpu)
        return await _Tour(client, fitted, pictures, narrate, watch, pause or _no_pause).run(disable)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


def _engine_known(state: Snapshot) -> bool:
    """Before it has been asked, the engine is a virtual one that does not answer."""
    return state.engine.ok or state.engine.kind is not EngineKind.VIRTUAL


async def _no_pause() -> None:
    return None


class _Tour:
    def __init__(
        self,
        client: SocketClient,
        scenario: Scenario,
        pictures: Sequence[Picture],
        narrate: Narrate,
        watch: _Watch,
        pause: Pause,
    ) -> None:
        self.client = client
        self.scenario = scenario
        self.spec = scenario.spec()
        self.pictures = pictures
        self.narrate = narrate
        self.watch = watch
        self.pause = pause
        self.replies: list[Reply] = []
        self.start_s = asyncio.get_running_loop().time()

    async def run(self, disable: bool) -> Seen:
        await self._introduce()
        await self.pause()
        await self._give_credit()
        await self._create()
        await self.pause()
        url, key = await self._access()
        alone_ms = await self._first_requests(url, key)
        await self.pause()
        await self._overload(url, key, alone_ms)
        snapshot = await self._wait_for_idle()
        await self.pause()
        if disable:
            await self._disable()
        return await self._settle(snapshot)

    async def _introduce(self) -> None:
        state = await self.watch.until(_engine_known, "the engine")
        types = ", ".join(f"{each.total} × {each.gpu_type}" for each in state.capacity) or "no GPU"
        if state.simulated_gpus:
            self.narrate(
                f"SIMULATED: the GPUs ({types}) are declared, this host's own are not used; requests, worker "
                f"{'containers' if state.engine.kind == 'docker' else 'processes'}, scaling and ledger are real"
            )
        self.narrate(f"engine: {state.engine.kind} ({state.engine.detail}); GPUs: {types}; prices: {state.price_book}")
        if not state.engine.ok:  # its workers would never start, and the tour would wait for them to its time-out
            raise TourFailed(f"engine: no worker can start: {state.engine.detail}")

    async def _give_credit(self) -> None:
        state = await self.watch.until(lambda _: True, "a snapshot")
        balance_u = next((account.balance_u for account in state.accounts if account.name == ACCOUNT), 0)
        amount_u = self.scenario.top_up_u(balance_u)
        if amount_u:
            await self._send(TopUp(id=command_id(), account=ACCOUNT, amount_u=amount_u, memo="demo"))
        self.narrate(f"credit of the account: {money(balance_u + amount_u)} (play money)")

    async def _create(self) -> None:
        offer = await self._ask(AskQuote(spec=self.spec), Quote)
        self.narrate(
            f"creating endpoint {self.spec.slug}, {self.spec.setup} on {self.spec.gpu_type}: one worker always on for "
            f"{rate_per_hour(offer.baseline_per_hour_u)}, a second one when a request waits longer than "
            f"{self.scenario.queue_delay_s:g} s, at most {rate_per_hour(offer.worst_case_per_hour_u)}"
        )
        await self._send(CreateEndpoint(id=command_id(), spec=self.spec))
        state = await self.watch.until(self._settled, "the first worker")
        view = endpoint_in(state, self.spec.slug)
        assert view is not None
        if view.state is not EndpointState.SERVING:
            problem = view.problem.message if view.problem else "no reason was given"
            log = "".join(f"\n  {line}" for line in (view.problem.log if view.problem else ()))
            raise TourFailed(f"the endpoint is {view.state.value}: {problem}{log}")

    def _settled(self, snapshot: Snapshot) -> bool:
        view = endpoint_in(snapshot, self.spec.slug)
        return view is not None and view.state in (
            EndpointState.SERVING,
            EndpointState.FAILED,
            EndpointState.SUSPENDED,
        )

    async def _access(self) -> tuple[str, str]:
        made = await self._send(CreateKey(id=command_id(), account=ACCOUNT, name="demo", ttl_s=KEY_TTL_S))
        state = await self.watch.until(lambda s: endpoint_in(s, self.spec.slug) is not None, "the endpoint's address")
        view = endpoint_in(state, self.spec.slug)
        assert view is not None
        if made.secret is None:
            raise TourFailed("the answer with the API key was lost")
        return view.url, made.secret

    async def _first_requests(self, url: str, key: str) -> float:
        """Three requests one after the other; the time of the last one, in milliseconds, is that of a warm worker."""
        self.narrate(f"three pictures, one after the other, to POST {url}")
        latency_ms = 0.0
        for number in range(3):
            report = await self._load(url, key, [shot(self.pictures, number)])
            latency_ms = report.replies[0].latency_ms
            if not report.replies[0].ok:
                raise TourFailed(f"request {number + 1} failed: {next(iter(report.failures))}")
        self.narrate(f"a warm worker needs {latency_ms:.0f} ms a picture")
        return latency_ms

    async def _overload(self, url: str, key: str, alone_ms: float) -> None:
        """Bursts until the maximum was reached: on a busy machine one may end before the second worker is ready."""
        count = self.scenario.burst_size(alone_ms)
        for round_number in range(ROUNDS_MAX):
            self.narrate(f"{count} pictures within a second: more than one worker can draw in time")
            report = await self._load(url, key, burst(self.pictures, count, first=round_number * count))
            shares = ", ".join(f"{worker} {number}" for worker, number in report.per_worker.items())
            self.narrate(f"{report.succeeded} of {report.sent} answered ({shares}), p95 {report.latency_ms.p95:.0f} ms")
            if self.watch.timeline.most_ready >= self.spec.maximum or report.failed:
                return
            self.narrate("the second worker was not ready in time to help: once more")

    async def _wait_for_idle(self) -> Snapshot:
        self.narrate(f"no more requests: the extra worker stops after {self.spec.idle_timeout_s} s without work")
        return await self.watch.until(
            lambda s: self._live(s, None) == self.spec.baseline == self._live(s, WorkerState.READY),
            "the extra worker to stop",
        )

    def _live(self, snapshot: Snapshot, state: WorkerState | None) -> int:
        """Workers of the endpoint in `state`; with None, all that have not ended."""
        view = endpoint_in(snapshot, self.spec.slug)
        states = [worker.state for worker in view.workers] if view is not None else []
        if state is not None:
            return states.count(state)
        return sum(each not in (WorkerState.STOPPED, WorkerState.FAILED) for each in states)

    async def _disable(self) -> None:
        self.narrate("disabling the endpoint: its last worker drains and stops, its bill ends")
        await self._send(DisableEndpoint(id=command_id(), slug=self.spec.slug))
        await self.watch.until(lambda s: self._live(s, None) == 0, "the last worker to stop")

    async def _settle(self, snapshot: Snapshot) -> Seen:
        bill = await self._ask(AskBill(account=ACCOUNT), Bill)
        verification = await self._ask(AskVerify(), Verification)
        self.narrate(f"the bill: {money(bill.total_u)}; ledger {'verified' if verification.ok else 'WRONG'}")
        return Seen(self.spec, snapshot, summarise(self.replies), self.watch.timeline, bill, verification)

    async def _load(self, url: str, key: str, shots: Sequence[Shot]) -> LoadReport:
        """Send `shots` and keep the replies, on the time axis of the whole tour."""
        offset_s = asyncio.get_running_loop().time() - self.start_s
        report = await run_load(url, key, shots)
        first = len(self.replies)
        self.replies.extend(
            replace(reply, index=first + reply.index, at_s=offset_s + reply.at_s) for reply in report.replies
        )
        return report

    async def _send(self, command: Command) -> Accepted:
        outcome = await self.client.send(command)
        if isinstance(outcome, Refused):
            raise TourFailed(f"{command.kind} was refused: {outcome.message}")
        return outcome

    async def _ask(self, query: Query, kind: type[Kind]) -> Kind:
        answer = await self.client.ask(query)
        if not isinstance(answer, kind):
            raise TourFailed(f"no answer to '{query.kind}': {answer}")
        return answer
