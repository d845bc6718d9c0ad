"""Settings: flags over environment over file over defaults, each with its origin.

The file is TOML in the config directory. Unknown names are errors: a misspelt limit must not be silently ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.limits import MailAddress

ENVIRONMENT_PREFIX = "GPUDECK_"
SmtpSecurity = Literal["starttls", "tls", "none"]


class SettingsError(ValueError):
    """A setting cannot be used. The message names it, where it came from, and what would do."""


class PricePeriod(BaseModel):
    """A price book and the UTC date from whose midnight on it is in force; the first needs none."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    book: str = Field(min_length=1, max_length=64)
    from_: date | None = Field(default=None, alias="from")

    @property
    def start_ns(self) -> int:
        """First instant, as wall-clock nanoseconds; 0 without a date."""
        if self.from_ is None:
            return 0
        midnight = datetime(self.from_.year, self.from_.month, self.from_.day, tzinfo=UTC)
        return int(midnight.timestamp()) * SECOND_NS


class Settings(BaseModel):
    """Everything an operator can choose. Names are the same in the file, in `GPUDECK_<NAME>` and as flags. The line
    below a field is its description in `config show`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    engine: Literal["auto", "docker", "process"] = "auto"
    """Where workers run: auto is Docker when one answers, else local processes."""
    docker_host: str | None = None
    """Unix socket of the Docker engine; without it DOCKER_HOST, or the default socket."""
    gpus: str | None = Field(default=None, max_length=500)
    """Declared GPUs such as `L40:2,H100:1`, used instead of NVML and marked SIMULATED everywhere."""
    host: str = "127.0.0.1"
    """Address that the gateway listens on."""
    port: int = Field(default=8484, ge=0, le=65_535)
    """Port of the gateway; 0 lets the system choose."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names, beyond the local ones, by which browsers and callers may address the gateway."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that are not refused, such as https://app.example (replies carry no CORS fields)."""
    connections_max: int = Field(default=4_096, ge=16, le=1_000_000)
    """Client connections of the gateway: 503 beyond. Each may need two of what `ulimit -n` allows."""
    connections_per_peer_max: int = Field(default=2_048, ge=1, le=1_000_000)
    """Of these, from one address (one /64 of IPv6): 503 beyond."""
    request_body_bytes_max: int = Field(default=256 * 1024**2, ge=0, le=1024**4)
    """One request's body: 413 beyond."""
    spool_bytes_max: int = Field(default=1024**3, ge=0)
    """Bodies of waiting requests on the disk, all together; beyond, clients are held while they send."""
    header_timeout_s: int = Field(default=10, ge=1, le=600)
    """For a request's header to arrive: 408 beyond."""
    keepalive_s: int = Field(default=75, ge=1, le=86_400)
    """A client connection without a request for this long is closed."""
    websocket_idle_s: int = Field(default=300, ge=1, le=86_400)
    """A WebSocket over which nobody says anything for this long is closed."""
    price_book: tuple[PricePeriod, ...] = Field(default=(PricePeriod(book="2025-seed"),), min_length=1, max_length=100)
    """A name, or a list of {book, from}: from that UTC midnight on. As text: `2025-seed, 2026@2026-01-01`."""
    workers_max: int = Field(default=10, ge=1, le=1_000)
    """Most workers of one endpoint."""
    shutdown_grace_s: int = Field(default=30, ge=0, le=3_600)
    """Seconds that requests still running get when everything is drained and stopped."""
    on_exit: Literal["leave", "drain"] = "leave"
    """What SIGTERM does with the workers: leave them running for the next start, or drain and stop them."""
    deferred_requests_max: int = Field(default=10_000, ge=0, le=1_000_000)
    """Asynchronous calls (/v2) of one endpoint that are not over: 503 beyond."""
    deferred_bytes_max: int = Field(default=2 * 1024**3, ge=0)
    """Bytes of bodies and kept results of one endpoint on the disk: 503 beyond."""
    webhook_allow: tuple[str, ...] = ()
    """Hosts and networks that webhooks may reach although they are private, such as hooks.lan or 10.0.0.0/8."""
    metrics_port: int = Field(default=9464, ge=0, le=65_535)
    """Port of Prometheus metrics, on 127.0.0.1; 0 for none. One that is taken is a warning: serving goes on."""
    access_log: bool = False
    """Write a JSON line for every request to access.log in the state directory, rotated by size."""
    otel_endpoint: str | None = Field(default=None, max_length=500)
    """Where to send OpenTelemetry spans (OTLP over HTTP), such as http://127.0.0.1:4318; needs gpudeck[otel]."""
    faults: bool = False
    """Let `gpudeck fault` break workers on purpose, to watch how the endpoint recovers."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much the log file says."""
    theme: Literal["dark", "light", "contrast"] = "dark"
    """Colours of the dashboard; T there goes to the next one, and that is remembered."""
    reduced_motion: bool = False
    """Of the dashboard: nothing blinks or moves by itself, and figures change once a second."""
    smtp_host: str | None = Field(default=None, min_length=1, max_length=253)
    """Mail server for warnings; without one they are shown on the screen only."""
    smtp_port: int | None = Field(default=None, ge=1, le=65_535)
    """Default 587 for starttls, 465 for tls, 25 for none."""
    smtp_security: SmtpSecurity = "starttls"
    """none is for a server on this host alone."""
    smtp_user: str | None = Field(default=None, min_length=1, max_length=254)
    """Whom to log in as; without one nobody logs in."""
    smtp_password: SecretStr | None = None
    """From the environment (GPUDECK_SMTP_PASSWORD), never from the file."""
    smtp_password_file: Path | None = None
    """File with the password; it is read at each attempt."""
    smtp_ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    mail_from: MailAddress | None = None
    """Sender of the warnings."""
    mail_to: MailAddress | None = None
    """The operator: gets what is for an account without an address of its own."""

    @field_validator("price_book", mode="before")
    @classmethod
    def _read_periods(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [part.strip().partition("@") for part in value.split(",")]
        return [{"book": book, "from": start} if mark else {"book": book} for book, mark, start in parts]

    @field_validator("price_book")
    @classmethod
    def _in_order(cls, periods: tuple[PricePeriod, ...]) -> tuple[PricePeriod, ...]:
        for before, after in pairwise(periods):
            if after.from_ is None:
                raise ValueError(f"book {after.book!a} needs a from: the UTC date from which it is in force")
            if after.start_ns <= before.start_ns:
                raise ValueError(f"book {after.book!a} from {after.from_}: must be later than the one before it")
        return periods

    @field_serializer("price_book")
    def _show_periods(self, periods: tuple[PricePeriod, ...]) -> str:
        return ", ".join(p.book if p.from_ is None else f"{p.book}@{p.from_}" for p in periods)

    @model_validator(mode="after")
    def _mail_is_complete(self) -> Self:
        if self.smtp_host is None:
            return self
        if self.mail_from is None:
            raise ValueError("mail_from: needed with smtp_host, the address that mails come from")
        if self.smtp_security == "none" and not is_this_host(self.smtp_host):
            raise ValueError(
                f"smtp_security: none is for a server on this host, not for {self.smtp_host!a}; use starttls or tls"
            )
        if self.smtp_user is not None and self.smtp_password is None and self.smtp_password_file is None:
            raise ValueError("smtp_user: needs smtp_password_file, or GPUDECK_SMTP_PASSWORD in the environment")
        return self


def is_this_host(name: str) -> bool:
    """Whether mail to this server never leaves the host."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


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
    if "smtp_password" in values:
        raise SettingsError(
            f"smtp_password, from {file}: a password does not belong in the settings; put it into a file of its own "
            "and name that in smtp_password_file"
        )
    if "keys" in values:
        raise SettingsError(f"keys, from {file}: the keys of the dashboard are in keys.toml beside this file")
    for name in Settings.model_fields:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if environ.get(variable):
            values[name], origin[name] = environ[variable], variable
            if name in ("allowed_hosts", "allowed_origins", "webhook_allow"):
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
        unknown = first["type"] == "extra_forbidden"
        raise SettingsError(
            f"{name}, from {where}: {f'there is no such setting (known: {known})' if unknown else first['msg']}"
        ) from None


def meaning_of(name: str) -> str:
    """What a setting is for, in a line; empty where its name says it."""
    return " ".join((Settings.model_fields[name].description or "").split())


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from None
