"""A model of the catalogue: how any engine starts it, and how the gateway speaks to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from orchestrator.contract.base import Frozen
from orchestrator.contract.limits import Environment

PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,127})\}")
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


class Volume(Frozen):
    """A cache kept between workers, as a named Docker volume."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")
    path: str = Field(pattern=r"^/")


class Model(Frozen):
    """One entry of the catalogue (assets/models/*.toml, and the user's own in the config directory).

    `command` and `process` may hold `{port}` (the port to listen on), `{host}` (the address to bind), `{python}` (the
    interpreter, process engine) and `{NAME}` for any variable of the worker's environment; see `fill_arguments`.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    title: str = Field(min_length=1, max_length=80)
    summary: str = Field(max_length=300)
    kind: Literal["image", "text", "echo", "service"]
    docs: str = Field(default="", max_length=300)
    order: int = Field(default=100, ge=0, le=1_000)
    """Place in lists: smaller first, then by name."""

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
    """Defaults; the variables of an endpoint's own `env` override them one by one."""
    required_env: tuple[VariableName, ...] = ()
    """Variables that an endpoint must set, such as MODEL_ID: without them the server inside cannot start."""
    volumes: tuple[Volume, ...] = ()
    memory_bytes: int = Field(default=2 * 1024**3, ge=64 * 1024**2)
    """Host memory limit of one worker."""
    shm_bytes: int = Field(default=64 * 1024**2, ge=0)
    pids: int = Field(default=512, ge=16)
    read_only: bool = True
    user: str | None = None
    stop_grace_s: int = Field(default=10, ge=0, le=600)


def fill_arguments(arguments: Iterable[str], values: Mapping[str, str | int]) -> tuple[str, ...]:
    """`arguments` with every `{NAME}` replaced by `values[NAME]`, in one pass: a value is never expanded again, nor
    split at blanks. Other braces, as in a JSON argument, stay. Engines call it with host, port, python and the worker's
    whole environment, GPUDECK_WORKER and GPUDECK_ENDPOINT (the slug) included. Raises ValueError naming the variable
    that has no value (an empty one counts as none).
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        value = str(values.get(name, ""))
        if not value:
            raise ValueError(f"env.{name}: the model's command needs this variable; set {name} on the endpoint")
        return value

    return tuple(PLACEHOLDER.sub(value_of, argument) for argument in arguments)
