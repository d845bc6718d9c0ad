"""The common ground of all contract models: frozen, strict about unknown fields, compact on the wire."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

PROTOCOL_VERSION: Final = 2
"""Raised when a frame changes its meaning. The handshake refuses a peer that speaks another version."""

SECOND_NS: Final = 1_000_000_000
HOUR_NS: Final = 3_600 * SECOND_NS
DAY_NS: Final = 24 * HOUR_NS
DOLLAR_U: Final = 1_000_000


class Frozen(BaseModel):
    """An immutable value. Equal fields make equal values, so an unchanged panel does not repaint."""

    # hide_input_in_errors: the text of a validation error ends up in logs, and the input may hold secrets.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, hide_input_in_errors=True)


class Received(Frozen):
    """A value read by a newer peer's older sibling: unknown fields are ignored, never fatal (snapshots only)."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
