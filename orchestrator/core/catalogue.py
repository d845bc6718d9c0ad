"""A model of the catalogue: how any engine starts it, and how the gateway speaks to it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.contract.base import Frozen
from orchestrator.contract.limits import Environment


class Volume(Frozen):
    """A cache kept between workers, as a named Docker volume."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")
    path: str = Field(pattern=r"^/")


class Model(Frozen):
    """One entry of the catalogue (assets/models/*.toml, and the user's own in the config directory).

    `{port}` in `command` and `process` is replaced by the port to listen on; `{host}` by the address to bind.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    title: str = Field(min_length=1, max_length=80)
    summary: str = Field(max_length=300)
    kind: Literal["image", "text", "echo", "service"]
    docs: str = Field(default="", max_length=300)

    image: str | None = None
    """Docker image reference; None means the docker engine cannot run it."""
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    port: int = Field(default=8000, ge=1, le=65_535)
    """Port inside the container."""
    process: tuple[str, ...] | None = None
    """argv for the process engine (`{python}` is this interpreter); None means only Docker can run it."""

    health_path: str = Field(default="/health", pattern=r"^/")
    predict_path: str = Field(default="/predict", pattern=r"^/")
    """Where `POST /v1/{slug}` goes."""
    concurrency: int = Field(default=1, ge=1, le=1_024)
    cancels: bool = False
    """True when the model stops working on a request whose connection is closed; else a timeout recycles the worker."""

    env: Environment = Field(default_factory=dict)
    volumes: tuple[Volume, ...] = ()
    memory_bytes: int = Field(default=2 * 1024**3, ge=64 * 1024**2)
    """Host memory limit of one worker."""
    shm_bytes: int = Field(default=64 * 1024**2, ge=0)
    pids: int = Field(default=512, ge=16)
    read_only: bool = True
    user: str | None = None
    stop_grace_s: int = Field(default=10, ge=0, le=600)
