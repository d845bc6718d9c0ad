"""One endpoint in virtual time, as fast as plain Python goes: what a policy costs and how long its requests wait.

It asks the very policies of the live system through the very `Observation`, and carries out what they say as
core/reconcile.py, core/idling.py and core/lane.py do. What it leaves out: money running out, GPUs running out, updates,
failures. The full core under virtual time has those; tests compare the two on the same traffic.

- Requests are served first come first served by workers of `slots` requests each. Service times are given: they do not
  depend on load.
- Round robin runs over the wanted workers, in ordinal order; a warm worker beyond those takes a request only when no
  wanted one has room (`ring="reserve"`), or all ready workers form one ring (`ring="plain"`).
- The policy is asked at once when somebody begins to wait, work begins, a worker becomes idle or ready, an idle timer
  runs out, or the instant comes that it asked for; after every other change within `TICK_NS`, as the live ticks do.
- Cold starts are lognormal and clipped. All starts within a minute share one draw (one host, one disk): else a policy
  wins by racing several. The draw depends on seed and minute alone, so all policies meet the same luck.
- Baseline workers are there from the beginning, started together the minute before: the first observation tells how
  long that took, as it does in the live system. The others are billed from start to stop, cold start included. Idle
  ones are kept to their natural end after the last request, but at most `TAIL_NS`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable
from heapq import heappop, heappush
from operator import attrgetter
from typing import Final, Literal

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import ScalingPolicy
from orchestrator.core.billing import due_u
from orchestrator.core.scaling import Decision, Memory, Observation, decide
from orchestrator.core.scaling.view import QUEUE_SEEN_MAX
from orchestrator.simulator.setup import MINUTE_NS, ColdStarts, Outcome, Setup
from orchestrator.simulator.traces import Trace

__all__ = ["ColdStarts", "Follow", "Outcome", "RequestsStarved", "Ring", "Setup", "following", "simulate"]

Follow = Callable[[Observation], Decision]
"""A policy at work, with what it remembers inside: made anew for every run (`following`)."""

Ring = Literal["reserve", "plain"]

TICK_NS: Final = SECOND_NS // 4
"""How late the policy hears of a change that nothing waits for: the period of the live ticks."""
TAIL_NS: Final = 3_600 * SECOND_NS
NEVER_NS: Final = 1 << 62

FIELDS: Final = (
    "now_ns", "baseline", "maximum", "slots", "idle_timeout_ns", "baseline_uh", "autoscale_uh", "ready", "starting",
    "idle_since", "queued", "queue", "running", "running_since", "arrived", "arrivals", "served", "cold_starts",
    "failed_starts",
)  # fmt: skip
assert Observation._fields == FIELDS, "an observation has other fields now: `_ask` must give them in that order"


def following(policy: ScalingPolicy) -> Follow:
    """One of the endpoint's own policies, on its first day."""
    memory = Memory()

    def follow(seen: Observation) -> Decision:
        nonlocal memory
        decision = decide(policy, memory, seen)
        memory = decision.memory
        return decision

    return follow


class RequestsStarved(Exception):
    """A policy let requests wait for ever."""


class _Worker:
    __slots__ = ("idle_ns", "in_flight", "ordinal", "serial", "served", "started_ns")

    def __init__(self, serial: int, ordinal: int, started_ns: int) -> None:
        self.serial = serial
        self.ordinal = ordinal
        self.started_ns = started_ns
        self.in_flight = 0
        self.idle_ns = started_ns
        self.served = 0


BY_SERIAL = attrgetter("serial")
BY_ORDINAL = attrgetter("ordinal")


def simulate(
    trace: Trace,
    setup: Setup,
    follow: Follow,
    cold: ColdStarts | None = None,
    *,
    ring: Ring = "reserve",
    every_change: bool = False,
) -> Outcome:
    """Run `trace` to its end. `every_change` asks the policy at each arrival and answer: for models of systems that
    average over time and would else not see what happens between two ticks. Raises RequestsStarved, and what `follow`
    raises."""
    return _Run(trace, setup, follow, cold or ColdStarts(), ring == "plain", 0 if every_change else TICK_NS).play()


class _Run:
    """The state of one run. Hot: about two heap operations and two questions per request."""

    def __init__(self, trace: Trace, setup: Setup, follow: Follow, cold: ColdStarts, plain: bool, tick_ns: int) -> None:
        self.arrivals = (*trace.arrival_ns, NEVER_NS)
        self.services = trace.service_ns
        self.setup = setup
        self.slots = setup.slots
        self.idle_timeout_ns = round(setup.idle_timeout_s * SECOND_NS)
        self.constants = (
            setup.baseline, setup.maximum, setup.slots, self.idle_timeout_ns,
            setup.price.baseline_uh, setup.price.autoscale_uh,
        )  # fmt: skip
        self.follow = follow
        self.cold = cold
        self.plain = plain
        self.tick_ns = tick_ns
        self.now_ns = 0
        self.ready = [_Worker(n, n, 0) for n in range(setup.baseline)]
        """By serial: the order of need (core/tiers.py)."""
        self.starting: list[_Worker] = []
        self.serials = setup.baseline
        self.desired = setup.baseline
        self.members: list[_Worker] = []
        self.reserve: list[_Worker] = []
        self.next = 0
        self.last_ordinal = -1
        self.landings: list[tuple[int, int, _Worker]] = []
        """Heap of (instant, number, worker): an answer to request `number`, or readiness when it is negative."""
        self.arrived = 0
        self.head = 0
        """Requests up to here have a worker, those from here to `arrived` wait: first come, first served."""
        self.in_flight: dict[int, int] = {}
        """Number of the request to when it went to its worker; insertion order is order of time."""
        self.waits: list[int] = []
        self.told = 0
        """Arrivals up to here are known to the policy."""
        self.served: list[int] = []
        self.cold_seen = [cold.duration_ns(-MINUTE_NS)] * setup.baseline
        self.asked_ns = -tick_ns
        self.asked = 0
        self.wake_ns = NEVER_NS
        self.autoscaled_ns = self.autoscaled_u = 0
        self.idle_starts = 0
        self.steps = [(0, setup.baseline)]
        self.ended_ns = 0
        self._regroup()

    def play(self) -> Outcome:
        arrivals, landings, total = self.arrivals, self.landings, len(self.services)
        limit_ns = NEVER_NS
        while True:
            now_ns = arrivals[self.arrived]
            if landings and landings[0][0] < now_ns:
                now_ns = landings[0][0]
            woken = self.wake_ns <= now_ns
            if woken:
                now_ns = self.wake_ns
            if now_ns >= limit_ns:
                self.now_ns = limit_ns
                break
            self.now_ns = now_ns
            urgent = woken
            while landings and landings[0][0] == now_ns:
                urgent |= self._land(*heappop(landings))
            while arrivals[self.arrived] == now_ns:
                urgent |= self._arrive()
            if urgent or now_ns - self.asked_ns >= self.tick_ns:
                self._ask()
            elif self.asked_ns + self.tick_ns < self.wake_ns:
                self.wake_ns = self.asked_ns + self.tick_ns
            if self.head == total and not self.in_flight:
                if len(self.ready) == self.setup.baseline and not self.starting:
                    break
                limit_ns = min(limit_ns, self.ended_ns + TAIL_NS)
        if self.head < total:
            raise RequestsStarved(f"{total - self.head} requests wait for ever: the policy wants no worker for them")
        return self._outcome()

    def _arrive(self) -> bool:
        """The next request comes; True when the policy must hear of it at once."""
        number = self.arrived
        self.arrived = number + 1
        if self.head == number:
            worker = self._take()
            if worker is not None:
                self._dispatch(number, worker)
                return len(self.in_flight) == 1
            return True
        return False

    def _land(self, _: int, number: int, worker: _Worker) -> bool:
        """A request is answered or a worker becomes ready; True when the policy must hear of it at once."""
        now_ns = self.now_ns
        worker.idle_ns = now_ns
        if number < 0:
            if worker not in self.starting:
                return False  # it was cancelled
            self.starting.remove(worker)
            insort(self.ready, worker, key=BY_SERIAL)
            self.cold_seen.append(now_ns - worker.started_ns)
            self._regroup()
            self._bind()
            return True
        del self.in_flight[number]
        worker.in_flight -= 1
        self.served.append(self.services[number])
        self.ended_ns = now_ns
        if self.head < self.arrived:
            self._bind()
        return worker.in_flight == 0

    def _bind(self) -> None:
        """Give free workers to waiters, oldest first."""
        while self.head < self.arrived:
            worker = self._take()
            if worker is None:
                return
            self._dispatch(self.head, worker)

    def _take(self) -> _Worker | None:
        """The worker whose turn it is: core/lane.py, rules 1 and 5."""
        members, slots, i = self.members, self.slots, self.next
        size = len(members)
        for _ in range(size):
            if i >= size:
                i = 0
            worker = members[i]
            i += 1
            if worker.in_flight < slots:
                self.next = i
                self.last_ordinal = worker.ordinal
                return worker
        for worker in self.reserve:
            if worker.in_flight < slots:
                return worker
        return None

    def _dispatch(self, number: int, worker: _Worker) -> None:
        now_ns = self.now_ns
        self.head = number + 1
        self.waits.append(now_ns - self.arrivals[number])
        self.in_flight[number] = now_ns
        worker.in_flight += 1
        worker.served += 1
        heappush(self.landings, (now_ns + self.services[number], number, worker))

    def _regroup(self) -> None:
        """Ring and reserve anew, after a change of the ready workers or of how many are wanted: core/route.py."""
        wanted = len(self.ready) if self.plain else self.desired
        self.members = sorted(self.ready[:wanted], key=BY_ORDINAL)
        self.reserve = self.ready[wanted:]
        self.next = bisect_right(self.members, self.last_ordinal, key=BY_ORDINAL)

    def _ask(self) -> None:
        """Show the policy what there is and carry out what it wants."""
        now_ns, setup, arrivals, arrived, head = self.now_ns, self.setup, self.arrivals, self.arrived, self.head
        idle = self._idle() if len(self.ready) > setup.baseline else []
        told = self.told
        decision = self.follow(
            Observation._make(  # by position (`FIELDS`): by name would cost a tenth of the whole run
                (
                    now_ns,
                    *self.constants,
                    len(self.ready),
                    tuple([worker.started_ns for worker in self.starting]) if self.starting else (),
                    tuple([worker.idle_ns for worker in idle]) if idle else (),
                    arrived - head,
                    arrivals[head : min(arrived, head + QUEUE_SEEN_MAX)] if head < arrived else (),
                    len(self.in_flight),
                    tuple(self.in_flight.values()),
                    arrived - told,
                    arrivals[told : min(arrived, told + QUEUE_SEEN_MAX)] if told < arrived else (),
                    tuple(self.served),
                    tuple(self.cold_seen),
                    0,
                )
            )
        )
        self.told = arrived
        self.served.clear()
        self.cold_seen.clear()
        self.asked_ns = now_ns
        self.asked += 1
        wake_ns = NEVER_NS if decision.wake_ns is None else decision.wake_ns
        live = len(self.ready) + len(self.starting)
        desired = min(max(decision.desired, setup.baseline), setup.maximum) if decision.valid else live
        if desired != self.desired:
            self.desired = desired
            self._regroup()
        if live < desired:
            self._start(desired - live)
        elif live > desired:
            wake_ns = min(wake_ns, self._shed(live - desired, idle, decision.keep_ns))
        self.wake_ns = wake_ns if wake_ns > now_ns else now_ns + TICK_NS

    def _idle(self) -> list[_Worker]:
        """Autoscaled workers without a request, longest idle first, as core/idling.py orders them."""
        idle = [worker for worker in self.ready[self.setup.baseline :] if not worker.in_flight]
        if len(idle) > 1:
            idle.sort(key=lambda worker: (worker.idle_ns, -worker.ordinal))
        return idle

    def _start(self, count: int) -> None:
        duration_ns = self.cold.duration_ns(self.now_ns)
        taken = {worker.ordinal for worker in (*self.ready, *self.starting)}
        free = (ordinal for ordinal in range(self.setup.maximum) if ordinal not in taken)
        for _ in range(count):
            worker = _Worker(self.serials, next(free), self.now_ns)
            self.serials += 1
            self.starting.append(worker)
            heappush(self.landings, (self.now_ns + duration_ns, -self.serials, worker))
        self._count()

    def _shed(self, surplus: int, idle: list[_Worker], keep_ns: int | None) -> int:
        """Let go what is due; returns when the next is."""
        next_ns = NEVER_NS
        timeout_ns = self.idle_timeout_ns if keep_ns is None else keep_ns
        for worker in idle[:surplus]:  # there are none while a request waits
            if self.now_ns - worker.idle_ns < timeout_ns:
                next_ns = worker.idle_ns + timeout_ns
                break
            self.ready.remove(worker)
            self._stop(worker)
            surplus -= 1
        if keep_ns == 0:
            spare = min(surplus, len(self.starting) - -(-(self.arrived - self.head) // self.slots))
            for _ in range(spare):
                self._stop(self.starting.pop())
        return next_ns

    def _stop(self, worker: _Worker) -> None:
        lived_ns = self.now_ns - worker.started_ns
        self.autoscaled_ns += lived_ns
        self.autoscaled_u += due_u(self.setup.price.autoscale_uh, lived_ns)
        self.idle_starts += not worker.served
        self._regroup()
        self._count()

    def _count(self) -> None:
        live = len(self.ready) + len(self.starting)
        if self.steps[-1][0] == self.now_ns:
            self.steps.pop()
        self.steps.append((self.now_ns, live))

    def _outcome(self) -> Outcome:
        while len(self.ready) > self.setup.baseline or self.starting:
            self._stop((self.starting or self.ready).pop())
        return Outcome(
            waits_ns=self.waits,
            autoscaled_ns=self.autoscaled_ns,
            autoscaled_u=self.autoscaled_u,
            baseline_u=self.setup.baseline * due_u(self.setup.price.baseline_uh, self.ended_ns),
            cold_starts=self.serials - self.setup.baseline,
            idle_starts=self.idle_starts,
            steps=self.steps,
            ended_ns=self.ended_ns,
            asked=self.asked,
        )
