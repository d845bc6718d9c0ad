"""The statement of an account: opening balance, top-ups, charges, closing balance, and the evidence of every line.

The sums are made from top-ups and intervals; the balance that the journal carries is read beside them, and the
statement says whether the two agree (`reconciles`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from orchestrator.contract.accounting import ChargeSum, Statement, StatementLine, TopUpLine
from orchestrator.contract.snapshot import Tier
from orchestrator.ledger.charges import Charge, charges_of, require_account
from orchestrator.ledger.journal import balance_of, head_of
from orchestrator.ledger.periods import month_bounds_ns

TOPUPS_SHOWN: Final = 5_000
_BATCH: Final = 500
"""Names in one IN list: SQLite's own limit of variables is far above."""


def make_statement(
    connection: sqlite3.Connection, account: str, month: str | None, now_ns: int, *, after: int = 0, limit: int = 2_000
) -> Statement:
    """The statement as of `now_ns`, with `limit` lines after the first `after`.

    Raises KeyError for an unknown account, ValueError for a month that is none.
    """
    opened_ns = require_account(connection, account)
    since_ns, until_ns = month_bounds_ns(month) if month is not None else (opened_ns, max(now_ns, opened_ns))
    charges = list(charges_of(connection, account, now_ns))
    topups = _topups(connection, account)
    billed_u = sum(c.amount_u for c in charges if not c.absorbed)
    balance_u = sum(t.amount_u for t in topups) - billed_u
    opening_u = 0
    cut = charges
    if month is not None:
        opening_u = sum(t.amount_u for t in topups if t.at_ns < since_ns) - sum(
            c.until_u(since_ns) for c in charges if not c.absorbed and c.start_ns < since_ns
        )
        topups = [t for t in topups if since_ns <= t.at_ns < until_ns]
        cut = [part for charge in charges if (part := charge.cut(since_ns, until_ns)) is not None]
    charged_u = sum(c.amount_u for c in cut if not c.absorbed)
    topped_up_u = sum(t.amount_u for t in topups)
    closing_u = opening_u + topped_up_u - charged_u
    ledger_balance_u = balance_of(connection, account)
    unposted_u = sum(c.amount_u - c.billed_u for c in charges if not c.absorbed)
    head, head_hash = head_of(connection)
    (instance,) = connection.execute("SELECT value FROM meta WHERE key = 'instance'").fetchone()
    page = cut[after : after + limit]
    return Statement(
        account=account,
        month=month,
        instance=instance,
        since_ns=since_ns,
        until_ns=min(until_ns, max(now_ns, since_ns)),
        taken_at_ns=now_ns,
        opening_u=opening_u,
        topped_up_u=topped_up_u,
        charged_u=charged_u,
        absorbed_u=sum(c.amount_u for c in cut if c.absorbed),
        closing_u=closing_u,
        later_u=balance_u - closing_u,
        ledger_balance_u=ledger_balance_u,
        unposted_u=unposted_u,
        reconciles=ledger_balance_u - unposted_u == balance_u,
        head=head,
        head_hash=head_hash.hex(),
        topups=tuple(topups[:TOPUPS_SHOWN]) if after == 0 else (),
        charges=_sums(cut),
        lines=_with_evidence(connection, page),
        lines_total=len(cut),
        next=after + limit if after + limit < len(cut) else None,
    )


def _topups(connection: sqlite3.Connection, account: str) -> list[TopUpLine]:
    rows = connection.execute(
        "SELECT txn_id, at_ns, amount_u, memo, key FROM journal WHERE account = ? AND kind = 'topup' ORDER BY txn_id",
        (account,),
    )
    return [TopUpLine(txn_id=r[0], at_ns=r[1], amount_u=r[2], memo=r[3], key=r[4]) for r in rows]


def _sums(charges: Iterable[Charge]) -> tuple[ChargeSum, ...]:
    groups: dict[tuple[str, str, str, int], list[Charge]] = {}
    for charge in charges:
        groups.setdefault((charge.endpoint, charge.gpu_type, charge.tier, charge.rate_uh), []).append(charge)
    return tuple(
        ChargeSum(
            endpoint=endpoint,
            gpu_type=gpu_type,
            tier=Tier(tier),
            rate_uh=rate_uh,
            intervals=len({c.interval_id for c in group}),
            span_ns=sum(c.end_ns - c.start_ns for c in group if not c.absorbed),
            amount_u=sum(c.amount_u for c in group if not c.absorbed),
            absorbed_ns=sum(c.end_ns - c.start_ns for c in group if c.absorbed),
            absorbed_u=sum(c.amount_u for c in group if c.absorbed),
        )
        for (endpoint, gpu_type, tier, rate_uh), group in sorted(groups.items(), key=_order)
    )


def _order(item: tuple[tuple[str, str, str, int], list[Charge]]) -> tuple[str, str, bool, int]:
    """By endpoint, then GPU type, baseline before autoscale."""
    endpoint, gpu_type, tier, rate_uh = item[0]
    return endpoint, gpu_type, tier != Tier.BASELINE.value, rate_uh


def _with_evidence(connection: sqlite3.Connection, charges: Sequence[Charge]) -> tuple[StatementLine, ...]:
    terms = _by_id(connection, _TERMS, [c.interval_id for c in charges])
    workers = _by_id(connection, _EVIDENCE, [c.worker_id for c in charges])
    return tuple(
        StatementLine(
            **charge.line().model_dump(),
            span_ns=charge.end_ns - charge.start_ns,
            **dict(zip(_TERMS_NAMES, terms[charge.interval_id], strict=True)),
            **dict(zip(_EVIDENCE_NAMES, workers[charge.worker_id], strict=True)),
        )
        for charge in charges
    )


_TERMS_NAMES: Final = ("price_book", "boot_id")
_TERMS: Final = "SELECT id, price_book, boot_id FROM interval WHERE id IN ({})"
_EVIDENCE_NAMES: Final = (
    "model", "gpu_uuid", "generation", "engine_ref", "intent_ns", "started_ns", "ready_ns", "worker_ended_ns",
    "worker_end_source", "end_cause", "end_detail",
)  # fmt: skip
_EVIDENCE: Final = (
    "SELECT id, model, gpu_uuid, generation, engine_ref, intent_ns, started_ns, ready_ns, ended_ns, end_source,"
    " end_cause, end_detail FROM worker WHERE id IN ({})"
)


def _by_id(connection: sqlite3.Connection, query: str, ids: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    wanted = sorted(set(ids))
    for first in range(0, len(wanted), _BATCH):
        batch = wanted[first : first + _BATCH]
        for name, *rest in connection.execute(query.format(", ".join("?" * len(batch))), batch):
            found[name] = tuple(rest)
    return found
