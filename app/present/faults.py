"""The fault console: what can be done to a worker, and how each fault was survived."""

from __future__ import annotations

from datetime import tzinfo
from typing import Final

from app.format import clock, count, duration, money, plain
from app.present.recovery import Recovery, Step
from app.present.text import BLANK, Line, Span, Tone, clip_line, line, on_ground, pad, spread, wrap
from orchestrator.contract.faults import DROP_NVML_S, SLOW_START_S, FaultKind

FAULTS: Final[tuple[tuple[FaultKind, str], ...]] = (
    (FaultKind.KILL, "SIGKILL, as the kernel or a person would"),
    (FaultKind.HANG, "Stopped where it stands; it keeps its GPU and its connections"),
    (FaultKind.SLOW_START, f"Killed, and its successor stands still for {SLOW_START_S:g} s first"),
    (FaultKind.FAIL_HEALTH, "Goes on working, but its health probes fail"),
    (FaultKind.FILL_MEMORY, "Its memory limit falls below what it uses"),
    (FaultKind.DROP_NVML, f"No GPU is read for {DROP_NVML_S:g} s; workers are left alone"),
)
OFF: Final = (
    "Faults are switched off here.\nPut `faults = true` into the settings file, or GPUDECK_FAULTS=true into the "
    "environment, and start gpudeck again. In a lab (`gpudeck demo --lab`) they are on."
)
NOTHING_YET: Final = (
    "No fault yet.\nChoose one and press enter. It is done to a worker for real; what you see here is what the "
    "orchestrator noticed by itself, and what it did about it."
)
_NAME: Final = 14
_STEP: Final = 17


def menu_rows(chosen: int, worker: str | None, room: int) -> list[Line]:
    """The faults, one marked, each with what it does (where there is no room for that, the marked one alone, below),
    and whom the next one hits."""
    wide = room > _NAME + max(len(what) for _, what in FAULTS)
    lines: list[Line] = []
    for index, (kind, what) in enumerate(FAULTS):
        mark = Span("▌" if index == chosen else " ", Tone.ACCENT)
        row = line(mark, Span(f"{kind:<{_NAME}}", Tone.STRONG), Span(what if wide else "", Tone.MUTED))
        lines.append(on_ground(pad(row, room), Tone.SELECTED) if index == chosen else clip_line(row, room))
    kind, what = FAULTS[chosen]
    whom = "no worker" if kind is FaultKind.DROP_NVML else worker or "the first that is ready"
    hits = line(Span(" hits ", Tone.MUTED), Span(plain(whom), Tone.STRONG))
    told = [] if wide else [line(" ", each) for each in wrap(what, room - 1, Tone.MUTED)]
    return [*lines, BLANK, *told, clip_line(hits, room)]


def recovery_rows(told: tuple[Recovery, ...], now_ns: int, room: int, zone: tzinfo | None) -> list[Line]:
    """Each fault with its steps, the newest first."""
    lines: list[Line] = []
    for one in reversed(told):
        lines.extend([*([BLANK] if lines else []), *_recovery(one, now_ns, room, zone)])
    return lines


def outcome(told: Recovery, now_ns: int) -> Span:
    """In a word or two: how it stands."""
    if told.failure is not None:
        return Span("✖ not done", Tone.FAILED)
    if told.ready_ns is not None:
        return Span(f"✔ healed in {duration(told.ready_ns - told.at_ns)}", Tone.BUSY)
    return Span(f"◐ {duration(now_ns - told.at_ns)}", Tone.STARTING)


def account(told: Recovery) -> str:
    """What the fault cost, and whom."""
    return (
        f"billed {money(told.billed_u)} · absorbed {money(told.absorbed_u)} · "
        f"served {count(told.served)} · failed {count(told.failed)}"
    )


def _recovery(told: Recovery, now_ns: int, room: int, zone: tzinfo | None) -> list[Line]:
    head = line(
        Span(told.fault.value, Tone.STRONG),
        Span(f"  {told.label}" if told.label else "", Tone.PLAIN),
        Span(f"  {clock(told.at_ns, zone)}", Tone.FAINT),
    )
    lines = [spread(head, line(outcome(told, now_ns)), room)]
    if told.failure is not None:
        return [*lines, *wrap(told.failure, room, Tone.FAILED)]
    awaited = False
    for step in told.steps:
        lines.append(clip_line(_step(step, told.at_ns, now_ns, awaited=awaited), room))
        awaited = awaited or step.at_ns is None
    return [*lines, clip_line(line("  ", Span(account(told), Tone.MUTED)), room)]


def _step(step: Step, since_ns: int, now_ns: int, *, awaited: bool) -> Line:
    """`awaited`: a step before this one is not reached either."""
    if step.at_ns is None:
        mark, when = Span("◌ ", Tone.FAINT), "" if awaited else f"{duration(now_ns - since_ns)} …"
        return line("  ", mark, Span(f"{step.name:<{_STEP}}", Tone.FAINT), Span(f"{when:>10}", Tone.STARTING))
    return line(
        "  ", Span("● ", Tone.BUSY), f"{step.name:<{_STEP}}",
        Span(f"{'+' + duration(step.at_ns - since_ns):>10}", Tone.PLAIN), Span(f"  {step.note}", Tone.MUTED),
    )  # fmt: skip
