"""Limits and names that both the form in the terminal and the orchestrator check, stated once (design.md section 1)."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

SLUG_PATTERN: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9])?")
ENV_NAME_PATTERN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

RESERVED_SLUGS: Final = frozenset(
    {
        "audio", "batches", "chat", "completions", "embeddings", "files", "get-user-credits", "healthz", "images",
        "metrics", "models", "moderations", "readyz", "responses", "requests", "status",
    }
)  # fmt: skip
"""Routes of ours under /v1 and /v2, and those of the OpenAI API we keep free: an endpoint must not shadow them."""

WORKERS_MAX: Final = 10
"""Most workers of one endpoint unless the operator raises `workers_max` in the settings."""

IDLE_TIMEOUT_S: Final = (1, 300)
EXECUTION_TIMEOUT_S: Final = (1, 86_400)
QUEUE_TIMEOUT_S: Final = (1, 86_400)
STARTUP_DEADLINE_S: Final = (1, 7_200)
QUEUE_LIMIT: Final = (0, 100_000)
CONCURRENCY: Final = (1, 1_024)
ENV_VARIABLES_MAX: Final = 64
ENV_VALUE_MAX: Final = 4_096
KEY_ENDPOINTS_MAX: Final = 64
MAIL_ADDRESS_MAX: Final = 254
MAIL_PATTERN: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}")
"""Plain addresses of RFC 5321: no quoting, no comments, ASCII only, so that nothing in one can end a header line."""


def slug_problem(slug: str) -> str | None:
    """Why `slug` cannot name an endpoint, as a sentence for the user, or None when it can."""
    if not SLUG_PATTERN.fullmatch(slug):
        return "slug: use 1 to 63 characters of a-z, 0-9 and -, not starting or ending with -"
    if slug in RESERVED_SLUGS:
        return f"slug: '{slug}' is a route of the gateway itself; choose another name"
    return None


def _slug(value: str) -> str:
    problem = slug_problem(value)
    if problem is not None:
        raise ValueError(problem.removeprefix("slug: "))
    return value


def _name(value: str) -> str:
    if not NAME_PATTERN.fullmatch(value):
        raise ValueError("use 1 to 64 letters, digits, spaces, dots, - and _, with a letter or digit at both ends")
    return value


def _mail(value: str) -> str:
    if len(value) > MAIL_ADDRESS_MAX or not MAIL_PATTERN.fullmatch(value):
        raise ValueError(f"use a plain address such as ada@example.org, of at most {MAIL_ADDRESS_MAX} characters")
    return value


def _env(value: dict[str, str]) -> dict[str, str]:
    if len(value) > ENV_VARIABLES_MAX:
        raise ValueError(f"at most {ENV_VARIABLES_MAX} variables, not {len(value)}")
    for key, text in value.items():
        if not ENV_NAME_PATTERN.fullmatch(key):
            raise ValueError(f"{key!r} is no variable name (letters, digits and _, not starting with a digit)")
        if len(text) > ENV_VALUE_MAX or "\0" in text or "\n" in text:
            raise ValueError(f"the value of {key} must be one line of at most {ENV_VALUE_MAX} characters")
    return value


Slug = Annotated[str, AfterValidator(_slug)]
Name = Annotated[str, AfterValidator(_name)]
MailAddress = Annotated[str, AfterValidator(_mail)]
Environment = Annotated[dict[str, str], AfterValidator(_env)]
CommandId = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
