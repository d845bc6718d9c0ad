"""An account's intervals priced by another book, side by side with what was charged."""

from __future__ import annotations

import sqlite3
from typing import Final

from orchestrator.contract.accounting import Comparison, ComparisonRow
from orchestrator.contract.snapshot import Tier
from orchestrator.core.pricing import PriceBook
from orchestrator.core.repricing import Stretch, reprice
from orchestrator.ledger.charges import charges_of, require_account
from orchestrator.ledger.periods import month_bounds_ns

_FIRST: Final = """
SELECT i.id, i.price_book, w.started_ns, w.ready_ns,
    i.start_ns = (SELECT MIN(start_ns) FROM interval WHERE worker_id = i.worker_id) AND w.surge = 0
FROM interval i JOIN worker w ON w.id = i.worker_id WHERE i.account = ?
"""


def make_comparison(
    connection: sqlite3.Connection, account: str, month: str | None, now_ns: int, other: PriceBook
) -> Comparison:
    """Raises KeyError for an unknown account, ValueError for a month that is none."""
    require_account(connection, account)
    period = month_bounds_ns(month) if month is not None else None
    known = {row[0]: row[1:] for row in connection.execute(_FIRST, (account,))}
    books: dict[str, None] = {}
    groups: dict[tuple[str, str, str], list[tuple[str, int, int, int | None]]] = {}
    for whole in charges_of(connection, account, now_ns):
        charge = whole.cut(*period) if period is not None else whole
        if charge is None or charge.absorbed:
            continue
        book, started_ns, ready_ns, first = known[charge.interval_id]
        books[book] = None
        stretch = Stretch(
            charge.gpu_type,
            Tier(charge.tier),
            charge.origin_ns,
            charge.start_ns,
            charge.end_ns,
            started_ns if first else None,
            ready_ns if first else None,
        )
        terms = (charge.endpoint, charge.gpu_type, charge.tier)
        figures = (charge.interval_id, charge.end_ns - charge.start_ns, charge.amount_u, reprice(stretch, other))
        groups.setdefault(terms, []).append(figures)
    rows = tuple(_row(terms, figures, other) for terms, figures in sorted(groups.items(), key=_order))
    priced = [row for row in rows if row.other_u is not None]
    amount_u, other_u = sum(r.amount_u for r in priced), sum(r.other_u or 0 for r in priced)
    return Comparison(
        account=account,
        month=month,
        books=tuple(sorted(books)),
        other_book=other.name,
        rows=rows,
        amount_u=amount_u,
        other_u=other_u,
        difference_u=other_u - amount_u,
        unpriced_u=sum(r.amount_u for r in rows if r.other_u is None),
    )


def _row(
    terms: tuple[str, str, str], figures: list[tuple[str, int, int, int | None]], other: PriceBook
) -> ComparisonRow:
    endpoint, gpu_type, tier = terms
    price = other.price(gpu_type)
    amount_u = sum(amount for _, _, amount, _ in figures)
    other_u = None if price is None else sum(repriced or 0 for _, _, _, repriced in figures)
    return ComparisonRow(
        endpoint=endpoint,
        gpu_type=gpu_type,
        tier=Tier(tier),
        intervals=len({interval_id for interval_id, *_ in figures}),
        span_ns=sum(span for _, span, _, _ in figures),
        amount_u=amount_u,
        other_rate_uh=None if price is None else price.rate_uh(Tier(tier)),
        other_u=other_u,
        difference_u=None if other_u is None else other_u - amount_u,
    )


def _order(item: tuple[tuple[str, str, str], list[tuple[str, int, int, int | None]]]) -> tuple[str, str, bool]:
    endpoint, gpu_type, tier = item[0]
    return endpoint, gpu_type, tier != Tier.BASELINE.value
