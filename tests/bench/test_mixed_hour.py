"""The mixed hour's short form: a simulated minute; and proof that it notices what it is for."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from orchestrator.gateway.exchange import Exchange
from orchestrator.gateway.peers import Census
from orchestrator.gateway.spool import Spool
from tests.bench.mixed_hour import Guests, run


def test_a_mixed_minute_has_no_wrong_answer_and_leaves_nothing() -> None:
    outcome = run(60, seed=3)
    assert outcome.wrong == []
    assert outcome.left == {}
    assert {told.partition(":")[0] for told in outcome.counts} == set(Guests.kinds), "every kind of client came"
    assert outcome.served > outcome.requests / 2
    assert min(outcome.deaths, outcome.changes, outcome.rolls) >= 1
    assert outcome.workers > 6
    assert outcome.lost > 0, "some were lost with their workers, and said so"
    assert outcome.billed_u > 0


def test_what_it_is_for_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte of one answer is changed, one client is not counted out, and disk that was taken is not given back."""
    reply_whole, replies = Exchange.reply_whole, itertools.count()
    leave, leaving = Census.leave, itertools.count()

    def changed(self: Exchange, reply: Any, body: bytes) -> None:
        reply_whole(self, reply, body[:-1] + b"!" if body and next(replies) == 20 else body)

    def forgetful(self: Census, peer: bytes) -> None:
        if next(leaving) != 20:
            leave(self, peer)

    monkeypatch.setattr(Exchange, "reply_whole", changed)
    monkeypatch.setattr(Census, "leave", forgetful)
    monkeypatch.setattr(Spool, "close", lambda self: self._file.close())
    outcome = run(20, seed=5)
    assert len(outcome.wrong) == 1
    assert outcome.left["counted peers"] == 1
    assert outcome.left["spooled bytes"] > 0
    assert not outcome.good
