"""The decision journal in `metrics.db`: entries of `core.decisions`, with what it takes to decide the same again.

Kept for KEPT_NS and at most ROWS_MAX of an endpoint, the newest; the newest REPLAYABLE of them with their inputs, which
are packed JSON of some hundred bytes, some thousand with what `auto` has learned, and unpacked only to be replayed.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import TypeAdapter

from orchestrator.contract.base import DAY_NS
from orchestrator.contract.endpoint import ScalingPolicy
from orchestrator.core.decisions import Decided, Inputs
from orchestrator.core.scaling import RULES, Observation, Reason, dump, load

KEPT_NS: Final = 30 * DAY_NS
ROWS_MAX: Final = 20_000
REPLAYABLE: Final = 2_000

SCHEMA: Final = """
CREATE TABLE decision (
    id INTEGER PRIMARY KEY,
    endpoint INTEGER NOT NULL REFERENCES endpoint (id),
    at_ns INTEGER NOT NULL,
    was INTEGER,
    desired INTEGER NOT NULL,
    asked INTEGER NOT NULL,
    live INTEGER NOT NULL,
    rule TEXT NOT NULL,
    sentence TEXT NOT NULL,
    numbers TEXT NOT NULL,
    obstacle TEXT,
    inputs BLOB
) STRICT;
CREATE INDEX decision_at ON decision (endpoint, at_ns, id);
"""

_POLICY: Final[TypeAdapter[ScalingPolicy]] = TypeAdapter(ScalingPolicy)


def add_decisions(connection: sqlite3.Connection, entries: Iterable[Decided]) -> None:
    """Append, and forget what is too old or too much. Inside the caller's transaction."""
    newest_ns: dict[int, int] = {}
    for entry in entries:
        connection.execute("INSERT OR IGNORE INTO endpoint (slug) VALUES (?)", (entry.slug,))
        (endpoint,) = connection.execute("SELECT id FROM endpoint WHERE slug = ?", (entry.slug,)).fetchone()
        newest_ns[endpoint] = entry.at_ns
        rule, sentence, numbers = entry.why
        connection.execute(
            "INSERT INTO decision (endpoint, at_ns, was, desired, asked, live, rule, sentence, numbers, obstacle,"
            " inputs) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                endpoint, entry.at_ns, entry.before, entry.desired, entry.asked, entry.live, rule, sentence,
                json.dumps(numbers), entry.obstacle, None if entry.inputs is None else pack(entry.inputs),
            ),
        )  # fmt: skip
    for endpoint, at_ns in newest_ns.items():
        connection.execute(
            "DELETE FROM decision WHERE endpoint = ? AND (at_ns < ? OR id <= ("
            " SELECT id FROM decision WHERE endpoint = ? ORDER BY at_ns DESC, id DESC LIMIT 1 OFFSET ?))",
            (endpoint, at_ns - KEPT_NS, endpoint, ROWS_MAX),
        )
        connection.execute(
            "UPDATE decision SET inputs = NULL WHERE endpoint = ? AND inputs IS NOT NULL AND id <= ("
            " SELECT id FROM decision WHERE endpoint = ? ORDER BY at_ns DESC, id DESC LIMIT 1 OFFSET ?)",
            (endpoint, endpoint, REPLAYABLE),
        )


def read_decisions(connection: sqlite3.Connection, slug: str, until_ns: int | None, last: int) -> tuple[Decided, ...]:
    """The newest `last` entries of an endpoint up to `until_ns` (None: up to now), oldest first; none is no error."""
    rows = connection.execute(
        "SELECT at_ns, was, desired, asked, live, rule, sentence, numbers, obstacle, inputs FROM decision"
        " WHERE endpoint = (SELECT id FROM endpoint WHERE slug = ?) AND at_ns <= ?"
        " ORDER BY at_ns DESC, id DESC LIMIT ?",
        (slug, (1 << 62) if until_ns is None else until_ns, last),
    ).fetchall()
    return tuple(_entry(slug, row) for row in reversed(rows))


def read_extent(connection: sqlite3.Connection, slug: str, since_ns: int) -> tuple[int, int] | None:
    """When the oldest and the newest decision of an endpoint from `since_ns` on fell; None without any. Every life of
    an endpoint begins with a decision, so the older one also says since when there is a record of it at all."""
    oldest_ns, newest_ns = connection.execute(
        "SELECT min(at_ns), max(at_ns) FROM decision"
        " WHERE endpoint = (SELECT id FROM endpoint WHERE slug = ?) AND at_ns >= ?",
        (slug, since_ns),
    ).fetchone()
    return None if oldest_ns is None else (oldest_ns, newest_ns)


def pack(inputs: Inputs) -> bytes:
    """Compressed JSON of policy, memory, observation, and the version of the rules."""
    document = {
        "rules": RULES[inputs.policy.kind],
        "policy": inputs.policy.model_dump(mode="json"),
        "memory": dump(inputs.memory),
        "seen": inputs.seen._asdict(),
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode())


def unpack(packed: bytes) -> Inputs | None:
    """The inputs; None when they are of another version of gpudeck that had other fields or decided by other rules."""
    document: dict[str, Any] = json.loads(zlib.decompress(packed))
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in document["seen"].items()
    }
    if fields.keys() != set(Observation._fields):
        return None
    policy = _POLICY.validate_python(document["policy"])
    if document.get("rules", 1) != RULES[policy.kind]:
        return None
    return Inputs(policy, load(document["memory"]), Observation(**fields))


def _entry(slug: str, row: Sequence[Any]) -> Decided:
    at_ns, was, desired, asked, live, rule, sentence, numbers, obstacle, inputs = row
    why = Reason(rule, sentence, json.loads(numbers))
    unpacked = None if inputs is None else unpack(inputs)
    return Decided(slug, at_ns, was, desired, asked, live, why, obstacle, unpacked)
