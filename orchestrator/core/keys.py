"""API keys in the core: which of them count, and which are forgotten. Every `gpudeck call` makes one for a minute."""

from __future__ import annotations

from typing import Final

from orchestrator.core.effects import WithdrawKey
from orchestrator.core.state import Draft

KEYS_MAX: Final = 1_000
"""Keys in force at a time."""
KEYS_OVER_KEPT: Final = 200
"""Of those that are over, revoked or expired, so many stay known, the newest. The ledger keeps all of them."""


def active(draft: Draft) -> int:
    """How many keys are in force now."""
    return sum(1 for key in draft.keys.values() if key.state_at(draft.now_ns) == "active")


def forget_old(draft: Draft) -> None:
    """Drop those that are over beyond the kept: state, snapshots and the routing table must not grow with every key
    that ever was."""
    over = [key.id for key in draft.keys.values() if key.state_at(draft.now_ns) != "active"]
    for key_id in over[:-KEYS_OVER_KEPT]:
        del draft.keys[key_id]
        draft.do(WithdrawKey(key_id))
