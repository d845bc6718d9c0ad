"""Keys and accounts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import click

from app.cli.endpoints import demand_consent
from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import Column, print_fields, print_json, print_table, say
from app.cli.session import Session, talk
from app.client import command_id
from app.format import age, money, runway, seconds
from app.present.form import Invalid, parse_amount
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Command, CreateAccount, CreateKey, RevokeKey, SetMail, TopUp

SPAN: Final = re.compile(r"([0-9]{1,9})([smhd])")
SPAN_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def create_key(settings: Settings, *, name: str, endpoints: tuple[str, ...], ttl: str | None) -> None:
    """`gpudeck key create`: the secret alone on stdout."""
    ttl_s = parse_span("--ttl", ttl) if ttl is not None else None
    account = settings.owner

    async def work(session: Session) -> None:
        command = CreateKey(id=command_id(), account=account, name=name, ttl_s=ttl_s, endpoints=endpoints)
        made = await session.send(command)
        if made.secret is None:
            raise CliError(
                f"the answer with the secret was lost: `gpudeck key rm {made.key_id}` revokes it, then make another"
            )
        if settings.json:
            shown = {"key_id": made.key_id, "account": account, "name": name, "ttl_s": ttl_s, "endpoints": endpoints}
            print_json({**shown, "secret": made.secret})
        else:
            say(f"key {made.key_id} for account {account}; this is the only time its secret is shown")
            click.echo(made.secret)

    talk(work)


def show_keys(settings: Settings, *, everything: bool) -> None:
    """`gpudeck key ls`."""
    state = talk(Session.snapshot)
    now_ns = state.taken_at_ns
    keys = [key for key in state.keys if everything or key.state_at(now_ns) == "active"]
    if settings.json:
        print_json(keys)
        return
    if not keys:
        say("no active keys: `gpudeck key create` makes one" if not everything else "no keys")
        return
    columns = (
        Column("KEY"), Column("NAME"), Column("ACCOUNT"), Column("MAY CALL"), Column("STATE", state=True),
        Column("CREATED", right=True),
        Column("EXPIRES", right=True), Column("LAST USED", right=True),
    )  # fmt: skip
    rows = [
        (
            key.id,
            key.name,
            key.account,
            " ".join(key.endpoints) or "all",
            key.state_at(now_ns),
            age(key.created_ns, now_ns),
            "never" if key.expires_ns is None else _until(key.expires_ns, now_ns),
            "never" if key.last_used_ns is None else age(key.last_used_ns, now_ns),
        )
        for key in keys
    ]
    print_table(columns, rows)


def _until(then_ns: int, now_ns: int) -> str:
    return "past" if then_ns <= now_ns else f"in {seconds((then_ns - now_ns) // SECOND_NS)}"


def revoke_key(settings: Settings, key_id: str) -> None:
    """`gpudeck key rm`."""

    async def work(session: Session) -> None:
        if session.account is not None and key_id not in {key.id for key in (await session.snapshot()).keys}:
            raise CliError(f"account '{session.account}' has no key '{key_id}'", Exit.NOT_FOUND)
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
        Column("TODAY", right=True), Column("MONTH", right=True), Column("AT BASELINE", right=True),
        Column("NOW", right=True), Column("WORST CASE", right=True), Column("MAIL"),
    )  # fmt: skip
    rows = [
        (
            a.name,
            "suspended" if a.suspended else "low" if a.warned else "ok",
            money(a.balance_u),
            money(a.per_hour_u),
            money(a.today_u),
            money(a.month_u),
            runway(a.runway.baseline_h),
            runway(a.runway.current_h),
            runway(a.runway.worst_case_h),
            (a.mail or "mail_to") + (f" (problem: {a.mail_problem})" if a.mail_problem else ""),
        )
        for a in state.accounts
    ]
    print_table(columns, rows)


def create_account(settings: Settings, name: str, mail: str | None) -> None:
    """`gpudeck account create`."""
    _send(settings, lambda: CreateAccount(id=command_id(), name=name, mail=mail))


def set_mail(settings: Settings, name: str, address: str | None) -> None:
    """`gpudeck account mail`; None is the operator's address."""
    _send(settings, lambda: SetMail(id=command_id(), account=name, mail=address))


def _send(settings: Settings, make: Callable[[], Command]) -> None:
    """Send what `make` makes (inside the session, so that what is wrong with it is said as usual)."""

    async def work(session: Session) -> None:
        accepted = await session.send(make())
        if settings.json:
            print_json(accepted)
        else:
            say(accepted.message)

    talk(work)


def top_up(settings: Settings, *, name: str, dollars: str, memo: str) -> None:
    """`gpudeck account topup`."""
    try:
        amount_u = parse_amount(dollars)
    except Invalid as error:
        raise CliError(f"DOLLARS: {error}", Exit.USAGE) from error

    async def work(session: Session) -> None:
        accepted = await session.send(TopUp(id=command_id(), account=name, amount_u=amount_u, memo=memo))
        state = await session.everything()
        found = [account for account in state.accounts if account.name == name]
        if settings.json:
            print_json({"account": name, "amount_u": amount_u, "balance_u": found[0].balance_u if found else None})
            return
        say(accepted.message)
        if found:
            print_fields({"balance": money(found[0].balance_u)})

    talk(work)


def parse_span(option: str, text: str) -> int:
    """Seconds from `90s`, `15m`, `12h`, `30d`. Raises CliError naming `option`."""
    match = SPAN.fullmatch(text.strip())
    if match is None:
        raise CliError(f"{option}: '{text}' is no span; write it as 90s, 15m, 12h or 30d", Exit.USAGE)
    return int(match[1]) * SPAN_UNITS_S[match[2]]
