"""The decision journal, recorded requests and learned memories in metrics.db: exact, bounded, kept over versions."""

from __future__ import annotations

import json
import random
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.base import HOUR_NS, SECOND_NS
from orchestrator.contract.endpoint import Auto, Concurrency, QueueDelay, RequestCount
from orchestrator.core.decisions import Decided, Inputs
from orchestrator.core.effects import JournalDecision
from orchestrator.core.history import MINUTE_NS, Counts, Minute, Requests
from orchestrator.core.recorder import REQUESTS_A_MINUTE, Recorder
from orchestrator.core.scaling import RULES, Memory, Reason
from orchestrator.core.traffic import Meter
from orchestrator.ledger import decisions, metrics, requests
from orchestrator.ledger.metrics import MetricsStore, open_to_read
from orchestrator.ledger.ports import LedgerError
from tests.core.world import World
from tests.ledger.samples import T0, Wall

POLICIES = [QueueDelay(seconds=1), RequestCount(value=1), Concurrency(), Auto()]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MetricsStore]:
    made = MetricsStore(tmp_path / "metrics.db", Wall())
    yield made
    made.close()


def entry(at_ns: int = T0, slug: str = "echo", **more: object) -> Decided:
    return Decided(slug, at_ns, 1, 2, 2, 1, Reason("test", "{n} of them", {"n": 2}), **more)  # type: ignore[arg-type]


def lived(policy: QueueDelay | RequestCount | Concurrency | Auto) -> list[Decided]:
    """Decisions of a core that had traffic."""
    world = World(cold_start_s=3)
    world.create(setup="0-3", policy=policy, idle_timeout_s=5)
    for number in range(30):
        world.request(service_s=1 + number % 5)
        world.advance((number * 7) % 11 / 2)
    world.advance(30)
    return [e.entry for e in world.effects if isinstance(e, JournalDecision)]


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_read_back_decides_the_same_again(
    store: MetricsStore, policy: QueueDelay | RequestCount | Concurrency | Auto
) -> None:
    written = lived(policy)
    assert len(written) > 3
    store.add_decisions(written).result()
    read = store.decisions("echo", last=1_000).result()
    assert list(read) == written
    assert all(e.agrees() for e in read)
    tampered = read[-1].inputs
    assert tampered is not None
    crowd = Inputs(tampered.policy, tampered.memory, tampered.seen._replace(queued=500, running=3))
    answers = {e.agrees() for e in (Decided(**{**_fields(read[-1]), "inputs": crowd}),)}
    assert answers == {False} or isinstance(policy, Concurrency), "an average does not care for one instant"


def _fields(one: Decided) -> dict[str, object]:
    return {name: getattr(one, name) for name in Decided.__dataclass_fields__}


def test_the_newest_up_to_an_instant_oldest_first(store: MetricsStore) -> None:
    store.add_decisions([entry(T0 + n) for n in range(10)] + [entry(T0 + 3, "other")]).result()
    assert [e.at_ns - T0 for e in store.decisions("echo", T0 + 6, 3).result()] == [4, 5, 6]
    assert [e.at_ns - T0 for e in store.decisions("echo", last=2).result()] == [8, 9]
    assert store.decisions("echo", T0 - 1).result() == ()
    assert store.decisions("nobody").result() == ()


def test_the_extent_of_a_journal_is_that_of_the_endpoint_s_own_life(store: MetricsStore) -> None:
    """A slug that is used again begins anew, whatever an earlier endpoint of that name decided."""
    store.add_decisions([entry(T0 + n, "a") for n in range(5)]).result()
    store.close()
    with closing(open_to_read(store.path)) as connection:
        assert decisions.read_extent(connection, "a", T0 + 2) == (T0 + 2, T0 + 4)
        assert decisions.read_extent(connection, "a", T0 + 5) is None
        assert decisions.read_extent(connection, "b", 0) is None


def test_the_journal_is_bounded_by_age_and_by_number(store: MetricsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "ROWS_MAX", 50)
    store.add_decisions([entry(T0 + n) for n in range(80)] + [entry(T0, "other")]).result()
    assert [e.at_ns - T0 for e in store.decisions("echo", last=1_000).result()] == list(range(30, 80))
    assert len(store.decisions("other").result()) == 1, "each endpoint has its own share"
    store.add_decisions([entry(T0 + decisions.KEPT_NS + 40)]).result()
    assert [e.at_ns - T0 for e in store.decisions("echo", last=1_000).result()][:2] == [40, 41]


def test_an_entry_of_another_version_is_shown_without_its_inputs(store: MetricsStore, tmp_path: Path) -> None:
    (one,) = lived(QueueDelay())[:1]
    store.add_decisions([one]).result()
    with closing(sqlite3.connect(tmp_path / "metrics.db")) as connection, connection:
        (packed,) = connection.execute("SELECT inputs FROM decision").fetchone()
        document = json.loads(zlib.decompress(packed))
        del document["seen"]["queued"]
        connection.execute("UPDATE decision SET inputs = ?", (zlib.compress(json.dumps(document).encode()),))
    (read,) = store.decisions("echo").result()
    assert (read.why, read.inputs, read.agrees()) == (one.why, None, None)


@pytest.mark.parametrize("rules", [None, 99])
def test_an_entry_of_other_rules_is_not_replayed_by_these(
    store: MetricsStore, tmp_path: Path, rules: int | None
) -> None:
    """Entries without a version are of the first; one of `request_count`, whose rules are still those, replays."""
    store.add_decisions([lived(QueueDelay())[0], *lived(RequestCount())[:1]]).result()
    with closing(sqlite3.connect(tmp_path / "metrics.db")) as connection, connection:
        for number, packed in connection.execute("SELECT id, inputs FROM decision").fetchall():
            document = json.loads(zlib.decompress(packed))
            assert document.pop("rules") == RULES[document["policy"]["kind"]]
            older = document if rules is None else {**document, "rules": rules}
            changed = zlib.compress(json.dumps(older).encode())
            connection.execute("UPDATE decision SET inputs = ? WHERE id = ?", (changed, number))
    delay, count = store.decisions("echo").result()
    assert (delay.inputs, delay.agrees()) == (None, None)
    assert count.agrees() is (True if rules is None else None)


# --- requests


@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 10**12)), min_size=1, max_size=50))
def test_packed_requests_come_back_to_a_tenth_of_a_millisecond(pairs: list[tuple[int, int]]) -> None:
    block = Requests([T0 + a for a, _ in pairs], [s for _, s in pairs])
    first_ns = min(block.arrived_ns)
    back = requests.unpack(first_ns, requests.pack(block))
    for (arrived, service), was in zip(
        sorted(zip(back.arrived_ns, back.service_ns, strict=True)), sorted((T0 + a, s) for a, s in pairs), strict=True
    ):
        assert 0 <= was[0] - arrived < requests.UNIT_NS
        assert (service == 0) == (was[1] == 0)
    assert sum(abs(x - y) for x, y in zip(sorted(back.service_ns), sorted(s for _, s in pairs), strict=True)) <= (
        requests.UNIT_NS * len(pairs)
    )


def traffic_minute(number: int, count: int) -> Minute:
    dice = random.Random(number)
    arrived = sorted(T0 + number * MINUTE_NS + dice.randrange(MINUTE_NS) for _ in range(count))
    service = [int(dice.lognormvariate(0, 0.5) * SECOND_NS) for _ in arrived]
    return Minute(T0 + number * MINUTE_NS, {"echo": Counts(count)}, {}, {"echo": Requests(arrived, service)})


def test_recorded_requests_are_read_in_order_newest_first_kept(
    store: MetricsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(traffic_minute(n, 100) for n in range(20)).result()
    found = store.requests("echo").result()
    assert len(found.arrived_ns) == 2_000
    assert found.arrived_ns == sorted(found.arrived_ns)
    newest = store.requests("echo", newest=150).result()
    assert newest.arrived_ns == found.arrived_ns[-150:]
    since = store.requests("echo", since_ns=T0 + 18 * MINUTE_NS).result()
    assert len(since.arrived_ns) == 200
    monkeypatch.setattr(requests, "REQUESTS_MAX", 500)
    store.add([traffic_minute(20, 100)]).result()
    assert 500 <= len(store.requests("echo").result().arrived_ns) <= 700
    store.add([traffic_minute(20 + requests.KEPT_NS // MINUTE_NS + 1, 100)]).result()
    assert len(store.requests("echo").result().arrived_ns) == 100


def test_a_request_takes_a_few_bytes() -> None:
    for count in (10, 100, 1_000):
        block = traffic_minute(0, count).requests["echo"]
        assert len(requests.pack(block)) / count < 9


def test_the_recorder_lists_requests_and_counts_what_is_too_much() -> None:
    recorder, meter = Recorder(T0), Meter()
    assert recorder.see(T0, {"echo": meter}, {}, {}) is None
    meter.record(T0 + 5, total_ns=4, queue_ns=1, failed=False)
    meter.record(T0 + 6, total_ns=0, queue_ns=0, failed=True)
    recorder.see(T0 + 10, {"echo": meter}, {}, {})
    meter.record(T0 + 20, total_ns=7, queue_ns=7, failed=True)
    minute = recorder.see(T0 + 2 * MINUTE_NS, {"echo": meter}, {}, {})
    assert minute is not None
    assert minute.requests["echo"].arrived_ns == [T0 + 1, T0 + 13], "one refused at the door is no load"
    assert minute.requests["echo"].service_ns == [3, 0]
    for n in range(REQUESTS_A_MINUTE + 70):
        meter.record(T0 + 2 * MINUTE_NS + n, total_ns=5, queue_ns=1, failed=False)
        if n % 1_000 == 0:
            recorder.see(T0 + 2 * MINUTE_NS, {"echo": meter}, {}, {})
    minute = recorder.flush()
    assert minute is not None
    kept = minute.requests["echo"]
    assert (len(kept.arrived_ns), kept.missed) == (REQUESTS_A_MINUTE, 70)


# --- memories and versions


def test_memories_come_back_and_forget_the_endpoints_that_are_gone(store: MetricsStore) -> None:
    learned = {policy.kind: lived(policy)[-1].inputs.memory for policy in POLICIES}  # type: ignore[union-attr]
    store.save_memories(learned).result()
    assert store.memories().result() == learned
    store.save_memories({"auto": learned["auto"]}).result()
    assert store.memories().result() == {"auto": learned["auto"]}


def test_a_memory_of_an_unknown_form_is_no_memory(store: MetricsStore, tmp_path: Path) -> None:
    store.save_memories({"echo": Memory(7)}).result()
    with closing(sqlite3.connect(tmp_path / "metrics.db")) as connection, connection:
        connection.execute("""UPDATE memory SET saved = '{"kind": "from the future", "x": 1}'""")
    assert store.memories().result() == {"echo": Memory()}


def test_a_file_of_the_first_version_keeps_its_history(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"BEGIN; {metrics.STEPS[0]} PRAGMA application_id = {metrics.APPLICATION_ID}; PRAGMA user_version = 1;"
            " INSERT INTO endpoint (slug) VALUES ('echo'); COMMIT;"
        )
    with pytest.raises(LedgerError, match="version 1, not 2: start gpudeck once"):
        open_to_read(path)
    store = MetricsStore(path, Wall())
    store.add_decisions([entry()]).result()
    assert len(store.decisions("echo").result()) == 1
    store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.db"], "nothing was put aside"
    with closing(open_to_read(path)) as connection:
        assert connection.execute("SELECT slug FROM endpoint").fetchall() == [("echo",)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM endpoint")


def test_a_file_of_a_newer_version_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"{metrics.STEPS[0]} PRAGMA application_id = {metrics.APPLICATION_ID}; PRAGMA user_version = 99;"
        )
    store = MetricsStore(path, Wall())
    assert store.decisions("echo").result() == ()
    store.close()
    assert len(list(tmp_path.glob("metrics.db.damaged-*"))) == 1


def test_reading_beside_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="unable to open"):
        open_to_read(tmp_path / "metrics.db")
    assert list(tmp_path.iterdir()) == []


def test_sizes_stay_what_the_design_says(store: MetricsStore, tmp_path: Path) -> None:
    """A day of a busy endpoint: the inputs of a decision below two kilobytes, with its other columns and what a page of
    SQLite's leaves over below three and a half, and few of them keep theirs."""
    entries = lived(Auto())
    assert max(len(decisions.pack(entry.inputs)) for entry in entries if entry.inputs) < 2_000
    store.add_decisions([Decided(**{**_fields(e), "at_ns": T0 + n}) for n, e in enumerate(entries * 20)]).result()  # type: ignore[arg-type]
    store.close()
    assert (tmp_path / "metrics.db").stat().st_size / (len(entries) * 20) < 3_500
    assert decisions.KEPT_NS == requests.KEPT_NS == 30 * 24 * HOUR_NS
