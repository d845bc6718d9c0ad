"""`echo` through its real server: what it is told, streaming, transparency."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.worker.running import Worker, running


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with running(tmp_path_factory.mktemp("echo") / "log", "echo", GPUDECK_WORKER="w3") as worker:
        yield worker


def events(reply: httpx.Response) -> list[str]:
    parts = reply.text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    return [part.removeprefix("data: ") for part in parts]


def test_the_reply_says_who_answered_and_what_came(echo: Worker) -> None:
    first = echo.predict(echo={"deep": [1, None, "ü"]}).json()
    second = echo.predict().json()
    assert first["worker"] == "w3"
    assert first["echo"] == {"deep": [1, None, "ü"]}
    assert first["latency_s"] == 0
    assert second["request"] == first["request"] + 1
    assert "echo" not in second


def test_latency_is_taken(echo: Worker) -> None:
    reply = echo.predict(latency_s=0.2)
    assert reply.json()["latency_s"] == 0.2
    assert reply.elapsed.total_seconds() >= 0.2


def test_an_empty_body_and_a_foreign_body_take_options_from_the_query(echo: Worker) -> None:
    assert echo.client.post(f"{echo.url}/predict").status_code == 200
    reply = echo.client.post(f"{echo.url}/predict?status=201&tokens=2&tokens_per_s=1000", content=b"\0" * 1000)
    assert reply.status_code == 201
    assert reply.json()["received_bytes"] == 1000
    assert reply.json()["text"] == "every good"


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3_000_001])
def test_a_body_of_any_size_is_exact(echo: Worker, size: int) -> None:
    reply = echo.predict(bytes=size)
    assert int(reply.headers["content-length"]) == size
    assert reply.content == bytes(index % 256 for index in range(size))
    assert reply.headers["x-echo-worker"] == "w3"


@pytest.mark.parametrize("status", [200, 204, 304, 404, 418, 500, 599])
def test_any_status(echo: Worker, status: int) -> None:
    reply = echo.predict(status=status)
    assert reply.status_code == status
    assert (reply.content == b"") is (status in (204, 304))


def test_tokens_take_their_time(echo: Worker) -> None:
    reply = echo.predict(tokens=5, tokens_per_s=50)
    assert len(reply.json()["text"].split()) == 5
    assert reply.elapsed.total_seconds() >= 0.1


def test_a_stream_has_every_token_in_order_and_an_end(echo: Worker) -> None:
    reply = echo.predict(stream=True, tokens=30, tokens_per_s=5000)
    assert reply.headers["content-type"] == "text/event-stream"
    *chunks, last = events(reply)
    assert last == "[DONE]"
    documents = [json.loads(chunk) for chunk in chunks]
    assert [document["index"] for document in documents] == list(range(30))
    assert {document["worker"] for document in documents} == {"w3"}


def test_each_chunk_is_flushed_when_it_is_made(echo: Worker) -> None:
    """The second token is 100 s away: only a chunk that left at once can be read here."""
    body = {"stream": True, "tokens": 2, "tokens_per_s": 0.01}
    with echo.client.stream("POST", f"{echo.url}/predict", json=body) as reply:
        chunk = next(reply.iter_text())
    assert json.loads(chunk.removeprefix("data: "))["index"] == 0


def test_slow_body_drips(echo: Worker) -> None:
    """Twenty pieces over 2000 s: the first one is here, the rest is not."""
    body = {"fail": "slow_body", "bytes": 1000, "body_s": 2000}
    with echo.client.stream("POST", f"{echo.url}/predict", json=body) as reply:
        assert reply.headers["content-length"] == "1000"
        assert len(next(reply.iter_raw())) == 50
    whole = echo.predict(fail="slow_body", bytes=1000, body_s=0.1)
    assert whole.content == bytes(index % 256 for index in range(1000))
    assert echo.predict(fail="slow_body", body_s=0.1).json()["worker"] == "w3"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "POST"])
def test_any_other_path_describes_the_request(echo: Worker, method: str) -> None:
    body = b"" if method in ("GET", "OPTIONS") else bytes(range(256)) * 500
    target = "/a/b%2Fc;d?x=1&x=2&empty=&sp=%20+"
    headers = [("X-Twice", "one"), ("X-Twice", "two"), ("Content-Encoding", "gzip"), ("Cookie", "a=b")]
    seen = echo.client.request(method, f"{echo.url}{target}", content=body, headers=headers).json()
    assert seen["method"] == method
    assert seen["target"] == target
    assert seen["path"] == "/a/b%2Fc;d"
    assert seen["query"] == "x=1&x=2&empty=&sp=%20+"
    sent = [(name.lower(), value) for name, value in seen["headers"]]
    for name, value in headers:
        assert (name.lower(), value) in sent
    assert seen["body_bytes"] == len(body)
    assert seen["body_sha256"] == hashlib.sha256(body).hexdigest()


def test_websockets_are_refused_in_words(echo: Worker) -> None:
    reply = echo.client.get(f"{echo.url}/ws")
    assert (reply.status_code, reply.json()["code"]) == (501, "websocket")


def test_chat_in_the_openai_form(echo: Worker) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "tokens_per_s": 5000}
    reply = echo.client.post(f"{echo.url}/v1/chat/completions", json=body).json()
    assert reply["object"] == "chat.completion"
    assert reply["model"] == "m"
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": "every good bench needs"}
    assert reply["usage"]["completion_tokens"] == 4
    streamed = echo.client.post(f"{echo.url}/v1/chat/completions", json={**body, "stream": True})
    *chunks, last = events(streamed)
    assert last == "[DONE]"
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "every good bench needs"
    assert [choice["finish_reason"] for choice in choices] == [None] * 4 + ["stop"]


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/predict", b"{", 400, "body"),
        ("/predict", b'{"latency": 1}', 422, "latency"),
        ("/predict", b'{"latency_s": -1}', 422, "latency_s"),
        ("/predict", b'{"latency_s": 1e309}', 422, "latency_s"),
        ("/predict", b'{"latency_s": "soon"}', 422, "latency_s"),
        ("/predict", b'{"tokens": 1.5}', 422, "tokens"),
        ("/predict", b'{"tokens": 1%s}' % (b"0" * 400), 422, "tokens"),
        ("/predict", b'{"tokens_per_s": 0}', 422, "tokens_per_s"),
        ("/predict", b'{"bytes": 1073741825}', 422, "bytes"),
        ("/predict", b'{"status": 101}', 422, "status"),
        ("/predict", b'{"code": 256}', 422, "code"),
        ("/predict", b'{"fail": "explode"}', 422, "fail"),
        ("/predict", b'{"fail": ["exit"]}', 422, "fail"),
        ("/predict", b'{"stream": 1}', 422, "stream"),
        ("/predict", b'{"\\u001b[31m": 1}', 422, "\\x1b[31m"),
        ("/v1/chat/completions", b'{"messages": "hi"}', 422, "messages"),
        ("/v1/chat/completions", b'{"messages": [], "max_tokens": -1}', 422, "tokens"),
    ],
)
def test_bad_options_are_refused_by_name(echo: Worker, path: str, body: bytes, status: int, field: str) -> None:
    reply = echo.client.post(f"{echo.url}{path}", content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["field"]) == (status, field), reply.text


def test_the_same_seed_gives_the_same_latencies(tmp_path: Path) -> None:
    series = []
    for name in ("one", "two"):
        with running(tmp_path / name, "echo", ECHO_SEED="7", ECHO_LATENCY="exponential:0.001") as worker:
            series.append([worker.predict().json()["latency_s"] for _ in range(5)])
    assert series[0] == series[1]
    assert len(set(series[0])) == 5
