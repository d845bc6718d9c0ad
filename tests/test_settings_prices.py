"""`price_book` as a name, a list in the file, or text in the environment; and a schedule of real books."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.assets import AssetError, load_price_schedule
from orchestrator.contract.base import HOUR_NS
from orchestrator.settings import SettingsError, load_settings

MIDNIGHT_NS = 20_454 * 24 * HOUR_NS
"""2026-01-01 UTC."""


def periods(tmp_path: Path, text: str = "", **environ: str) -> list[tuple[str, int]]:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return [(p.book, p.start_ns) for p in load_settings(file, environ, {}).settings.price_book]


def test_a_name_is_a_book_for_all_time(tmp_path: Path) -> None:
    assert periods(tmp_path) == [("2025-seed", 0)]
    assert periods(tmp_path, 'price_book = "lab"') == [("lab", 0)]


def test_a_list_switches_at_utc_midnight(tmp_path: Path) -> None:
    text = 'price_book = [{ book = "2025-seed" }, { book = "2026", from = 2026-01-01 }]'
    assert periods(tmp_path, text) == [("2025-seed", 0), ("2026", MIDNIGHT_NS)]
    assert periods(tmp_path, GPUDECK_PRICE_BOOK="2025-seed, 2026@2026-01-01") == periods(tmp_path, text)
    shown = load_settings(tmp_path / "config.toml", {}, {}).settings.model_dump(mode="json")
    file = tmp_path / "config.toml"
    file.write_text(text)
    shown = load_settings(file, {}, {}).settings.model_dump(mode="json")
    assert shown["price_book"] == "2025-seed, 2026@2026-01-01"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('price_book = [{ book = "a" }, { book = "b" }]', "book 'b' needs a from"),
        (
            'price_book = [{ book = "a", from = 2026-01-01 }, { book = "b", from = 2026-01-01 }]',
            "book 'b' from 2026-01-01: must be later",
        ),
        ("price_book = []", "at least 1"),
        ('price_book = "a, b@soon"', "date"),
        ('price_book = [{ book = "a", until = 2026-01-01 }]', "price_book"),
        ('price_book = ""', "price_book"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        periods(tmp_path, text)
    assert str(refused.value).startswith("price_book, from ")


def test_a_later_book_must_price_what_an_earlier_one_does(tmp_path: Path) -> None:
    (tmp_path / "poor.toml").write_text("[prices.L40]\nper_hour = 1\nper_second = 0\n")
    (tmp_path / "rich.toml").write_text('extends = "2025-seed"\n[prices.L40]\nper_hour = 1\nper_second = 0\n')
    with pytest.raises(AssetError, match=r"'poor': prices\.A40: '2025-seed', which it follows"):
        load_price_schedule([("2025-seed", 0), ("poor", MIDNIGHT_NS)], tmp_path)
    schedule = load_price_schedule([("2025-seed", 0), ("rich", MIDNIGHT_NS)], tmp_path)
    assert [schedule.book_at(at_ns).name for at_ns in (0, MIDNIGHT_NS - 1, MIDNIGHT_NS)] == [
        "2025-seed", "2025-seed", "rich",
    ]  # fmt: skip
    assert schedule.gpu_types() == ("L40", "A40", "A100", "H100")
