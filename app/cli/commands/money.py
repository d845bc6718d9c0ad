"""Commands about keys, accounts and the bill."""

from __future__ import annotations

import click

from app.cli.options import common, settings


@click.group()
@common
def key() -> None:
    """API keys: who may call an endpoint.

    \b
    Examples:
      gpudeck key create --name laptop
      gpudeck key ls
    """


@key.command("create")
@click.option("--name", default="cli", show_default=True, help="A name to recognise it by.")
@click.option("--account", default="local", show_default=True, help="Account it belongs to.")
@click.option("--ttl", metavar="SPAN", help="How long it lives, as 90s, 15m, 12h or 30d; for ever without it.")
@common
def key_create(name: str, account: str, ttl: str | None) -> None:
    """Make a key and print its secret, this once and never again.

    \b
    Examples:
      gpudeck key create --name ci --ttl 30d
      export GPUDECK_API_KEY=$(gpudeck key create)
    """
    from app.cli.accounts import create_key

    create_key(settings(), name=name, account=account, ttl=ttl)


@key.command("ls")
@click.option("--all", "everything", is_flag=True, help="Also expired and revoked keys.")
@common
def key_ls(everything: bool) -> None:
    """The keys there are; secrets are never shown again.

    \b
    Example:
      gpudeck key ls --all
    """
    from app.cli.accounts import show_keys

    show_keys(settings(), everything=everything)


@key.command("rm")
@click.argument("key_id")
@common
def key_rm(key_id: str) -> None:
    """Revoke the key KEY_ID at once.

    \b
    Example:
      gpudeck key rm k_1a2b3c
    """
    from app.cli.accounts import revoke_key

    revoke_key(settings(), key_id)


@click.group()
@common
def account() -> None:
    """Accounts and their credit.

    \b
    Examples:
      gpudeck account ls
      gpudeck account topup local 100
    """


@account.command("ls")
@common
def account_ls() -> None:
    """Balance, burn and runway of every account.

    \b
    Example:
      gpudeck account ls
    """
    from app.cli.accounts import show_accounts

    show_accounts(settings())


@account.command("create")
@click.argument("name")
@common
def account_create(name: str) -> None:
    """Open the account NAME; it starts without credit.

    \b
    Example:
      gpudeck account create research
    """
    from app.cli.accounts import create_account

    create_account(settings(), name)


@account.command("topup")
@click.argument("name")
@click.argument("dollars")
@click.option("--memo", default="top-up", show_default=True, help="A note for the ledger.")
@common
def account_topup(name: str, dollars: str, memo: str) -> None:
    """Add DOLLARS of credit to the account NAME.

    \b
    Examples:
      gpudeck account topup local 100
      gpudeck account topup local 12.50 --memo "March"
    """
    from app.cli.accounts import top_up

    top_up(settings(), name=name, dollars=dollars, memo=memo)


@click.command()
@click.option("--month", metavar="YYYY-MM", help="One month, in UTC; everything without it.")
@click.option("--account", "name", default="local", show_default=True, help="Whose bill.")
@click.option("--lines", is_flag=True, help="Every interval instead of sums.")
@common
def bill(month: str | None, name: str, lines: bool) -> None:
    """What was charged, by endpoint and tier.

    \b
    Examples:
      gpudeck bill
      gpudeck bill --month 2026-03 --lines
    """
    from app.cli.accounts import show_bill

    show_bill(settings(), account=name, month=month, lines=lines)


@click.group()
@common
def ledger() -> None:
    """Check the ledger.

    \b
    Example:
      gpudeck ledger verify
    """


@ledger.command("verify")
@common
def ledger_verify() -> None:
    """Recompute every amount from intervals and rates; exit code 1 when one is off.

    \b
    Example:
      gpudeck ledger verify -o json
    """
    from app.cli.accounts import verify_ledger

    verify_ledger(settings())
