"""Average concurrency over two windows against a target per worker: Knative's pod autoscaler (KPA).

After serving@98e5ef90 `pkg/autoscaler/scaling/autoscaler.go` with the defaults of `config-autoscaler` (research notes,
autoscaling.md item 1). What differs, because the executor differs: workers still in their cold start are not `ready`
there nor here, requests in the queue count as concurrency as the activator's do, and a worker with a request is never
stopped. The windows are the delay, so surplus workers go at once (`keep_ns` 0).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Concurrency
from orchestrator.core.scaling.view import Decision, Memory, Number, Observation, Reason

PERIOD_NS = 2 * SECOND_NS
"""Evaluations lie on multiples of this, whoever asks in between."""
GRAINS = 6
"""Buckets of a panic window."""
GRAINS_MAX = 240
"""Most buckets of a stable window: a long one gets coarser ones."""


@dataclass(frozen=True, slots=True)
class Windows(Memory):
    """What `concurrency` remembers: requests in the system by bucket of time, and whether it panics."""

    seen_ns: int | None = None
    """Instant of the last observation; the buckets are complete up to here."""
    level: int = 0
    """Requests in the system since then."""
    began_ns: int | None = None
    """When recording began; None while nothing is recorded (no worker and no request)."""
    buckets: tuple[tuple[int, int], ...] = ()
    """(number of the bucket, request-nanoseconds in it), oldest first; empty ones are left out."""
    evaluated: int | None = None
    """Number of the last evaluation period."""
    desired: int = 0
    """What that evaluation wanted."""
    panicked_ns: int | None = None
    """When the panic window last asked for too much; None outside panic."""
    panic_most: int = 0
    """Most workers wanted in this panic."""
    rule: str = "rest"
    numbers: tuple[tuple[str, Number], ...] = ()
    """The reason of that evaluation, told again until the next."""


SENTENCES = {
    "rest": "nobody came for {stable_s:g} s",
    "stable": "{stable:.2f} requests on average over {stable_s:g} s / {target:.2f} per worker → {desired}",
    "panic": "{panic:.2f} requests over {panic_s:g} s / {target:.2f} per worker → {asked}, panic at {threshold:g} x "
    "{ready} ready: hold {desired}",
}


def by_concurrency(policy: Concurrency, memory: Memory, seen: Observation) -> Decision:
    """Evaluated every 2 s, and at once when somebody waits and there is no worker. See `evaluated` for the formula."""
    held = memory if isinstance(memory, Windows) else Windows()
    held = recorded(policy, held, seen)
    period = seen.now_ns // PERIOD_NS
    poked = seen.queued > 0 and seen.live == 0
    if period != held.evaluated or poked:
        held = evaluated(policy, held, seen)
    # At rest no later evaluation says anything else until something comes.
    quiet = not held.level and not held.buckets and held.panicked_ns is None and held.desired <= seen.baseline
    wake_ns = None if quiet else (period + 1) * PERIOD_NS
    why = Reason(held.rule, SENTENCES[held.rule], dict(held.numbers))
    return Decision(held.desired, why, held, wake_ns, keep_ns=0)


def _grain_ns(policy: Concurrency) -> int:
    return max(int(policy.panic_s * SECOND_NS) // GRAINS, int(policy.stable_s * SECOND_NS) // GRAINS_MAX)


def recorded(policy: Concurrency, held: Windows, seen: Observation) -> Windows:
    """The windows up to now: the level since the last observation is spread over the buckets it lasted through.

    Additive, so an observation in between changes nothing.
    """
    level = seen.queued + seen.running
    alive = level > 0 or seen.live > 0
    now_ns, grain_ns = seen.now_ns, _grain_ns(policy)
    began_ns = held.began_ns
    buckets = held.buckets
    oldest = -(-(now_ns - int(policy.stable_s * SECOND_NS)) // grain_ns)
    if held.level and held.seen_ns is not None and now_ns > held.seen_ns:
        sums = dict(buckets)
        at_ns = max(held.seen_ns, oldest * grain_ns)
        while at_ns < now_ns:
            bucket = at_ns // grain_ns
            until_ns = min((bucket + 1) * grain_ns, now_ns)
            sums[bucket] = sums.get(bucket, 0) + held.level * (until_ns - at_ns)
            at_ns = until_ns
        buckets = tuple(sums.items())
    if buckets and buckets[0][0] < oldest:
        buckets = tuple(entry for entry in buckets if entry[0] >= oldest)
    if alive and began_ns is None:
        began_ns = now_ns
    elif not alive and not buckets:
        began_ns = None
    return replace(held, seen_ns=now_ns, level=level, began_ns=began_ns, buckets=buckets)


def average(held: Windows, now_ns: int, window_s: float, grain_ns: int) -> float:
    """Requests in the system, averaged over the window or over the part of it that was recorded.

    At the very beginning of recording the present level counts: Knative divides by the buckets written so far.
    """
    if held.began_ns is None:
        return 0.0
    first = -(-(now_ns - int(window_s * SECOND_NS)) // grain_ns)
    span_ns = now_ns - max(first * grain_ns, held.began_ns)
    if span_ns <= 0:
        return float(held.level)
    return sum(amount for bucket, amount in held.buckets if bucket >= first) / span_ns


def evaluated(policy: Concurrency, held: Windows, seen: Observation) -> Windows:
    """One evaluation.

    desired = ceil(average / (target x slots)), by the stable window, within ready x up_rate and ready / down_rate. When
    the panic window asks for panic_threshold x ready: the larger of both, never less than before in this panic, which
    ends when a stable window has passed since the last such demand.
    """
    now_ns, grain_ns = seen.now_ns, _grain_ns(policy)
    target = policy.target * seen.slots
    ready = max(1, seen.ready)
    stable = average(held, now_ns, policy.stable_s, grain_ns)
    panic = average(held, now_ns, policy.panic_s, grain_ns)
    most, least = ceil(policy.up_rate * ready), floor(seen.ready / policy.down_rate)
    asked = ceil(round(panic / target, 6))
    by_stable = min(max(ceil(round(stable / target, 6)), least), most)
    by_panic = min(max(asked, least), most)
    panicked_ns, panic_most = held.panicked_ns, held.panic_most
    if asked / ready >= policy.panic_threshold:
        panicked_ns = now_ns
    elif panicked_ns is not None and now_ns - panicked_ns > policy.stable_s * SECOND_NS:
        panicked_ns, panic_most = None, 0
    desired = by_stable
    if panicked_ns is not None:
        desired = panic_most = max(by_stable, by_panic, panic_most)
    numbers: dict[str, Number] = {"stable": stable, "stable_s": policy.stable_s, "target": target, "desired": desired}
    rule = "stable"
    if panicked_ns is not None:
        rule = "panic"
        numbers |= {
            "panic": panic, "panic_s": policy.panic_s, "asked": asked, "threshold": policy.panic_threshold,
            "ready": ready,
        }  # fmt: skip
    elif desired == 0:
        rule = "rest"
    return replace(
        held, evaluated=now_ns // PERIOD_NS, desired=desired, panicked_ns=panicked_ns, panic_most=panic_most, rule=rule,
        numbers=tuple(numbers.items()),
    )  # fmt: skip
