"""Mails that are owed, and what was watched of an account's credit. All of it inside the caller's transaction."""

from __future__ import annotations

import sqlite3

from orchestrator.core.writes import CreditWatched, MailKey, MailQueued, MailSet, MailTried, SavedWatch
from orchestrator.ledger.ports import LedgerError


def set_mail(connection: sqlite3.Connection, write: MailSet) -> None:
    _update_account(connection, write.account, "mail = ?", (write.mail,))


def watch_credit(connection: sqlite3.Connection, write: CreditWatched) -> None:
    terms = "warnings = ?, alerted_uh = ?, suspensions = ?"
    _update_account(connection, write.account, terms, (write.warnings, write.alerted_uh, write.suspensions))


def queue_mail(connection: sqlite3.Connection, write: MailQueued) -> None:
    """Once per key: an exact repetition is ignored, another mail under the same key raises LedgerError."""
    body = (write.subject, write.body, write.at_ns)
    found = connection.execute(
        "SELECT subject, body, queued_ns FROM outbox WHERE account = ? AND kind = ? AND crossing_no = ?", write.key
    ).fetchone()
    if found is None:
        connection.execute(
            "INSERT INTO outbox (account, kind, crossing_no, subject, body, queued_ns) VALUES (?, ?, ?, ?, ?, ?)",
            (*write.key, *body),
        )
    elif found != body:
        raise LedgerError(f"mail {'/'.join(map(str, write.key))} exists with another text")


def try_mail(connection: sqlite3.Connection, write: MailTried) -> None:
    """A mail that is settled stays so: the result of an attempt that came late changes nothing."""
    values = (write.state, write.attempts, write.problem, write.at_ns)
    connection.execute(
        "UPDATE outbox SET state = ?, attempts = ?, problem = ?, tried_ns = ?"
        " WHERE account = ? AND kind = ? AND crossing_no = ? AND state = 'queued'",
        (*values, *write.key),
    )


def load_mails(connection: sqlite3.Connection) -> tuple[MailQueued, ...]:
    """Those not delivered yet, oldest first."""
    rows = connection.execute(
        "SELECT account, kind, crossing_no, subject, body, queued_ns FROM outbox WHERE state = 'queued' ORDER BY seq"
    )
    return tuple(MailQueued(MailKey(*row[:3]), *row[3:]) for row in rows)


def load_watches(connection: sqlite3.Connection) -> dict[str, SavedWatch]:
    rows = connection.execute(
        "SELECT name, mail, (SELECT problem FROM outbox WHERE account = name ORDER BY seq DESC LIMIT 1), warnings,"
        " alerted_uh, suspensions FROM account ORDER BY account.seq"
    )
    return {name: SavedWatch(*rest) for name, *rest in rows}


def _update_account(
    connection: sqlite3.Connection, name: str, assignments: str, values: tuple[str | int | None, ...]
) -> None:
    # `assignments` is one of two constants above.
    done = connection.execute(f"UPDATE account SET {assignments} WHERE name = ?", (*values, name))  # noqa: S608
    if done.rowcount != 1:
        raise LedgerError(f"account {name!r} does not exist")
