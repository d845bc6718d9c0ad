"""Several accounts on the command line: whose things are made, shown, changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.cli.options import ACCOUNT_VARIABLE
from orchestrator.contract.command import CreateAccount, CreateEndpoint, CreateKey, SetMail, TopUp
from orchestrator.contract.endpoint import Visibility
from orchestrator.contract.places import places
from orchestrator.contract.query import AskBill
from orchestrator.contract.secrets import MASK
from orchestrator.contract.snapshot import EndpointView, KeyView, Snapshot
from tests.app.cli_runner import gpudeck
from tests.app.fake_orchestrator import FakeOrchestrator, endpoint, snapshot

CREATE = ("endpoint", "create", "new", "--model", "sketch", "--gpu", "L40", "--workers", "0-1")


def owned(slug: str, account: str, visibility: Visibility = Visibility.PRIVATE) -> EndpointView:
    view = endpoint(slug)
    spec = view.spec.model_copy(update={"account": account, "visibility": visibility})
    return view.model_copy(update={"spec": spec})


def three_accounts() -> Snapshot:
    state = snapshot(
        owned("mine", "local"), owned("theirs", "lab"), owned("open", "lab", Visibility.PUBLIC), owned("new", "lab")
    )
    lab = state.accounts[0].model_copy(update={"name": "lab", "mail": "lab@example.org", "mail_problem": "451 busy"})
    key = KeyView(id="key-9", account="lab", name="scoped", created_ns=1, endpoints=("theirs",))
    return state.model_copy(update={"accounts": (*state.accounts, lab), "keys": (*state.keys, key)})


@pytest.fixture
async def fake(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeOrchestrator]:
    monkeypatch.delenv(ACCOUNT_VARIABLE, raising=False)
    async with FakeOrchestrator(places().socket_file, state=three_accounts()) as server:
        yield server


async def test_an_empty_account_is_nobodys(fake: FakeOrchestrator) -> None:
    result = await gpudeck("--account", "", "account", "topup", "5")
    assert result.exit_code == 2
    assert "--account" in result.stderr
    assert fake.commands == []


async def test_what_is_made_belongs_to_the_account(fake: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    await gpudeck("--account", "lab", *CREATE)
    await gpudeck(*CREATE, "--account", "lab")
    await gpudeck(*CREATE)
    await gpudeck("key", "create", "--account", "lab", "--endpoint", "theirs", "--endpoint", "open")
    monkeypatch.setenv(ACCOUNT_VARIABLE, "lab")
    await gpudeck("key", "create")
    await gpudeck("account", "topup", "5")
    await gpudeck("account", "topup", "local", "5")
    await gpudeck("--account", "local", "key", "create")
    endpoints = [c.spec.account for c in fake.commands if isinstance(c, CreateEndpoint)]
    keys = [(c.account, c.endpoints) for c in fake.commands if isinstance(c, CreateKey)]
    assert endpoints == ["lab", "lab", "local"]
    assert keys == [("lab", ("theirs", "open")), ("lab", ()), ("local", ())]
    assert [c.account for c in fake.commands if isinstance(c, TopUp)] == ["lab", "local"]


async def test_an_account_sees_its_own_and_what_is_public(fake: FakeOrchestrator) -> None:
    def slugs(text: str) -> set[str]:
        return {line.split()[0] for line in text.splitlines()[1:]}

    assert slugs((await gpudeck("endpoint", "ls")).stdout) == {"mine", "theirs", "open", "new"}
    assert slugs((await gpudeck("endpoint", "ls", "--account", "local")).stdout) == {"mine", "open"}
    assert slugs((await gpudeck("--account", "lab", "key", "ls")).stdout) == {"key-9"}
    hidden = await gpudeck("--account", "local", "endpoint", "show", "theirs")
    assert hidden.exit_code == 3
    assert "there is no endpoint 'theirs' (endpoints: mine, open)" in hidden.stderr
    nobody = await gpudeck("--account", "nobody", "endpoint", "ls")
    assert nobody.exit_code == 3
    assert "there is no account 'nobody' (accounts: local, lab)" in nobody.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("endpoint", "rm", "open", "--yes"), ("endpoint", "disable", "open"), ("endpoint", "enable", "open"),
        ("endpoint", "update", "open", "--max", "3"), ("endpoint", "rm", "theirs", "--yes"),
        ("endpoint", "disable", "theirs"), ("key", "rm", "key-9", "--yes"),
    ],
)  # fmt: skip
async def test_an_account_changes_its_own_only(fake: FakeOrchestrator, words: tuple[str, ...]) -> None:
    result = await gpudeck("--account", "local", *words)
    assert result.exit_code in (3, 4)
    assert not fake.commands


async def test_the_bill_is_the_account_s(fake: FakeOrchestrator) -> None:
    assert (await gpudeck("--account", "lab", "bill")).exit_code == 3
    assert fake.queries[-1] == AskBill(account="lab")


async def test_accounts_with_their_mail(fake: FakeOrchestrator) -> None:
    await gpudeck("account", "create", "team", "--mail", "team@example.org")
    await gpudeck("account", "mail", "lab", "ada@example.org")
    await gpudeck("account", "mail", "lab", "--clear")
    created, *changed = fake.commands
    assert isinstance(created, CreateAccount)
    assert created.mail == "team@example.org"
    assert [c.mail for c in changed if isinstance(c, SetMail)] == ["ada@example.org", None]
    wrong = await gpudeck("account", "mail", "lab", "ada@example.org\r\nBcc: eve@example.org")
    assert wrong.exit_code == 2
    assert "use a plain address such as ada@example.org" in wrong.stderr
    assert (await gpudeck("account", "mail", "lab")).exit_code == 2
    listed = (await gpudeck("account", "ls")).stdout
    assert "lab@example.org (problem: 451 busy)" in listed
    assert listed.splitlines()[0].split() == (
        ["ACCOUNT", "STATE", "BALANCE", "$/H", "TODAY", "MONTH", "AT", "BASELINE", "NOW", "WORST", "CASE", "MAIL"]
    )


async def test_a_secret_may_come_from_the_environment_and_is_not_printed(
    fake: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    await gpudeck(*CREATE, "--account", "lab", "--env", "HF_TOKEN", "--env", "A=b")
    (command,) = fake.commands
    assert isinstance(command, CreateEndpoint)
    assert command.spec.env == {"HF_TOKEN": "hf_abc", "A": "b"}
    shown = await gpudeck(*CREATE, "--env", "HF_TOKEN", "--dry-run", "-o", "json")
    assert MASK in shown.stdout
    assert "hf_abc" not in shown.stdout + shown.stderr
    missing = await gpudeck(*CREATE, "--env", "NO_SUCH_VARIABLE")
    assert missing.exit_code == 2
