"""The outbox: one mail per crossing, in the crossing's transaction, kept until it is settled."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.core.writes import (
    CreditRequired,
    CreditWatched,
    EndpointRemoved,
    KeyAdded,
    MailKey,
    MailQueued,
    MailSet,
    MailTried,
    SavedWatch,
)
from orchestrator.ledger.ports import CreditChanged, LedgerError
from tests.ledger.samples import T0, account, endpoint, opened

KEY = MailKey("local", "warning", 1)
MAIL = MailQueued(KEY, "subject", "body\n", T0)


def test_a_mail_is_kept_until_it_is_sent_or_undeliverable(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    second = MailQueued(KEY._replace(crossing_no=2), "subject", "body", T0 + 1)
    third = MailQueued(KEY._replace(kind="suspended"), "subject", "body", T0 + 2)
    with opened(path) as ledger:
        ledger.write((*account(), MAIL, second, third)).result()
        ledger.write((MailTried(KEY, "queued", 1, "451 busy", T0 + 3),)).result()
    with opened(path) as ledger:
        assert ledger.load().result().mails == (MAIL, second, third)
        ledger.write((MailTried(KEY, "sent", 2, None, T0 + 4), MailTried(third.key, "failed", 1, "550", T0))).result()
        ledger.write((MailTried(KEY, "queued", 3, "too late", T0 + 5),)).result()
        assert ledger.load().result().mails == (second,)


def test_the_same_mail_twice_is_one_and_another_under_its_key_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write((*account(), MAIL)).result()
        ledger.write((MAIL,)).result()
        assert ledger.load().result().mails == (MAIL,)
        with pytest.raises(LedgerError, match="mail local/warning/1 exists with another text"):
            ledger.write((MailQueued(KEY, "other", "body\n", T0),)).result()


def test_a_mail_is_not_owed_when_its_transaction_fails(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write(account(amount_u=5)).result()
        with pytest.raises(CreditChanged):
            ledger.write((CreditWatched("local", 1, 7, 0, T0), MAIL, CreditRequired("local", 6))).result()
        saved = ledger.load().result()
    assert saved.mails == ()
    assert saved.watches == {"local": SavedWatch()}


def test_what_is_watched_of_an_account_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with opened(path) as ledger:
        ledger.write((*account(), *account("my team"), MAIL, MailTried(KEY, "queued", 1, "451", T0))).result()
        ledger.write((MailSet("my team", "team@example.org"), CreditWatched("local", 3, 2_670_000, 1, T0))).result()
    with opened(path) as ledger:
        watches = ledger.load().result().watches
    assert watches == {
        "local": SavedWatch(None, "451", 3, 2_670_000, 1),
        "my team": SavedWatch("team@example.org"),
    }


def test_an_unknown_account_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        for write in (MailSet("nobody", None), CreditWatched("nobody", 1, 0, 0, T0)):
            with pytest.raises(LedgerError, match="account 'nobody' does not exist"):
                ledger.write((write,)).result()


def test_a_removed_endpoint_leaves_no_secret_behind(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    saved = endpoint()
    saved = replace(saved, spec=saved.spec.model_copy(update={"env": {"HF_TOKEN": "hf_canary"}}))
    with opened(path) as ledger:
        ledger.write((*account(), saved)).result()
        with closing(sqlite3.connect(path)) as connection:
            assert "HF_TOKEN" in connection.execute("SELECT spec FROM endpoint").fetchone()[0]
        ledger.write((EndpointRemoved("demo", T0 + 1),)).result()
        ledger.write((EndpointRemoved("demo", T0 + 1),)).result()
    with closing(sqlite3.connect(path)) as connection:
        spec = connection.execute("SELECT spec FROM endpoint").fetchone()[0]
    assert EndpointSpec.model_validate_json(spec).env == {}


def test_the_scope_of_a_key_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with opened(path) as ledger:
        ledger.write(account()).result()
        ledger.write((KeyAdded("k1", "local", "all", b"1" * 32, T0, None),)).result()
        ledger.write((KeyAdded("k2", "local", "two", b"2" * 32, T0 + 1, None, ("echo", "sketch")),)).result()
    with opened(path) as ledger:
        assert [key.endpoints for key in ledger.load().result().keys] == [(), ("echo", "sketch")]
