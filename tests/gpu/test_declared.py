"""Declared GPUs: what may be declared, and that nothing is made up."""

from __future__ import annotations

import threading
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gpu.declared import GIB, GPUS_MAX, DeclaredProbe, parse_declaration
from orchestrator.gpu.ports import GpuProbe, GpuSample
from tests.waiting import until_sync


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L40:2,H100:1", [("L40", 2), ("H100", 1)]),
        (" L40 : 2 , RTX-4090:1 ", [("L40", 2), ("RTX-4090", 1)]),
        ("L40:64", [("L40", 64)]),
        ("x:1", [("x", 1)]),
        (f"{'a' * 32}:1", [("a" * 32, 1)]),
    ],
)
def test_declarations(text: str, expected: list[tuple[str, int]]) -> None:
    assert parse_declaration(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing declared"),
        ("   ", "nothing declared"),
        ("L40", "entry 1: no count; write L40:1"),
        ("L40:", "count of L40 must be a whole number from 1 to 64, not ''"),
        ("L40:0", "from 1 to 64, not '0'"),
        ("L40:65", "from 1 to 64, not '65'"),
        ("L40:-1", "not '-1'"),
        ("L40:1.5", "not '1.5'"),
        ("L40:²", r"not '\xb2'"),
        ("L40:" + "9" * 1_000, "not '9999"),
        ("L40:1:2", "not '1:2'"),
        ("L40:2,,H100:1", "entry 2: empty"),
        ("L40:2,", "entry 2: empty"),
        (":2", "entry 1: type '' must be 1 to 32"),
        ("a" * 33 + ":1", "must be 1 to 32"),
        ("-L40:1", "type '-L40'"),
        ("L 40:1", "type 'L 40'"),
        ("[red]:1", "type '[red]'"),
        ("\x1b]52;c:1", r"type '\x1b]52;c'"),
        ("L40:1,l40:1", "entry 2: l40 is declared twice"),
        ("L40:40,H100:25", "65 GPUs declared, at most 64"),
        ("L40:1," * 1_000, "at most 2048 characters, not 6000"),
    ],
)
def test_bad_declarations_name_the_entry_and_the_limit(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"^gpus: ") as caught:
        parse_declaration(text)
    message = str(caught.value)
    assert words in message
    assert message.isprintable()
    assert len(message) < 250


@given(st.text(max_size=80))
def test_any_text_is_a_declaration_or_a_clear_error(text: str) -> None:
    message = ""
    declared: list[tuple[str, int]] = []
    try:
        declared = parse_declaration(text)
    except ValueError as error:
        message = str(error)
    if message:
        assert message.startswith("gpus: ")
        assert message.isprintable()
    else:
        assert 1 <= sum(count for _, count in declared) <= GPUS_MAX


def test_samples_hold_what_was_declared_and_nothing_else() -> None:
    samples = DeclaredProbe([("L40", 2), ("RTX-4090", 1), ("a100", 1)], now=lambda: 77).samples()
    assert [(s.uuid, s.index, s.type, s.memory_total_bytes) for s in samples] == [
        ("SIM-L40-0", 0, "L40", 48 * GIB),
        ("SIM-L40-1", 1, "L40", 48 * GIB),
        ("SIM-RTX-4090-0", 2, "RTX-4090", 24 * GIB),
        ("SIM-a100-0", 3, "a100", 80 * GIB),
    ]
    declared = {"uuid", "index", "type", "name", "simulated", "lost", "sampled_ns", "memory_total_bytes"}
    for sample in samples:
        assert (sample.simulated, sample.lost, sample.sampled_ns) == (True, False, 77)
        assert "imulated" in sample.name
        for field in fields(GpuSample):
            if field.name not in declared:
                assert getattr(sample, field.name) in (None, ()), field.name


def test_a_load_is_reported_until_it_is_replaced() -> None:
    probe = DeclaredProbe([("L40", 2)], now=lambda: 0)
    probe.set_load("SIM-L40-1", memory_used_bytes=5, utilisation_percent=80)
    first, second = probe.samples()
    assert (first.memory_used_bytes, first.utilisation_percent) == (None, None)
    assert (second.memory_used_bytes, second.utilisation_percent, second.power_mw) == (5, 80, None)
    probe.set_load("SIM-L40-1", power_mw=1)
    assert [(s.memory_used_bytes, s.power_mw) for s in probe.samples()] == [(None, None), (None, 1)]
    with pytest.raises(KeyError, match="SIM-L40-2"):
        probe.set_load("SIM-L40-2", power_mw=1)


def test_the_probe_reports_again_and_again_until_it_is_closed() -> None:
    ticks = iter(range(1_000_000))
    probe: GpuProbe = DeclaredProbe([("L40", 1)], now=lambda: next(ticks), period_s=0.001)
    rounds: list[tuple[GpuSample, ...]] = []
    threads: set[int] = set()

    def on_sample(samples: tuple[GpuSample, ...]) -> None:
        threads.add(threading.get_ident())
        rounds.append(samples)

    probe.start(on_sample)
    until_sync(lambda: len(rounds) >= 3, what="three rounds")
    assert probe.problem() is None
    probe.close()
    probe.close()
    count = len(rounds)
    assert [r[0].sampled_ns for r in rounds] == list(range(count))
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert "gpudeck-declared" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(RuntimeError, match="started before"):
        probe.start(on_sample)


def test_close_without_start_is_harmless() -> None:
    DeclaredProbe([("L40", 1)], now=lambda: 0).close()
