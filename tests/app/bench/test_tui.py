"""The front end's own measurement: its deck, and that it sees what it says it measures."""

from __future__ import annotations

import json

from app.bench.deck import PER_SECOND, frame, slug
from app.bench.report import fields
from app.bench.tui import CONTROL, Measured, percentile
from orchestrator.contract.snapshot import Snapshot
from tests.app.cli_runner import gpudeck_sync


def test_every_frame_is_new_and_equal_numbers_are_equal_frames() -> None:
    one, same, next_one = frame(7, 10, 30), frame(7, 10, 30), frame(8, 10, 30)
    assert one == same
    assert all(a != b for a, b in zip(one.endpoints, next_one.endpoints, strict=True))
    assert next_one.taken_at_ns - one.taken_at_ns == 1_000_000_000 // PER_SECOND
    assert Snapshot.model_validate_json(one.model_dump_json()) == one


def test_the_deck_has_the_size_that_was_asked_for() -> None:
    found = frame(0, 50, 500)
    assert [endpoint.spec.slug for endpoint in found.endpoints][:2] == [slug(0), slug(1)]
    assert len(found.endpoints) == 50
    assert sum(len(endpoint.workers) for endpoint in found.endpoints) == len(found.gpus) == 500


def test_what_the_terminal_shows_is_read_through_its_control_codes() -> None:
    assert CONTROL.sub("", "\x1b[1;38;2;1;2;3m▌\x1b[0m \x1b[?25lmodel-01\x1b]8;;x\x1b\\") == "▌ model-01"


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.95), percentile(values, 1.0)) == (51.0, 96.0, 100.0)


def test_units_stand_beside_the_figures() -> None:
    shown = fields(Measured(612.4, 11.0, 31.5, 40.0, 0.182, 0.24, 3.9, 15_573.0, 107.0))
    assert shown["CPU"] == "18.2% of a core at rest, 24.0% with keys (goal: 25%)"
    assert "p95 31.5 ms" in shown["key to picture"]
    assert shown["pictures"] == "3.9 a second (of 4 that were offered)"


def test_it_measures_a_real_dashboard_on_a_terminal() -> None:
    result = gpudeck_sync(
        "bench", "tui", "--endpoints", "8", "--workers", "16", "--seconds", "1", "--keys", "3", "-o", "json"
    )
    assert result.exit_code == 0, result.stderr
    measured = json.loads(result.stdout)["measured"]
    assert 0 < measured["key_p50_ms"] <= measured["key_p95_ms"] <= measured["key_max_ms"]
    assert 0 < measured["cpu_share"] < 2
    assert 0 < measured["frames_per_s"] <= 8
    assert measured["first_paint_ms"] > 50
