"""The README's commands are those that CI runs, and its claims are those of the data."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.assets import load_price_book
from orchestrator.contract.base import DOLLAR_U, HOUR_NS
from orchestrator.core.billing import due_u
from tests.app.cli_runner import gpudeck_sync
from tests.readme import README, commands

ROOT = README.parent


def test_the_two_set_up_commands_are_one_line_each() -> None:
    assert set(commands()) == {"demo", "test"}
    for text in commands().values():
        assert "\n" not in text
        assert "uv run --locked" in text


def test_ci_runs_the_readmes_test_command() -> None:
    assert "tests/readme.py test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_price_table_is_the_price_book() -> None:
    text = README.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| \$([\d.]+)/h \| \$([\d.]+)/s \|$", text, re.MULTILINE)
    book = load_price_book("2025-seed", None)
    shown = {
        gpu: (round(float(hour) * DOLLAR_U), round(float(second) * 3_600 * DOLLAR_U)) for gpu, hour, second in rows
    }
    assert shown == {gpu: (p.baseline_uh, p.autoscale_uh) for gpu, p in book.prices.items()}
    assert due_u(book.prices["L40"].baseline_uh, 24 * HOUR_NS) == 64_080_000


def test_every_command_it_shows_exists() -> None:
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    shown = {tuple(line.split()[1:3]) for block in blocks for line in block.splitlines() if line.startswith("gpudeck ")}
    help_text = gpudeck_sync("--help").stdout
    for words in shown:
        verb = words[0] if words and words[0] != "#" else None
        assert verb is None or re.search(rf"^  {verb}\b", help_text, re.MULTILINE), words


def test_every_file_it_names_is_there() -> None:
    text = README.read_text(encoding="utf-8")
    for name in re.findall(r"\]\(([^)h][^)]*)\)", text) + re.findall(r"(assets/[\w./-]+\.\w+)", text):
        assert (Path(ROOT) / name).exists(), name
