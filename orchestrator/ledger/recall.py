"""Reads what a study of an endpoint needs from the ledger's file, beside the orchestrator or without one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.ledger.files import open_read_only
from orchestrator.ledger.opening import plain
from orchestrator.ledger.ports import LedgerError

COLD_STARTS_READ: Final = 200


@dataclass(frozen=True, slots=True)
class Recalled:
    """An endpoint as the ledger has it. The environment is left out: it may hold secrets."""

    spec: EndpointSpec
    created_ns: int
    seen_ns: int
    """The newest instant at which the ledger knows of a worker, anybody's: gpudeck was there then."""
    cold_starts_ns: tuple[int, ...]
    """The newest COLD_STARTS_READ starts that became ready, from intent to ready, oldest first."""


def recall(ledger_file: Path, slug: str) -> Recalled:
    """Raises KeyError with the slugs there are for an unknown one, LedgerError when the file cannot be read."""
    try:
        with closing(open_read_only(ledger_file)) as connection:
            row = connection.execute(
                "SELECT json_set(spec, '$.env', json('{}')), created_ns FROM endpoint"
                " WHERE slug = ? AND removed_ns IS NULL",
                (slug,),
            ).fetchone()
            if row is None:
                known = connection.execute("SELECT slug FROM endpoint WHERE removed_ns IS NULL ORDER BY slug")
                raise KeyError(", ".join(name for (name,) in known) or "none yet")
            starts = connection.execute(
                "SELECT ready_ns - intent_ns FROM worker WHERE endpoint = ? AND ready_ns IS NOT NULL AND intent_ns >= ?"
                " ORDER BY serial DESC LIMIT ?",
                (slug, row[1], COLD_STARTS_READ),
            ).fetchall()
            (seen_ns,) = connection.execute("SELECT max(coalesce(end_ns, last_seen_ns)) FROM interval").fetchone()
    except sqlite3.Error as failure:
        raise LedgerError(plain(f"{ledger_file} cannot be read: {failure}")) from failure
    spec = EndpointSpec.model_validate_json(row[0])
    return Recalled(spec, row[1], seen_ns or row[1], tuple(max(0, span_ns) for (span_ns,) in reversed(starts)))
