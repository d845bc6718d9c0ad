"""Commands about keys and accounts."""

from __future__ import annotations

import click

from app.cli.options import common, complete_slug, settings


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
@click.option("--endpoint", "endpoints", multiple=True, metavar="SLUG", shell_complete=complete_slug,
              help="The only endpoint it may call; may be repeated. Without it: all of the account.")  # fmt: skip
@click.option("--ttl", metavar="SPAN", help="How long it lives, as 90s, 15m, 12h or 30d; for ever without it.")
@common
def key_create(name: str, endpoints: tuple[str, ...], ttl: str | None) -> None:
    """Make a key and print its secret, this once and never again.

    \b
    Examples:
      gpudeck key create --name ci --ttl 30d --endpoint sketch
      export GPUDECK_API_KEY=$(gpudeck key create)
    """
    from app.cli.accounts import create_key

    create_key(settings(), name=name, endpoints=endpoints, ttl=ttl)


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
      gpudeck key rm 1e054436
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
@click.option("--mail", metavar="ADDRESS", help="Where its warnings go, instead of to mail_to of the settings.")
@common
def account_create(name: str, mail: str | None) -> None:
    """Open the account NAME; it starts without credit.

    \b
    Example:
      gpudeck account create research --mail lab@example.org
    """
    from app.cli.accounts import create_account

    create_account(settings(), name, mail)


@account.command("mail")
@click.argument("name")
@click.argument("address", required=False)
@click.option("--clear", is_flag=True, help="Back to mail_to of the settings.")
@common
def account_mail(name: str, address: str | None, clear: bool) -> None:
    """Send the warnings of the account NAME to ADDRESS.

    What is queued and not delivered yet goes there too.

    \b
    Examples:
      gpudeck account mail research lab@example.org
      gpudeck account mail research --clear
    """
    if (address is None) != clear:
        raise click.UsageError("give an ADDRESS, or --clear")
    from app.cli.accounts import set_mail

    set_mail(settings(), name, address)


@account.command("topup")
@click.argument("words", nargs=-1, metavar="[NAME] DOLLARS")
@click.option("--memo", default="top-up", show_default=True, help="A note for the ledger.")
@common
def account_topup(words: tuple[str, ...], memo: str) -> None:
    """Add DOLLARS of credit to the account NAME, or to that of --account.

    \b
    Examples:
      gpudeck account topup local 100
      gpudeck account topup local 12.50 --memo "March"
      gpudeck --account research account topup 50
    """
    if len(words) not in (1, 2):
        raise click.UsageError("give DOLLARS, or NAME and DOLLARS")
    from app.cli.accounts import top_up

    name = words[0] if len(words) == 2 else settings().owner
    top_up(settings(), name=name, dollars=words[-1], memo=memo)


@click.group()
@common
def mail() -> None:
    """The mails that warn of low credit.

    Configured by smtp_host, smtp_port, smtp_security (starttls, tls, none),
    smtp_user, smtp_password_file, mail_from and mail_to of the settings.

    \b
    Example:
      gpudeck mail test
    """


@mail.command("test", short_help="Send one mail, to ADDRESS or mail_to.")
@click.argument("address", required=False)
@common
def mail_test(address: str | None) -> None:
    """Send one mail, to ADDRESS or mail_to, and say what the server answered.

    \b
    Examples:
      gpudeck mail test
      gpudeck mail test ada@example.org
    """
    from app.cli.reports import show_mail_test

    show_mail_test(settings(), address)
