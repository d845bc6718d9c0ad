"""Faults on purpose: what may be done to a worker, so that its recovery can be watched.

Off unless the setting `faults` is on; a lab and the demo have it on. A fault is what the world might do, not a short
cut to its consequences: nothing tells the orchestrator but its own probes, exits and samples.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from orchestrator.contract.base import Frozen
from orchestrator.contract.limits import CommandId, Slug

SLOW_START_S: Final = 15.0
"""By which `slow-start` prolongs one start."""
DROP_NVML_S: Final = 20.0
"""For which `drop-nvml` keeps the GPUs' readings from coming."""


class FaultKind(StrEnum):
    """What is done. The words are those of `gpudeck fault`."""

    KILL = "kill"  # SIGKILL
    HANG = "hang"  # stopped in the middle of everything: SIGSTOP, or a paused container
    SLOW_START = "slow-start"  # killed, and its successor stands still for SLOW_START_S first
    FAIL_HEALTH = "fail-health"  # works, but its health probes fail from now on
    FILL_MEMORY = "fill-memory"  # its memory limit is lowered below what it uses
    DROP_NVML = "drop-nvml"  # no reading of any GPU for DROP_NVML_S; workers are left alone


class InjectFault(Frozen):
    """Do `fault` to a worker of an endpoint, named by label or id; None means the first that is ready."""

    kind: Literal["inject_fault"] = "inject_fault"
    id: CommandId
    slug: Slug
    fault: FaultKind
    worker: str | None = Field(default=None, max_length=200)
