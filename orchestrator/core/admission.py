"""May this endpoint exist as specified? Limits, model, price, GPUs and credit, checked in that order.

Used by create, update, enable and by the quote shown while the form is filled in, so that what the form promises is
what the command does.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.contract.command import RefusalCode
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.query import Quote
from orchestrator.core import charging, credit
from orchestrator.core.amounts import at_least, at_most
from orchestrator.core.placement import total_of
from orchestrator.core.state import Draft


@dataclass(frozen=True, slots=True)
class Objection:
    """Why not: a stable code, a sentence with the numbers, and the field it is about."""

    code: RefusalCode
    message: str
    field: str
    needed_u: int | None = None
    available_u: int | None = None


def object_to(draft: Draft, spec: EndpointSpec, *, replaces: str | None) -> Objection | None:
    """The first objection to `spec` as a new endpoint, or in place of the endpoint `replaces`."""
    return _object_to_limits(draft, spec, replaces) or _object_to_gpus(draft, spec) or _object_to_credit(draft, spec)


def _object_to_limits(draft: Draft, spec: EndpointSpec, replaces: str | None) -> Objection | None:
    if spec.account not in draft.accounts:
        known = ", ".join(draft.accounts)
        return Objection(RefusalCode.NOT_FOUND, f"account: no account {spec.account!r} (there are: {known})", "account")
    if replaces is None and spec.slug in draft.endpoints:
        return Objection(RefusalCode.EXISTS, f"slug: an endpoint {spec.slug} exists already on this host", "slug")
    limit = draft.rules.workers_max
    if spec.maximum > limit:
        message = (
            f"maximum: {spec.maximum} workers, the limit is {limit}; the operator can raise workers_max in the settings"
        )
        return Objection(RefusalCode.LIMIT, message, "maximum")
    model = draft.rules.models.get(spec.model)
    if model is None:
        known = ", ".join(sorted(draft.rules.models))
        return Objection(RefusalCode.NOT_FOUND, f"model: no model {spec.model!r} (there are: {known})", "model")
    missing = [name for name in model.required_env if not {**model.env, **spec.env}.get(name)]
    if missing:
        names = ", ".join(missing)
        return Objection(RefusalCode.INVALID, f"env: model {model.name} needs {names}; set it with NAME=value", "env")
    return None


def _object_to_gpus(draft: Draft, spec: EndpointSpec) -> Objection | None:
    """Sum of baselines <= GPUs of the type, over all enabled endpoints of the host."""
    if draft.book.price(spec.gpu_type) is None:
        known = ", ".join(draft.book.prices)
        message = f"gpu_type: {spec.gpu_type!r} has no price in {draft.book.name} (priced: {known})"
        return Objection(RefusalCode.NOT_FOUND, message, "gpu_type")
    total = total_of(draft.state.gpus, spec.gpu_type)
    if total == 0:
        there = sorted({g.type for g in draft.state.gpus if g.state != "lost"})
        message = f"gpu_type: this host has no {spec.gpu_type} (it has: {', '.join(there) or 'no GPU at all'})"
        return Objection(RefusalCode.GPU, message, "gpu_type")
    reserved = reserved_elsewhere(draft, spec)
    if spec.baseline + reserved > total:
        message = (
            f"baseline: {spec.baseline} x {spec.gpu_type} wanted, {total} on this host, {reserved} reserved for the "
            f"baselines of other endpoints, so at most {max(0, total - reserved)} are left"
        )
        return Objection(RefusalCode.GPU, message, "baseline")
    return None


def reserved_elsewhere(draft: Draft, spec: EndpointSpec) -> int:
    """GPUs of the type promised to baselines of the other enabled endpoints."""
    return sum(
        e.spec.baseline
        for e in draft.endpoints.values()
        if e.enabled and e.spec.gpu_type == spec.gpu_type and e.slug != spec.slug
    )


def _object_to_credit(draft: Draft, spec: EndpointSpec) -> Objection | None:
    """Rule R22/A1: balance >= max($10, 24 h of all enabled baselines after the change); a decrease always passes."""
    after_uh = baselines_after_uh(draft, spec)
    current = draft.endpoints.get(spec.slug)
    if current is not None and current.enabled and after_uh <= charging.burn_of(draft, spec.account).baseline_uh:
        return None
    needed = credit.gate_u(after_uh)
    balance = charging.live_balance_u(draft, spec.account)
    if balance >= needed:
        return None
    message = (
        f"credit: {at_least(needed)} needed (24 h of {at_least(after_uh)}/h for all baselines of account "
        f"{spec.account}, at least $10), {at_most(balance)} there; a top-up of {at_least(needed - balance)} would do"
    )
    return Objection(RefusalCode.CREDIT, message, "baseline", needed_u=needed, available_u=balance)


def baselines_after_uh(draft: Draft, spec: EndpointSpec) -> int:
    """Hourly baseline rate of the owner's enabled endpoints as they would be with `spec` among them."""
    total = 0
    specs = [e.spec for e in draft.endpoints.values() if e.enabled and e.slug != spec.slug]
    for other in [*specs, spec]:
        price = draft.book.price(other.gpu_type)
        if other.account == spec.account and price is not None:
            total += credit.baseline_uh(other, price)
    return total


def quote(draft: Draft, spec: EndpointSpec) -> Quote:
    """Prices and verdict for the form; zeros where a price is not known."""
    price = draft.book.price(spec.gpu_type)
    after_uh = baselines_after_uh(draft, spec)
    replaces = spec.slug if spec.slug in draft.endpoints else None
    objection = object_to(draft, spec, replaces=replaces)
    total = total_of(draft.state.gpus, spec.gpu_type)
    known = spec.account in draft.accounts
    return Quote(
        baseline_per_hour_u=credit.baseline_uh(spec, price) if price else 0,
        autoscale_per_hour_each_u=price.autoscale_uh if price else 0,
        worst_case_per_hour_u=credit.worst_case_uh(spec, price) if price else 0,
        gate_u=credit.gate_u(after_uh),
        warning_at_u=credit.WARNING_HOURS * after_uh,
        balance_u=charging.live_balance_u(draft, spec.account) if known else 0,
        gpus_total=total,
        gpus_free=max(0, total - reserved_elsewhere(draft, spec)),
        refusal=objection.message if objection else None,
        refusal_field=objection.field if objection else None,
    )
