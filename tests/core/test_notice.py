"""Warnings and suspensions: once per downward crossing, numbered, across restarts, with everything in the text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.base import DOLLAR_U
from orchestrator.contract.command import CreateAccount, EnableEndpoint, SetMail
from orchestrator.contract.endpoint import RequestCount
from orchestrator.core import effects as fx
from orchestrator.core import events as ev
from orchestrator.core.writes import EventNoted, MailKey, MailQueued
from tests.core.world import World

L40_UH = 2_670_000


def mailing(credit: int = 65) -> World:
    world = World(credit_u=credit * DOLLAR_U)
    world.state = replace(world.state, rules=replace(world.state.rules, mails=True))
    return world


def warned(world: World) -> World:
    """A world whose one endpoint has run until the warning."""
    world.create(setup="1-2")
    world.until(lambda: world.ready() == 1)
    world.tick_s = 20
    world.until(lambda: mails(world), limit_s=24 * 3600, step_s=60)
    return world


def mails(world: World) -> list[MailQueued]:
    return [w for w in world.writes if isinstance(w, MailQueued)]


def sent(world: World) -> list[fx.SendMail]:
    return [e for e in world.effects if isinstance(e, fx.SendMail)]


def test_a_warning_is_queued_with_its_event_and_says_what_there_is_to_know() -> None:
    world = warned(mailing())
    (mail,) = mails(world)
    assert mail.key == MailKey("local", "warning", 1)
    transaction = next(e.writes for e in world.effects if isinstance(e, fx.Persist) and mail in e.writes)
    assert any(isinstance(w, EventNoted) and "credit lasts" in w.event.text for w in transaction)
    assert sent(world) == [fx.SendMail(mail, None)]
    assert mail.subject.startswith("gpudeck: credit of account local is low, its endpoints stop in 6.3 h")
    for piece in (
        "Balance        $26.", "Burn now       $2.67/h", "6.3 h at $2.67/h", "h at $17.93/h", "below $10.00", "402",
        "echo (1-2 x L40, model echo)", "gpudeck account topup local 47.",
    ):  # fmt: skip
        assert piece in mail.body
    assert mail.body.isascii()
    assert max(map(len, mail.body.splitlines())) <= 80


def test_without_a_server_there_is_the_event_and_no_mail() -> None:
    world = World(credit_u=65 * DOLLAR_U)
    world.create(setup="1-1")
    world.tick_s = 20
    world.until(lambda: world.state.accounts["local"].warned, limit_s=24 * 3600, step_s=60)
    assert mails(world) == []
    assert any("credit lasts" in note for note in world.notes())


def test_the_same_crossing_is_told_once_also_across_restarts() -> None:
    world = warned(mailing())
    for _ in range(3):
        world.advance(600)
        world.crash()
        world.advance(600)
    assert len(mails(world)) == 1
    assert world.snapshot().accounts[0].warned


def test_a_restart_asks_again_for_what_is_not_delivered_and_for_nothing_else() -> None:
    world = warned(mailing())
    (mail,) = mails(world)
    world.effects.clear()
    world.crash()
    assert sent(world) == [fx.SendMail(mail, None)]
    world.handle(ev.MailAttempted(mail.key, "queued", 1, "the server answered 451 busy"))
    assert world.snapshot().accounts[0].mail_problem == "the server answered 451 busy"
    world.handle(ev.MailAttempted(mail.key, "sent", 2, None))
    assert world.snapshot().accounts[0].mail_problem is None
    world.effects.clear()
    world.crash()
    world.advance(600)
    assert sent(world) == []


@pytest.mark.parametrize("restart", [False, True])
def test_recovery_re_arms_and_the_next_crossing_has_the_next_number(restart: bool) -> None:
    world = warned(mailing())
    world.top_up(50 * DOLLAR_U)
    world.advance(120)
    assert not world.snapshot().accounts[0].warned
    if restart:
        world.crash()
    world.until(lambda: len(mails(world)) == 2, limit_s=48 * 3600, step_s=60)
    assert [mail.key.crossing_no for mail in mails(world)] == [1, 2]


def test_a_top_up_that_is_not_enough_re_arms_nothing() -> None:
    world = warned(mailing())
    world.advance(3600)
    world.top_up(1 * DOLLAR_U)
    world.advance(3600)
    assert len(mails(world)) == 1


def test_the_end_of_a_burst_is_no_recovery() -> None:
    world = mailing(credit=100)
    world.create(setup="1-4", policy=RequestCount(value=1))
    world.until(lambda: world.ready() == 1)
    for _ in range(5):
        callers = [world.request(service_s=90) for _ in range(4)]
        world.until(lambda callers=callers: all(c.done_ns for c in callers))
        assert world.snapshot().accounts[0].warned
        world.advance(240)
        assert not world.snapshot().accounts[0].warned
    assert len(mails(world)) == 1
    world.advance(3700)
    callers = [world.request(service_s=90) for _ in range(4)]
    world.until(lambda: all(c.done_ns for c in callers))
    assert [mail.key.crossing_no for mail in mails(world)] == [1, 2]


def test_a_suspension_names_what_was_stopped_and_what_it_takes_to_go_on() -> None:
    world = mailing()
    world.create(setup="1-1")
    world.create("idle", setup="0-1")
    world.until(lambda: world.ready() == 1)
    world.spend(11 * DOLLAR_U)
    world.tick_s = 2
    world.until(lambda: world.workers() == [], step_s=2)
    world.advance(600)
    world.crash()
    world.advance(600)
    mail = mails(world)[-1]
    assert mail.key == MailKey("local", "suspended", 1)
    assert len(mails(world)) == 2
    for piece in (
        "balance", "$9.99", "echo (1-1 x L40", "idle (0-1 x L40", "gpudeck endpoint enable idle", "$64.08", "402",
        "topup local 54.",
    ):  # fmt: skip
        assert piece in mail.body or piece in mail.subject
    assert world.snapshot().accounts[0].suspended
    world.top_up(500 * DOLLAR_U)
    world.command(EnableEndpoint(id=world.id(), slug="echo"))
    world.advance(60)
    assert not world.snapshot().accounts[0].suspended
    assert len(mails(world)) == 2


def test_a_new_address_gets_what_is_not_delivered() -> None:
    world = warned(mailing())
    world.command(SetMail(id=world.id(), account="local", mail="ada@example.org"))
    assert sent(world)[-1] == fx.SendMail(mails(world)[0], "ada@example.org")
    assert world.snapshot().accounts[0].mail == "ada@example.org"
    world.crash()
    assert world.snapshot().accounts[0].mail == "ada@example.org"
    world.command(SetMail(id=world.id(), account="local", mail=None))
    assert world.snapshot().accounts[0].mail is None


def test_an_account_may_bring_its_address() -> None:
    world = mailing()
    world.command(CreateAccount(id=world.id(), name="my team", mail="team@example.org"))
    world.crash()
    assert {a.name: a.mail for a in world.snapshot().accounts} == {"local": None, "my team": "team@example.org"}
    assert world.refused(SetMail(id=world.id(), account="nobody", mail=None)).field == "account"


@pytest.mark.parametrize("state", ["sent", "failed"])
def test_a_late_report_of_a_settled_mail_changes_nothing(state: str) -> None:
    world = warned(mailing())
    key = mails(world)[0].key
    world.handle(ev.MailAttempted(key, "failed", 1, "550 no such user"))
    count = len(world.writes)
    world.handle(ev.MailAttempted(key, state, 2, None))  # type: ignore[arg-type]
    assert len(world.writes) == count
    assert world.snapshot().accounts[0].mail_problem == "550 no such user"
