"""Credit rules: the 24 h gate, the 10 h warning, the $10 floor, and the runways shown for them."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.contract.base import DOLLAR_U, HOUR_NS, SECOND_NS
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.snapshot import RunwayView
from orchestrator.core.pricing import Price

FLOOR_U = 10 * DOLLAR_U
"""Below this balance all endpoints of the owner stop; exactly $10.00 stays on."""
GATE_HOURS = 24
WARNING_HOURS = 10
BURN_SMOOTHING_NS = 60 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Burn:
    """Micro-dollars per hour of one account: what it pays now, at least, and at most."""

    baseline_uh: int
    current_uh: int
    worst_case_uh: int


def gate_u(baseline_uh: int) -> int:
    """Balance needed to create, update or enable when the owner's enabled baselines cost `baseline_uh` in sum."""
    return max(FLOOR_U, GATE_HOURS * baseline_uh)


def baseline_uh(spec: EndpointSpec, price: Price) -> int:
    return spec.baseline * price.baseline_uh


def worst_case_uh(spec: EndpointSpec, price: Price) -> int:
    """b x baseline + (m - b) x autoscale: shown before creating and never exceeded (features.md R25)."""
    return spec.baseline * price.baseline_uh + (spec.maximum - spec.baseline) * price.autoscale_uh


def smooth_uh(previous_uh: int, current_uh: int, elapsed_ns: int) -> int:
    """Burn smoothed over a minute, so that a burst of seconds does not fire the warning."""
    share = min(elapsed_ns, BURN_SMOOTHING_NS)
    return previous_uh + (current_uh - previous_uh) * share // BURN_SMOOTHING_NS


def hours_left(balance_u: int, per_hour_u: int) -> float | None:
    """Hours until the floor at `per_hour_u`; None when nothing is spent."""
    if per_hour_u <= 0:
        return None
    return max(0, balance_u - FLOOR_U) / per_hour_u


def runway(balance_u: int, burn: Burn) -> RunwayView:
    return RunwayView(
        baseline_h=hours_left(balance_u, burn.baseline_uh),
        current_h=hours_left(balance_u, burn.current_uh),
        worst_case_h=hours_left(balance_u, burn.worst_case_uh),
    )


def per_hour_u(amount_u: int, elapsed_ns: int) -> int:
    """Average rate of `amount_u` spent over `elapsed_ns`."""
    return amount_u * HOUR_NS // elapsed_ns if elapsed_ns > 0 else 0
