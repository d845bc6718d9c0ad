"""Accounts as a table (what each has left, what it spends, who is warned), and the texts that make one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from pydantic import TypeAdapter, ValidationError

from app.format import clip, money, plain, rate_per_hour, runway
from app.present import form, table
from app.present.form import Invalid
from app.present.table import Column
from app.present.text import ERROR, GOOD, WARNING, Line, Span, Tone, line, wrap
from orchestrator.contract.limits import MailAddress
from orchestrator.contract.snapshot import AccountView

_MAIL: Final = TypeAdapter(MailAddress)
OPERATOR: Final = "the operator (mail_to)"
"""Who gets the warnings of an account without an address."""
_COLUMNS: Final = (
    Column("name", "ACCOUNT", 10, grow=True, grow_max=24),
    Column("state", "STATE", 9),
    Column("balance", "BALANCE", 11, right=True),
    Column("burn", "NOW", 10, right=True),
    Column("runway", "LASTS", 9, rank=1, right=True),
    Column("today", "TODAY", 10, rank=3, right=True),
    Column("month", "MONTH", 10, rank=2, right=True),
    Column("mail", "WARNINGS TO", 18, rank=4, grow=True, grow_max=32),
)
_WIDE: Final = 100


def _gap(room: int) -> int:
    return 2 if room >= _WIDE else 1


def _chosen(room: int) -> list[tuple[Column, int]]:
    return table.choose(_COLUMNS, room, _gap(room))


def head(room: int) -> Line:
    """The titles of `rows`."""
    return table.head(_chosen(room), _gap(room))


def rows(accounts: Sequence[AccountView], room: int) -> list[Line]:
    """One row an account."""
    return [table.row(_cells(each), _chosen(room), _gap(room)) for each in accounts]


def _cells(account: AccountView) -> dict[str, Line]:
    return {
        "name": line(Span(plain(account.name), Tone.STRONG)),
        "state": line(_state(account)),
        "balance": line(money(account.balance_u)),
        "burn": line(rate_per_hour(account.per_hour_u)),
        "runway": line(Span(runway(account.runway.current_h), Tone.MUTED)),
        "today": line(Span(money(account.today_u), Tone.MUTED)),
        "month": line(Span(money(account.month_u), Tone.MUTED)),
        "mail": line(
            Span(plain(account.mail) if account.mail else "mail_to", ERROR if account.mail_problem else Tone.MUTED)
        ),
    }


def _state(account: AccountView) -> Span:
    if account.suspended:
        return Span("■ stopped", ERROR)
    return Span("▲ low", WARNING) if account.warned else Span("● ok", GOOD)


def chosen_rows(account: AccountView, room: int) -> list[Line]:
    """The account under the cursor in words: how long it lasts, and who hears of it."""
    spans = account.runway
    lasts = (
        f"Lasts {runway(spans.baseline_h)} at baseline, {runway(spans.current_h)} as now, {runway(spans.worst_case_h)} "
    )
    lines = wrap(
        f"{lasts}at worst. Warnings go to {plain(account.mail) if account.mail else OPERATOR}.", room, Tone.MUTED
    )
    if account.mail_problem:
        lines += wrap(f"▲ {plain(account.mail_problem)}", room, WARNING)
    return lines


def account_name(text: str, taken: Collection[str]) -> str:
    """The name of a new account. Raises Invalid."""
    name = form.key_name(text)
    if name in taken:
        raise Invalid(f"an account {name} exists already on this host")
    return name


def mail_address(text: str) -> str | None:
    """Where warnings go; empty means the operator's address. Raises Invalid."""
    typed = text.strip()
    if not typed:
        return None
    try:
        return _MAIL.validate_python(typed)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise Invalid(clip(plain(reason), 120)) from error
