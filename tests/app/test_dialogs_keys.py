"""API keys and credit: what is listed, what is sent, and that a secret is shown once and never lost."""

from __future__ import annotations

import pytest

from app.messages import Dialog
from app.present import keys
from app.screens.dialogs.fields import Choice, ListChoice
from app.screens.dialogs.keys import KeysDialog, RevokeDialog
from app.screens.dialogs.new_key import NewKeyDialog, SecretDialog
from app.screens.dialogs.scope import ScopeChoice
from app.screens.dialogs.top_up import TopUpDialog
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Accepted, Command, CreateKey, Outcome, RevokeKey, TopUp
from orchestrator.contract.endpoint import Visibility
from orchestrator.contract.snapshot import KeyView
from tests.app import fakes
from tests.app.dialog_stage import HeldClient, Stage, refusing, silent, stage
from tests.waiting import until

SECRET = "gpd_1a2b3c4d_" + "Ab-_" * 10 + "xyz"
DAY_S = 86_400


def granting(command: Command) -> Outcome:
    if isinstance(command, CreateKey):
        return Accepted(id=command.id, message=f"key {command.name} created", key_id="1a2b3c4d", secret=SECRET)
    return Accepted(id=command.id, message="done")


def some_keys() -> tuple[KeyView, ...]:
    now = fakes.NOW_NS
    day = DAY_S * SECOND_NS
    return (
        KeyView(id="aa11", account="local", name="old laptop", created_ns=now - 90 * day, revoked_ns=now - day),
        KeyView(id="bb22", account="local", name="ci-pipeline", created_ns=now - 2 * day, expires_ns=now + 28 * day,
                last_used_ns=now - 40 * SECOND_NS),
        KeyView(id="cc33", account="team", name="[red]evil[/]", created_ns=now - day, expires_ns=now - SECOND_NS),
        KeyView(id="dd44", account="local", name="newest", created_ns=now - 600 * SECOND_NS, endpoints=("sketch",)),
    )  # fmt: skip


async def test_keys_that_work_come_first_and_all_say_their_state() -> None:
    async with stage(Dialog.KEYS, client=fakes.FakeClient(fakes.rich(keys=some_keys())), size=(120, 40)) as held:
        table = held.top.query_one(ListChoice)
        assert table.keys == ("dd44", "bb22", "cc33", "aa11")
        assert table.has_focus
        await held.shows("newest ● active dd44 local sketch 10 m ago never never")
        await held.shows("ci-pipeline ● active bb22 local all 2 d 0 h ago in 28 d 0 h 40 s ago")
        await held.shows("[red]evil[/] ✖ expired")
        await held.shows("old laptop ✖ revoked")


async def test_no_keys_is_said_and_new_is_offered() -> None:
    async with stage(Dialog.KEYS, client=fakes.FakeClient(fakes.rich(keys=()))) as held:
        await held.shows("No keys yet. Press n to create one")
        assert held.top.focused.id == "do-create"
        await held.press("x")
        assert isinstance(held.top, KeysDialog)


async def test_a_key_is_revoked_after_asking() -> None:
    async with stage(Dialog.KEYS, client=fakes.FakeClient(fakes.rich(keys=some_keys()))) as held:
        await held.press("down", "x")
        await held.front(RevokeDialog)
        await held.shows("ci-pipeline bb22 · account local · last used 40 s ago")
        assert held.top.focused.id == "do-cancel"
        await held.press("n")
        await held.front(KeysDialog)
        assert held.client.sent == []
        await held.press("x")
        await held.front(RevokeDialog)
        await held.press("y")
        await held.front(KeysDialog)
        assert [(type(sent), sent.key_id) for sent in held.client.sent] == [(RevokeKey, "bb22")]


async def test_a_revoked_key_is_not_revoked_again() -> None:
    async with stage(Dialog.KEYS, client=fakes.FakeClient(fakes.rich(keys=some_keys()))) as held:
        await held.press("end", "x")
        await held.shows("old laptop is revoked already.")
        assert held.client.sent == []


async def test_a_new_key_shows_its_secret_once_until_it_is_put_away() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = granting
    async with stage(Dialog.KEYS, client=client) as held:
        await held.press("n")
        await held.front(NewKeyDialog)
        await held.press("l", "a", "p", "tab", "3", "0", "ctrl+s")
        await held.front(SecretDialog)
        sent = client.sent[0]
        assert isinstance(sent, CreateKey)
        assert (sent.account, sent.name, sent.ttl_s) == ("local", "lap", 30 * DAY_S)
        await held.shows(SECRET)
        await held.shows("curl -sS http://127.0.0.1:8600/v1/get-user-credits")
        assert not held.app._notifications
        assert held.top.focused.id == "do-copy_secret"
        await held.press("enter")
        assert held.app.clipboard == SECRET
        await held.press("y")
        assert held.app.clipboard.splitlines()[0] == f"export GPUDECK_KEY={SECRET}"
        assert '-H "x-api-key: $GPUDECK_KEY"' in held.app.clipboard
        await held.press("escape", "q", "n")
        await held.shows("Press d once you have the key")
        assert isinstance(held.top, SecretDialog)
        await held.press("d")
        await held.front(KeysDialog)
        assert SECRET not in held.text()


async def new_key_form(held: Stage) -> ScopeChoice:
    """The form for a new key with a name in it and the focus on the endpoints."""
    await held.press("n")
    await held.front(NewKeyDialog)
    await held.type("name", "ci")
    scope: ScopeChoice = held.top.query_one(ScopeChoice)
    scope.focus()
    await held.pilot.pause()
    return scope


async def test_a_key_is_confined_to_the_endpoints_that_are_ticked() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = granting
    async with stage(Dialog.KEYS, client=client) as held:
        scope = await new_key_form(held)
        await held.shows("■ all, those made later too")
        await held.press("down", "space", "down", "down", "space")
        await held.shows("□ all, those made later too")
        await held.shows("■ llama-70b vllm on H100")
        await held.shows("□ sketch")
        await held.shows("■ thumbs")
        await held.press("space", "up", "space")
        assert scope.scope == ("llama-70b", "sketch")
        await held.press("ctrl+s")
        await held.front(SecretDialog)
        assert client.sent[0].endpoints == ("llama-70b", "sketch")  # type: ignore[union-attr]


async def test_the_first_row_takes_every_tick_away() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = granting
    async with stage(Dialog.KEYS, client=client) as held:
        scope = await new_key_form(held)
        await held.press("end", "space", "home", "space")
        assert scope.scope == ()
        await held.press("ctrl+s")
        await held.front(SecretDialog)
        assert client.sent[0].endpoints == ()  # type: ignore[union-attr]


async def test_a_click_ticks() -> None:
    async with stage(Dialog.KEYS) as held:
        scope = await new_key_form(held)
        await held.pilot.click(scope, offset=(3, 2))
        await held.pilot.pause()
        assert (scope.scope, scope.chosen) == (("sketch",), "sketch")
        await held.pilot.click(scope, offset=(3, 2))
        await held.pilot.pause()
        assert scope.scope == ()


async def test_a_ticked_endpoint_that_goes_away_does_not_open_the_key_to_all() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = refusing("endpoints: account local has no endpoint 'sketch'", "endpoints")
    async with stage(Dialog.KEYS, client=client) as held:
        scope = await new_key_form(held)
        scope.toggle("sketch")
        client.push(fakes.rich(endpoints=tuple(e for e in fakes.rich().endpoints if e.spec.slug != "sketch")))
        await held.shows("■ sketch cannot be called by it")
        await held.press("ctrl+s")
        assert (await held.sent()).endpoints == ("sketch",)
        await until(lambda: held.problem("endpoints") != "", what="the refusal")
        assert held.top.focused is scope


async def test_another_account_is_offered_what_it_may_call() -> None:
    seen = fakes.rich(accounts=(fakes.account(), fakes.account(name="team")))
    public = seen.endpoints[0].model_copy(
        update={"spec": seen.endpoints[0].spec.model_copy(update={"visibility": Visibility.PUBLIC})}
    )
    client = fakes.FakeClient(seen.model_copy(update={"endpoints": (public, *seen.endpoints[1:])}))
    async with stage(Dialog.KEYS, client=client) as held:
        scope = await new_key_form(held)
        assert len(scope.keys) == 1 + len(seen.endpoints)
        await held.choose("account", "team")
        assert scope.keys == ("", public.spec.slug)
        await held.shows("public, of local")


def test_a_key_is_confined_to_so_many_endpoints_at_most() -> None:
    slugs = [f"e-{number}" for number in range(65)]
    assert keys.scope_problem(slugs[:64]) is None
    assert keys.scope_problem(slugs) == "a key is confined to at most 64 endpoints, not 65"


async def test_a_key_without_days_never_expires() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = granting
    async with stage(Dialog.KEYS, client=client) as held:
        await held.press("n")
        await held.front(NewKeyDialog)
        await held.press("c", "i", "enter")
        await held.front(SecretDialog)
        assert client.sent[0].ttl_s is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "days", "field", "said"),
    [("", "", "name", "use 1 to 64 letters"), ("-", "", "name", "use 1 to 64"), ("ci", "0", "ttl", "1 to 3,650 days")],
)
async def test_a_bad_key_is_a_problem_beside_its_field(name: str, days: str, field: str, said: str) -> None:
    async with stage(Dialog.KEYS) as held:
        await held.press("n")
        await held.front(NewKeyDialog)
        await held.type("name", name)
        await held.type("ttl", days)
        await held.press("ctrl+s")
        assert said in held.problem(field)
        assert held.top.focused.id == field
        assert held.client.sent == []


async def test_a_refused_key_keeps_its_name() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = refusing("name: there are 1000 keys already", "name")
    async with stage(Dialog.KEYS, client=client) as held:
        await held.press("n")
        await held.front(NewKeyDialog)
        await held.press("c", "i", "enter")
        await until(lambda: held.problem("name") == "✖ there are 1000 keys already", what="the refusal")
        assert held.top.query_one("#name").value == "ci"


async def test_a_secret_whose_dialog_was_closed_is_shown_all_the_same() -> None:
    client = HeldClient(fakes.rich())
    client.outcome = granting
    async with stage(Dialog.KEYS, client=client) as held:
        await held.press("n")
        await held.front(NewKeyDialog)
        await held.press("c", "i", "enter", "escape")
        await held.front(KeysDialog)
        client.gate.set()
        await held.front(SecretDialog)
        await held.shows(SECRET)


async def test_a_repeated_answer_without_the_secret_says_what_to_do() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = silent
    async with stage(Dialog.KEYS, client=client) as held:
        await held.press("n")
        await held.front(NewKeyDialog)
        await held.press("c", "i", "enter")
        await held.shows("No answer")
        client.outcome = lambda command: Accepted(id=command.id, message="key ci created", key_id="1a2b3c4d")
        await held.press("ctrl+r")
        await held.front(SecretDialog)
        await held.shows("The key 1a2b3c4d exists, but the answer with its secret was lost")
        assert client.sent[0] == client.sent[1]
        await held.press("escape")
        await held.front(KeysDialog)


def test_expiry_and_use_are_told_in_words() -> None:
    now = fakes.NOW_NS
    told = [key.state_at(now) for key in some_keys()]
    assert told == ["revoked", "active", "expired", "active"]


async def test_topping_up_shows_what_it_does_and_sends_micro_dollars() -> None:
    async with stage(Dialog.TOP_UP) as held:
        assert held.top.focused.id == "amount"
        await held.press("1", "2", "full_stop", "5")
        await held.shows("balance $642.37 $654.87")
        await held.shows("at worst case 4 h 57 m 5 h 03 m")
        await held.press("enter")
        await held.gone(TopUpDialog)
        sent = held.client.sent[0]
        assert isinstance(sent, TopUp)
        assert (sent.account, sent.amount_u) == ("local", 12_500_000)


async def test_a_ready_made_amount_fills_the_line() -> None:
    async with stage(Dialog.TOP_UP) as held:
        held.top.query_one("#amounts", Choice).focus()
        await held.press("right", "right", "right", "ctrl+s")
        await held.gone(TopUpDialog)
        assert held.client.sent[0].amount_u == 100_000_000  # type: ignore[union-attr]


@pytest.mark.parametrize(("typed", "said"), [("0", "more than $0"), ("1,5", "no amount"), ("2000000", "$1,000,000")])
async def test_a_bad_amount_is_a_problem_while_it_is_typed(typed: str, said: str) -> None:
    async with stage(Dialog.TOP_UP) as held:
        await held.type("amount", typed)
        assert said in held.problem("amount")
        await held.press("enter", "ctrl+s")
        assert held.client.sent == []


async def test_an_empty_amount_is_no_problem_until_it_is_sent() -> None:
    async with stage(Dialog.TOP_UP) as held:
        assert held.problem("amount") == ""
        await held.press("ctrl+s")
        assert "needs an amount" in held.problem("amount")
        assert held.client.sent == []


async def test_a_refused_top_up_keeps_the_amount() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = refusing("the ledger cannot be written; nothing was changed")
    async with stage(Dialog.TOP_UP, client=client) as held:
        await held.type("amount", "75")
        await held.press("enter")
        await held.shows("✖ the ledger cannot be written")
        assert held.top.query_one("#amount").value == "75"


async def test_credit_goes_to_the_chosen_account() -> None:
    two = (fakes.account(), fakes.account(name="team", balance_u=5_000_000, suspended=True))
    async with stage(Dialog.TOP_UP, client=fakes.FakeClient(fakes.rich(accounts=two))) as held:
        await held.choose("account", "team")
        await held.shows("Its endpoints stay stopped")
        await held.type("amount", "20")
        await held.shows("balance $5.00 $25.00")
        await held.press("enter")
        await held.gone(TopUpDialog)
        assert held.client.sent[0].account == "team"  # type: ignore[union-attr]
