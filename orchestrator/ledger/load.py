"""What the core needs after a restart, read in one snapshot of the file."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import Any, Final

from pydantic import TypeAdapter

from orchestrator.contract.command import Outcome
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.snapshot import EventView, Tier
from orchestrator.core.keys import KEYS_OVER_KEPT
from orchestrator.core.state import COMMANDS_KEPT, EVENTS_KEPT
from orchestrator.core.writes import (
    CommandDone,
    EndpointSaved,
    IntervalOpened,
    Saved,
    SavedInterval,
    SavedKey,
    SavedWorker,
    WorkerIntended,
)
from orchestrator.ledger.journal import balance_of
from orchestrator.ledger.outbox import load_mails, load_watches
from orchestrator.ledger.periods import day_start_ns, month_start_ns
from orchestrator.ledger.sealing import Sealer, open_spec

_OUTCOME: Final[TypeAdapter[Outcome]] = TypeAdapter(Outcome)


def load_saved(connection: sqlite3.Connection, read_ns: int, sealer: Sealer) -> Saved:
    """Secrets that `sealer` cannot open are masked. Raises sqlite3.Error or ValueError (pydantic's included) when a row
    cannot be read back."""
    accounts = [name for (name,) in connection.execute("SELECT name FROM account ORDER BY seq")]
    endpoints = _endpoints(connection, sealer)
    slugs = [saved.spec.slug for saved in endpoints]
    spent = _Spent(connection, read_ns)
    (instance,) = connection.execute("SELECT value FROM meta WHERE key = 'instance'").fetchone()
    (last_serial,) = connection.execute("SELECT COALESCE(MAX(serial), 0) FROM worker").fetchone()
    return Saved(
        instance=instance,
        balances_u={name: balance_of(connection, name) for name in accounts},
        endpoints=endpoints,
        workers=_workers(connection),
        intervals=_intervals(connection),
        keys=tuple(_key(row) for row in connection.execute(_KEYS, {"now_ns": read_ns, "kept": KEYS_OVER_KEPT})),
        commands=_commands(connection),
        events=_events(connection),
        last_serial=last_serial,
        spent_today_u={slug: spent.endpoint_today_u[slug] for slug in slugs},
        spent_total_u={slug: spent.endpoint_total_u[slug] for slug in slugs},
        absorbed_total_u={slug: spent.endpoint_absorbed_u[slug] for slug in slugs},
        spent_month_u={name: spent.account_month_u[name] for name in accounts},
        account_today_u={name: spent.account_today_u[name] for name in accounts},
        read_ns=read_ns,
        watches=load_watches(connection),
        mails=load_mails(connection),
    )


_OVER: Final = "(revoked_ns IS NOT NULL OR COALESCE(expires_ns, :now_ns + 1) <= :now_ns)"
_KEYS: Final = f"""
SELECT id, account, name, digest, created_ns, expires_ns, revoked_ns, last_used_ns, endpoints FROM api_key
WHERE NOT {_OVER}
    OR rowid IN (SELECT rowid FROM api_key WHERE {_OVER} ORDER BY created_ns DESC, rowid DESC LIMIT :kept)
ORDER BY created_ns, rowid
"""  # noqa: S608 - conditions of our own
"""Those in force, and the newest of those that are over."""


def _key(row: tuple[Any, ...]) -> SavedKey:
    slugs = tuple(row[8].split(",")) if row[8] else ()
    return SavedKey(*(*row[:8], slugs))


_LAST_POSTINGS: Final = """
SELECT i.id, i.endpoint, i.account, i.start_ns >= e.created_ns, j.at_ns, j.billed_u, j.posted_u - j.billed_u
FROM interval i
JOIN endpoint e ON e.slug = i.endpoint
JOIN journal j ON j.interval_id = i.id
    AND j.upto_ns = (SELECT MAX(upto_ns) FROM journal WHERE interval_id = i.id)
"""
"""The running totals of each interval's last posting: one look-up per interval, however many postings it has."""

_BILLED_BEFORE: Final = "SELECT billed_u FROM journal WHERE interval_id = ? AND at_ns < ? ORDER BY at_ns DESC LIMIT 1"


class _Spent:
    """Sums of postings by endpoint and by account. A posting belongs to the day and month of its `at_ns` (UTC); an
    endpoint's sums take the intervals since its creation, so a slug used again starts at zero."""

    def __init__(self, connection: sqlite3.Connection, read_ns: int) -> None:
        self.endpoint_today_u: dict[str, int] = defaultdict(int)
        self.endpoint_total_u: dict[str, int] = defaultdict(int)
        self.endpoint_absorbed_u: dict[str, int] = defaultdict(int)
        self.account_today_u: dict[str, int] = defaultdict(int)
        self.account_month_u: dict[str, int] = defaultdict(int)
        day_ns, month_ns = day_start_ns(read_ns), month_start_ns(read_ns)

        def before_u(interval_id: str, at_ns: int) -> int:
            row = connection.execute(_BILLED_BEFORE, (interval_id, at_ns)).fetchone()
            return 0 if row is None else int(row[0])

        for interval_id, slug, account, this_life, last_ns, billed_u, absorbed_u in connection.execute(_LAST_POSTINGS):
            today_u = billed_u - before_u(interval_id, day_ns) if last_ns >= day_ns else 0
            self.account_today_u[account] += today_u
            if last_ns >= month_ns:
                self.account_month_u[account] += billed_u - before_u(interval_id, month_ns)
            if this_life:
                self.endpoint_today_u[slug] += today_u
                self.endpoint_total_u[slug] += billed_u
                self.endpoint_absorbed_u[slug] += absorbed_u


def _endpoints(connection: sqlite3.Connection, sealer: Sealer) -> tuple[EndpointSaved, ...]:
    rows = connection.execute(
        "SELECT spec, generation, wanted, problem, saved_ns FROM endpoint WHERE removed_ns IS NULL"
        " ORDER BY created_ns, rowid"
    )
    return tuple(
        EndpointSaved(EndpointSpec.model_validate_json(open_spec(spec, sealer)), generation, wanted, problem, saved_ns)
        for spec, generation, wanted, problem, saved_ns in rows
    )


def _workers(connection: sqlite3.Connection) -> tuple[SavedWorker, ...]:
    rows = connection.execute(
        "SELECT id, serial, ordinal, endpoint, account, generation, model, gpu_uuid, gpu_type, surge, intent_ns,"
        " engine_ref, started_ns, ready_ns, ("
        "  SELECT COALESCE(SUM(j.billed_u), 0) FROM interval i JOIN journal j ON j.interval_id = i.id"
        "  AND j.upto_ns = (SELECT MAX(upto_ns) FROM journal WHERE interval_id = i.id)"
        "  WHERE i.worker_id = worker.id AND i.end_ns IS NOT NULL"
        " ) FROM worker WHERE ended_ns IS NULL ORDER BY serial, id"
    )

    def saved(row: tuple[Any, ...]) -> SavedWorker:
        intent = WorkerIntended(*(*row[:9], bool(row[9]), row[10]))
        return SavedWorker(intent, *row[11:])

    return tuple(saved(row) for row in rows)


def _intervals(connection: sqlite3.Connection) -> tuple[SavedInterval, ...]:
    rows = connection.execute(
        "SELECT id, worker_id, endpoint, account, gpu_type, tier, rate_uh, price_book, start_ns, boot_id,"
        " COALESCE(posted_u, 0), last_seen_ns, COALESCE(upto_ns, 0), idle_since_ns FROM ("
        "  SELECT i.*, j.posted_u, j.upto_ns FROM interval i LEFT JOIN journal j ON j.interval_id = i.id"
        "  AND j.upto_ns = (SELECT MAX(upto_ns) FROM journal WHERE interval_id = i.id) WHERE i.end_ns IS NULL"
        " ) ORDER BY start_ns, id"
    )

    def saved(row: tuple[Any, ...]) -> SavedInterval:
        opened = IntervalOpened(*(*row[:5], Tier(row[5]), *row[6:10]))
        return SavedInterval(opened, *row[10:])

    return tuple(saved(row) for row in rows)


def _commands(connection: sqlite3.Connection) -> tuple[CommandDone, ...]:
    rows = connection.execute(
        "SELECT id, digest, outcome, at_ns FROM command ORDER BY seq DESC LIMIT ?", (COMMANDS_KEPT,)
    ).fetchall()
    return tuple(
        CommandDone(command_id, digest, _OUTCOME.validate_json(outcome), at_ns)
        for command_id, digest, outcome, at_ns in reversed(rows)
    )


def _events(connection: sqlite3.Connection) -> tuple[EventView, ...]:
    rows = connection.execute(
        "SELECT seq, at_ns, level, text, endpoint, worker FROM event ORDER BY seq DESC LIMIT ?", (EVENTS_KEPT,)
    ).fetchall()
    return tuple(
        EventView(seq=seq, at_ns=at_ns, level=level, text=text, endpoint=endpoint, worker=worker)
        for seq, at_ns, level, text, endpoint, worker in reversed(rows)
    )
