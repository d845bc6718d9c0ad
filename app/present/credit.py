"""Credit after a top-up: the balance, and how long it lasts at three burns."""

from __future__ import annotations

from typing import Final

from app.format import money, runway
from app.present.text import GOOD, WARNING, Line, Span, Tone, clip_line, line
from orchestrator.contract.snapshot import AccountView, EndpointState, Snapshot

_OFF: Final = frozenset({EndpointState.DISABLED, EndpointState.SUSPENDED, EndpointState.FAILED, EndpointState.DRAINING})
_NAME_ROOM, _ROOM = 18, 14


def burns_uh(snapshot: Snapshot, account: AccountView) -> tuple[int, int, int]:
    """Micro-dollars per hour of the account's enabled endpoints: at least, now, at most."""
    prices = {price.gpu_type: price.baseline_uh for price in snapshot.prices}
    enabled = [e for e in snapshot.endpoints if e.spec.account == account.name and e.state not in _OFF]
    baseline_uh = sum(e.spec.baseline * prices.get(e.spec.gpu_type, 0) for e in enabled)
    return baseline_uh, account.per_hour_u, sum(e.cost.worst_case_per_hour_u for e in enabled)


def hours(balance_u: int, floor_u: int, burn_uh: int) -> float | None:
    """Hours until the floor; None when nothing is spent."""
    return max(balance_u - floor_u, 0) / burn_uh if burn_uh > 0 else None


def rows(snapshot: Snapshot, account: AccountView, amount_u: int | None, room: int) -> list[Line]:
    """Now and after adding `amount_u`; without an amount the second column stays empty."""
    after_u = None if amount_u is None else account.balance_u + amount_u
    lines = [_row("", "now", "after" if after_u is not None else "", Tone.FAINT, Tone.FAINT)]
    lines.append(
        _row(
            "balance",
            money(account.balance_u),
            "" if after_u is None else money(after_u),
            Tone.PLAIN if account.balance_u >= account.floor_u else WARNING,
            Tone.STRONG,
        )
    )
    names = ("at baseline", "at current burn", "at worst case")
    for name, burn_uh in zip(names, burns_uh(snapshot, account), strict=True):
        now = runway(hours(account.balance_u, account.floor_u, burn_uh))
        after = "" if after_u is None else runway(hours(after_u, account.floor_u, burn_uh))
        lines.append(_row(name, now, after, Tone.MUTED, GOOD))
    return [clip_line(each, room) for each in lines]


def _row(name: str, now: str, after: str, now_tone: Tone, after_tone: Tone) -> Line:
    return line(
        Span(f"{name:<{_NAME_ROOM}}", Tone.MUTED),
        Span(f"{now:>{_ROOM}}", now_tone),
        Span(f"{after:>{_ROOM}}", after_tone),
    )
