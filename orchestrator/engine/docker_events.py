"""The reader of Docker's event stream: a plain daemon thread with a client of its own.

Events are hints and never the truth (reliability.md D4): after every connection, the first included, the caller is told
to list everything again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import requests
import urllib3
from docker import APIClient
from docker.errors import DockerException, StreamParseError
from docker.types import CancellableStream

from orchestrator.core.workload import LABEL_PREFIX, Exit
from orchestrator.engine.ports import EngineError

_LOG: Final = logging.getLogger(__name__)

BACKOFF_S: Final = (0.2, 5.0)
"""First and longest pause between attempts to connect."""

WORTH_A_LIST: Final = frozenset({"start", "restart", "oom", "pause", "unpause", "destroy", "rename", "update"})
"""`start` is among them because a container restarted by hand gets another host port."""

_LOST: Final = (
    DockerException, requests.exceptions.RequestException, urllib3.exceptions.HTTPError, StreamParseError, OSError,
)  # fmt: skip


class EventWatch:
    """Reads until closed, through every disconnect.

    `connect` opens a client (raises EngineError); `on_change(worker_id, exit)` is called on this thread;
    `evidence(client, event)` gives the exit behind a `die` event, or None when there is none any more; `on_oom` gets
    the id of a container whose process was killed for its memory limit.
    """

    def __init__(
        self,
        instance: str,
        connect: Callable[[], APIClient],
        on_change: Callable[[str, Exit | None], None],
        evidence: Callable[[APIClient, dict[str, Any]], Exit | None],
        on_oom: Callable[[str], None],
        now: Callable[[], int],
    ) -> None:
        self._label = f"{LABEL_PREFIX}instance={instance}"
        self._connect = connect
        self._on_change = on_change
        self._evidence = evidence
        self._on_oom = on_oom
        self._seen_s = now() // 1_000_000_000
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._stream: CancellableStream[dict[str, Any]] | None = None
        self._thread = threading.Thread(target=self._run, name="gpudeck-docker-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread. Returns within `timeout_s` even when Docker hangs; the thread is a daemon and then ends with
        its connection attempt."""
        self._stopping.set()
        with self._lock:
            if self._stream is not None:
                _end(self._stream)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = BACKOFF_S[0]
        while not self._stopping.is_set():
            try:
                client = self._connect()
            except EngineError as error:
                _LOG.debug("no event stream: %s", error.message)
            else:
                try:
                    if self._read(client):
                        pause_s = BACKOFF_S[0]
                finally:
                    client.close()
            self._stopping.wait(pause_s)
            pause_s = min(pause_s * 2, BACKOFF_S[1])

    def _read(self, client: APIClient) -> bool:
        """Read one connection to its end; True when it was ever open. An iterator that ends is a disconnect: docker-py
        reports a dead engine as the end of the stream."""
        opened = False
        try:
            stream = client.events(since=self._seen_s, filters={"type": "container", "label": self._label}, decode=True)
            with self._lock:
                if self._stopping.is_set():
                    _end(stream)
                    return True
                self._stream = stream
            opened = True
            # After the subscription, so that nothing falls between the list and the first event.
            self._on_change("", None)
            for event in stream:
                self._take(client, event)
        except _LOST as error:
            if not self._stopping.is_set():
                _LOG.debug("event stream lost: %s", error)
        finally:
            with self._lock:
                stream_left, self._stream = self._stream, None
                if stream_left is not None:
                    _end(stream_left)
        return opened

    def _take(self, client: APIClient, event: dict[str, Any]) -> None:
        actor = event.get("Actor", {})
        worker_id = actor.get("Attributes", {}).get(f"{LABEL_PREFIX}worker", "")
        self._seen_s = max(self._seen_s, int(event.get("time", 0)))
        # exec events come as `exec_create: command`; none of them is of interest.
        action = str(event.get("Action", "")).split(":", 1)[0]
        if not worker_id:
            return
        if action == "oom":
            self._on_oom(actor.get("ID", ""))
        if action == "die":
            self._on_change(worker_id, self._evidence(client, event))
        elif action in WORTH_A_LIST:
            self._on_change(worker_id, None)


def _end(stream: CancellableStream[dict[str, Any]]) -> None:
    """Shut the stream's socket, which wakes a reader blocked in it (docker/docker-py#1358)."""
    try:
        stream.close()
    except (AttributeError, OSError, DockerException) as error:
        # docker-py looks for the socket inside the response, where it no longer is once the stream has ended.
        _LOG.debug("event stream already ended: %s", error)
