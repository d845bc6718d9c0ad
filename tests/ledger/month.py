"""A month of an account with everything that a statement can show: two endpoints, bursts, a promotion, a start that
failed, time that was absorbed in part, lost workers, a worker that runs on, and hostile names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

from orchestrator.contract.base import DOLLAR_U, SECOND_NS
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u
from orchestrator.core.writes import (
    AccountOpened,
    CreditAdded,
    EndpointSaved,
    IntervalClosed,
    IntervalOpened,
    Posted,
    WorkerEnded,
    WorkerIntended,
    WorkerReady,
    WorkerStarted,
    Write,
)

RATES = {
    ("L40", Tier.BASELINE): 2_670_000,
    ("L40", Tier.AUTOSCALE): 15_264_000,
    ("H100", Tier.BASELINE): 9_000_000,
    ("H100", Tier.AUTOSCALE): 44_640_000,
}
HOSTILE = "</td><script>alert(1)</script>\x1b[31m&\"'"


def at(day: int, hour: int = 0, minute: int = 0, second: int = 0, month: int = 3) -> int:
    """An instant of 2026 in UTC."""
    return int(datetime(2026, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * SECOND_NS


NOW_NS = at(31, 18, 30, 12) + 345_678_901


class Month:
    """Builds the writes of one worker after the other; `history` holds them in order."""

    def __init__(self, wanted: Literal["enabled", "disabled"]) -> None:
        self.serial = 0
        self.wanted: Final = wanted
        self.history: list[tuple[Write, ...]] = [
            (AccountOpened("research", at(20, month=2)), AccountOpened("other", at(20, month=2))),
            (CreditAdded("research", 400 * DOLLAR_U, "k1", "first credit", at(20, month=2)),),
            (CreditAdded("research", 3_000 * DOLLAR_U, "k2", f"March {HOSTILE}", at(2, 9, 12, 44)),),
            (CreditAdded("other", 50 * DOLLAR_U, "k3", "top-up", at(2)),),
            (self._endpoint("sketch", "L40", 1, 4), self._endpoint("llama-70b", "H100", 0, 2)),
        ]

    def _endpoint(self, slug: str, gpu: str, baseline: int, maximum: int) -> EndpointSaved:
        spec = EndpointSpec(
            slug=slug, model="sketch", gpu_type=gpu, baseline=baseline, maximum=maximum, account="research"
        )
        return EndpointSaved(spec, 1, self.wanted, None, at(20, month=2))

    def worker(
        self,
        slug: str,
        gpu: str,
        started_ns: int,
        parts: list[tuple[Tier, int | None]],
        *,
        ready: bool = True,
        source: str = "exit",
        cause: str = "clean",
        detail: str = "exit code 0",
        absorbed: bool = False,
        billed_to_ns: int | None = None,
    ) -> None:
        """`parts` are (tier, end) of its intervals, the last end None for one that runs on."""
        self.serial += 1
        worker = f"{slug}-{self.serial:04d}"
        intent_ns = started_ns - 412_000_000
        writes: list[Write] = [
            WorkerIntended(
                worker, self.serial, self.serial, slug, "research", 1, "sketch", f"GPU-5d8f{self.serial:04x}", gpu,
                False, intent_ns,
            ),
            WorkerStarted(worker, f"c0ffee{self.serial:058x}", started_ns),
        ]  # fmt: skip
        if ready:
            writes.append(WorkerReady(worker, started_ns + 3_140_000_000))
        start_ns = started_ns
        for number, (tier, end_ns) in enumerate(parts, 1):
            last = number == len(parts)
            opened = IntervalOpened(
                f"{worker}.{number}", worker, slug, "research", gpu, tier, RATES[gpu, tier], "2025-seed", start_ns, "b"
            )
            writes.append(opened)
            self._post(writes, opened, end_ns, absorbed, billed_to_ns)
            if end_ns is not None:
                how = source if last else "tier_change"
                writes.append(IntervalClosed(opened.interval_id, end_ns, how, absorbed))  # type: ignore[arg-type]
                start_ns = end_ns
        if parts[-1][1] is not None:
            writes.append(WorkerEnded(worker, start_ns, source, cause, detail))  # type: ignore[arg-type]
        self.history.append(tuple(writes))

    def _post(
        self, writes: list[Write], of: IntervalOpened, end_ns: int | None, absorbed: bool, billed_to_ns: int | None
    ) -> None:
        upto_ns = NOW_NS - 15 * SECOND_NS if end_ns is None else end_ns
        steps = [(upto_ns, absorbed)] if billed_to_ns is None else [(billed_to_ns, False), (upto_ns, True)]
        # A posting long before the end, as the clock makes them: the statement must not care.
        middle = of.start_ns + (steps[0][0] - of.start_ns) // 3
        posted_u = 0
        for upto, not_charged in [(middle, steps[0][1]), *steps]:
            amount = due_u(of.rate_uh, upto - of.start_ns) - posted_u
            if amount > 0:
                writes.append(Posted(of.interval_id, of.account, of.tier, amount, upto, not_charged, upto))
                posted_u += amount


def history(*, over: bool = False) -> list[tuple[Write, ...]]:
    """Batches in the order they would have been written. `over`: nothing runs at the end, and nothing would start."""
    month = Month("disabled" if over else "enabled")
    last_ns = NOW_NS if over else None
    base, auto = Tier.BASELINE, Tier.AUTOSCALE
    month.worker("sketch", "L40", at(26, 8, 0, 3, month=2) + 127_000_001, [(base, at(9, 3, 14, 15) + 926_535_897)],
                 source="exit", cause="gpu_lost", detail=f"Xid 79 {HOSTILE}")  # fmt: skip
    for day in (1, 2, 3, 5, 8, 9, 12, 13, 17, 18, 19, 23, 26, 27, 30):
        start = at(day, 9 + day % 7, 11 * day % 60, 7 * day % 60) + 1_000_003 * day
        month.worker("sketch", "L40", start, [(auto, start + (600 + 97 * day) * SECOND_NS + 31_415_926)])
    month.worker("sketch", "L40", at(9, 3, 14, 2), [(auto, at(9, 3, 14, 16)), (base, last_ns)])
    month.worker("sketch", "L40", at(14, 2, 0, 0), [(auto, at(14, 2, 0, 41))], ready=False, absorbed=True,
                 cause="error", detail="exit code 1: CUDA driver version is insufficient")  # fmt: skip
    month.worker("llama-70b", "H100", at(11, 10, 0, 0), [(auto, at(11, 11, 30, 0))], source="last_seen",
                 cause="host_crash", detail="the host restarted", billed_to_ns=at(11, 11, 10, 0))  # fmt: skip
    month.worker("llama-70b", "H100", at(24, 15, 30, 0), [(auto, at(24, 16, 2, 8) + 55)])
    month.worker("llama-70b", "H100", at(31, 13, 5), [(auto, last_ns)])
    return month.history
