"""One function per kind of write, all inside the caller's transaction.

Each ignores an exact repetition and raises LedgerError for one that conflicts, naming the row: a batch whose commit had
an unknown outcome can be sent again as it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from orchestrator.contract.command import Accepted
from orchestrator.core.billing import due_u
from orchestrator.core.state import COMMANDS_KEPT
from orchestrator.core.writes import (
    AccountOpened,
    CommandDone,
    CreditAdded,
    CreditRequired,
    CreditWatched,
    EndpointRemoved,
    EndpointSaved,
    EventNoted,
    Heartbeat,
    IntervalClosed,
    IntervalOpened,
    KeyAdded,
    KeyRevoked,
    MailQueued,
    MailSet,
    MailTried,
    Posted,
    WorkerEnded,
    WorkerIntended,
    WorkerReady,
    WorkerStarted,
    Write,
)
from orchestrator.ledger.journal import Txn, append, balance_of
from orchestrator.ledger.outbox import queue_mail, set_mail, try_mail, watch_credit
from orchestrator.ledger.ports import CreditChanged, LedgerError

EVENTS_KEPT: Final = 10_000
"""In the file; the core goes on with the newest of them (core/state.py)."""

Value = str | int | bytes | None
_INTEGER_SUFFIXES: Final = ("_u", "_uh", "_ns")
_INTEGER_NAMES: Final = frozenset({"serial", "ordinal", "generation"})


def apply(connection: sqlite3.Connection, write: Write) -> None:
    """Perform `write`. Raises LedgerError (CreditChanged among them) or sqlite3.Error; the caller rolls back."""
    perform = APPLIERS.get(type(write))
    if perform is None:
        raise LedgerError(f"{type(write).__name__} is no write this ledger knows")
    _check_integers(write)
    perform(connection, write)


def _check_integers(write: Write) -> None:
    # STRICT alone would turn 1.0 and "1" into 1; money that was ever a float is a defect of the caller.
    for name in _INTEGER_FIELDS[type(write)]:
        value = getattr(write, name)
        if value is not None and type(value) is not int:
            raise LedgerError(f"{type(write).__name__}.{name}: {value!r} is not an integer")


def _row(connection: sqlite3.Connection, table: str, key: tuple[str, Value], columns: tuple[str, ...]) -> Any:
    # Names come from this module's own calls, never from outside.
    return connection.execute(
        f"SELECT {', '.join(columns)} FROM {table} WHERE {key[0]} = ?",  # noqa: S608
        (key[1],),
    ).fetchone()


def _insert_once(connection: sqlite3.Connection, table: str, key: str, row: dict[str, Value]) -> bool:
    """Insert `row` unless it is there already, equal in all its columns. Returns whether it was inserted."""
    found = _row(connection, table, (key, row[key]), tuple(row))
    if found is not None:
        _refuse_conflict(table, row[key], row, found)
        return False
    marks = ", ".join("?" * len(row))
    connection.execute(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})",  # noqa: S608
        tuple(row.values()),
    )
    return True


def _set_once(connection: sqlite3.Connection, table: str, key: tuple[str, Value], values: dict[str, Value]) -> None:
    """Fill columns that are NULL; the first of `values` tells whether they were filled before."""
    found = _row(connection, table, key, tuple(values))
    if found is None:
        raise LedgerError(f"{table} {key[1]!r} does not exist")
    if found[0] is not None:
        _refuse_conflict(table, key[1], values, found)
        return
    assignments = ", ".join(f"{name} = ?" for name in values)
    connection.execute(
        f"UPDATE {table} SET {assignments} WHERE {key[0]} = ?",  # noqa: S608
        (*values.values(), key[1]),
    )


def _refuse_conflict(table: str, key: Value, wanted: dict[str, Value], found: tuple[Value, ...]) -> None:
    differing = [
        f"{name} is {old!r}, not {new!r}" for (name, new), old in zip(wanted.items(), found, strict=True) if old != new
    ]
    if differing:
        raise LedgerError(f"{table} {key!r} exists with other values: {'; '.join(differing)}")


def _require(connection: sqlite3.Connection, table: str, key: tuple[str, str], whose: str) -> None:
    if _row(connection, table, key, (key[0],)) is None:
        raise LedgerError(f"{whose} names {table} {key[1]!r}, which does not exist")


def _open_account(connection: sqlite3.Connection, write: AccountOpened) -> None:
    _insert_once(connection, "account", "name", {"name": write.account, "opened_ns": write.at_ns})


def _add_credit(connection: sqlite3.Connection, write: CreditAdded) -> None:
    _require(connection, "account", ("name", write.account), f"top-up {write.key}")
    # at_ns is not compared: the same key with the same body is the same money, whenever it is sent again.
    body: dict[str, Value] = {"account": write.account, "amount_u": write.amount_u, "memo": write.memo}
    found = _row(connection, "journal", ("key", write.key), tuple(body))
    if found is not None:
        _refuse_conflict("top-up", write.key, body, found)
        return
    append(
        connection,
        Txn("topup", write.account, write.amount_u, write.at_ns, key=write.key, memo=write.memo),
    )


def _require_credit(connection: sqlite3.Connection, write: CreditRequired) -> None:
    _require(connection, "account", ("name", write.account), "the credit condition")
    balance_u = balance_of(connection, write.account)
    if balance_u < write.amount_u:
        raise CreditChanged(write.account, write.amount_u, balance_u)


def _add_key(connection: sqlite3.Connection, write: KeyAdded) -> None:
    _require(connection, "account", ("name", write.account), f"key {write.key_id}")
    row: dict[str, Value] = {
        "id": write.key_id, "account": write.account, "name": write.name, "digest": write.digest,
        "created_ns": write.at_ns, "expires_ns": write.expires_ns, "endpoints": ",".join(write.endpoints),
    }  # fmt: skip
    _insert_once(connection, "api_key", "id", row)


def _revoke_key(connection: sqlite3.Connection, write: KeyRevoked) -> None:
    _set_once(connection, "api_key", ("id", write.key_id), {"revoked_ns": write.at_ns})


def _save_endpoint(connection: sqlite3.Connection, write: EndpointSaved) -> None:
    _require(connection, "account", ("name", write.spec.account), f"endpoint {write.spec.slug}")
    # A slug used again after removal starts a new life: its totals count from created_ns.
    connection.execute(
        "INSERT INTO endpoint (slug, account, spec, generation, wanted, problem, created_ns, saved_ns)"
        " VALUES (:slug, :account, :spec, :generation, :wanted, :problem, :at_ns, :at_ns)"
        " ON CONFLICT (slug) DO UPDATE SET account = :account, spec = :spec, generation = :generation,"
        " wanted = :wanted, problem = :problem, saved_ns = :at_ns, removed_ns = NULL,"
        " created_ns = CASE WHEN removed_ns IS NULL THEN created_ns ELSE :at_ns END",
        {
            "slug": write.spec.slug, "account": write.spec.account, "spec": write.spec.model_dump_json(),
            "generation": write.generation, "wanted": write.wanted, "problem": write.problem, "at_ns": write.at_ns,
        },
    )  # fmt: skip


def _remove_endpoint(connection: sqlite3.Connection, write: EndpointRemoved) -> None:
    _set_once(connection, "endpoint", ("slug", write.slug), {"removed_ns": write.at_ns})
    # Its environment may hold secrets, and nobody reads it again.
    connection.execute("UPDATE endpoint SET spec = json_set(spec, '$.env', json('{}')) WHERE slug = ?", (write.slug,))


def _intend_worker(connection: sqlite3.Connection, write: WorkerIntended) -> None:
    _require(connection, "endpoint", ("slug", write.endpoint), f"worker {write.worker_id}")
    row: dict[str, Value] = {
        "id": write.worker_id, "serial": write.serial, "ordinal": write.ordinal, "endpoint": write.endpoint,
        "account": write.account, "generation": write.generation, "model": write.model, "gpu_uuid": write.gpu_uuid,
        "gpu_type": write.gpu_type, "surge": int(write.surge), "intent_ns": write.at_ns,
    }  # fmt: skip
    _insert_once(connection, "worker", "id", row)


def _start_worker(connection: sqlite3.Connection, write: WorkerStarted) -> None:
    values: dict[str, Value] = {"engine_ref": write.engine_ref, "started_ns": write.at_ns}
    _set_once(connection, "worker", ("id", write.worker_id), values)


def _ready_worker(connection: sqlite3.Connection, write: WorkerReady) -> None:
    _set_once(connection, "worker", ("id", write.worker_id), {"ready_ns": write.at_ns})


def _end_worker(connection: sqlite3.Connection, write: WorkerEnded) -> None:
    values: dict[str, Value] = {
        "ended_ns": write.at_ns, "end_source": write.source, "end_cause": write.cause, "end_detail": write.detail,
    }  # fmt: skip
    _set_once(connection, "worker", ("id", write.worker_id), values)


def _open_interval(connection: sqlite3.Connection, write: IntervalOpened) -> None:
    owner = {"endpoint": write.endpoint, "account": write.account, "gpu_type": write.gpu_type}
    worker = _row(connection, "worker", ("id", write.worker_id), tuple(owner))
    if worker is None:
        raise LedgerError(f"interval {write.interval_id} names worker {write.worker_id}, which has no intent")
    _refuse_conflict("worker", write.worker_id, dict(owner), worker)
    row: dict[str, Value] = {
        "id": write.interval_id, "worker_id": write.worker_id, **owner, "tier": write.tier.value,
        "rate_uh": write.rate_uh, "price_book": write.price_book, "start_ns": write.start_ns,
        "boot_id": write.boot_id,
    }  # fmt: skip
    if _row(connection, "interval", ("id", write.interval_id), ("id",)) is None:
        row["last_seen_ns"] = write.start_ns
    _insert_once(connection, "interval", "id", row)


def _post(connection: sqlite3.Connection, write: Posted) -> None:
    """Raises LedgerError for a posting that goes back in time, runs past the interval's end or exceeds what is due."""
    name = f"posting of interval {write.interval_id} up to {write.upto_ns}"
    terms = ("account", "tier", "rate_uh", "start_ns", "end_ns")
    interval = _row(connection, "interval", ("id", write.interval_id), terms)
    if interval is None:
        raise LedgerError(f"{name}: the interval does not exist")
    account, tier, rate_uh, start_ns, end_ns = interval
    _refuse_conflict("interval", write.interval_id, {"account": write.account, "tier": write.tier.value}, interval[:2])
    if write.amount_u == 0:
        return  # no money moved, so there is nothing to remember
    if write.amount_u < 0:
        raise LedgerError(f"{name}: the amount {write.amount_u} is negative; money already posted is never taken back")
    last = connection.execute(
        "SELECT upto_ns, posted_u, billed_u FROM journal WHERE interval_id = ? ORDER BY upto_ns DESC LIMIT 1",
        (write.interval_id,),
    ).fetchone() or (None, 0, 0)
    if last[0] is not None and write.upto_ns <= last[0]:
        _refuse_other_posting(connection, write, name)
        return
    if end_ns is not None and write.upto_ns > end_ns:
        raise LedgerError(f"{name}: the interval ended at {end_ns}")
    posted_u = last[1] + write.amount_u
    due = due_u(rate_uh, max(0, write.upto_ns - start_ns))
    if posted_u > due:
        raise LedgerError(f"{name}: {write.amount_u} after {last[1]} is more than the {due} due by then")
    append(
        connection,
        Txn(
            "posting", account, write.amount_u, write.at_ns, write.interval_id, write.upto_ns, int(write.absorbed),
            posted_u, last[2] + (0 if write.absorbed else write.amount_u),
        ),
        tier,
    )  # fmt: skip


def _refuse_other_posting(connection: sqlite3.Connection, write: Posted, name: str) -> None:
    found = connection.execute(
        "SELECT amount_u, absorbed, at_ns FROM journal WHERE interval_id = ? AND upto_ns = ?",
        (write.interval_id, write.upto_ns),
    ).fetchone()
    if found is None:
        raise LedgerError(f"{name}: a later posting exists")
    wanted: dict[str, Value] = {"amount_u": write.amount_u, "absorbed": int(write.absorbed), "at_ns": write.at_ns}
    _refuse_conflict("posting", f"({write.interval_id}, {write.upto_ns})", wanted, found)


def _close_interval(connection: sqlite3.Connection, write: IntervalClosed) -> None:
    # An end before the last posting is written as it was observed: refusing it would keep the worker open for ever.
    # `verify` reports what was posted beyond it.
    values: dict[str, Value] = {
        "end_ns": write.end_ns, "end_source": write.source, "absorbed": int(write.absorbed),
    }  # fmt: skip
    _set_once(connection, "interval", ("id", write.interval_id), values)


def _beat(connection: sqlite3.Connection, write: Heartbeat) -> None:
    idle_since_ns = dict(write.idle)
    # Not money: a heartbeat that crossed the end of an interval, or the removal of a key, changes nothing.
    connection.executemany(
        "UPDATE interval SET last_seen_ns = MAX(last_seen_ns, :at_ns),"
        " idle_since_ns = CASE WHEN :at_ns >= last_seen_ns THEN :idle_ns ELSE idle_since_ns END"
        " WHERE id = :id AND end_ns IS NULL",
        [{"at_ns": write.at_ns, "idle_ns": idle_since_ns.get(i), "id": i} for i in write.interval_ids],
    )
    connection.executemany(
        "UPDATE api_key SET last_used_ns = MAX(COALESCE(last_used_ns, 0), ?) WHERE id = ?",
        [(used_ns, key_id) for key_id, used_ns in write.keys_used],
    )


def _finish_command(connection: sqlite3.Connection, write: CommandDone) -> None:
    if isinstance(write.outcome, Accepted) and write.outcome.secret is not None:
        raise LedgerError(f"command {write.command_id}: its answer still carries the secret, which is never stored")
    row: dict[str, Value] = {
        "id": write.command_id, "digest": write.digest, "outcome": write.outcome.model_dump_json(),
        "at_ns": write.at_ns,
    }  # fmt: skip
    if _insert_once(connection, "command", "id", row):
        connection.execute("DELETE FROM command WHERE seq <= (SELECT MAX(seq) FROM command) - ?", (COMMANDS_KEPT,))


def _note_event(connection: sqlite3.Connection, write: EventNoted) -> None:
    event = write.event
    row: dict[str, Value] = {
        "seq": event.seq, "at_ns": event.at_ns, "level": event.level, "text": event.text,
        "endpoint": event.endpoint, "worker": event.worker,
    }  # fmt: skip
    if _insert_once(connection, "event", "seq", row):
        connection.execute("DELETE FROM event WHERE seq <= (SELECT MAX(seq) FROM event) - ?", (EVENTS_KEPT,))


APPLIERS: Final[dict[type[Write], Callable[[sqlite3.Connection, Any], None]]] = {
    AccountOpened: _open_account,
    CreditAdded: _add_credit,
    CreditRequired: _require_credit,
    KeyAdded: _add_key,
    KeyRevoked: _revoke_key,
    EndpointSaved: _save_endpoint,
    EndpointRemoved: _remove_endpoint,
    WorkerIntended: _intend_worker,
    WorkerStarted: _start_worker,
    WorkerReady: _ready_worker,
    WorkerEnded: _end_worker,
    IntervalOpened: _open_interval,
    Posted: _post,
    IntervalClosed: _close_interval,
    Heartbeat: _beat,
    CommandDone: _finish_command,
    EventNoted: _note_event,
    MailSet: set_mail,
    CreditWatched: watch_credit,
    MailQueued: queue_mail,
    MailTried: try_mail,
}

_INTEGER_FIELDS: Final[dict[type[Write], tuple[str, ...]]] = {
    kind: tuple(f.name for f in fields(kind) if f.name.endswith(_INTEGER_SUFFIXES) or f.name in _INTEGER_NAMES)
    for kind in APPLIERS
}
