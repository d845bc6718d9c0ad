"""Two owners on one host: each calls, pays and sees its own."""

from __future__ import annotations

import httpx

from orchestrator.contract.accounting import Statement
from orchestrator.contract.command import CreateAccount, CreateKey, RevokeKey, TopUp
from orchestrator.contract.query import AskBill, AskStatement, Bill
from orchestrator.contract.snapshot import Tier
from tests.e2e.host import Host, new_id


async def status(host: Host, slug: str, key: str) -> tuple[int, str]:
    async with httpx.AsyncClient(base_url=host.url, headers={"x-api-key": key}, trust_env=False, timeout=60) as http:
        reply = await http.post(f"/v1/{slug}", json={"echo": 1})
    code = reply.json().get("code", "") if reply.status_code != 200 else ""
    return reply.status_code, code


async def test_accounts_are_apart(host: Host) -> None:
    async def key(account: str, *slugs: str) -> tuple[str, str]:
        made = await host.accept(CreateKey(id=new_id(), account=account, name="k", endpoints=slugs))
        return made.secret or "", made.key_id or ""

    await host.create("0-1", "mine", idle_timeout_s=1)
    await host.accept(CreateAccount(id=new_id(), name="lab", mail="lab@example.org"))
    await host.accept(TopUp(id=new_id(), account="lab", amount_u=500_000_000))
    await host.create("0-1", "theirs", account="lab", idle_timeout_s=1)
    await host.create("0-1", "also-theirs", account="lab", idle_timeout_s=1)
    whole, whole_id = await key("lab")
    scoped, _ = await key("lab", "theirs")
    assert await status(host, "theirs", whole) == (200, "")
    assert await status(host, "theirs", scoped) == (200, "")
    assert await status(host, "also-theirs", scoped) == (403, "key_scope")
    assert await status(host, "mine", whole) == (403, "endpoint_private")
    assert await status(host, "theirs", host.key) == (403, "endpoint_private")

    await host.kill()  # scopes and owners come back from the ledger
    await host.start()
    assert await status(host, "also-theirs", scoped) == (403, "key_scope")
    assert await status(host, "theirs", scoped) == (200, "")
    await host.accept(RevokeKey(id=new_id(), key_id=whole_id))
    assert await status(host, "theirs", whole) == (401, "key_invalid")

    assert host.client is not None
    for account, slugs in (("local", set()), ("lab", {"theirs"})):
        bill = await host.client.ask(AskBill(account=account))
        statement = await host.client.ask(AskStatement(account=account))
        assert isinstance(bill, Bill)
        assert isinstance(statement, Statement)
        assert {line.endpoint for line in bill.lines} == {line.endpoint for line in statement.lines} == slugs
        assert {line.tier for line in bill.lines} <= {Tier.AUTOSCALE}
        assert statement.reconciles
    balances = {a.name: a.balance_u for a in (await host.snapshot()).accounts}
    # Each `create` of the host tops up local with $1,000; lab has what it was given less what it used.
    assert balances["local"] == 3_100_000_000
    assert 490_000_000 < balances["lab"] < 500_000_000
    verified = await host.verify()
    assert verified.ok
    assert {t.account for t in verified.totals} == {"local", "lab"}
