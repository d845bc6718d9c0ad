"""A model's command with its placeholders filled in, for whichever engine starts it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.contract.secrets import is_secret
from orchestrator.core.catalogue import PLACEHOLDER, fill_arguments
from orchestrator.engine.ports import EngineError, Fault


def filled_in(
    words: tuple[str, ...], model: str, environment: Mapping[str, str], address: Mapping[str, str | int]
) -> list[str]:
    """`words` of the catalogue's entry `model`, with the worker's `environment` and, before that, its `address` (host,
    port and python) put in.

    Raises EngineError(MODEL_UNSUPPORTED) for a command that would show a secret, EngineError(REFUSED) for a variable
    that it needs and nobody set.
    """
    named = {match[1] for word in words for match in PLACEHOLDER.finditer(word)} - address.keys()
    shown = sorted(name for name in named if is_secret(name) and environment.get(name))
    if shown:
        raise EngineError(
            Fault.MODEL_UNSUPPORTED,
            f"env.{shown[0]}: model {model} has this secret in its command, where the list of processes and `docker "
            "inspect` show it; let the server read the variable itself",
        )
    try:
        return list(fill_arguments(words, {**environment, **address}))
    except ValueError as error:
        raise EngineError(Fault.REFUSED, str(error)) from error
