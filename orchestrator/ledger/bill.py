"""The bill of an account: one line per interval, recomputable by hand from its rate and times."""

from __future__ import annotations

import sqlite3

from orchestrator.contract.query import Bill
from orchestrator.ledger.charges import charges_of, require_account
from orchestrator.ledger.periods import month_bounds_ns


def make_bill(connection: sqlite3.Connection, account: str, month: str | None, now_ns: int) -> Bill:
    """The bill as of `now_ns`; `month` is YYYY-MM in UTC, None means everything. `balance_u` is live and of all time.
    Raises KeyError for an unknown account, ValueError for a month that is none."""
    require_account(connection, account)
    period = month_bounds_ns(month) if month is not None else None
    charges = list(charges_of(connection, account, now_ns))
    billed_u = sum(charge.amount_u for charge in charges if not charge.absorbed)
    topups = connection.execute(
        "SELECT at_ns, amount_u FROM journal WHERE account = ? AND kind = 'topup'", (account,)
    ).fetchall()
    balance_u = sum(amount for _, amount in topups) - billed_u
    if period is not None:
        charges = [part for charge in charges if (part := charge.cut(*period)) is not None]
        topups = [(at_ns, amount) for at_ns, amount in topups if period[0] <= at_ns < period[1]]
    return Bill(
        account=account,
        month=month,
        lines=tuple(charge.line() for charge in charges),
        total_u=sum(charge.amount_u for charge in charges if not charge.absorbed),
        absorbed_u=sum(charge.amount_u for charge in charges if charge.absorbed),
        topped_up_u=sum(amount for _, amount in topups),
        balance_u=balance_u,
    )
