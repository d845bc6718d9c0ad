"""Settings: flags over environment over file over defaults, each with its origin.

The file is TOML in the config directory. Unknown names are errors: a misspelt limit must not be silently ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

ENVIRONMENT_PREFIX = "GPUDECK_"


class SettingsError(ValueError):
    """A setting cannot be used. The message names it, where it came from, and what would do."""


class Settings(BaseModel):
    """Everything an operator can choose. Names are the same in the file, in `GPUDECK_<NAME>` and as flags."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["auto", "docker", "process"] = "auto"
    docker_host: str | None = None
    """Unix socket of the Docker engine; None means DOCKER_HOST or the default socket."""
    gpus: str | None = Field(default=None, max_length=500)
    """Declared GPUs such as `L40:2,H100:1`, used instead of NVML and marked SIMULATED everywhere."""
    host: str = "127.0.0.1"
    port: int = Field(default=8484, ge=0, le=65_535)
    """Port of the gateway; 0 lets the system choose."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names, beyond the local ones, by which browsers and callers may address the gateway."""
    price_book: str = Field(default="2025-seed", max_length=64)
    workers_max: int = Field(default=10, ge=1, le=1_000)
    """Most workers of one endpoint."""
    shutdown_grace_s: int = Field(default=30, ge=0, le=3_600)
    on_exit: Literal["leave", "drain"] = "leave"
    """What SIGTERM does with the workers: leave them running for the next start, or drain and stop them."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Loaded(BaseModel):
    """Settings and where each value came from: flag, environment, file or default."""

    settings: Settings
    origin: dict[str, str]


def load_settings(file: Path, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Loaded:
    """Merge the four sources. Raises SettingsError naming the setting and its source."""
    values: dict[str, Any] = {}
    origin = dict.fromkeys(Settings.model_fields, "default")
    for name, value in _read(file).items():
        values[name], origin[name] = value, str(file)
    for name in Settings.model_fields:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if environ.get(variable):
            values[name], origin[name] = environ[variable], variable
            if name == "allowed_hosts":
                values[name] = tuple(part.strip() for part in environ[variable].split(",") if part.strip())
    for name, value in flags.items():
        if value is not None:
            values[name], origin[name] = value, f"--{name.replace('_', '-')}"
    try:
        return Loaded(settings=Settings.model_validate(values), origin=origin)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        where = origin.get(name, str(file))
        known = ", ".join(Settings.model_fields)
        hint = f" (known: {known})" if first["type"] == "extra_forbidden" else ""
        raise SettingsError(f"{name}, from {where}: {first['msg']}{hint}") from None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from None
