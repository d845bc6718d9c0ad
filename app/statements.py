"""A whole statement from the orchestrator's pages: shared by `gpudeck bill` and the ledger screen."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from orchestrator.contract.accounting import Statement, StatementLine
from orchestrator.contract.query import AskStatement

ATTEMPTS: Final = 3
PAGE_LINES: Final = 2_000


class StatementTorn(Exception):
    """The account was charged between the pages, every time."""


async def whole_statement(
    ask: Callable[[AskStatement], Awaitable[Statement]], account: str, month: str | None
) -> tuple[Statement, list[StatementLine]]:
    """The head of the statement and all its lines, as of one instant. Raises StatementTorn, and what `ask` raises."""
    for _ in range(ATTEMPTS):
        found, lines = await read_statement(ask, account, month)
        if adds_up(found, lines):
            return found, lines
    raise StatementTorn("the account was charged between the pages of its statement; try again")


async def read_statement(
    ask: Callable[[AskStatement], Awaitable[Statement]],
    account: str,
    month: str | None,
    page_lines: int = PAGE_LINES,
) -> tuple[Statement, list[StatementLine]]:
    """One reading of all pages."""
    head = await ask(AskStatement(account=account, month=month, limit=page_lines))
    lines, page = list(head.lines), head
    while page.next is not None:
        page = await ask(
            AskStatement(account=account, month=month, after=page.next, limit=page_lines, as_of_ns=head.taken_at_ns)
        )
        lines.extend(page.lines)
    return head, lines


def adds_up(head: Statement, lines: Sequence[StatementLine]) -> bool:
    """Whether lines and sums describe the same instant: they are read in pages while money is being written."""
    charged_u = sum(line.amount_u for line in lines if not line.absorbed)
    absorbed_u = sum(line.amount_u for line in lines if line.absorbed)
    balanced = head.opening_u + head.topped_up_u - head.charged_u == head.closing_u
    return balanced and (charged_u, absorbed_u, len(lines)) == (head.charged_u, head.absorbed_u, head.lines_total)


def write_private(file: Path, document: str) -> None:
    """Whole or not at all, for the owner's eyes: a statement names models, hosts and amounts. What is no regular file
    (/dev/stdout, a pipe) is written to, never replaced. Raises OSError."""
    if file.is_dir():  # found out by the replacement, it would leave the draft behind
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if file.exists() and not file.is_file():
        file.write_text(document, encoding="utf-8")
        return
    file = Path(os.path.realpath(file))  # a link stays one
    draft = file.with_name(file.name + ".part")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as target:
            target.write(document)
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
