"""The records of the process engine as text, and what a model is started with. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.workload import ExitCause
from orchestrator.engine.process_record import (
    ExitRecord,
    RecordInvalid,
    ShimRecord,
    SpecRecord,
    address_in_use,
    model_environment,
    read_record,
    recorded_exit,
    spec_record,
    vanished,
)
from tests.engine.virtual_harness import VirtualHarness

SHIM = ShimRecord(shim_pid=7, shim_ticks=70, boot_id="boot", model_pid=8, model_ticks=80, started_ns=5)


def test_what_an_endpoint_sets_wins_over_the_model_but_not_over_ours() -> None:
    base = VirtualHarness().spec(1)
    model = base.model.model_copy(update={"env": {"A": "model", "B": "model", "HOME": "/model"}})
    spec = type(base)(
        worker_id=base.worker_id,
        name=base.name,
        instance=base.instance,
        endpoint=base.endpoint,
        interval_id=base.interval_id,
        generation=base.generation,
        model=model,
        gpu=base.gpu,
        env={"A": "endpoint", "CUDA_VISIBLE_DEVICES": "0", "GPUDECK_WORKER": "stolen", "PYTHONPATH": "/mine"},
    )
    env = model_environment(spec, {"HOME": "/h", "PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "s"}, "/root")
    assert (env["A"], env["B"], env["HOME"], env["PATH"]) == ("endpoint", "model", "/model", "/bin")
    assert (env["CUDA_VISIBLE_DEVICES"], env["GPUDECK_WORKER"]) == ("", "w-1")
    assert env["PYTHONPATH"] == "/root:/mine"
    assert "AWS_SECRET_ACCESS_KEY" not in env


def test_a_record_survives_its_text() -> None:
    record = spec_record(VirtualHarness().spec(1), 8_001, 99)
    assert read_record(SpecRecord, record.model_dump_json().encode()) == record


def test_a_newer_field_does_not_hide_a_worker() -> None:
    text = SHIM.model_dump_json().encode()[:-1] + b', "added_later": true}'
    assert read_record(ShimRecord, text) == SHIM


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"", "document"),
        (b"[]", "document"),
        (b'{"shim_pid": 0, "shim_ticks": 1, "boot_id": "b"}', "shim_pid"),
        (b'{"shim_pid": 1, "shim_ticks": "many", "boot_id": "b"}', "shim_ticks"),
        (b'{"shim_pid": 1, "shim_ticks": 1}', "boot_id"),
    ],
)
def test_a_damaged_record_names_its_field(text: bytes, named: str) -> None:
    with pytest.raises(RecordInvalid, match=named):
        read_record(ShimRecord, text)


@given(st.binary(max_size=200))
def test_no_bytes_are_fatal(text: bytes) -> None:
    for kind in (SpecRecord, ShimRecord, ExitRecord):
        with pytest.raises(RecordInvalid):
            read_record(kind, text)


def test_a_signal_has_the_code_that_shells_give_it() -> None:
    record = ExitRecord(cause=ExitCause.OOM, code=-9, at_ns=5, detail="too big")
    assert recorded_exit(record, ()).code == 137
    assert recorded_exit(ExitRecord(cause=ExitCause.ERROR, code=3, at_ns=5, detail="x"), ()).code == 3


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("OSError: [Errno 98] Address already in use", True),
        ("error while attempting to bind on address ('127.0.0.1', 80): address already in use", True),
        ("Error: listen EADDRINUSE: 127.0.0.1:80", True),
        ("bind: Address in use (98)", True),
        ("the address is fine and in good use", False),
    ],
)
def test_a_taken_port_is_recognised(line: str, expected: bool) -> None:
    assert address_in_use(("first", line)) is expected
    exit_ = recorded_exit(ExitRecord(cause=ExitCause.ERROR, code=1, at_ns=5, detail="exited with code 1"), (line,))
    assert ("port was taken" in exit_.detail) is expected


def test_an_end_is_dated_only_when_it_was_seen_in_this_boot() -> None:
    assert vanished(SHIM, "boot", 99, ()).at_ns == 99
    assert vanished(SHIM, "boot", None, ()).at_ns is None
    assert vanished(SHIM, "next-boot", 99, ()).at_ns is None
    assert vanished(None, "boot", 99, ()).at_ns is None
