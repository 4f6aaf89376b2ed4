"""Which keys age alone is a reason to remove."""

from __future__ import annotations

import pytest

from standfast.authstate.key_types import KEY_TYPES
from standfast.authstate.retention import RETENTIONS, age_limit_days, retention_of


def test_every_known_type_has_a_rule_with_its_reason() -> None:
    assert RETENTIONS.keys() == KEY_TYPES.keys()
    assert all(rule.reason for rule in RETENTIONS.values())


@pytest.mark.parametrize(
    "key_type",
    [
        "pre-key",
        "sender-key",
        "identity-key",
        "app-state-sync-key",
        "lid-mapping",
        "device-list",
        "standfast-inbox",
        "of-tomorrow",
    ],
)
def test_what_is_not_known_to_be_safe_has_no_age_limit(key_type: str) -> None:
    assert not retention_of(key_type).by_age
    assert age_limit_days(key_type, 1) is None


def test_tokens_live_four_weeks_whatever_the_retention_is() -> None:
    """Their index has no age."""
    assert [age_limit_days("tctoken", days) for days in (7, 28, 60)] == [28, 28, 60]
    assert "__index" in retention_of("tctoken").kept_ids
    assert age_limit_days("session", 7) == 7
