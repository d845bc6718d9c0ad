"""Secrets in the ledger: sealed in every file, opened with the key, named when the key is gone, never lost by us."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.places import HOME_VARIABLE, places
from orchestrator.contract.secrets import MASK
from orchestrator.core.writes import EndpointRemoved, EndpointSaved
from orchestrator.doctor import _secrets
from orchestrator.ledger import opening
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.sealing import KEY_NAME, KeyUnusable, Sealer, sealer_of, survey
from orchestrator.ledger.store import SqliteLedger
from tests.ledger.fixtures.make import HERE
from tests.ledger.samples import T0, Wall, account, endpoint, opened

TOKEN = "hf_canary_7b1f"
ENV = {"HF_TOKEN": TOKEN, "REVISION": "main", "EMPTY_KEY": ""}
ROOT = Path(__file__).parents[2]
CONNECT = sqlite3.connect


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ledger.db"


def saved(env: dict[str, str], slug: str = "demo") -> EndpointSaved:
    before = endpoint(slug)
    return replace(before, spec=before.spec.model_copy(update={"env": env}))


def store(path: Path, env: dict[str, str], slug: str = "demo") -> None:
    with opened(path) as ledger:
        ledger.write((*account(), saved(env, slug))).result()


def loaded(path: Path) -> dict[str, str]:
    with opened(path) as ledger:
        return ledger.load().result().endpoints[0].spec.env


def key_of(path: Path) -> Path:
    return path.with_name(KEY_NAME)


def holders(directory: Path, text: str = TOKEN) -> list[str]:
    files = [file for file in directory.rglob("*") if file.is_file()]
    return sorted(file.name for file in files if text.encode() in file.read_bytes())


def test_a_secret_comes_back_and_is_in_no_file(path: Path) -> None:
    store(path, ENV)
    with opened(path) as ledger:
        backup = ledger.back_up().result()
        assert ledger.load().result().endpoints[0].spec.env == ENV
    assert list(loaded(backup)) == list(ENV)
    assert holders(path.parent) == []
    assert holders(path.parent, "REVISION") == sorted(["ledger.db", backup.name]), "the search is not blind"


def test_the_key_is_private_made_once_and_only_when_it_is_needed(path: Path) -> None:
    store(path, {"REVISION": "main", "EMPTY_KEY": ""})
    assert not key_of(path).exists()
    store(path, ENV)
    first = key_of(path).read_bytes()
    assert stat.S_IMODE(key_of(path).stat().st_mode) == 0o600
    store(path, {**ENV, "API_KEY": "another"})
    assert key_of(path).read_bytes() == first
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []
    key_of(path).chmod(0o644)
    assert loaded(path)["API_KEY"] == "another"
    assert stat.S_IMODE(key_of(path).stat().st_mode) == 0o600


def test_a_token_says_neither_when_it_was_made_nor_twice_the_same(path: Path) -> None:
    store(path, {"A_KEY": "same", "B_KEY": "same"})
    with closing(sqlite3.connect(path)) as connection:
        env = json.loads(connection.execute("SELECT json_extract(spec, '$.env') FROM endpoint").fetchone()[0])
    assert env["A_KEY"] != env["B_KEY"]
    assert Fernet(key_of(path).read_bytes().strip()).extract_timestamp(env["A_KEY"].strip()) == 0


@pytest.mark.parametrize("loss", ["missing", "another"])
def test_without_its_key_a_secret_is_masked_and_nothing_else_is(path: Path, loss: str) -> None:
    store(path, ENV)
    key_of(path).unlink()
    if loss == "another":
        key_of(path).write_bytes(Fernet.generate_key())
    assert loaded(path) == {**ENV, "HF_TOKEN": MASK}


def test_what_cannot_be_opened_is_kept_until_the_key_is_back(path: Path, tmp_path: Path) -> None:
    """An endpoint is saved by many events; none of them may make the loss of a key final."""
    store(path, ENV)
    away = key_of(path).rename(tmp_path / "away")
    store(path, loaded(path))
    assert loaded(path)["HF_TOKEN"] == MASK
    store(path, {**loaded(path), "API_KEY": "set meanwhile"})
    assert loaded(path) == {**ENV, "HF_TOKEN": MASK, "API_KEY": "set meanwhile"}
    key_of(path).write_bytes(key_of(path).read_bytes() + away.read_bytes())
    assert loaded(path) == {**ENV, "API_KEY": "set meanwhile"}


def test_a_secret_that_is_set_again_takes_the_place_of_the_lost_one(path: Path) -> None:
    store(path, ENV)
    key_of(path).unlink()
    store(path, {**loaded(path), "HF_TOKEN": "new"})
    assert loaded(path) == {**ENV, "HF_TOKEN": "new"}


def test_a_slug_used_again_inherits_no_secret(path: Path) -> None:
    store(path, ENV)
    with opened(path) as ledger:
        ledger.write((EndpointRemoved("demo", T0 + 1), saved({"HF_TOKEN": MASK}))).result()
    assert loaded(path) == {"HF_TOKEN": MASK}


def test_a_new_key_seals_and_the_one_below_it_still_opens(path: Path) -> None:
    store(path, ENV)
    old = key_of(path).read_bytes()
    fresh = Fernet.generate_key()
    key_of(path).write_bytes(fresh + b"\n" + old)
    assert loaded(path) == ENV
    store(path, ENV)
    key_of(path).write_bytes(fresh)
    assert loaded(path) == ENV


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"\xff" * 44, b"x" * 70_000])
def test_a_file_that_is_no_key_is_never_replaced(path: Path, content: bytes) -> None:
    store(path, ENV)
    key_of(path).write_bytes(content)
    assert loaded(path)["HF_TOKEN"] == MASK
    with opened(path) as ledger:
        with pytest.raises(LedgerError, match=r"secrets\.key holds no key; put the right one back") as refusal:
            ledger.write((saved({"A_KEY": "canary"}),)).result()
        assert "canary" not in str(refusal.value)
        ledger.write((saved({"REVISION": "dev"}),)).result()
    assert key_of(path).read_bytes() == content


def test_a_key_that_cannot_be_written_refuses_the_write_and_nothing_else(path: Path) -> None:
    store(path, {})
    key_of(path).mkdir()
    with opened(path) as ledger:
        with pytest.raises(LedgerError, match=r"secrets\.key"):
            ledger.write((saved(ENV),)).result()
        ledger.write((saved({"REVISION": "dev"}),)).result()


def test_two_that_make_a_key_at_once_agree_on_one(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / KEY_NAME)
    other = Sealer(tmp_path / KEY_NAME)
    key = other._key(create=True)
    sealer._create(Fernet.generate_key())
    assert sealer.opened({"A_KEY": "\n" + key.encrypt(b"x").decode()}) == {"A_KEY": "x"}


def test_a_secret_that_looks_like_a_token_is_sealed_like_any_other(path: Path) -> None:
    store(path, ENV)
    with closing(sqlite3.connect(path)) as connection:
        env = json.loads(connection.execute("SELECT json_extract(spec, '$.env') FROM endpoint").fetchone()[0])
    posing = {"A_TOKEN": env["HF_TOKEN"].strip(), "PLAIN": env["HF_TOKEN"].strip()}
    store(path, posing)
    assert loaded(path) == posing


def old_ledger(path: Path, env: dict[str, str]) -> Path:
    """A ledger of schema 3 with secrets in clear: in a row, in a removed row's page, and in free space."""
    path.parent.mkdir(mode=0o700, parents=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript((HERE / "schema3.sql").read_text(encoding="utf-8"))
        connection.execute("PRAGMA secure_delete = OFF")
        slug = "sketch"
        connection.execute(
            "UPDATE endpoint SET spec = json_set(spec, '$.env', json(?)) WHERE slug = ?", (json.dumps(env), slug)
        )
        connection.execute("CREATE TABLE gone (text TEXT)")
        connection.executemany("INSERT INTO gone VALUES (?)", [(f"{TOKEN} {number}" * 50,) for number in range(50)])
        connection.execute("DROP TABLE gone")
    assert path.read_bytes().count(TOKEN.encode()) > 50
    return path


def test_a_ledger_of_before_is_sealed_and_its_pages_forget(path: Path) -> None:
    old_ledger(path, ENV)
    with opened(path) as ledger:
        env = {e.spec.slug: e.spec.env for e in ledger.load().result().endpoints}
        assert env["sketch"] == ENV
        assert ledger.verify().result().problems == ()
    assert holders(path.parent) == ["ledger.db.schema3"], "the copy for the way back is as it was, and doctor says so"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM meta WHERE key = 'scrub'").fetchone() == (0,)


def test_an_upgrade_without_a_usable_key_changes_nothing(path: Path) -> None:
    old_ledger(path, ENV)
    before = path.read_bytes()
    key_of(path).write_bytes(b"damaged")
    with pytest.raises(LedgerError, match=r"ledger .*: .*secrets\.key holds no key"):
        SqliteLedger(path, Wall())
    assert path.read_bytes() == before
    key_of(path).unlink()
    assert TOKEN in str([e.spec.env for e in load_all(path)])


def load_all(path: Path) -> tuple[EndpointSaved, ...]:
    with opened(path) as ledger:
        return ledger.load().result().endpoints


def test_an_upgrade_without_secrets_makes_no_key(path: Path) -> None:
    old_ledger(path, {"REVISION": "main"})
    load_all(path)
    assert not key_of(path).exists()


def test_a_file_that_could_not_be_packed_opens_and_is_packed_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old_ledger(path, ENV)

    class Full(sqlite3.Connection):
        def execute(self, sql: str, *rest: object) -> sqlite3.Cursor:  # type: ignore[override]
            if sql == "VACUUM":
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as full:
        full.setattr(opening.sqlite3, "connect", lambda *a, **k: CONNECT(*a, factory=Full, **k))
        assert load_all(path)
    assert "was not packed" in caplog.text
    assert TOKEN.encode() in path.read_bytes()
    load_all(path)
    assert TOKEN.encode() not in path.read_bytes()


def test_a_survey_counts_what_is_sealed_lost_and_open(path: Path) -> None:
    old_ledger(path, ENV)
    assert survey(path, sealer_of(path)) == (0, {}, 1)
    load_all(path)
    assert survey(path, sealer_of(path)) == (1, {}, 0)
    key_of(path).unlink()
    assert survey(path, sealer_of(path)) == (1, {"sketch": ["HF_TOKEN"]}, 0)
    path.write_bytes(b"x" * 8_192)
    with pytest.raises(LedgerError, match="cannot be read"):
        survey(path, sealer_of(path))


def test_doctor_says_what_there_is_what_is_lost_and_what_lies_open(path: Path) -> None:
    assert _secrets(path).detail == "none stored yet"
    old_ledger(path, ENV)
    load_all(path)
    warned = _secrets(path)
    assert warned.state == "warn"
    assert warned.detail.endswith("ledger.db.schema3")
    (path.parent / "ledger.db.schema3").unlink()
    found = _secrets(path)
    assert (found.state, found.detail.split()[0]) == ("ok", "1")
    key_of(path).unlink()
    lost = _secrets(path)
    assert lost.state == "fail"
    assert "sketch: HF_TOKEN" in lost.detail


def test_a_restore_says_what_the_backup_holds_that_no_key_opens(tmp_path: Path) -> None:
    environ = {**os.environ, HOME_VARIABLE: str(tmp_path), "PYTHONPATH": str(ROOT)}
    ledger_file = places(environ).ledger_file
    store(ledger_file, ENV)
    with opened(ledger_file, Wall(T0 + SECOND_NS)) as ledger:
        backup = ledger.back_up().result()

    def restore() -> dict[str, object]:
        argv = [sys.executable, "-m", "orchestrator", "restore", str(backup)]
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=True)
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    assert restore()["secrets_lost"] == {}
    key_of(ledger_file).unlink()
    assert restore()["secrets_lost"] == {"demo": ["HF_TOKEN"]}


def test_the_program_starts_without_cryptography(path: Path) -> None:
    """`gpudeck --help` and a ledger without secrets do not pay for it."""
    store(path, {"REVISION": "main"})
    script = (
        "import sys; from pathlib import Path; import app.cli; from orchestrator.ledger.store import SqliteLedger\n"
        f"ledger = SqliteLedger(Path({str(path)!r}), lambda: 0); ledger.load().result(); ledger.close()\n"
        "sys.exit('cryptography' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60, check=True)


def test_a_key_is_asked_for_by_name_when_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match=r"secrets\.key does not exist"):
        Sealer(tmp_path / KEY_NAME)._key(create=False)
