"""Other autoscalers as policies of ours, with their published defaults: what `gpudeck bench scaling` compares with.

Models after source or documentation, not the programs themselves (research/autoscaling.md 1). They share our executor:
held requests, no worker stopped at work, and the reserve ring unless a system is known to go round robin over all its
workers. That favours them: their own routing is no better. What they call replicas, pods or containers is a worker.
"""

from __future__ import annotations

from collections import deque
from math import ceil, floor
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import QueueDelay, RequestCount
from orchestrator.core.scaling import Decision, Memory, Observation
from orchestrator.core.scaling.view import Reason
from orchestrator.simulator.contenders import Contender
from orchestrator.simulator.light import following

NOTHING: Final = Memory()
EDGE: Final = 1e-9
"""Subtracted before rounding up: an average that is an integer but for its last bit is that integer."""


def _decision(desired: int, wake_ns: int | None = None, keep_ns: int | None = 0) -> Decision:
    return Decision(desired, Reason("model", "", {}), NOTHING, wake_ns, keep_ns)


class Level:
    """Requests in the system over time, averaged over trailing windows. Exact if told of every change."""

    def __init__(self, longest_ns: int) -> None:
        self._longest_ns = longest_ns
        self._changes: deque[tuple[int, int, int]] = deque()
        """(since, level, request-nanoseconds up to then), the first from before the longest window."""
        self.now_ns = 0
        self.level = 0

    @property
    def began_ns(self) -> int | None:
        """When recording began; None while there is nothing to record."""
        return self._changes[0][0] if self._changes else None

    def note(self, now_ns: int, level: int) -> None:
        self.now_ns = now_ns
        changes = self._changes
        if not changes:
            changes.append((now_ns, level, 0))
        elif level != self.level:
            since_ns, before, total = changes[-1]
            changes.append((now_ns, level, total + before * (now_ns - since_ns)))
        while len(changes) > 1 and changes[1][0] <= now_ns - self._longest_ns:
            changes.popleft()
        self.level = level

    def forget(self) -> None:
        """Nothing is there to be measured: the next average begins anew."""
        self._changes.clear()
        self.level = 0

    def mean(self, window_ns: int) -> float:
        """Over the window, or the part of it since recording began; at its very beginning the present level."""
        if not self._changes:
            return 0.0
        from_ns = max(self.now_ns - window_ns, self._changes[0][0])
        if from_ns >= self.now_ns:
            return float(self.level)
        since_ns, level, total = self._changes[-1]
        until = total + level * (self.now_ns - since_ns)
        for since_ns, level, total in reversed(self._changes):
            if since_ns <= from_ns:
                return (until - total - level * (from_ns - since_ns)) / (self.now_ns - from_ns)
        raise AssertionError("the first change is not after the window's beginning")

    def still(self, window_ns: int) -> bool:
        """Nothing changed within the window: its average stays as it is until something does."""
        return not self._changes or self._changes[-1][0] <= self.now_ns - window_ns


class Kpa:
    """Knative's pod autoscaler: serving@98e5ef90 pkg/autoscaler/scaling/autoscaler.go, config-autoscaler's defaults.

    Every 2 s desired = ceil(average over 60 s / (70% of the slots)). Panic when the average over 6 s asks for twice
    what is ready: the highest wish counts until 60 s after the last such one. Up at most 1000 x, down at most to half
    of what is ready per evaluation. Without any worker the activator asks at the first request. To zero after an empty
    window; the grace period is 0, since the activator is in the path at the default burst capacity.
    """

    PERIOD_NS = 2 * SECOND_NS

    def __init__(
        self, target: float = 0.7, stable_s: float = 60.0, panic_share: float = 0.1, threshold: float = 2.0
    ) -> None:
        self.target = target
        self.stable_ns = round(stable_s * SECOND_NS)
        self.panic_ns = round(self.stable_ns * panic_share)
        self.threshold = threshold
        self.seen = Level(self.stable_ns)
        self.period = -1
        self.desired = 0
        self.panicked_ns: int | None = None
        self.panic_most = 0

    def __call__(self, seen: Observation) -> Decision:
        now_ns, level = seen.now_ns, seen.queued + seen.running
        if not level and not seen.live:
            self.seen.forget()
            self.desired, self.panicked_ns, self.panic_most = 0, None, 0
            return _decision(0)
        self.seen.note(now_ns, level)
        period = now_ns // self.PERIOD_NS
        if period != self.period or (seen.queued and not seen.live):
            self.period = period
            self._evaluate(seen)
        settled = self.panicked_ns is None and self.seen.still(self.stable_ns)
        settled = settled and max(self.desired, seen.baseline) == seen.live
        return _decision(self.desired, None if settled and not level else (period + 1) * self.PERIOD_NS)

    def _evaluate(self, seen: Observation) -> None:
        per_worker, ready = self.target * seen.slots, max(1, seen.ready)
        most, least = ceil(1_000 * ready), floor(seen.ready / 2)
        stable = ceil(self.seen.mean(self.stable_ns) / per_worker - EDGE)
        panic = ceil(self.seen.mean(self.panic_ns) / per_worker - EDGE)
        if panic / ready >= self.threshold:
            self.panicked_ns = seen.now_ns
        elif self.panicked_ns is not None and seen.now_ns - self.panicked_ns > self.stable_ns:
            self.panicked_ns, self.panic_most = None, 0
        self.desired = min(max(stable, least), most)
        if self.panicked_ns is not None:
            self.desired = self.panic_most = max(self.desired, min(max(panic, least), most), self.panic_most)


class Hpa:
    """Kubernetes' horizontal autoscaler on the average number of requests per replica, and who drives it.

    Every `period_s`: wish = ceil(average over `window_s` / `target`), the present count while the ratio of both is
    within `tolerance`; up by at most `step` (None: by 100% or 4, its default policies); down to the largest wish of the
    last `steady_s`. From zero at once, to zero `cooldown_s` after the last request.
    """

    def __init__(
        self,
        target: float,
        *,
        window_s: float = 0.0,
        period_s: float = 15.0,
        tolerance: float = 0.1,
        steady_s: float = 300.0,
        cooldown_s: float = 300.0,
        step: int | None = None,
    ) -> None:
        self.target = target
        self.window_ns = round(window_s * SECOND_NS)
        self.period_ns = round(period_s * SECOND_NS)
        self.tolerance = tolerance
        self.steady_ns = round(steady_s * SECOND_NS)
        self.cooldown_ns = round(cooldown_s * SECOND_NS)
        self.step = step
        self.seen = Level(max(1, self.window_ns))
        self.period = -1
        self.desired = 0
        self.active_ns = 0
        self.wishes: deque[tuple[int, int]] = deque()
        """(instant, wish), only those that no later one exceeds: the first is the largest of the steady window."""

    def __call__(self, seen: Observation) -> Decision:
        now_ns, level = seen.now_ns, seen.queued + seen.running
        if level or self.seen.level:
            self.active_ns = now_ns
        self.seen.note(now_ns, level)
        self.desired = min(max(self.desired, seen.baseline), seen.maximum)
        period = now_ns // self.period_ns
        if level:
            if not self.desired:
                self.desired, self.period = 1, period  # by whoever holds the request; the next evaluation sees it
        elif seen.baseline == 0 and now_ns - self.active_ns >= self.cooldown_ns:
            self.desired = 0
            self.wishes.clear()
        if period != self.period and self.desired:
            self.period = period
            self._evaluate(now_ns, seen)
        quiet = not level and self.seen.still(self.window_ns) and not self.wishes
        if quiet and self.desired <= max(1, seen.baseline):
            return _decision(self.desired, self.active_ns + self.cooldown_ns if self.desired > seen.baseline else None)
        return _decision(self.desired, (period + 1) * self.period_ns)

    def _evaluate(self, now_ns: int, seen: Observation) -> None:
        average = self.seen.mean(self.window_ns) if self.window_ns else float(self.seen.level)
        wish = ceil(average / self.target - EDGE)
        if abs(average / (self.target * self.desired) - 1) <= self.tolerance:
            wish = self.desired
        wish = max(wish, 1)
        while self.wishes and self.wishes[-1][1] <= wish:
            self.wishes.pop()
        self.wishes.append((now_ns, wish))
        while self.wishes[0][0] < now_ns - self.steady_ns:
            self.wishes.popleft()
        most = self.desired + (max(self.desired, 4) if self.step is None else self.step)
        self.desired = min(max(wish, self.wishes[0][1]), most, seen.maximum)
        if wish <= max(1, seen.baseline) and len(self.wishes) == 1:
            self.wishes.clear()  # at rest: nothing that a later evaluation would need


class RayServe:
    """Ray Serve's replica-queue-length policy: serve/autoscaling_policy.py, serve/config.py.

    desired = ceil(requests on average over 30 s / 2), from figures that are reported every 10 s. Up once that has been
    so for 30 s without a break, down after 600 s; from zero at once, to one; from several never straight to zero.
    """

    REPORT_NS = 10 * SECOND_NS

    def __init__(
        self, target: float = 2.0, look_back_s: float = 30.0, up_delay_s: float = 30.0, down_delay_s: float = 600.0
    ) -> None:
        self.target = target
        self.look_back_ns = round(look_back_s * SECOND_NS)
        self.up_delay_ns = round(up_delay_s * SECOND_NS)
        self.down_delay_ns = round(down_delay_s * SECOND_NS)
        self.seen = Level(self.look_back_ns)
        self.report = -1
        self.wish = 0
        self.desired = 0
        self.sign = 0
        self.since_ns = 0
        """Since when the wish has been on that side of `desired`."""

    def __call__(self, seen: Observation) -> Decision:
        now_ns, level = seen.now_ns, seen.queued + seen.running
        self.seen.note(now_ns, level)
        self.desired = min(max(self.desired, seen.baseline), seen.maximum)
        if self.desired == 0 and level:
            self.desired = 1
            self._look(now_ns, seen)
        report = now_ns // self.REPORT_NS
        if report != self.report:
            self.report = report
            self._look(now_ns, seen)
        due_ns = self._due_ns()
        if due_ns is not None and now_ns >= due_ns:
            self.desired = max(self.wish, 1) if self.desired > 1 else self.wish
            self.sign = 0  # a further step has its own delay to wait out
            self._look(now_ns, seen)
            due_ns = self._due_ns()
        if not level and self.seen.still(self.look_back_ns) and self.wish <= seen.baseline:
            return _decision(self.desired, due_ns)
        report_ns = (report + 1) * self.REPORT_NS
        return _decision(self.desired, report_ns if due_ns is None else min(report_ns, due_ns))

    def _due_ns(self) -> int | None:
        """When the wish will have lasted long enough; None while it is what there is."""
        delay_ns = self.up_delay_ns if self.sign > 0 else self.down_delay_ns
        return self.since_ns + delay_ns if self.sign else None

    def _look(self, now_ns: int, seen: Observation) -> None:
        wish = ceil(self.seen.mean(self.look_back_ns) / self.target - EDGE)
        self.wish = min(max(wish, seen.baseline), seen.maximum)
        sign = (self.wish > self.desired) - (self.wish < self.desired)
        if sign != self.sign:
            self.sign, self.since_ns = sign, now_ns


RIVALS: Final = (
    Contender(
        "KPA", lambda setup: Kpa(), every_change=True, source="knative/serving@98e5ef90, defaults of config-autoscaler"
    ),
    Contender(
        "KEDA HTTP",
        lambda setup: Hpa(100.0),
        every_change=True,
        source="kedacore/http-add-on@59b2f6a1: 100 pending per replica, cooldown 300 s; HPA: 15 s, 10%, 300 s",
    ),
    Contender(
        "KEDA HTTP, slots",
        lambda setup: Hpa(float(setup.slots)),
        every_change=True,
        source="the same with the target that a careful user would set: the slots of a worker",
    ),
    Contender(
        "Ray Serve",
        lambda setup: RayServe(),
        every_change=True,
        source="ray: serve/autoscaling_policy.py, serve/config.py",
    ),
    Contender(
        "RunPod delay",
        lambda setup: following(QueueDelay(seconds=4.0)),
        idle_timeout_s=5.0,
        source="runpod/docs endpoint-configurations: queue delay 4 s, idle timeout 5 s",
    ),
    Contender(
        "RunPod count",
        lambda setup: following(RequestCount(value=4)),
        source="runpod/docs endpoint-configurations: request count 4; the idle timeout does not apply",
    ),
    Contender(
        "HF Endpoints",
        lambda setup: Hpa(1.5, window_s=20.0, period_s=60.0, tolerance=0.0, cooldown_s=3_600.0, step=1),
        every_change=True,
        source="hf-endpoints-documentation autoscaling: 1.5 pending over 20 s, +1 a minute, 300 s, to zero after 1 h",
    ),
    Contender(
        "Modal",
        lambda setup: following(RequestCount(value=setup.slots)),
        idle_timeout_s=60.0,
        source="modal.com/docs/guide/scale: a container when none is free, scaledown window 60 s",
    ),
    Contender(
        "Baseten",
        lambda setup: Hpa(0.7, window_s=60.0, tolerance=0.0, steady_s=900.0, cooldown_s=900.0),
        every_change=True,
        source="docs.baseten.co autoscaling: 70% of target 1 over 60 s, scale-down delay 900 s",
    ),
    Contender(
        "10 s idle",
        lambda setup: following(RequestCount(value=setup.slots)),
        idle_timeout_s=10.0,
        ring="plain",
        source="Segmind dedicated endpoints: on demand, idle timeout 10 s, round robin over all workers",
    ),
)
