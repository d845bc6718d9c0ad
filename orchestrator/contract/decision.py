"""The decision journal as front ends see it: which rule wanted how many workers, and on what numbers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from orchestrator.contract.base import Frozen, Received
from orchestrator.contract.limits import Slug


class AskDecisions(Frozen):
    """The newest `last` entries of an endpoint up to `until_ns` (None: up to now).

    With `replay` each policy is asked again from the inputs that were kept, and these are part of the answer.
    """

    kind: Literal["decisions"] = "decisions"
    slug: Slug
    until_ns: int | None = Field(default=None, ge=0, lt=1 << 63)
    last: int = Field(default=20, ge=1, le=1_000)
    replay: bool = False


class DecisionInputs(Received):
    """What the policy went by: its settings, what it remembered, and what it saw (core/scaling/view.py)."""

    policy: dict[str, JsonValue]
    memory: dict[str, JsonValue]
    seen: dict[str, JsonValue]


class DecisionLine(Received):
    """Another number of workers wanted or, with an `obstacle`, something wanted that is not done."""

    at_ns: int
    before: int | None
    """None for the first decision of an orchestrator's life."""
    desired: int
    asked: int
    """What the rule asked for, before it was clamped to [baseline, maximum]."""
    live: int
    rule: str
    why: str
    sentence: str
    """`why` with places for `numbers`."""
    numbers: dict[str, int | float]
    obstacle: str | None = None
    """maximum, no_gpu, gpu_busy, backoff, engine, ledger or credit."""
    inputs: DecisionInputs | None = None
    same: bool | None = None
    """Whether the policy, asked again, decides the same. None when it was not asked."""


class Decisions(Received):
    """Oldest first."""

    kind: Literal["decisions_of"] = "decisions_of"
    slug: str
    lines: tuple[DecisionLine, ...]
