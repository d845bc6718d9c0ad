"""What an endpoint cost over time, from its intervals: exact, and as quick for a month as for an hour."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import Final

from orchestrator.contract.history import SpentPoint
from orchestrator.ledger.charges import charges_where
from orchestrator.ledger.schema import NEVER_NS

_TOUCHING: Final = f"""
    i.endpoint = :slug AND COALESCE(i.end_ns, {NEVER_NS}) > :since_ns AND i.start_ns < :until_ns
    AND +i.account = :account
"""
"""Written as the index interval_endpoint is; with the plus SQLite has no reason to go by account, the long way."""

_WITHIN: Final = """
    i.end_ns IS NOT NULL AND i.start_ns >= :since_ns AND i.end_ns <= :until_ns
    AND (i.start_ns - :since_ns) / :step_ns = (i.end_ns - 1 - :since_ns) / :step_ns
"""
"""Over, and in one step: what was billed of it need not be cut."""

_WHOLE: Final = f"""
SELECT (i.start_ns - :since_ns) / :step_ns, SUM(j.billed_u)
FROM interval i
JOIN journal j ON j.interval_id = i.id
    AND j.upto_ns = (SELECT MAX(upto_ns) FROM journal WHERE interval_id = i.id)
WHERE {_TOUCHING} AND {_WITHIN}
GROUP BY 1
"""  # noqa: S608 - conditions of our own


def read_spending(
    connection: sqlite3.Connection,
    slug: str,
    account: str,
    since_ns: int,
    until_ns: int,
    step_ns: int,
    now_ns: int,
) -> tuple[SpentPoint, ...]:
    """What `account` was or will be billed for the endpoint in each step of [since, until), as of `now_ns`; steps
    without cost are left out. Parts of an interval add up to it (charges.py), so steps add up to the bill."""
    values: dict[str, int | str] = {"slug": slug, "account": account}
    values |= {"since_ns": since_ns, "until_ns": until_ns, "step_ns": step_ns}
    amounts_u: dict[int, int] = defaultdict(int)
    # A month of an endpoint that scales often has tens of thousands of these: they are added up where they lie.
    amounts_u.update(connection.execute(_WHOLE, values))
    for charge in charges_where(connection, f"{_TOUCHING} AND NOT ({_WITHIN})", values, now_ns):
        if charge.absorbed:
            continue
        first_ns, last_ns = max(charge.start_ns, since_ns), min(charge.end_ns, until_ns)
        before_u = charge.until_u(first_ns)
        step = (first_ns - since_ns) // step_ns
        while since_ns + step * step_ns < last_ns:
            end_u = charge.until_u(min(since_ns + (step + 1) * step_ns, last_ns))
            amounts_u[step] += end_u - before_u
            before_u = end_u
            step += 1
    found = sorted((step, amount_u) for step, amount_u in amounts_u.items() if amount_u)
    return tuple(SpentPoint(start_ns=since_ns + step * step_ns, amount_u=amount_u) for step, amount_u in found)
