"""Faults done to a worker's container, through Docker's own commands. Blocking; see DockerEngine for the threads."""

from __future__ import annotations

from typing import Final

from docker import APIClient
from docker.errors import APIError

SQUEEZED_BYTES: Final = 6 * 1024 * 1024
"""The least that Docker takes for a limit; no model server lives in it."""
HEADROOM_BYTES: Final = 1024 * 1024
GROWING: Final = "x=0123456789abcdef; while :; do x=$x$x; done"


def kill(client: APIClient, container: str) -> None:
    """SIGKILL. Raises APIError (409) when it does not run."""
    client.kill(container, "SIGKILL")


def freeze(client: APIClient, container: str, *, on: bool) -> None:
    """Pause or unpause: its processes keep everything and do nothing. Repeating it is harmless."""
    if bool(client.inspect_container(container)["State"].get("Paused")) != on:
        (client.pause if on else client.unpause)(container)


def squeeze(client: APIClient, container: str) -> None:
    """Lower its memory limit below what it uses: the kernel reclaims what it can, then kills it for the rest."""
    try:
        _limit(client, container, SQUEEZED_BYTES)
    except APIError:
        # The kill may come while the limit is being written, and Docker then reports the write as failed.
        if client.inspect_container(container)["State"].get("Running"):
            _fill(client, container)


def _fill(client: APIClient, container: str) -> None:
    """Where the kernel takes no limit below what is used (cgroups v1): the least it takes, and something that grows
    beside the model. Of all in the container the kernel kills the largest, and that is the model."""
    used = int(client.stats(container, stream=False)["memory_stats"]["usage"])
    _limit(client, container, max(used + HEADROOM_BYTES, SQUEEZED_BYTES))
    grows = client.exec_create(container, ["sh", "-c", GROWING])
    client.exec_start(grows["Id"], detach=True)


def _limit(client: APIClient, container: str, size_bytes: int) -> None:
    client.update_container(container, mem_limit=size_bytes, memswap_limit=size_bytes)
