"""The chunked decoder gives the same body however its bytes are cut."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gateway.chunks import LAST, BadChunk, ChunkDecoder, frame


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data())
def test_any_cut_gives_the_same_body(pieces: list[bytes], data: st.DataObject) -> None:
    coded = b"".join(b"%X;a=b\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\nx: 1\r\n\r\nNEXT"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(coded)), max_size=20)))
    decoder = ChunkDecoder()
    body = b""
    rest = b""
    for start, end in zip([0, *cuts], [*cuts, len(coded)], strict=True):
        if decoder.done:
            rest += coded[start:end]
        else:
            body += b"".join(decoder.feed(coded[start:end]))
            rest = decoder.leftover
    assert decoder.done
    assert body == b"".join(pieces)
    assert rest == b"NEXT"


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=8))
def test_what_is_framed_can_be_decoded(pieces: list[bytes]) -> None:
    decoder = ChunkDecoder()
    assert b"".join(decoder.feed(frame(pieces) + LAST)) == b"".join(pieces)
    assert decoder.done


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waited_for_never_crashes(data: bytes) -> None:
    decoder = ChunkDecoder()
    try:
        decoder.feed(data)
    except BadChunk:
        return
    assert decoder.done or len(data) <= 200


@pytest.mark.parametrize(
    "bad", [b"1\r\nab\r\n", b"1\r\na\n", b"g\r\n", b"\r\n", b"-1\r\n", b"1 \r\n", b"1\n", b"0\r\nx\r\n"]
)
def test_a_bad_line_is_refused_as_soon_as_it_is_seen(bad: bytes) -> None:
    with pytest.raises(BadChunk):
        feed_all(bytes([byte]) for byte in bad)


def test_held_lines_are_bounded() -> None:
    for start in (b"1;", b"0\r\nx: "):
        with pytest.raises(BadChunk):
            feed_all([start, *[b"a" * 1_000] * 20])


def feed_all(pieces: Iterable[bytes]) -> None:
    decoder = ChunkDecoder()
    for piece in pieces:
        decoder.feed(piece)
