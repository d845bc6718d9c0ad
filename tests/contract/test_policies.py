"""Policies as the command line writes them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from orchestrator.contract.endpoint import (
    POLICIES,
    Auto,
    Concurrency,
    QueueDelay,
    RequestCount,
    ScalingPolicy,
    notation,
    policy_of,
)


@pytest.mark.parametrize("written", ["queue_delay:0.5", "request_count:3", "concurrency:0.7", "auto:12.5"])
def test_what_is_written_is_read_and_written_again(written: str) -> None:
    assert notation(policy_of(written)) == written
    assert policy_of(written.replace(":", "=")) == policy_of(written)


@pytest.mark.parametrize(
    "policy", [QueueDelay(), RequestCount(), Concurrency(), Auto()], ids=lambda policy: policy.kind
)
def test_without_a_number_it_is_the_default(policy: ScalingPolicy) -> None:
    assert policy_of(policy.kind) == policy == policy_of(notation(policy))
    assert policy.kind in POLICIES


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("magic:2", "there is no policy 'magic'; use queue_delay, request_count, concurrency, auto"),
        ("", "there is no policy ''"),
        ("\x1b[31m", r"there is no policy '\x1b[31m'"),
        ("auto:soon", "'soon' is not seconds"),
        ("auto:", "'' is not seconds"),
        ("request_count:1.5", "'1.5' is not a whole number"),
        ("concurrency:x", "'x' is not a share of the slots, such as 0.7"),
    ],
)
def test_what_is_no_policy_is_refused_in_words(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        policy_of(written)
    assert not isinstance(refused.value, ValidationError)
    assert said in str(refused.value)


@pytest.mark.parametrize("written", ["auto:0", "queue_delay:nan", "concurrency:70", "request_count:0"])
def test_a_number_beyond_its_limits_is_the_contract_s_error(written: str) -> None:
    with pytest.raises(ValidationError):
        policy_of(written)
