"""Keys, accounts, the bill and the ledger."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

import click

from app.cli.endpoints import demand_consent
from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import Column, print_blank, print_fields, print_json, print_table, say
from app.cli.session import Session, talk
from app.client import command_id
from app.format import NOTHING, age, money, rate_per_hour, runway, seconds
from orchestrator.contract.base import DOLLAR_U, SECOND_NS
from orchestrator.contract.command import CreateAccount, CreateKey, RevokeKey, TopUp
from orchestrator.contract.query import AskBill, AskVerify, Bill, BillLine, Verification
from orchestrator.contract.snapshot import KeyView

SPAN: Final = re.compile(r"(\d{1,9})([smhd])")
SPAN_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def create_key(settings: Settings, *, name: str, account: str, ttl: str | None) -> None:
    """`gpudeck key create`: the secret alone on stdout."""
    ttl_s = parse_span("--ttl", ttl) if ttl is not None else None

    async def work(session: Session) -> None:
        made = await session.send(CreateKey(id=command_id(), account=account, name=name, ttl_s=ttl_s))
        if made.secret is None:
            raise CliError(
                f"the answer with the secret was lost: `gpudeck key rm {made.key_id}` revokes it, then make another"
            )
        if settings.json:
            print_json({"key_id": made.key_id, "account": account, "name": name, "ttl_s": ttl_s, "secret": made.secret})
        else:
            say(f"key {made.key_id} for account {account}; this is the only time its secret is shown")
            click.echo(made.secret)

    talk(work)


def show_keys(settings: Settings, *, everything: bool) -> None:
    """`gpudeck key ls`."""
    state = talk(Session.snapshot)
    now_ns = state.taken_at_ns
    keys = [key for key in state.keys if everything or key_state(key, now_ns) == "active"]
    if settings.json:
        print_json(keys)
        return
    if not keys:
        say("no active keys: `gpudeck key create` makes one" if not everything else "no keys")
        return
    columns = (
        Column("KEY"), Column("NAME"), Column("ACCOUNT"), Column("STATE", state=True), Column("CREATED", right=True),
        Column("EXPIRES", right=True), Column("LAST USED", right=True),
    )  # fmt: skip
    rows = [
        (
            key.id,
            key.name,
            key.account,
            key_state(key, now_ns),
            age(key.created_ns, now_ns),
            "never" if key.expires_ns is None else _until(key.expires_ns, now_ns),
            "never" if key.last_used_ns is None else age(key.last_used_ns, now_ns),
        )
        for key in keys
    ]
    print_table(columns, rows)


def key_state(key: KeyView, now_ns: int) -> str:
    """active, expired or revoked."""
    if key.revoked_ns is not None:
        return "revoked"
    return "expired" if key.expires_ns is not None and key.expires_ns <= now_ns else "active"


def _until(then_ns: int, now_ns: int) -> str:
    return "past" if then_ns <= now_ns else f"in {seconds((then_ns - now_ns) // SECOND_NS)}"


def revoke_key(settings: Settings, key_id: str) -> None:
    """`gpudeck key rm`."""

    async def work(session: Session) -> None:
        demand_consent(settings, f"revoke {key_id}? Whoever uses it is locked out at once")
        accepted = await session.send(RevokeKey(id=command_id(), key_id=key_id))
        if settings.json:
            print_json(accepted)
        else:
            say(accepted.message)

    talk(work)


def show_accounts(settings: Settings) -> None:
    """`gpudeck account ls`."""
    state = talk(Session.snapshot)
    if settings.json:
        print_json(list(state.accounts))
        return
    columns = (
        Column("ACCOUNT"), Column("STATE", state=True), Column("BALANCE", right=True), Column("$/H", right=True),
        Column("TODAY", right=True), Column("MONTH", right=True), Column("RUNWAY", right=True),
        Column("WORST CASE", right=True),
    )  # fmt: skip
    rows = [
        (
            a.name,
            "suspended" if a.suspended else "low" if a.warned else "ok",
            money(a.balance_u),
            money(a.per_hour_u),
            money(a.today_u),
            money(a.month_u),
            runway(a.runway.current_h),
            runway(a.runway.worst_case_h),
        )
        for a in state.accounts
    ]
    print_table(columns, rows)


def create_account(settings: Settings, name: str) -> None:
    """`gpudeck account create`."""

    async def work(session: Session) -> None:
        accepted = await session.send(CreateAccount(id=command_id(), name=name))
        if settings.json:
            print_json(accepted)
        else:
            say(accepted.message)

    talk(work)


def top_up(settings: Settings, *, name: str, dollars: str, memo: str) -> None:
    """`gpudeck account topup`."""
    amount_u = parse_dollars(dollars)

    async def work(session: Session) -> None:
        accepted = await session.send(TopUp(id=command_id(), account=name, amount_u=amount_u, memo=memo))
        state = await session.snapshot()
        found = [account for account in state.accounts if account.name == name]
        if settings.json:
            print_json({"account": name, "amount_u": amount_u, "balance_u": found[0].balance_u if found else None})
            return
        say(accepted.message)
        if found:
            print_fields({"balance": money(found[0].balance_u)})

    talk(work)


def parse_dollars(text: str) -> int:
    """Micro-dollars from `100`, `$12.50` or `0.000001`. Raises CliError; never goes through a float."""
    try:
        amount = Decimal(text.strip().removeprefix("$").replace(",", "")) * DOLLAR_U
    except InvalidOperation as error:
        raise CliError(f"DOLLARS: '{text}' is no amount; write it as 100 or 12.50", Exit.USAGE) from error
    if not amount.is_finite() or amount != amount.to_integral_value():
        raise CliError(f"DOLLARS: '{text}' is no amount with at most six decimals", Exit.USAGE)
    return int(amount)


def parse_span(option: str, text: str) -> int:
    """Seconds from `90s`, `15m`, `12h`, `30d`. Raises CliError naming `option`."""
    match = SPAN.fullmatch(text.strip())
    if match is None:
        raise CliError(f"{option}: '{text}' is no span; write it as 90s, 15m, 12h or 30d", Exit.USAGE)
    return int(match[1]) * SPAN_UNITS_S[match[2]]


def show_bill(settings: Settings, *, account: str, month: str | None, lines: bool) -> None:
    """`gpudeck bill`."""

    async def work(session: Session) -> Bill:
        return await session.ask(AskBill(account=account, month=month), Bill)

    found = talk(work)
    if settings.json:
        print_json(found)
        return
    if found.lines:
        print_table(*(_every_line(found.lines) if lines else _sums(found.lines)))
        print_blank()
    totals = [("total", money(found.total_u)), ("topped up", money(found.topped_up_u))]
    if found.absorbed_u:
        totals.insert(1, ("not charged", money(found.absorbed_u)))
    print_fields([*totals, ("balance", money(found.balance_u))])


def _sums(lines: Iterable[BillLine]) -> tuple[Sequence[Column], list[Sequence[str]]]:
    """One row per endpoint, GPU type, tier and rate; time that was not charged stands apart."""
    sums: dict[tuple[str, str, str, int, bool], list[BillLine]] = {}
    for line in lines:
        terms = (line.endpoint, line.gpu_type, line.tier.value, line.rate_uh, line.absorbed)
        sums.setdefault(terms, []).append(line)
    columns = (
        Column("ENDPOINT"), Column("GPU"), Column("TIER"), Column("RATE", right=True), Column("INTERVALS", right=True),
        Column("TIME", right=True), Column("AMOUNT", right=True),
    )  # fmt: skip
    rows: list[Sequence[str]] = [
        (
            endpoint,
            gpu,
            f"{tier} (not charged)" if absorbed else tier,
            rate_per_hour(rate_uh),
            f"{len(group):,}",
            seconds(int(sum(line.seconds for line in group))),
            money(sum(line.amount_u for line in group)),
        )
        for (endpoint, gpu, tier, rate_uh, absorbed), group in sums.items()
    ]
    return columns, rows


def _every_line(lines: Iterable[BillLine]) -> tuple[Sequence[Column], list[Sequence[str]]]:
    columns = (
        Column("ENDPOINT"), Column("WORKER"), Column("GPU"), Column("TIER"), Column("RATE", right=True),
        Column("TIME", right=True), Column("AMOUNT", right=True), Column("END"),
    )  # fmt: skip
    rows: list[Sequence[str]] = [
        (
            line.endpoint,
            line.label,
            line.gpu_type,
            f"{line.tier.value} (not charged)" if line.absorbed else line.tier.value,
            rate_per_hour(line.rate_uh),
            seconds(int(line.seconds)),
            money(line.amount_u),
            "running" if line.end_ns is None else line.end_source or NOTHING,
        )
        for line in lines
    ]
    return columns, rows


def verify_ledger(settings: Settings) -> None:
    """`gpudeck ledger verify`. Raises CliError when an amount is off."""

    async def work(session: Session) -> Verification:
        return await session.ask(AskVerify(), Verification)

    found = talk(work)
    if settings.json:
        print_json(found)
    else:
        print_fields(
            {
                "ledger": "every amount is right" if found.ok else "WRONG",
                "intervals": f"{found.intervals:,}",
                "entries": f"{found.entries:,}",
                "drift": f"{found.drift_u} micro-dollars",
            }
        )
    if not found.ok:
        raise CliError("the ledger does not add up", Exit.FAILURE, "\n".join(f"  {x}" for x in found.problems))
