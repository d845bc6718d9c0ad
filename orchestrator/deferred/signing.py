"""The master key that webhook secrets are derived from: 32 bytes in a file of their own, so that no table, backup or
snapshot holds a secret."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from orchestrator.ledger.files import make_private

KEY_BYTES: Final = 32


class KeyUnusable(Exception):
    """The key file cannot be read or made. The message names it."""


def read_or_make(path: Path) -> bytes:
    """The key in `path`, made when there is none: whole or not at all, and never over one that is there."""
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise KeyUnusable(f"{path}: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise KeyUnusable(f"{path}: it has {len(key)} bytes and must have {KEY_BYTES}; restore it, or remove it")
    return key


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    make_private(draft)
    try:
        with draft.open("wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return  # somebody was faster: theirs counts
    finally:
        draft.unlink()
