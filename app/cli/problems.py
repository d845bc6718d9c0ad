"""Validation errors as sentences that name the field and its limit."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from app.format import plain
from orchestrator.contract.endpoint import POLICIES
from orchestrator.contract.query import MONTH

OPTIONS: Final = {
    "gpu_type": "--gpu",
    "maximum": "--max",
    "idle_timeout_s": "--idle-timeout",
    "execution_timeout_s": "--execution-timeout",
    "queue_timeout_s": "--queue-timeout",
    "wait_p95_s": "--policy auto:…",
    "seconds": "--policy queue_delay:…",
    "value": "--policy request_count:…",
    "target": "--policy concurrency:…",
}
"""Fields whose option has another name."""

LIMITS: Final = {
    "greater_than_equal": ("must be at least {ge}", "ge"),
    "greater_than": ("must be more than {gt}", "gt"),
    "less_than_equal": ("must be at most {le}", "le"),
    "less_than": ("must be less than {lt}", "lt"),
    "string_too_short": ("must have at least {min_length} character(s)", "min_length"),
    "string_too_long": ("must have at most {max_length} characters", "max_length"),
    "string_pattern_mismatch": ("must match {pattern}", "pattern"),
}
PATTERNS: Final = {MONTH: "must be a month from 1970-01 to 2199-12, such as 2026-03"}
"""What patterns mean that a user should not have to read."""
VALUE_SHOWN_MAX: Final = 60


def sentences(error: ValidationError) -> list[str]:
    """One sentence per problem, such as `idle_timeout_s: must be at most 300, not 999 (option --idle-timeout)`."""
    return [_sentence(dict(problem)) for problem in error.errors(include_url=False)]


def _sentence(problem: dict[str, object]) -> str:
    location = problem["loc"]
    assert isinstance(location, tuple)
    # Unions put the name of the chosen member between field and subfield; it means nothing to the user.
    names = [str(part) for index, part in enumerate(location) if not (index and part in POLICIES)]
    context = problem.get("ctx")
    template, limit = LIMITS.get(str(problem["type"]), ("", ""))
    if template and isinstance(context, dict) and limit in context:
        template = PATTERNS.get(str(context[limit]), template)
        value = plain(str(problem.get("input")))
        shown = value if len(value) <= VALUE_SHOWN_MAX else f"{value[:VALUE_SHOWN_MAX]}…"
        text = f"{template.format(**context)}, not {shown or 'empty'}"
    else:
        text = plain(str(problem["msg"])).removeprefix("Value error, ")
    option = f" (option {OPTIONS[names[0]]})" if names and names[0] in OPTIONS else ""
    return f"{'.'.join(names)}: {text}{option}" if names else f"{text}{option}"
