"""What tells a command that is sent again from another one under the same id (contract/command.py). Pure."""

from __future__ import annotations

import hashlib

from orchestrator.contract.command import Command, CreateEndpoint, UpdateEndpoint
from orchestrator.contract.secrets import masked


def digest_of(command: Command) -> bytes:
    """SHA-256 of the command's body without its id and without the values of secret variables.

    The digest is kept in the ledger and in every backup. With a secret in it a weak one could be guessed there, for
    everything else in the body is known. So of two commands that differ in a secret only, the second counts as the
    first one sent again: the callers' ids, which are random, are what tells those apart.
    """
    return hashlib.sha256(_without_secrets(command).model_dump_json(exclude={"id"}).encode()).digest()


def _without_secrets(command: Command) -> Command:
    if isinstance(command, CreateEndpoint):
        spec = command.spec.model_copy(update={"env": masked(command.spec.env)})
        return command.model_copy(update={"spec": spec})
    if isinstance(command, UpdateEndpoint) and command.changes.env is not None:
        changes = command.changes.model_copy(update={"env": masked(command.changes.env)})
        return command.model_copy(update={"changes": changes})
    return command
