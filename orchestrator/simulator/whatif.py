"""What an endpoint's own traffic would have cost, and how long it would have waited, under other settings.

Recorded requests are replayed by the light simulator: the same policies as live, cold starts as long and as scattered
as this endpoint's own were. Every setting meets the same requests and the same luck. Settings that nothing beats in
both cost and p95 wait (the Pareto set) are run again with more seeds of cold starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product, takewhile
from math import exp, log, sqrt
from statistics import median
from typing import Final, NamedTuple, Protocol, TypeVar

from orchestrator.contract.base import DAY_NS, HOUR_NS, SECOND_NS
from orchestrator.contract.endpoint import (
    OWN_TIMING,
    POLICIES,
    ScalingPolicy,
    notation,
)
from orchestrator.core.billing import due_u
from orchestrator.core.history import MINUTE_NS, Requests
from orchestrator.core.pricing import Price
from orchestrator.simulator.light import ColdStarts, RequestsStarved, Setup, following, simulate
from orchestrator.simulator.traces import Trace

T = TypeVar("T")
REQUESTS_MIN: Final = 20
"""Fewer say nothing about percentiles."""
SEEDS: Final = 3
ASSUMED_COLD_S: Final = 30.0
SPAN_MIN_NS: Final = DAY_NS
"""The shortest time whose traffic can stand for that of any other day."""


class Each(Protocol):
    """`map`, or one that shares the work between processes."""

    def __call__(self, work: Callable[[Option], T], options: Sequence[Option], /) -> Iterable[T]: ...


def _one_by_one(work: Callable[[Option], T], options: Sequence[Option]) -> Iterable[T]:
    return map(work, options)


class TooLittle(ValueError):
    """Not enough has been recorded to say anything."""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting to try."""

    baseline: int
    maximum: int
    idle_timeout_s: int
    policy: ScalingPolicy

    @property
    def name(self) -> str:
        """Such as `1-5 queue_delay:4 idle 10 s`; without the idle timeout where it changes nothing."""
        idle = "" if isinstance(self.policy, OWN_TIMING) else f" idle {self.idle_timeout_s} s"
        return f"{self.baseline}-{self.maximum} {notation(self.policy)}{idle}"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it, over the whole recorded time and on average over the seeds. Waits are seconds."""

    option: Option
    cost_u: int
    per_hour_u: int
    autoscaled_u: int
    wait_p50_s: float
    wait_p95_s: float
    wait_p99_s: float
    wait_mean_s: float
    cold_starts: float
    seeds: int
    best: bool = False
    """Nothing that was tried is both cheaper and quicker at the p95."""


@dataclass(frozen=True, slots=True)
class Level:
    """The k-th worker when the ones before it are baseline: how much it is on, and where it is cheaper."""

    number: int
    on: float
    """Share of the time that it is needed, cold starts and idle time included."""
    baseline_uh: int
    """What it costs per hour as a baseline worker."""
    on_demand_uh: int
    """What it costs per hour on demand: `on` x the autoscale rate."""
    saves_uh: int
    """What the whole endpoint costs less per hour, in the replay, with it in the baseline; negative: more."""

    @property
    def by_rule(self) -> bool:
        """Whether the price ratio alone puts it into the baseline."""
        return self.on_demand_uh > self.baseline_uh


@dataclass(frozen=True, slots=True)
class Recording:
    """The requests of an endpoint from `since_ns` to `until_ns` (wall nanoseconds). Quiet time before the first and
    after the last of them belongs to it: a baseline worker is paid for then too."""

    trace: Trace
    """Arrivals counted from `since_ns`."""
    since_ns: int
    until_ns: int
    busiest_minute: int
    """Requests that came in it."""

    @property
    def span_ns(self) -> int:
        return self.until_ns - self.since_ns

    @property
    def load(self) -> float:
        """Requests in service on average over the whole time, if none had to wait (erlang)."""
        return self.trace.work_s * SECOND_NS / self.span_ns

    @property
    def rpm(self) -> float:
        """Requests per minute on average over the whole time; never less than a minute of it."""
        return len(self.trace) * MINUTE_NS / max(self.span_ns, MINUTE_NS)


def recording_of(slug: str, requests: Requests, since_ns: int, until_ns: int) -> Recording:
    """What was recorded between two instants, which are moved apart to hold all of it. A request whose service is
    unknown (it never reached a worker) takes as long as the middle one. Raises TooLittle."""
    known = sorted(ns for ns in requests.service_ns if ns > 0)
    if len(requests.arrived_ns) < REQUESTS_MIN or not known:
        raise TooLittle(f"{slug}: {len(requests.arrived_ns)} requests are recorded, at least {REQUESTS_MIN} are needed")
    middle_ns = known[len(known) // 2]
    pairs = sorted(zip(requests.arrived_ns, requests.service_ns, strict=True))
    since_ns, until_ns = min(since_ns, pairs[0][0]), max(until_ns, pairs[-1][0] + 1)
    trace = Trace(slug, tuple(at - since_ns for at, _ in pairs), tuple(ns or middle_ns for _, ns in pairs))
    minutes = Counter(at_ns // MINUTE_NS for at_ns in requests.arrived_ns)
    return Recording(trace, since_ns, until_ns, max(minutes.values()))


def cold_starts_of(durations_ns: Sequence[int], assumed_s: float = ASSUMED_COLD_S) -> ColdStarts:
    """Cold starts distributed as the measured ones; without any, around `assumed_s`."""
    if not durations_ns:
        return ColdStarts(assumed_s)
    logs = [log(max(ns, 1) / SECOND_NS) for ns in durations_ns]
    middle = median(logs)
    spread = sqrt(sum((x - middle) ** 2 for x in logs) / len(logs))
    return ColdStarts(exp(middle), sigma=spread, shortest_s=exp(min(logs)), longest_s=exp(max(logs)))


def options(
    now: Option,
    *,
    baselines: Iterable[int] = (),
    maxima: Iterable[int] = (),
    idle_timeouts_s: Iterable[int] = (),
    policies: Iterable[ScalingPolicy] = (),
    advised: int = 0,
    reach: int = 3,
) -> list[Option]:
    """The setting of now, then every combination of what is given; what is not given is tried around `now`: baselines
    from 0 to `reach` and the one that is `advised`, idle timeouts of 10, 60 and 300 s, every policy."""
    chosen = list(policies) or [
        now.policy,
        *(model() for kind, (model, *_) in POLICIES.items() if kind != now.policy.kind),
    ]
    found = [now]
    for baseline, maximum, idle_s, policy in product(
        sorted({*baselines} or {*range(min(reach, now.maximum) + 1), now.baseline, advised}),
        sorted({*maxima} or {now.maximum}),
        sorted({*idle_timeouts_s} or {10, 60, 300, now.idle_timeout_s}),
        chosen,
    ):
        kept_s = now.idle_timeout_s if isinstance(policy, OWN_TIMING) else idle_s
        option = Option(baseline, maximum, kept_s, policy)
        if baseline <= maximum and option not in found:
            found.append(option)
    return found


def replay(
    recorded: Recording,
    tried: Sequence[Option],
    slots: int,
    price: Price,
    cold: ColdStarts,
    *,
    seeds: int = SEEDS,
    each: Each = _one_by_one,
) -> list[Result]:
    """A result for each option that lets no request starve, in the order given, the Pareto set marked. `each` may run
    them side by side."""
    first = list(each(partial(_run, recorded, slots, price, cold, 1), tried))
    marked = mark_best([result for result in first if result is not None])
    finals = [r.option for r in marked if r.best or r.option == tried[0]]
    again = dict(zip(finals, each(partial(_run, recorded, slots, price, cold, seeds), finals), strict=True))
    return mark_best([again.get(result.option) or result for result in marked])


def mark_best(results: Sequence[Result]) -> list[Result]:
    """Mark those that no other one beats: as cheap and quicker at the p95, or as quick and cheaper. Of several that
    come to the same, the first."""

    def beaten(number: int, one: Result) -> bool:
        return any(
            other.cost_u <= one.cost_u
            and other.wait_p95_s <= one.wait_p95_s
            and ((other.cost_u, other.wait_p95_s) != (one.cost_u, one.wait_p95_s) or place < number)
            for place, other in enumerate(results)
        )

    return [replace(one, best=not beaten(number, one)) for number, one in enumerate(results)]


def recommend(results: Sequence[Result], wait_p95_s: float | None = None) -> tuple[Result, str]:
    """The cheapest setting that waits no longer than now (or than `wait_p95_s`), and one sentence about it."""
    now = results[0]
    limit_s = now.wait_p95_s if wait_p95_s is None else wait_p95_s
    fit = [r for r in results if r.wait_p95_s <= limit_s and (wait_p95_s is not None or r.wait_p99_s <= now.wait_p99_s)]
    if not fit:
        best = min(results, key=lambda r: (r.wait_p95_s, r.cost_u))
        return best, (
            f"Nothing tried keeps the p95 wait at {limit_s:.1f} s; {best.option.name} comes nearest with "
            f"{best.wait_p95_s:.1f} s."
        )
    best = min(fit, key=lambda r: (r.cost_u, r.wait_p95_s))
    if best.option == now.option or (best.cost_u >= now.cost_u and wait_p95_s is None):
        within = "without longer waits" if wait_p95_s is None else f"with a p95 wait of {limit_s:.1f} s"
        return now, f"Keep {now.option.name}: nothing tried is cheaper {within}."
    change = (best.cost_u - now.cost_u) / now.cost_u if now.cost_u else 0.0
    return best, (
        f"Take {best.option.name}: {abs(change):.0%} {'cheaper' if change < 0 else 'dearer'} than now, "
        f"p95 wait {best.wait_p95_s:.1f} s instead of {now.wait_p95_s:.1f} s."
    )


def caution(recorded: Recording) -> str:
    """What to think of before the advice is taken; empty when a day or more is recorded."""
    if recorded.span_ns >= SPAN_MIN_NS:
        return ""
    hours, minutes = divmod(max(1, recorded.span_ns // MINUTE_NS), 60)
    span = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
    return f"Only {span} of traffic is recorded: ask again after a whole usual day."


def levels(
    recorded: Recording, now: Option, slots: int, price: Price, cold: ColdStarts, each: Each = _one_by_one
) -> list[Level]:
    """For k = 1, 2, ... the k-th worker on top of k - 1 baseline ones, until one is never on.

    By the rule, it belongs into the baseline if and only if it is on for more than the price ratio (17.5% to 20.2% in
    the book 2025-seed). `saves_uh` is the replay's answer, which knows that a worker that is always there also
    spares the others their starts.
    """
    lives = list(
        each(partial(_life, recorded, slots, price, cold), [replace(now, baseline=k) for k in range(now.maximum + 1)])
    )
    found = []
    for k, (life, after) in enumerate(pairwise(lives), 1):
        if life is None or after is None or not life.on:
            break
        on_demand_uh = round(price.autoscale_uh * life.on)
        found.append(Level(k, life.on, price.baseline_uh, on_demand_uh, life.per_hour_u - after.per_hour_u))
    return found


def advised_baseline(found: Iterable[Level]) -> int:
    """How many workers, from the first on, are cheaper in the baseline one by one."""
    return sum(1 for _ in takewhile(lambda level: level.saves_uh > 0, found))


class _Life(NamedTuple):
    """Of a run: the share of the time in which more than the baseline lived, and its price."""

    on: float
    per_hour_u: int


def _life(recorded: Recording, slots: int, price: Price, cold: ColdStarts, option: Option) -> _Life | None:
    setup = Setup(option.baseline, option.maximum, slots, option.idle_timeout_s, price)
    try:
        outcome = simulate(recorded.trace, setup, following(option.policy), cold)
    except RequestsStarved:
        return None
    whole_ns = max(recorded.span_ns, outcome.ended_ns)
    steps = [*outcome.steps, (whole_ns, 0)]
    on_ns = sum(max(0, min(end, whole_ns) - at) for (at, live), (end, _) in pairwise(steps) if live > option.baseline)
    cost_u = outcome.autoscaled_u + option.baseline * due_u(price.baseline_uh, whole_ns)
    return _Life(on_ns / whole_ns, cost_u * HOUR_NS // whole_ns)


def _run(recorded: Recording, slots: int, price: Price, cold: ColdStarts, seeds: int, option: Option) -> Result | None:
    setup = Setup(option.baseline, option.maximum, slots, option.idle_timeout_s, price)
    lucks = [replace(cold, seed=seed, drawn={}) for seed in range(seeds)]
    try:
        runs = [simulate(recorded.trace, setup, following(option.policy), luck) for luck in lucks]
    except RequestsStarved:
        return None
    waits = [run.wait_percentiles_s(50, 95, 99) for run in runs]
    autoscaled_u = sum(run.autoscaled_u for run in runs) // seeds
    span_ns = max(recorded.span_ns, sum(run.ended_ns for run in runs) // seeds)
    cost_u = autoscaled_u + option.baseline * due_u(price.baseline_uh, span_ns)
    p50_s, p95_s, p99_s = (sum(w[n] for w in waits) / seeds for n in range(3))
    return Result(
        option=option,
        cost_u=cost_u,
        per_hour_u=cost_u * HOUR_NS // span_ns,
        autoscaled_u=autoscaled_u,
        wait_p50_s=p50_s,
        wait_p95_s=p95_s,
        wait_p99_s=p99_s,
        wait_mean_s=sum(run.waited_s for run in runs) / seeds / len(recorded.trace),
        cold_starts=sum(run.cold_starts for run in runs) / seeds,
        seeds=seeds,
    )
