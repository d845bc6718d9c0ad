"""Connections to Docker: one per thread, negotiated, with every failure turned into an EngineError.

docker-py is blocking and not thread safe (docker/docker-py#3229), so no client is ever shared between threads.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Final, TypeVar

import requests
from docker import APIClient
from docker.errors import APIError, DockerException, InvalidVersion

from orchestrator.engine.docker_answer import read_refusal, read_silence, too_old
from orchestrator.engine.ports import EngineError, EngineUnavailable, Fault

DEFAULT_ADDRESS: Final = "unix:///var/run/docker.sock"
UNIX: Final = "unix://"

T = TypeVar("T")


def address_problem(address: str, *, allow_remote: bool) -> EngineError | None:
    """Why `address` is not used, or None. The Docker CLI's context is never followed: it may name a remote engine."""
    if address.startswith(f"{UNIX}/") and len(address) > len(f"{UNIX}/"):
        return None
    if address.startswith(UNIX):
        return EngineError(Fault.REFUSED, f"DOCKER_HOST: {address!r} is no absolute socket path; use unix:///path")
    if allow_remote:
        return None
    return EngineError(
        Fault.REFUSED,
        f"DOCKER_HOST: {address!r} is not a local socket. gpudeck publishes workers on the loopback of the engine's "
        "own host, so it drives a local engine only; use unix:///path, or allow a remote one explicitly",
    )


def connect(address: str, timeout_s: float) -> APIClient:
    """A client that has spoken with the engine. Raises EngineError; `timeout_s` holds for each of its calls."""
    reach(address, timeout_s)
    try:
        client = APIClient(base_url=address, version="auto", timeout=timeout_s)  # type: ignore[arg-type] # seconds
    except (DockerException, requests.exceptions.RequestException) as error:
        raise translate(error, address) from error
    # A netrc entry for `localhost` would be sent along, and proxies are no concern of a local socket.
    client.trust_env = False
    old = too_old(client.api_version)
    if old is not None:
        client.close()
        raise old
    return client


def reach(address: str, timeout_s: float) -> None:
    """Raises EngineUnavailable, with the reason the kernel gives, when nobody listens at a Unix `address`.

    Asked before docker-py is: it leaves the socket of a failed connection to the garbage collector.
    """
    if not address.startswith(UNIX):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_s)
        try:
            probe.connect(address.removeprefix(UNIX))
        except OSError as error:
            # EAGAIN: its queue of connections is full, as that of a hung engine.
            timed_out = isinstance(error, TimeoutError | BlockingIOError)
            raise read_silence(f"{type(error).__name__}: {error}", address, timed_out=timed_out) from error


def translate(error: Exception, address: str, image: str | None = None) -> EngineError:
    """The EngineError for what docker-py or requests raised. No answer is EngineUnavailable: the outcome is unknown."""
    if isinstance(error, APIError) and error.response is not None:
        return read_refusal(error.response.status_code, error.explanation or str(error), image)
    if isinstance(error, InvalidVersion):
        return EngineError(Fault.ENGINE_TOO_OLD, f"Docker at {address} is too old: {error}")
    text = f"{type(error).__name__}: {error}"
    timed_out = isinstance(error, requests.exceptions.Timeout) or "timed out" in text.lower()
    return read_silence(text, address, timed_out=timed_out)


class Clients:
    """One client per thread that asks for one."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: list[APIClient] = []
        self._closed = False

    def run(self, call: Callable[[APIClient], T], timeout_s: float, image: str | None = None) -> T:
        """`call` with this thread's client, on this thread. Raises EngineError and nothing of Docker's own."""
        client = self._client(timeout_s)
        client.timeout = timeout_s  # type: ignore[assignment] # requests takes fractions of a second
        try:
            return call(client)
        except (DockerException, requests.exceptions.RequestException) as error:
            translated = translate(error, self.address, image)
            if isinstance(translated, EngineUnavailable):
                # The engine that comes back may be another version: negotiate again.
                self._drop(client)
            raise translated from error

    def close(self) -> None:
        """Close the connections of all threads. Calls under way end with EngineUnavailable or their answer."""
        with self._lock:
            self._closed = True
            clients, self._all = self._all, []
        for client in clients:
            client.close()

    def _client(self, timeout_s: float) -> APIClient:
        client: APIClient | None = getattr(self._local, "client", None)
        if client is not None:
            reach(self.address, timeout_s)
            return client
        client = connect(self.address, timeout_s)
        with self._lock:
            if self._closed:
                client.close()
                raise EngineUnavailable("the connection to Docker has been closed")
            self._all.append(client)
        self._local.client = client
        return client

    def _drop(self, client: APIClient) -> None:
        self._local.client = None
        with self._lock:
            if client in self._all:
                self._all.remove(client)
        client.close()
