"""The history of traffic: exact counts at every level, bounded queries, and a file that may be lost."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.history import Counts, Minute
from orchestrator.ledger.metrics import MetricsStore
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.series import DAY_S, HOUR_S, KEPT_S, LEVELS_S, ROWS_MAX, resolution
from tests.ledger.samples import Wall

START_S = 1_760_000_400 // DAY_S * DAY_S


@pytest.fixture
def wall() -> Wall:
    return Wall(START_S * SECOND_NS)


@pytest.fixture
def store(tmp_path: Path, wall: Wall) -> Iterator[MetricsStore]:
    made = MetricsStore(tmp_path / "metrics.db", wall)
    yield made
    made.close()


def minute(at_s: int, requests: int = 1, slug: str = "demo", bucket: int = 100, **served: int) -> Minute:
    counts = Counts(requests, 1, {bucket: requests - 1} if requests > 1 else {}, {20: requests - 1})
    return Minute(at_s * SECOND_NS, {slug: counts}, served)


def test_minutes_add_up_at_every_step(store: MetricsStore, wall: Wall) -> None:
    for number in range(3 * 60):
        store.add([minute(START_S + number * 60, number + 1), minute(START_S + number * 60, 5, "other")])
    store.add([minute(START_S + 60, 10)]).result()
    wall.ns += 4 * HOUR_S * SECOND_NS
    total = sum(range(1, 181)) + 10
    for step_s, points in ((60, 180), (61, 90), (600, 18), (1_800, 6), (HOUR_S, 3), (DAY_S, 1), (5_400, 2)):
        found = store.history("demo", START_S * SECOND_NS, (START_S + 3 * HOUR_S) * SECOND_NS, step_s).result()
        assert found.step_s >= step_s
        assert len(found.points) == points
        assert sum(p.requests for p in found.points) == found.total.requests == total
        assert found.total.failures == 181
        assert all(p.start_ns % (found.step_s * SECOND_NS) == 0 for p in found.points)
    first = store.history("demo", START_S * SECOND_NS, (START_S + 120) * SECOND_NS, 60).result().points
    assert [(p.requests, p.failures) for p in first] == [(1, 1), (12, 2)]
    assert (first[0].p50_us, first[1].p50_us is None) == (None, False)


def test_windows_are_widened_to_whole_steps_and_empty_ones_refused(store: MetricsStore) -> None:
    store.add([minute(START_S), minute(START_S + 60), minute(START_S + 120)]).result()
    found = store.history("demo", (START_S + 70) * SECOND_NS, (START_S + 71) * SECOND_NS, 60).result()
    assert (found.since_ns, found.until_ns) == ((START_S + 60) * SECOND_NS, (START_S + 120) * SECOND_NS)
    assert len(found.points) == 1
    assert store.history("unknown", 0, SECOND_NS, 60).result().points == ()
    with pytest.raises(ValueError, match="until_ns"):
        store.history("demo", 5, 5, 60)


def test_old_minutes_become_hours_and_hours_days(store: MetricsStore, wall: Wall) -> None:
    for number in range(120):
        store.add([minute(START_S + number * 60, 10)])
    wall.ns += 200 * DAY_S * SECOND_NS
    store.add([minute(START_S + 200 * DAY_S, 10)]).result()
    with closing(sqlite3.connect(store.path)) as reader:
        rows = dict(reader.execute("SELECT level_s, COUNT(*) FROM traffic GROUP BY 1").fetchall())
    assert rows == {60: 1, 600: 1, HOUR_S: 1, DAY_S: 2}
    found = store.history("demo", START_S * SECOND_NS, wall.ns + 1, 60).result()
    assert (found.step_s, [p.requests for p in found.points]) == (DAY_S, [1_200, 10])


@pytest.mark.parametrize(("ago_s", "span_s", "step_s", "expected"), [
    (HOUR_S, HOUR_S, 60, (60, 60)), (HOUR_S, HOUR_S, 90, (60, 120)), (12 * HOUR_S, 12 * HOUR_S, 60, (60, 60)),
    (48 * HOUR_S, 48 * HOUR_S, 60, (600, 600)), (49 * HOUR_S, HOUR_S, 60, (600, 600)),
    (30 * DAY_S, 30 * DAY_S, HOUR_S, (HOUR_S, HOUR_S)), (30 * DAY_S, 60, 60, (HOUR_S, HOUR_S)),
    (365 * DAY_S, 365 * DAY_S, HOUR_S, (DAY_S, DAY_S)), (30 * DAY_S, 30 * DAY_S, 7 * DAY_S, (DAY_S, 7 * DAY_S)),
    (20 * 365 * DAY_S, 20 * 365 * DAY_S, 60, (DAY_S, DAY_S)),
])  # fmt: skip
def test_a_question_reads_the_level_that_bounds_its_cost(
    ago_s: int, span_s: int, step_s: int, expected: tuple[int, int]
) -> None:
    now_s = START_S
    level_s, step = resolution(now_s - ago_s, now_s - ago_s + span_s, step_s, now_s)
    assert (level_s, step) == expected
    assert step % level_s == 0
    assert level_s == DAY_S or (span_s // level_s <= ROWS_MAX and ago_s <= KEPT_S[level_s])
    assert level_s in LEVELS_S


def test_requests_by_interval(store: MetricsStore) -> None:
    store.add([minute(START_S, a=3, b=1)])
    store.add([minute(START_S + 60, a=4)]).result()
    many = [f"w{n}" for n in range(1_200)]
    assert store.served(["a", "b", *many]).result() == {"a": 7, "b": 1}
    assert store.served([]).result() == {}
    store.add([minute(START_S + 40 * DAY_S, a=5)]).result()
    assert store.served(["a"]).result() == {"a": 12}
    months = [store.served(["a", "b"], month).result() for month in ("2025-09", "2025-10", "2025-11")]
    assert months == [{}, {"a": 7, "b": 1}, {"a": 5}]


def test_it_survives_a_restart_and_is_private(tmp_path: Path, wall: Wall) -> None:
    for _ in range(2):
        store = MetricsStore(tmp_path / "metrics.db", wall)
        store.add([minute(START_S, 10)]).result()
        store.close()
        store.close()
        with pytest.raises(LedgerError, match="closed"):
            store.add([minute(START_S)]).result()
    store = MetricsStore(tmp_path / "metrics.db", wall)
    assert store.history("demo", wall.ns, wall.ns + SECOND_NS, 60).result().total.requests == 20
    store.close()
    assert stat.S_IMODE((tmp_path / "metrics.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"this is no database " * 400, b"\0" * 5_000])
def test_a_file_that_cannot_be_used_is_put_aside(tmp_path: Path, wall: Wall, content: bytes) -> None:
    path = tmp_path / "metrics.db"
    path.write_bytes(content)
    store = MetricsStore(path, wall)
    store.add([minute(START_S, 10)]).result()
    assert store.history("demo", wall.ns, wall.ns + SECOND_NS, 60).result().total.requests == 10
    store.close()
    (aside,) = tmp_path.glob("metrics.db.damaged-*")
    assert aside.read_bytes() == content


def test_a_strangers_database_is_put_aside(tmp_path: Path, wall: Wall) -> None:
    with closing(sqlite3.connect(tmp_path / "metrics.db")) as stranger:
        stranger.execute("CREATE TABLE mine (a)")
    store = MetricsStore(tmp_path / "metrics.db", wall)
    store.add([minute(START_S)]).result()
    store.close()
    assert len(list(tmp_path.glob("metrics.db.damaged-*"))) == 1


def test_damage_in_use_begins_a_new_file(store: MetricsStore, tmp_path: Path) -> None:
    for number in range(200):
        store.add([minute(START_S + 60 * number, 10, bucket=number)])
    store.add([minute(START_S)]).result()
    size = store.path.stat().st_size
    with store.path.open("r+b") as file:
        file.write(b"\xff" * size)
    for _ in range(3):
        try:
            store.add([minute(START_S, 10)]).result()
            break
        except LedgerError:
            continue
    assert store.history("demo", START_S * SECOND_NS, (START_S + 60) * SECOND_NS, 60).result().total.requests == 10
    assert len(list(tmp_path.glob("metrics.db.damaged-*"))) == 1


def test_a_batch_that_fails_leaves_nothing(store: MetricsStore) -> None:
    store.add([minute(START_S, 10)]).result()
    bad = Minute(START_S * SECOND_NS, {"demo": Counts(1, 0, {3: 2**64}, {})}, {})
    with pytest.raises(LedgerError, match=r"metrics .*metrics\.db"):
        store.add([minute(START_S, 10), bad]).result()
    found = store.history("demo", START_S * SECOND_NS, (START_S + 60) * SECOND_NS, 60).result()
    assert found.total.requests == 10
