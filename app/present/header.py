"""The title bar and the banner: who we talk to, whether it answers, and what needs attention before anything else."""

from __future__ import annotations

from datetime import UTC

from app.format import clock, money, plain, runway, seconds
from app.present.condition import FeedState
from app.present.text import Line, Span, Tone, clip_line, line, spread
from orchestrator.contract.base import DAY_NS, SECOND_NS
from orchestrator.contract.snapshot import Snapshot


def title_bar(snapshot: Snapshot | None, feed: FeedState, room: int, *, readonly: bool) -> Line:
    """Product, engine, SIMULATED badge and address at the left; connection at the right. At most `room` cells."""
    left: list[Span] = [Span("▌", Tone.ACCENT), Span(" gpudeck", Tone.STRONG)]
    if snapshot is not None:
        engine_tone = Tone.MUTED if snapshot.engine.ok else Tone.FAILED
        left.append(Span(f"  {snapshot.engine.kind.value}", engine_tone))
        if snapshot.lab is not None:
            left.extend((Span("  "), Span(f" SIMULATED {snapshot.lab.speed}× ", Tone.BADGE_WARNING)))
            left.append(Span(f"  {_lab_time(snapshot)}", Tone.STRONG))
        elif snapshot.simulated_gpus:
            left.extend((Span("  "), Span(" SIMULATED ", Tone.BADGE_WARNING)))
        if readonly:
            left.extend((Span("  "), Span(" READ-ONLY ", Tone.BADGE)))
        if room >= 78 and snapshot.lab is None:
            left.append(Span(f"  {plain(snapshot.gateway_url)}", Tone.PLAIN))
    return spread(clip_line(line(*left), room), line(connection(snapshot, feed, room), " "), room)


def _lab_time(snapshot: Snapshot) -> str:
    """`day 2 06:15`, in UTC: by the lab's own clock, whose days begin at midnight."""
    days = snapshot.taken_at_ns // DAY_NS - snapshot.started_at_ns // DAY_NS
    return f"day {days + 1} {clock(snapshot.taken_at_ns, UTC)[:5]}"


def connection(snapshot: Snapshot | None, feed: FeedState, room: int = 120) -> Line:
    """`● live`, `‖ paused`, `◌ stale 4 s` or `✖ disconnected 12 s`, with uptime where there is room."""
    if feed.reason is not None:
        return line(Span(f"✖ disconnected {seconds(feed.silent_s)}", Tone.FAILED))
    if snapshot is None:
        return line(Span("◐ connecting", Tone.STARTING))
    if feed.stale:
        return line(Span(f"◌ stale {seconds(feed.silent_s)}", Tone.STARTING))
    if feed.paused:
        return line(Span("‖ paused (space goes on)", Tone.STARTING))
    if snapshot.stopping:
        return line(Span("◍ stopping", Tone.DRAINING))
    up = seconds((snapshot.taken_at_ns - snapshot.started_at_ns) // SECOND_NS)
    extra = f"up {up} · v{snapshot.version}  " if room >= 100 else ""
    return line(Span(extra, Tone.FAINT), Span("● live", Tone.BUSY))


def banner(snapshot: Snapshot | None, feed: FeedState) -> Span | None:
    """The one thing that needs attention now, worst first; None when nothing does. Tone FAILED or STARTING."""
    if snapshot is None:
        return (
            None if feed.reason is None else Span(f"Cannot reach the orchestrator: {plain(feed.reason)}", Tone.FAILED)
        )
    if feed.reason is not None:
        return Span(f"Connection lost: {plain(feed.reason)}. What you see is the last known state.", Tone.FAILED)
    if not snapshot.ledger_ok:
        return Span(f"Ledger: {plain(snapshot.ledger_problem or 'unavailable')}", Tone.FAILED)
    if not snapshot.engine.ok:
        return Span(f"Engine {snapshot.engine.kind.value}: {plain(snapshot.engine.detail)}", Tone.FAILED)
    return _credit(snapshot)


def _credit(snapshot: Snapshot) -> Span | None:
    for account in snapshot.accounts:
        if account.suspended:
            text = (
                f"Credit of {plain(account.name)} is below {money(account.floor_u)}: its endpoints are stopped. "
                "Top up (t), then enable them (d)."
            )
            return Span(text, Tone.FAILED)
    for account in snapshot.accounts:
        if account.warned:
            left = runway(account.runway.current_h)
            return Span(
                f"Credit of {plain(account.name)} lasts {left} at the current burn. Top up with t.", Tone.STARTING
            )
    return None
