"""The report of a tour, built from what was seen: snapshots, replies, bill and verification. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from app.demo.timeline import Timeline
from app.format import clock, latency, money, rate_per_hour, seconds
from app.loadtest.engine import LoadReport
from orchestrator.contract.base import DOLLAR_U
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.query import Bill, Verification
from orchestrator.contract.snapshot import Snapshot

PHASES = ("created_ms", "started_ms", "healthy_ms", "first_byte_ms")


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that the tour gathered. `left_running` names processes that outlived the drain (none, one hopes)."""

    spec: EndpointSpec
    snapshot: Snapshot
    load: LoadReport
    timeline: Timeline
    bill: Bill
    verification: Verification
    left_running: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """`ok` is True only if every check holds; `checks` says which."""

    checks: dict[str, bool]
    data: dict[str, Any]

    @property
    def ok(self) -> bool:
        return all(self.checks.values())

    def document(self) -> dict[str, Any]:
        """The one JSON object of `gpudeck demo --headless -o json`."""
        return {"ok": self.ok, "checks": self.checks, **self.data}


def dollars(amount_u: int) -> str:
    """Exact dollars with six decimals, such as `0.066750`."""
    sign = "-" if amount_u < 0 else ""
    return f"{sign}{abs(amount_u) // DOLLAR_U}.{abs(amount_u) % DOLLAR_U:06d}"


def build(seen: Seen) -> Report:
    """Judge and describe a tour."""
    load, timeline, spec = seen.load, seen.timeline, seen.spec
    checks = {
        "every_request_succeeded": load.sent > 0 and load.failed == 0,
        "scaled_to_maximum": timeline.most_ready >= spec.maximum,
        "never_above_maximum": all(sum(count.workers) <= spec.maximum for count in timeline.counts),
        "came_back_to_baseline": timeline.came_back_to(spec.baseline),
        "ledger_verified": seen.verification.ok,
        "nothing_left_running": not seen.left_running,
    }
    data = {
        "engine": seen.snapshot.engine.kind.value,
        "engine_detail": seen.snapshot.engine.detail,
        "simulated_gpus": seen.snapshot.simulated_gpus,
        "gpus": [{"type": gpu.type, "name": gpu.name, "simulated": gpu.simulated} for gpu in seen.snapshot.gpus],
        "endpoint": spec.model_dump(mode="json"),
        "requests": {
            "sent": load.sent,
            "succeeded": load.succeeded,
            "failed": load.failed,
            "failures": dict(load.failures),
            "waited_for_a_cold_start": load.cold_starts,
        },
        "per_worker": dict(load.per_worker),
        "latency_ms": asdict(load.latency_ms),
        "queue_ms": asdict(load.queue_ms),
        "workers_over_time": [list(count) for count in timeline.counts],
        "cold_starts": _cold_starts(timeline),
        "ledger": [line.model_dump(mode="json") for line in seen.bill.lines],
        "price_book": seen.snapshot.price_book,
        "total_u": seen.bill.total_u,
        "total_dollars": dollars(seen.bill.total_u),
        "absorbed_u": seen.bill.absorbed_u,
        "topped_up_u": seen.bill.topped_up_u,
        "balance_u": seen.bill.balance_u,
        "balance_dollars": dollars(seen.bill.balance_u),
        "ledger_verified": seen.verification.ok,
        "verification": seen.verification.model_dump(mode="json"),
        "left_running": list(seen.left_running),
    }
    return Report(checks, data)


def _cold_starts(timeline: Timeline) -> list[dict[str, Any]]:
    return [
        {"worker": worker.id, "label": worker.label, **{phase: getattr(worker.cold_start, phase) for phase in PHASES}}
        for worker in timeline.workers.values()
    ]


def rows(report: Report) -> list[tuple[str, str]]:
    """The report for people: names and values."""
    data = report.data
    requests = data["requests"]
    workers = "containers" if data["engine"] == "docker" else "processes"
    simulated = f" (SIMULATED: real {workers}, declared GPUs)" if data["simulated_gpus"] else ""
    spec = EndpointSpec.model_validate(data["endpoint"])
    shares = ", ".join(f"{worker} {count}" for worker, count in data["per_worker"].items())
    lines = [
        ("engine", data["engine"]),
        ("gpus", ", ".join(gpu["type"] for gpu in data["gpus"]) + simulated),
        ("endpoint", f"{spec.slug} ({spec.setup} × {spec.gpu_type})"),
        ("requests", f"{requests['succeeded']} of {requests['sent']} succeeded ({shares})"),
        ("latency", ", ".join(f"{name} {_ms(value)}" for name, value in data["latency_ms"].items())),
    ]
    for start in data["cold_starts"]:
        phases = ", ".join(f"{phase[:-3].replace('_', ' ')} {latency(start[phase])}" for phase in PHASES)
        lines.append((f"cold start {start['label']}", phases))
    lines.extend((f"{at_s:7.2f} s", f"{starting} starting, {ready} ready, {draining} draining")
                 for at_s, starting, ready, draining in data["workers_over_time"])  # fmt: skip
    for line in data["ledger"]:
        text = (
            f"{line['label']} {line['tier']} {rate_per_hour(line['rate_uh'])} from {clock(line['start_ns'])} for "
            f"{seconds(int(line['seconds']))}: ${dollars(line['amount_u'])}"
        )
        lines.append(("ledger", text))
    lines.append(("total", f"${data['total_dollars']} (balance {money(data['balance_u'])})"))
    lines.extend((name.replace("_", " "), "yes" if held else "NO") for name, held in report.checks.items())
    return lines


def _ms(value: float | None) -> str:
    return latency(None if value is None else round(value))
