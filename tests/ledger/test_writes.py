"""Every write is remembered, may be repeated exactly, and may not be contradicted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import pytest

from orchestrator.contract.base import DOLLAR_U, HOUR_NS, SECOND_NS
from orchestrator.contract.command import Accepted, RefusalCode, Refused
from orchestrator.contract.snapshot import EventView, Tier
from orchestrator.core.keys import KEYS_OVER_KEPT
from orchestrator.core.writes import (
    AccountOpened,
    CommandDone,
    CreditAdded,
    CreditRequired,
    CreditWatched,
    EndpointRemoved,
    EndSource,
    EventNoted,
    Heartbeat,
    IntervalClosed,
    KeyAdded,
    KeyRevoked,
    MailKey,
    MailQueued,
    MailSet,
    MailTried,
    Posted,
    SavedInterval,
    SavedKey,
    SavedWorker,
    WorkerEnded,
    WorkerReady,
    WorkerStarted,
    Write,
)
from orchestrator.ledger import apply
from orchestrator.ledger.apply import APPLIERS
from orchestrator.ledger.ports import CreditChanged, LedgerError
from tests.ledger.samples import L40_UH, T0, Wall, account, endpoint, intent, interval, opened, posting

S = SECOND_NS
OPEN = interval("a.1")
EVENT = EventView(seq=1, at_ns=T0, level="good", text="[red]not markup[/]", endpoint="demo", worker="a")
DONE = CommandDone("command-1", b"d" * 32, Accepted(id="command-1", message="ok", key_id="k1"), T0)
NO = CommandDone(
    "command-2", b"e" * 32, Refused(id="command-2", code=RefusalCode.CREDIT, message="no", needed_u=5), T0 + 1
)
MAIL = MailKey("local", "warning", 1)
KEY = KeyAdded("k1", "local", "laptop", b"k" * 32, T0, T0 + HOUR_NS)

HISTORY: tuple[tuple[Write, ...], ...] = (
    account(),
    (endpoint(), KEY, DONE, CreditRequired("local", 64_080_000)),
    (intent("a", 7),),
    (WorkerStarted("a", "container-1", T0 + S), OPEN),
    (WorkerReady("a", T0 + 2 * S),),
    (posting(OPEN, T0 + 10 * S), Heartbeat(("a.1",), T0 + 10 * S, (("k1", T0 + 9 * S),))),
    (EventNoted(EVENT), NO),
)
LATER: tuple[tuple[Write, ...], ...] = (
    (KeyRevoked("k1", T0 + 20 * S),),
    (IntervalClosed("a.1", T0 + 10 * S, "exit", False), WorkerEnded("a", T0 + 10 * S, "exit", "clean", "exit code 0")),
    (EndpointRemoved("demo", T0 + 30 * S),),
    (MailSet("local", "ada@example.org"), CreditWatched("local", 1, L40_UH, 0, T0), MailQueued(MAIL, "s", "b", T0)),
    (MailTried(MAIL, "sent", 1, None, T0 + S),),
)


def test_there_is_a_function_for_every_kind_of_write() -> None:
    assert set(APPLIERS) == set(get_args(Write))
    assert {type(write) for batch in HISTORY + LATER for write in batch} == set(APPLIERS)


def test_what_runs_is_loaded_as_it_was_written(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db", Wall(T0 + 60 * S)) as ledger:
        for batch in HISTORY:
            ledger.write(batch).result()
    with opened(tmp_path / "ledger.db", Wall(T0 + 60 * S)) as ledger:
        saved = ledger.load().result()
    due = L40_UH * 10 // 3600
    assert len(saved.instance) == 32
    assert saved.balances_u == {"local": 1_000 * DOLLAR_U - due}
    assert saved.endpoints == (endpoint(),)
    assert saved.workers == (SavedWorker(intent("a", 7), "container-1", T0 + S, T0 + 2 * S),)
    assert saved.intervals == (SavedInterval(OPEN, due, T0 + 10 * S, T0 + 10 * S),)
    assert saved.keys == (SavedKey("k1", "local", "laptop", b"k" * 32, T0, T0 + HOUR_NS, None, T0 + 9 * S),)
    assert saved.commands == (DONE, NO)
    assert saved.events == (EVENT,)
    assert saved.last_serial == 7
    assert saved.spent_today_u == saved.spent_total_u == {"demo": due}
    assert saved.absorbed_total_u == {"demo": 0}
    assert saved.spent_month_u == saved.account_today_u == {"local": due}
    assert saved.read_ns == T0 + 60 * S


def test_what_ended_is_not_loaded_but_stays_on_the_bill(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db", Wall(T0 + 60 * S)) as ledger:
        for batch in HISTORY + LATER:
            ledger.write(batch).result()
        saved = ledger.load().result()
        bill = ledger.bill("local", None, T0 + 60 * S).result()
        assert ledger.verify().result().problems == ()
    assert (saved.endpoints, saved.workers, saved.intervals, saved.spent_total_u) == ((), (), (), {})
    assert saved.keys[0].revoked_ns == T0 + 20 * S
    assert saved.last_serial == 7
    (line,) = bill.lines
    assert (line.interval_id, line.label, line.end_source, line.seconds) == ("a.1", "w7", "exit", 10.0)
    assert line.amount_u == bill.total_u == L40_UH * 10 // 3600


def test_an_exact_repetition_changes_nothing(tmp_path: Path) -> None:
    def contents() -> tuple[object, ...]:
        return ledger.load().result(), ledger.bill("local", None, T0).result(), ledger.verify().result()

    with opened(tmp_path / "ledger.db", Wall(T0 + 60 * S)) as ledger:
        for batch in HISTORY:
            ledger.write(batch).result()
            once = contents()
            ledger.write(batch).result()
            assert contents() == once
        for batch in HISTORY + LATER:
            ledger.write(batch).result()
        ended = contents()
        for batch in HISTORY[2:] + LATER:
            ledger.write(batch).result()
        assert contents() == ended


@pytest.mark.parametrize(
    "other",
    [
        AccountOpened("local", T0 + 1),
        CreditAdded("local", 1, "first-local", "top-up", T0),
        CreditAdded("local", 1_000 * DOLLAR_U, "first-local", "another memo", T0),
        dataclasses.replace(KEY, digest=b"x" * 32),
        KeyRevoked("k1", T0 + 21 * S),
        dataclasses.replace(intent("a", 7), gpu_uuid="GPU-2"),
        WorkerStarted("a", "container-2", T0 + S),
        WorkerReady("a", T0 + 3 * S),
        WorkerEnded("a", T0 + 10 * S, "last_seen", "clean", "exit code 0"),
        dataclasses.replace(OPEN, rate_uh=L40_UH + 1),
        dataclasses.replace(posting(OPEN, T0 + 10 * S), amount_u=1),
        dataclasses.replace(posting(OPEN, T0 + 10 * S), absorbed=True),
        posting(OPEN, T0 + 5 * S),
        IntervalClosed("a.1", T0 + 11 * S, "exit", False),
        EndpointRemoved("demo", T0 + 31 * S),
        dataclasses.replace(DONE, digest=b"x" * 32),
        dataclasses.replace(DONE, outcome=NO.outcome),
        EventNoted(EVENT.model_copy(update={"text": "other"})),
    ],
    ids=lambda write: type(write).__name__,
)
def test_a_conflicting_repetition_is_refused_whole(tmp_path: Path, other: Write) -> None:
    with opened(tmp_path / "ledger.db", Wall(T0 + 60 * S)) as ledger:
        for batch in HISTORY + LATER:
            ledger.write(batch).result()
        before = ledger.load().result()
        with pytest.raises(LedgerError, match=r"ledger\.db: .*(exists with other values|later posting)"):
            ledger.write((AccountOpened("second", T0), other)).result()
        assert ledger.load().result() == before


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (CreditAdded("nobody", 1, "key-1", "", T0), "account 'nobody', which does not exist"),
        (CreditRequired("nobody", 1), "account 'nobody', which does not exist"),
        (KeyRevoked("nothing", T0), "api_key 'nothing' does not exist"),
        (EndpointRemoved("nothing", T0), "endpoint 'nothing' does not exist"),
        (endpoint("other", "nobody"), "account 'nobody', which does not exist"),
        (intent("b", 8, "nothing"), "endpoint 'nothing', which does not exist"),
        (intent("b", 7), "UNIQUE constraint failed: worker.endpoint, worker.serial"),
        (WorkerReady("b", T0), "worker 'b' does not exist"),
        (interval("b.1", "b"), "worker b, which has no intent"),
        (interval("a.2", "a"), "UNIQUE constraint failed: interval.worker_id"),
        (posting(interval("b.1"), T0 + HOUR_NS), "the interval does not exist"),
        (posting(interval("a.1", tier=Tier.AUTOSCALE), T0 + 20 * S), "tier is 'baseline', not 'autoscale'"),
        (Posted("a.1", "local", Tier.BASELINE, -1, T0 + 20 * S, False, T0), "is negative"),
        (Posted("a.1", "local", Tier.BASELINE, L40_UH, T0 + 20 * S, False, T0), "is more than the 14833 due by then"),
        (IntervalClosed("a.1", T0 - 1, "exit", False), "CHECK constraint failed"),
        (CreditAdded("local", 0, "key-1", "", T0), "CHECK constraint failed"),
        (CreditAdded("local", 2**63, "key-1", "", T0), "too large"),
        (
            dataclasses.replace(DONE, command_id="command-3", outcome=Accepted(id="command-3", message="", secret="s")),
            "still carries the secret",
        ),
    ],
)
def test_nonsense_is_refused_with_its_reason(tmp_path: Path, write: Write, message: str) -> None:
    with opened(tmp_path / "ledger.db", Wall(T0 + 60 * S)) as ledger:
        for batch in HISTORY:
            ledger.write(batch).result()
        before = ledger.load().result()
        with pytest.raises(LedgerError) as failed:
            ledger.write((AccountOpened("second", T0), write)).result()
        assert message in str(failed.value)
        assert str(tmp_path / "ledger.db") in str(failed.value)
        assert ledger.load().result() == before


@pytest.mark.parametrize("amount", [1.0, 0.5, "1", True])
def test_money_that_is_no_integer_is_refused(tmp_path: Path, amount: object) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write(account()).result()
        with pytest.raises(LedgerError, match=r"CreditAdded\.amount_u: .* is not an integer"):
            ledger.write((CreditAdded("local", amount, "key-1", "", T0),)).result()  # type: ignore[arg-type]


def test_a_credit_condition_that_fails_undoes_the_whole_batch(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write(account(amount_u=50)).result()
        ledger.write((CreditRequired("local", 50),)).result()
        with pytest.raises(CreditChanged) as refused:
            ledger.write((endpoint(), CreditRequired("local", 51), intent("a"))).result()
        assert (refused.value.account, refused.value.needed_u, refused.value.balance_u) == ("local", 51, 50)
        assert ledger.load().result().endpoints == ()


def test_an_unknown_write_and_an_empty_batch(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write(()).result()
        with pytest.raises(LedgerError, match="object is no write this ledger knows"):
            ledger.write((object(),)).result()  # type: ignore[arg-type]
        ledger.write(account()).result()


def test_a_slug_used_again_starts_with_clean_sums(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db", Wall(T0 + 60 * S)) as ledger:
        for batch in HISTORY + LATER:
            ledger.write(batch).result()
        again = endpoint(at_ns=T0 + 40 * S)
        of = interval("b.1", "b", T0 + 40 * S)
        ledger.write((again, intent("b", 8), of, posting(of, T0 + 50 * S))).result()
        saved = ledger.load().result()
        assert saved.endpoints == (again,)
        assert saved.spent_total_u == saved.spent_today_u == {"demo": L40_UH * 10 // 3600}
        assert saved.account_today_u == {"local": 2 * (L40_UH * 10 // 3600)}


def test_nothing_is_posted_past_the_end(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db", Wall(T0 + 60 * S)) as ledger:
        for batch in HISTORY + LATER:
            ledger.write(batch).result()
        with pytest.raises(LedgerError, match=rf"the interval ended at {T0 + 10 * S}"):
            ledger.write((posting(OPEN, T0 + 20 * S, L40_UH * 10 // 3600),)).result()


def test_a_heartbeat_says_who_is_idle_and_a_later_one_who_is_busy(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        for batch in HISTORY:
            ledger.write(batch).result()
        ledger.write((Heartbeat(("a.1",), T0 + 20 * S, idle=(("a.1", T0 + 13 * S),)),)).result()
        assert ledger.load().result().intervals[0].idle_since_ns == T0 + 13 * S
        ledger.write((Heartbeat(("a.1",), T0 + 25 * S),)).result()
        assert ledger.load().result().intervals[0].idle_since_ns is None


@pytest.mark.parametrize("source", get_args(EndSource))
def test_every_reason_for_an_end_can_be_written(tmp_path: Path, source: EndSource) -> None:
    with opened(tmp_path / "ledger.db", Wall(T0 + 60 * S)) as ledger:
        for batch in HISTORY:
            ledger.write(batch).result()
        ledger.write((IntervalClosed("a.1", T0 + 10 * S, source, False),)).result()
        assert ledger.bill("local", None, T0 + 60 * S).result().lines[0].end_source == source


def test_an_older_heartbeat_takes_nothing_back(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        for batch in HISTORY:
            ledger.write(batch).result()
        ledger.write((Heartbeat(("a.1", "unknown"), T0 + 5 * S, (("k1", T0 + 5 * S), ("unknown", T0))),)).result()
        saved = ledger.load().result()
    assert saved.intervals[0].last_seen_ns == T0 + 10 * S
    assert saved.keys[0].last_used_ns == T0 + 9 * S


def test_only_the_newest_commands_and_events_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "COMMANDS_KEPT", 3)
    monkeypatch.setattr(apply, "EVENTS_KEPT", 3)
    with opened(tmp_path / "ledger.db") as ledger:
        for number in range(5):
            event = EventNoted(EVENT.model_copy(update={"seq": number}))
            ledger.write((dataclasses.replace(DONE, command_id=f"command-{number}"), event)).result()
        saved = ledger.load().result()
    assert [command.command_id for command in saved.commands] == ["command-2", "command-3", "command-4"]
    assert [event.seq for event in saved.events] == [2, 3, 4]


def test_the_newest_two_hundred_events_are_loaded(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write([EventNoted(EVENT.model_copy(update={"seq": n})) for n in range(250)]).result()
        events = ledger.load().result().events
    assert [event.seq for event in events] == list(range(50, 250))


def test_keys_in_force_are_loaded_and_the_newest_of_those_that_are_over(tmp_path: Path) -> None:
    over = KEYS_OVER_KEPT + 3
    with opened(tmp_path / "ledger.db", Wall(T0 + HOUR_NS)) as ledger:
        ledger.write(account()).result()
        keys = [KeyAdded(f"k{n}", "local", "call", n.to_bytes(32), T0 + n, T0 + S) for n in range(over)]
        lasting = KeyAdded("old", "local", "laptop", b"o" * 32, T0 - 1, None)
        just = KeyAdded("just", "local", "ci", b"j" * 32, T0 - 1, T0 + HOUR_NS + 1)
        ledger.write((lasting, just, *keys, KeyRevoked("k0", T0 + S))).result()
        loaded = ledger.load().result().keys
    assert [key.key_id for key in loaded] == ["old", "just", *(f"k{n}" for n in range(3, over))]
