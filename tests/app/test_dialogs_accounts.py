"""Accounts: the list with its balances, a new one, credit for the chosen one, and where warnings go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messages import Dialog
from app.present import accounts
from app.present.form import Invalid
from app.present.text import text, width
from app.screens.dialogs.accounts import AccountsDialog, MailDialog, NewAccountDialog
from app.screens.dialogs.top_up import TopUpDialog
from app.screens.ledger import LedgerScreen
from orchestrator.contract.command import CreateAccount, SetMail, TopUp
from orchestrator.contract.snapshot import AccountView, Snapshot
from tests.app.dialog_stage import WIDE, refusing, stage
from tests.app.driving import dialogs_wanted, running
from tests.app.fakes import FakeClient, rich
from tests.app.pictures import assert_picture
from tests.waiting import until


def state(seq: int = 1, *more: AccountView) -> Snapshot:
    """Three accounts: one well, one low on credit, one stopped whose mails come back."""
    made = rich(seq=seq)
    local = made.accounts[0]
    low = local.model_copy(
        update={"name": "research", "balance_u": 18_000_000, "warned": True, "mail": "ada@example.org"}
    )
    stopped = local.model_copy(
        update={"name": "[bold]demo", "balance_u": 9_990_000, "suspended": True, "per_hour_u": 0,
                "mail": "nobody@example.org", "mail_problem": "550 no such\x1b[2J user"}
    )  # fmt: skip
    return made.model_copy(update={"accounts": (local, low, stopped, *more)})


async def test_the_list_follows_the_cursor_and_leads_to_credit_for_the_chosen_one() -> None:
    async with stage(Dialog.ACCOUNTS, client=FakeClient(state()), size=WIDE) as held:
        await held.front(AccountsDialog)
        await held.shows("● ok")
        await held.shows("Warnings go to the operator (mail_to).")
        await held.press("j")
        await held.shows("Warnings go to ada@example.org.")
        await held.press("t")
        dialog = await held.front(TopUpDialog)
        assert dialog.account is not None
        assert dialog.account.name == "research"
        await held.type("amount", "25")
        await held.press("ctrl+s")
        sent = await held.sent()
        assert isinstance(sent, TopUp)
        assert (sent.account, sent.amount_u) == ("research", 25_000_000)
        await held.front(AccountsDialog)


async def test_a_new_account_is_judged_while_it_is_typed_and_then_listed() -> None:
    async with stage(Dialog.ACCOUNTS, client=FakeClient(state())) as held:
        await held.front(AccountsDialog)
        await held.press("n")
        await held.front(NewAccountDialog)
        await held.type("name", "research")
        assert held.problem("name") == "✖ an account research exists already on this host"
        await held.type("mail", "no address")
        assert held.problem("mail").startswith("✖ ")
        await held.press("ctrl+s")
        assert held.client.sent == []
        assert held.top.focused.id == "name"
        await held.type("name", "vision")
        await held.type("mail", "vision@example.org")
        await held.press("ctrl+s")
        sent = await held.sent()
        assert isinstance(sent, CreateAccount)
        assert (sent.name, sent.mail) == ("vision", "vision@example.org")
        await held.front(AccountsDialog)
        fresh = state().accounts[0].model_copy(update={"name": "vision"})
        held.client.push(state(2, fresh))
        await held.shows("vision")


async def test_warnings_go_back_to_the_operator_with_an_empty_line() -> None:
    async with stage(Dialog.ACCOUNTS, client=FakeClient(state())) as held:
        await held.front(AccountsDialog)
        await held.press("j", "m")
        dialog = await held.front(MailDialog)
        assert dialog.text("mail") == "ada@example.org"
        await held.type("mail", "")
        await held.press("enter")
        sent = await held.sent()
        assert isinstance(sent, SetMail)
        assert (sent.account, sent.mail) == ("research", None)


async def test_a_refusal_loses_nothing_that_was_typed() -> None:
    async with stage(Dialog.ACCOUNTS, client=FakeClient(state())) as held:
        held.client.outcome = refusing("name: at most 1,000 accounts")
        await held.front(AccountsDialog)
        await held.press("n")
        dialog = await held.front(NewAccountDialog)
        await held.type("name", "vision")
        await held.press("ctrl+s")
        await held.shows("at most 1,000 accounts")
        assert dialog.text("name") == "vision"


async def test_the_list_opens_from_the_ledger_and_the_dashboard() -> None:
    async with running(state()) as (app, _, pilot):
        await pilot.press("C")
        await until(lambda: dialogs_wanted(app) == [(Dialog.ACCOUNTS, None)])
        await pilot.press("m")
        await until(lambda: isinstance(app.screen, LedgerScreen))
        await pilot.press("C")
        await until(lambda: dialogs_wanted(app) == [(Dialog.ACCOUNTS, None)] * 2)


async def test_picture() -> None:
    async with stage(Dialog.ACCOUNTS, client=FakeClient(state()), size=(80, 24)) as held:
        await held.front(AccountsDialog)
        await held.press("j", "j")
        await held.shows("550 no such user")
        assert_picture(held.app, "dialog_accounts_80x24")


def test_each_state_has_a_glyph_and_a_word_and_foreign_text_is_plain() -> None:
    ok, low, stopped = [text(each) for each in accounts.rows(state().accounts, 108)]
    assert "● ok" in ok
    assert "▲ low" in low
    assert "■ stopped" in stopped
    assert stopped.startswith("[bold]demo")
    assert "\x1b" not in " ".join(text(each) for each in accounts.chosen_rows(state().accounts[2], 60))


@pytest.mark.parametrize("typed", ["a b", "a@b@c", "x" * 255 + "@example.org", "a@example.org\x1b"])
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(Invalid):
        accounts.mail_address(typed)


@given(st.integers(44, 160))
def test_lines_never_exceed_their_room(room: int) -> None:
    drawn = [accounts.head(room), *accounts.rows(state().accounts, room)]
    for each in state().accounts:
        drawn += accounts.chosen_rows(each, room)
    assert all(width(each) <= room for each in drawn)
