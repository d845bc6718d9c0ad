"""A model's command: what is put into it, and what is not."""

from __future__ import annotations

import pytest

from orchestrator.engine.arguments import filled_in
from orchestrator.engine.ports import EngineError, Fault

ADDRESS = {"host": "127.0.0.1", "port": 80, "python": "/usr/bin/{port}"}


def test_address_and_variables_are_filled_in_and_other_braces_stay() -> None:
    words = ("{python}", "--port={port}", "{host}:{port}", '{"json": {"a": 1}}', "{}", "{MODEL_ID}")
    found = filled_in(words, "mine", {"MODEL_ID": "org/name {port}", "port": "1", "HF_TOKEN": "unused"}, ADDRESS)
    assert found == ["/usr/bin/{port}", "--port=80", "127.0.0.1:80", '{"json": {"a": 1}}', "{}", "org/name {port}"]


@pytest.mark.parametrize(
    ("word", "fault", "message"),
    [
        ("--token={HF_TOKEN}", Fault.MODEL_UNSUPPORTED, "env.HF_TOKEN: model mine has this secret in its command"),
        ("{MODEL_ID}", Fault.REFUSED, "env.MODEL_ID: the model's command needs this variable"),
        ("{API_KEY}", Fault.REFUSED, "env.API_KEY: the model's command needs this variable"),
    ],
)
def test_a_secret_and_a_variable_that_nobody_set_are_refused(word: str, fault: Fault, message: str) -> None:
    with pytest.raises(EngineError) as refusal:
        filled_in(("serve", word), "mine", {"HF_TOKEN": "canary", "API_KEY": ""}, ADDRESS)
    assert refusal.value.fault is fault
    assert refusal.value.message.startswith(message)
    assert "canary" not in refusal.value.message
