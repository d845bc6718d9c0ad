"""How each state looks: a glyph, a word and a tone, never a colour alone."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from app.present.text import Span, Tone
from orchestrator.contract.snapshot import EndpointState, EndpointView, Tier, WorkerState, WorkerView


class Mark(NamedTuple):
    """A state as it is drawn."""

    glyph: str
    word: str
    tone: Tone

    def spans(self, gap: str = " ") -> tuple[Span, ...]:
        return (Span(self.glyph, self.tone), Span(gap + self.word, self.tone))


STARTING: Final = Mark("◐", "starting", Tone.STARTING)
IDLE: Final = Mark("○", "idle", Tone.IDLE)
BUSY: Final = Mark("●", "busy", Tone.BUSY)
DRAINING: Final = Mark("◌", "draining", Tone.DRAINING)
STOPPING: Final = Mark("◍", "stopping", Tone.DRAINING)
STOPPED: Final = Mark("·", "stopped", Tone.FAINT)
FAILED: Final = Mark("✖", "failed", Tone.FAILED)

_WORKER: Final = {
    WorkerState.STARTING: STARTING,
    WorkerState.DRAINING: DRAINING,
    WorkerState.STOPPING: STOPPING,
    WorkerState.STOPPED: STOPPED,
    WorkerState.FAILED: FAILED,
}

_ENDPOINT: Final = {
    EndpointState.STARTING: Mark("◐", "starting", Tone.STARTING),
    EndpointState.SERVING: Mark("●", "serving", Tone.BUSY),
    EndpointState.BACKOFF: Mark("↻", "backoff", Tone.STARTING),
    EndpointState.FAILED: Mark("✖", "failed", Tone.FAILED),
    EndpointState.DRAINING: Mark("◌", "draining", Tone.DRAINING),
    EndpointState.DISABLED: Mark("·", "disabled", Tone.MUTED),
    EndpointState.SUSPENDED: Mark("■", "suspended", Tone.FAILED),
}

LEVELS: Final[dict[Literal["info", "good", "warning", "error"], Mark]] = {
    "info": Mark("·", "info", Tone.MUTED),
    "good": Mark("✔", "good", Tone.BUSY),
    "warning": Mark("▲", "warning", Tone.STARTING),
    "error": Mark("✖", "error", Tone.FAILED),
}


def worker_mark(worker: WorkerView) -> Mark:
    """A ready worker is busy or idle; every other state has its own mark."""
    if worker.state is WorkerState.READY:
        return BUSY if worker.running else IDLE
    return _WORKER[worker.state]


def endpoint_mark(endpoint: EndpointView) -> Mark:
    """A serving endpoint without workers (baseline 0, no traffic) reads as idle: it serves, on demand."""
    if endpoint.state is EndpointState.SERVING and not present_workers(endpoint):
        return Mark("○", "idle", Tone.IDLE)
    return _ENDPOINT[endpoint.state]


def tier_letter(worker: WorkerView) -> Span:
    """B for a worker billed at the baseline rate, A at the autoscale rate, nothing while it is not billed."""
    if worker.tier is Tier.BASELINE:
        return Span("B", Tone.MUTED)
    if worker.tier is Tier.AUTOSCALE:
        return Span("A", Tone.AUTO)
    return Span("–", Tone.FAINT)


def present_workers(endpoint: EndpointView) -> list[WorkerView]:
    """The workers that exist now, in their order: those stopped are history, failed ones stay visible."""
    return [worker for worker in endpoint.workers if worker.state is not WorkerState.STOPPED]
