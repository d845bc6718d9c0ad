"""Bill, statement, journal, backup and restore by the command line, on a real orchestrator with a month of history."""

from __future__ import annotations

import csv
import io
import json
import shutil
import stat
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.cli import ledger as work
from app.cli.exits import CliError
from app.present.statement_html import render_html
from app.present.statement_text import render_text
from orchestrator.contract.accounting import JournalRow, Statement
from orchestrator.contract.places import HOME_VARIABLE, places
from tests.app.cli_runner import data_sync, gpudeck_sync
from tests.ledger.month import NOW_NS, at, history
from tests.ledger.samples import Wall, opened

DOLLAR = 1_000_000


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A running orchestrator whose ledger holds the month; stopped afterwards."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="gd-") as directory:
        patch.setenv(HOME_VARIABLE, directory)
        where = places({HOME_VARIABLE: directory})
        with opened(where.ledger_file, Wall(NOW_NS)) as ledger:
            for batch in history(over=True):
                ledger.write(batch).result()
        where.prices_dir.mkdir(parents=True)
        (where.prices_dir / "half.toml").write_text(
            'name = "half"\n[prices.L40]\nper_hour = 1.335\nper_second = 0.00212\n', encoding="utf-8"
        )
        started = gpudeck_sync("up", "--engine", "process", "--gpus", "L40:1", "--port", "0", "--timeout", "60")
        assert started.exit_code == 0, started.stderr
        yield Path(directory)
        assert gpudeck_sync("down").exit_code == 0


def test_the_statement_equals_the_bill_and_the_ledger(home: Path) -> None:
    statement = data_sync("bill", "--account", "research", "--month", "2026-03", "--text")
    bill = data_sync("bill", "--account", "research", "--month", "2026-03")
    assert statement["charged_u"] == bill["total_u"] == sum(x["amount_u"] for x in bill["lines"] if not x["absorbed"])
    assert statement["opening_u"] + statement["topped_up_u"] - statement["charged_u"] == statement["closing_u"]
    totals = {t["account"]: t for t in data_sync("ledger", "verify")["totals"]}
    assert totals["research"]["balance_u"] == statement["closing_u"] == bill["balance_u"]
    assert {line["requests"] for line in statement["lines"]} == {0}, "it has a history, in which nobody asked"


def test_the_printed_statement_has_the_same_sums(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "march.html"
    done = gpudeck_sync("bill", "--account", "research", "--month", "2026-03", "--html", str(file))
    assert (done.exit_code, done.stdout) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    statement = data_sync("bill", "--account", "research", "--month", "2026-03", "--text")
    page = Page(file.read_text(encoding="utf-8"))
    text = gpudeck_sync("bill", "--account", "research", "--month", "2026-03", "--text").stdout
    for amount in ("opening_u", "topped_up_u", "charged_u", "closing_u", "absorbed_u"):
        shown = f"${statement[amount] // DOLLAR:,}.{statement[amount] % DOLLAR:06d}"
        assert shown in page.text
        assert shown in text
    assert gpudeck_sync("bill", "--account", "research", "--html", "-").stdout.startswith("<!doctype html>")
    refused = gpudeck_sync("bill", "--account", "research", "--html", str(tmp_path / "no" / "where.html"))
    assert (refused.exit_code, "cannot be written" in refused.stderr) == (1, True)
    assert gpudeck_sync("bill", "--text", "--lines").exit_code == 2


class Page(HTMLParser):
    """Text, tags and what a page would load or run."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [f"{name}={value}" for name, value in attrs if name in ("src", "href") or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def march(tmp_path_factory: pytest.TempPathFactory) -> Statement:
    with opened(tmp_path_factory.mktemp("m") / "ledger.db", Wall(NOW_NS)) as ledger:
        for batch in history():
            ledger.write(batch).result()
        return ledger.statement("research", "2026-03", NOW_NS).result()


def test_html_is_alone_and_hostile_names_stay_text(march: Statement) -> None:
    document = render_html(march, march.lines)
    page = Page(document)
    assert "<script" not in document
    assert "script" not in page.tags
    assert page.loads == []
    assert "url(" not in document
    assert "@import" not in document
    assert "March </td><script>alert(1)</script>&\"'" in page.text
    assert not any(ord(char) < 32 and char != "\n" for char in document)


def test_every_line_leads_to_worker_container_evidence_and_requests(march: Statement) -> None:
    lines = [line.model_copy(update={"requests": 1_000 + n}) for n, line in enumerate(march.lines)]
    for document in (Page(render_html(march, lines)).text, render_text(march, lines)):
        flat = " ".join(document.split())
        for number, line in enumerate(lines):
            for fact in (line.worker_id, line.engine_ref, line.interval_id, line.gpu_uuid, f"{1_000 + number:,}"):
                assert str(fact) in flat
        for words in (
            "it goes on from the period before", "gpu_lost, Xid 79", "its tier changed", "still running",
            "the last heartbeat (nobody saw its end)", "never ready", "CUDA driver version is insufficient",
            "charged up to here", march.head_hash,
        ):  # fmt: skip
            assert words in flat, words
    assert max(len(line) for line in render_text(march, lines).splitlines()) <= 100


def test_a_wrong_statement_says_so(march: Statement) -> None:
    wrong = march.model_copy(update={"reconciles": False})
    assert "DOES NOT AGREE" in render_html(wrong, march.lines)
    assert "DOES NOT AGREE" in render_text(wrong, march.lines)


def test_the_same_month_by_another_book(home: Path) -> None:
    found = data_sync("bill", "--account", "research", "--month", "2026-03", "--book", "half")
    assert found["other_book"] == "half"
    assert found["difference_u"] == found["other_u"] - found["amount_u"] < 0
    table = gpudeck_sync("bill", "--account", "research", "--book", "half").stdout
    assert "no price" in table
    assert "BY HALF" in table
    unknown = gpudeck_sync("bill", "--book", "nothing")
    assert (unknown.exit_code, "nothing.toml" in unknown.stderr) == (3, True)


def test_the_journal_is_shown_with_its_balance(home: Path) -> None:
    shown = gpudeck_sync("ledger", "show", "--account", "research", "-n", "5").stdout.splitlines()
    assert len(shown) == 6
    assert shown[0].split()[:2] == ["ROW", "TIME"]
    balance = data_sync("bill", "--account", "research")["balance_u"]
    assert f"{balance % DOLLAR:06d}" in shown[-1]
    rows = data_sync("ledger", "show", "--endpoint", "llama-70b", "--kind", "absorbed")
    assert [row["entry"] for row in rows] == ["absorbed"]
    since = data_sync("ledger", "show", "--since", "2026-03-30", "--until", "2026-03-31T18:30")
    assert {row["at_ns"] >= at(30) for row in since} == {True}
    assert gpudeck_sync("ledger", "show", "--since", "1h", "--account", "research").stderr.strip() == "no rows match"
    for wrong in ("yesterday", "2026-02-30"):
        refused = gpudeck_sync("ledger", "show", "--since", wrong)
        assert (refused.exit_code, wrong in refused.stderr) == (2, True)


def test_an_export_is_exact(home: Path, tmp_path: Path) -> None:
    lines = gpudeck_sync("ledger", "export", "--jsonl", "--account", "research").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    file = tmp_path / "ledger.csv"
    assert gpudeck_sync("ledger", "export", "--csv", "--account", "research", "--out", str(file)).exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    table = list(csv.DictReader(io.StringIO(file.read_bytes().decode(), newline="")))
    assert [row["txn_id"] for row in table] == [str(row["txn_id"]) for row in rows]
    assert sum(row["change_u"] for row in rows) == rows[-1]["balance_u"]
    for row, cells in zip(rows, table, strict=True):
        assert int(cells["change_u"]) == row["change_u"]
        assert cells["change_usd"] == row["change_usd"]
        whole, micro = row["amount_usd"].split(".")
        assert int(whole) * DOLLAR + int(micro) == row["amount_u"]
        assert "\x1b" not in "".join(cells.values())


def row(**fields: object) -> JournalRow:
    return JournalRow.model_validate({
        "txn_id": 1, "at_ns": 1_500_000_000, "entry": "topup", "account": "local", "amount_u": 1, "change_u": -1,
        "balance_u": -5_000_001, "hash": "00", **fields,
    })  # fmt: skip


@pytest.mark.parametrize(("memo", "cell"), [
    ("=1+2", "'=1+2"), ("@x", "'@x"), ("+x", "'+x"), ("-5", "-5"), ("-5;DROP", "'-5;DROP"), ("a,\"b\"\n", 'a,"b" '),
])  # fmt: skip
def test_a_spreadsheet_runs_no_text(memo: str, cell: str) -> None:
    (cells,) = csv.reader(io.StringIO(work.csv_line(row(memo=memo))))
    found = dict(zip(work.EXPORTED, cells, strict=True))
    assert found["memo"] == cell
    assert (found["change_usd"], found["balance_usd"], found["at"]) == (
        "-0.000001", "-5.000001", "1970-01-01T00:00:01.500000000Z",
    )  # fmt: skip
    assert json.loads(work.json_line(row(memo=memo)))["memo"] == memo


def test_instants_and_spans() -> None:
    assert work.parse_instant("--since", "2026-03-01", 0) == at(1)
    assert work.parse_instant("--since", "2026-03-01T12:30Z", 0) == at(1, 12, 30)
    assert work.parse_instant("--since", "2h", at(1, 12)) == at(1, 10)
    assert work.parse_instant("--since", "2026-03-01T12:30+01:30", 0) == at(1, 11)
    assert work.parse_instant("--since", "2026-03-01 12:30:07.250", 0) == at(1, 12, 30) + 7_250_000_000
    with pytest.raises(CliError, match="--since: 'soon' is no time"):
        work.parse_instant("--since", "soon", 0)
    for outside in ("1969-12-31", "9999-12-31", "99999999d"):
        with pytest.raises(CliError, match=f"--since: '{outside}' is not between 1970 and 2262"):
            work.parse_instant("--since", outside, at(1))


def test_verification_shows_totals(home: Path) -> None:
    shown = gpudeck_sync("ledger", "verify")
    assert shown.exit_code == 0, shown.stderr
    assert "every amount is right" in shown.stdout
    assert "22 intervals compared with their price books" in shown.stdout
    assert data_sync("ledger", "verify")["rates"] == 22


def test_backup_and_restore(home: Path) -> None:
    where = places({HOME_VARIABLE: str(home)})
    made = data_sync("ledger", "backup")
    backup = Path(str(made["path"]))
    assert backup.parent == where.data / "backups"
    refused = gpudeck_sync("ledger", "restore", str(backup), "--yes")
    assert (refused.exit_code, "in use by another orchestrator" in refused.stderr) == (75, True)
    assert gpudeck_sync("down").exit_code == 0
    try:
        assert data_sync("ledger", "backup")["head"] == made["head"]
        where.ledger_file.write_bytes(where.ledger_file.read_bytes()[:10_000])
        broken = gpudeck_sync("up", "--engine", "process", "--gpus", "L40:1", "--port", "0")
        assert broken.exit_code == 1
        assert "gpudeck ledger restore " in broken.stderr
        newest = broken.stderr.split("gpudeck ledger restore ")[1].split()[0]
        done = gpudeck_sync("ledger", "restore", newest, "--yes")
        assert done.exit_code == 0, done.stderr
        assert "ledger.db.damaged-" in done.stdout
        assert gpudeck_sync("ledger", "restore", str(home / "none.db"), "--yes").exit_code == 1
    finally:
        if not where.ledger_file.exists():
            shutil.copyfile(backup, where.ledger_file)
        started = gpudeck_sync("up", "--engine", "process", "--gpus", "L40:1", "--port", "0", "--timeout", "60")
    assert started.exit_code == 0, started.stderr
    assert data_sync("ledger", "verify")["ok"] is True
