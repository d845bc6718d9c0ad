"""Which environment variables hold secrets, and how they are shown: by name, never by value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

MASK: Final = "•••"
"""In place of a secret in snapshots, events, logs and output. In an update it means: keep the value it has."""
SECRET_NAME: Final = re.compile(
    r"(?:.*_)?(?:API)?(?:TOKEN|KEY|SECRET|CREDENTIALS)|.*(?:PASSWORD|PASSWD)", re.IGNORECASE | re.DOTALL
)


def is_secret(name: str) -> bool:
    """Whether a variable of this name is taken to hold a secret: HF_TOKEN, API_KEY, S3_SECRET, DB_PASSWORD."""
    return SECRET_NAME.fullmatch(name) is not None


def masked(env: Mapping[str, str]) -> dict[str, str]:
    """`env` fit to be shown."""
    return {name: MASK if value and is_secret(name) else value for name, value in env.items()}


def unmasked(wanted: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    """`wanted` with each masked secret replaced by the value it has in `before`. One that is not there stays masked."""
    return {
        name: before.get(name, value) if value == MASK and is_secret(name) else value for name, value in wanted.items()
    }


def still_masked(env: Mapping[str, str]) -> list[str]:
    """Secrets given as a mask, with no value to keep; in a stored environment, those whose key is lost."""
    return [name for name, value in env.items() if value == MASK and is_secret(name)]


def lost_secrets(slug: str, env: Mapping[str, str]) -> str | None:
    """What to do about an endpoint whose stored secrets cannot be opened, as a sentence; None when all of them are."""
    lost = still_masked(env)
    if not lost:
        return None
    others = [name for name in env if name not in lost]
    beside = f", with its other variables beside it ({', '.join(others)}; NAME={MASK} keeps a secret)" if others else ""
    words = " ".join(f"--env {name}" for name in lost)
    return (
        f"env.{', env.'.join(lost)}: the stored value cannot be opened, its key is gone; set it again: "
        f"`gpudeck endpoint update {slug} {words}`{beside}, then `gpudeck endpoint enable {slug}`"
    )
