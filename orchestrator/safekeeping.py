"""Backup and restore of the ledger while no orchestrator runs. The data directory's lock makes sure that none does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.clock import system_now
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.places import Places
from orchestrator.ledger import backups
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.sealing import sealer_of, survey
from orchestrator.ledger.store import SqliteLedger
from orchestrator.lock import DirectoryLock


def back_up(places: Places) -> dict[str, Any]:
    """Make a backup; what it is. Raises Locked, LedgerError, OSError."""
    if not places.ledger_file.exists():
        raise LedgerError(f"{places.ledger_file} does not exist: there is nothing to back up")
    with _alone(places), closing(SqliteLedger(places.ledger_file, system_now())) as ledger:
        made = ledger.back_up().result()
    return {"path": str(made), "size_bytes": made.stat().st_size, "head": backups.examine(made).head}


def restore(places: Places, file: str) -> dict[str, Any]:
    """Put the backup `file` in the ledger's place; what happened. Raises Locked, LedgerError, OSError."""
    if not file:
        known = backups.list_backups(backups.backups_of(places.ledger_file))
        shown = ", ".join(str(path) for path in known) or "none"
        raise ValueError(f"restore: name the backup to go back to (there are: {shown})")
    backup = Path(file).expanduser().absolute()
    if not backup.is_file():
        raise LedgerError(f"{backup} is no file")
    if places.ledger_file.exists() and backup.samefile(places.ledger_file):
        raise LedgerError(f"{backup} is the ledger itself")
    with _alone(places):
        done = backups.restore(backup, places.ledger_file, system_now()())
    last_ns = done.examined.last_ns
    lost = survey(done.path, sealer_of(done.path)).lost
    return {
        "ledger": str(done.path),
        "from": str(backup),
        "aside": None if done.aside is None else str(done.aside),
        "head": done.examined.head,
        "last": None if last_ns is None else datetime.fromtimestamp(last_ns // SECOND_NS, UTC).isoformat(),
        "secrets_lost": lost,
    }


@contextmanager
def _alone(places: Places) -> Iterator[None]:
    lock = DirectoryLock(places.lock_file)
    try:
        yield
    finally:
        lock.release()
