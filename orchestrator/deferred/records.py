"""What is kept of an asynchronous call, and every statement about it. All functions run in the store's thread, inside
its transaction; those that change a state say whether it was the state they expected."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.deferred import RequestState
from orchestrator.deferred.rules import KEPT_NS
from orchestrator.deferred.schema import BODY, RESULT

_COLUMNS: Final = (
    "seq, id, slug, account, key_id, base, state, accepted_ns, started_ns, ended_ns, attempts, attempts_max,"
    " fingerprint, body_bytes, result_bytes, worker_status, worker_id, code, reason,"
    " hook_url, hook_state, hook_attempts, hook_due_ns, hook_problem"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM request "  # noqa: S608 - columns of our own
_STATE: Final = [name.strip() for name in _COLUMNS.split(",")].index("state")
PURGED_AT_ONCE: Final = 50
"""Requests that one job purges: their bodies are overwritten, and other jobs wait meanwhile."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row of `request` without its blobs. Instants are wall-clock nanoseconds."""

    seq: int
    id: str
    slug: str
    account: str
    key_id: str
    base: str
    state: RequestState
    accepted_ns: int
    started_ns: int | None
    ended_ns: int | None
    attempts: int
    attempts_max: int
    fingerprint: bytes
    body_bytes: int
    result_bytes: int
    worker_status: int | None
    worker_id: str | None
    code: str | None
    reason: str | None
    hook_url: str | None
    hook_state: str
    hook_attempts: int
    hook_due_ns: int | None
    hook_problem: str | None
    position: int | None = None
    """Its place among the QUEUED of its endpoint, where it was asked for."""


@dataclass(frozen=True, slots=True)
class Order:
    """A call as it was asked for. `head` are field lines for the worker."""

    id: str
    slug: str
    account: str
    key_id: str
    base: str
    target: bytes
    head: bytes
    attempts_max: int
    idempotency_key: str | None
    webhook: str | None


@dataclass(frozen=True, slots=True)
class Started:
    """What an attempt needs. `first` is the first part of the body, `parts` how many there are."""

    attempt: int
    target: bytes
    head: bytes
    first: bytes
    parts: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended. `tail` is the last part of the result, number `tail_n`."""

    id: str
    state: RequestState
    worker_status: int | None = None
    worker_id: str | None = None
    result_head: bytes | None = None
    result_bytes: int = 0
    tail: bytes = b""
    tail_n: int = 0
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A result as it was kept."""

    record: Record
    head: bytes
    parts: int


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge freed, by endpoint, and whether there is more to purge."""

    bytes: dict[str, int]
    more: bool


def find(db: sqlite3.Connection, request_id: str) -> Record | None:
    row = db.execute(_SELECT + "WHERE id = ?", (request_id,)).fetchone()
    return None if row is None else _record(row)


def placed(db: sqlite3.Connection, request_id: str) -> Record | None:
    """`find`, and its place in the queue. Counts those before it: not for the path of acceptance."""
    record = find(db, request_id)
    if record is None or record.state is not RequestState.QUEUED:
        return record
    (position,) = db.execute(
        "SELECT COUNT(*) FROM request WHERE slug = ? AND state = 'QUEUED' AND seq <= ?", (record.slug, record.seq)
    ).fetchone()
    return replace(record, position=position)


def find_idempotent(db: sqlite3.Connection, account: str, key: str) -> Record | None:
    row = db.execute(_SELECT + "WHERE account = ? AND idempotency_key = ?", (account, key)).fetchone()
    return None if row is None else _record(row)


def insert(db: sqlite3.Connection, order: Order, fingerprint: bytes, body_bytes: int, now_ns: int) -> None:
    db.execute(
        "INSERT INTO request (id, slug, account, key_id, base, target, head, state, accepted_ns, attempts_max,"
        " idempotency_key, fingerprint, body_bytes, hook_url, hook_state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 'QUEUED', ?, ?, ?, ?, ?, ?, ?)",
        (
            order.id, order.slug, order.account, order.key_id, order.base, order.target, order.head, now_ns,
            order.attempts_max, order.idempotency_key, fingerprint, body_bytes, order.webhook,
            "none" if order.webhook is None else "waiting",
        ),
    )  # fmt: skip


def add_part(db: sqlite3.Connection, request_id: str, kind: int, n: int, data: bytes) -> None:
    db.execute("INSERT INTO part (request_id, kind, n, bytes) VALUES (?, ?, ?, ?)", (request_id, kind, n, data))


def add_result(db: sqlite3.Connection, request_id: str, n: int, data: bytes) -> None:
    """Part `n` of the result. One that comes after a cancellation is dropped: nobody would count it."""
    row = db.execute("SELECT 1 FROM request WHERE id = ? AND state = 'PROCESSING'", (request_id,)).fetchone()
    if row is not None:
        add_part(db, request_id, RESULT, n, data)


def read_part(db: sqlite3.Connection, request_id: str, kind: int, n: int) -> bytes | None:
    row = db.execute(
        "SELECT bytes FROM part WHERE request_id = ? AND kind = ? AND n = ?", (request_id, kind, n)
    ).fetchone()
    return None if row is None else bytes(row[0])


def count_parts(db: sqlite3.Connection, request_id: str, kind: int) -> int:
    (parts,) = db.execute("SELECT COUNT(*) FROM part WHERE request_id = ? AND kind = ?", (request_id, kind)).fetchone()
    return int(parts)


def drop_parts(db: sqlite3.Connection, request_id: str, *kinds: int) -> None:
    for kind in kinds:
        db.execute("DELETE FROM part WHERE request_id = ? AND kind = ?", (request_id, kind))


def start(db: sqlite3.Connection, request_id: str, now_ns: int) -> Started | None:
    """QUEUED becomes PROCESSING, and the attempt counts, before a worker sees anything of it; None when it is QUEUED no
    longer. What an earlier attempt left of a result is dropped."""
    row = db.execute(
        "UPDATE request SET state = 'PROCESSING', started_ns = ?, attempts = attempts + 1, reason = NULL"
        " WHERE id = ? AND state = 'QUEUED' RETURNING attempts, target, head",
        (now_ns, request_id),
    ).fetchone()
    if row is None:
        return None
    drop_parts(db, request_id, RESULT)
    parts = count_parts(db, request_id, BODY)
    first = read_part(db, request_id, BODY, 0) if parts else b""
    return Started(row[0], bytes(row[1]), bytes(row[2]), first or b"", parts)


def requeue(db: sqlite3.Connection, request_id: str, reason: str, *, counts: bool) -> bool:
    """PROCESSING becomes QUEUED again, in its old place. Without `counts` the attempt is taken back."""
    drop_parts(db, request_id, RESULT)
    changed = db.execute(
        "UPDATE request SET state = 'QUEUED', reason = ?, attempts = attempts - ?"
        " WHERE id = ? AND state = 'PROCESSING'",
        (reason, 0 if counts else 1, request_id),
    )
    return changed.rowcount == 1


def end(db: sqlite3.Connection, ending: Ending, now_ns: int) -> Record | None:
    """QUEUED or PROCESSING becomes what `ending` says; None when it was over already. The body is not needed any more;
    a webhook is owed from now on."""
    changed = db.execute(
        "UPDATE request SET state = ?, ended_ns = ?, worker_status = ?, worker_id = ?, result_head = ?,"
        " result_bytes = ?, code = ?, reason = ?,"
        " hook_state = CASE hook_state WHEN 'waiting' THEN 'owed' ELSE hook_state END,"
        " hook_due_ns = CASE hook_state WHEN 'waiting' THEN ? END"
        " WHERE id = ? AND state IN ('QUEUED', 'PROCESSING')",
        (
            ending.state.value, now_ns, ending.worker_status, ending.worker_id, ending.result_head,
            ending.result_bytes, ending.code, ending.reason, now_ns, ending.id,
        ),
    )  # fmt: skip
    if changed.rowcount != 1:
        return None
    drop_parts(db, ending.id, BODY)
    if ending.tail:
        add_part(db, ending.id, RESULT, ending.tail_n, ending.tail)
    if ending.result_head is None:
        drop_parts(db, ending.id, RESULT)  # half a result is none
    return find(db, ending.id)


def kept(db: sqlite3.Connection, request_id: str) -> Kept | None:
    record = find(db, request_id)
    if record is None:
        return None
    (head,) = db.execute("SELECT result_head FROM request WHERE id = ?", (request_id,)).fetchone()
    return Kept(record, bytes(head or b""), count_parts(db, request_id, RESULT))


def interrupted(db: sqlite3.Connection) -> list[Record]:
    """What was PROCESSING when the orchestrator before this one ended."""
    return [_record(row) for row in db.execute(_SELECT + "WHERE state = 'PROCESSING'")]


def queued(db: sqlite3.Connection) -> list[Record]:
    return [_record(row) for row in db.execute(_SELECT + "WHERE state = 'QUEUED' ORDER BY seq")]


def owed(db: sqlite3.Connection) -> list[Record]:
    return [_record(row) for row in db.execute(_SELECT + "WHERE hook_state = 'owed'")]


def held(db: sqlite3.Connection) -> dict[str, int]:
    """Bytes of bodies and results by endpoint."""
    return dict(
        db.execute(
            "SELECT slug, SUM(result_bytes + CASE WHEN ended_ns IS NULL THEN body_bytes ELSE 0 END)"
            " FROM request GROUP BY slug"
        )
    )


def drop_orphans(db: sqlite3.Connection) -> None:
    """Parts of uploads that never became a request."""
    db.execute("DELETE FROM part WHERE request_id NOT IN (SELECT id FROM request)")


def listed(
    db: sqlite3.Connection, account: str | None, slug: str | None, states: Iterable[RequestState], limit: int
) -> tuple[list[Record], dict[RequestState, int]]:
    """The newest of those that match, newest first, and how many match in each state."""
    terms, values = ["1"], []
    for column, value in (("account", account), ("slug", slug)):
        if value is not None:
            terms.append(f"{column} = ?")
            values.append(value)
    where = " AND ".join(terms)
    counted = db.execute(f"SELECT state, COUNT(*) FROM request WHERE {where} GROUP BY state", values)  # noqa: S608
    counts = {RequestState(state): count for state, count in counted}
    wanted = [state.value for state in states]
    if wanted:
        where += f" AND state IN ({', '.join('?' * len(wanted))})"
    rows = db.execute(_SELECT + f"WHERE {where} ORDER BY seq DESC LIMIT ?", (*values, *wanted, limit))
    return [_record(row) for row in rows], counts


def note_webhook(
    db: sqlite3.Connection, request_id: str, state: str, attempts: int, due_ns: int | None, problem: str | None
) -> None:
    db.execute(
        "UPDATE request SET hook_state = ?, hook_attempts = ?, hook_due_ns = ?, hook_problem = ?"
        " WHERE id = ? AND hook_state = 'owed'",
        (state, attempts, due_ns, problem, request_id),
    )


def purge(db: sqlite3.Connection, now_ns: int) -> Purged:
    """Forget what ended more than KEPT_NS ago, some of it."""
    gone = db.execute(
        "SELECT id, slug, result_bytes FROM request WHERE ended_ns <= ? ORDER BY ended_ns LIMIT ?",
        (now_ns - KEPT_NS, PURGED_AT_ONCE),
    ).fetchall()
    freed: dict[str, int] = {}
    for request_id, slug, size in gone:
        drop_parts(db, request_id, BODY, RESULT)
        db.execute("DELETE FROM request WHERE id = ?", (request_id,))
        freed[slug] = freed.get(slug, 0) + size
    return Purged(freed, len(gone) == PURGED_AT_ONCE)


def generation_of(db: sqlite3.Connection, account: str) -> tuple[int, int]:
    """Number of the account's webhook secret, and when it replaced the one before; (0, 0) when nobody asked for one."""
    row = db.execute("SELECT generation, rotated_ns FROM signer WHERE account = ?", (account,)).fetchone()
    return (0, 0) if row is None else (row[0], row[1])


def rotate(db: sqlite3.Connection, account: str, command_id: str, now_ns: int) -> int:
    """The account's next generation. The same command again gives the same one.

    The first is the second it was made in: should the file be lost, which is in no backup, no later generation is one
    that was given out before, and a secret that was replaced because it leaked never signs again."""
    db.execute(
        "INSERT INTO signer (account, generation, rotated_ns, command_id) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (account) DO UPDATE SET generation = generation + 1, rotated_ns = excluded.rotated_ns,"
        " command_id = excluded.command_id WHERE command_id <> excluded.command_id",
        (account, now_ns // SECOND_NS, now_ns, command_id),
    )
    return generation_of(db, account)[0]


def _record(row: tuple[Any, ...]) -> Record:
    values = list(row)
    values[_STATE] = RequestState(values[_STATE])
    return Record(*values)
