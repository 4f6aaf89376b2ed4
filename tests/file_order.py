"""The test files that take longest, so that none of them is begun last while the other processes have nothing left.

Invariant: each name is a file (`tests/unit/test_house.py` looks); one that is not named takes less than nine seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

TESTS = Path(__file__).parent
# Longest first, by one process on a machine that does nothing else.
LONG_FILES = (
    "e2e/test_drill.py",
    "e2e/test_runbook.py",
    "chaos/test_vault.py",
    "e2e/test_up_simulator.py",
    "e2e/test_outage.py",
    "e2e/test_cli_pairing.py",
    "e2e/test_cli_failures.py",
    "e2e/test_up_whatsapp.py",
    "e2e/test_hosts.py",
    "e2e/test_chat.py",
    "integration/test_vault_outage.py",
    "integration/test_vault_faults.py",
    "integration/test_postgres_embedded.py",
    "e2e/test_cli_sessions.py",
    "integration/test_changelog.py",
    "e2e/test_restarts.py",
    "integration/test_emergency_to_files_kill.py",
    "integration/test_emergency_return_crash.py",
    "e2e/test_drill_here.py",
    "e2e/test_disconnects.py",
    "e2e/test_cleanup_contacts.py",
    "e2e/test_tools.py",
    "e2e/test_cli_health.py",
    "integration/test_vault_heartbeat.py",
    "e2e/test_node_bot.py",
    "e2e/test_database.py",
    "integration/test_cli_embedded.py",
    "e2e/test_restore.py",
    "e2e/test_secrets.py",
    "e2e/test_pairing.py",
    "e2e/test_import_baileys.py",
    "integration/test_postgres_faults.py",
    "e2e/test_restore_test.py",
    "e2e/test_mcp.py",
    "e2e/test_creds.py",
    "e2e/test_operations.py",
    "integration/test_service_roster.py",
    "e2e/test_http_fuzz.py",
    "integration/test_vault_upkeep.py",
    "e2e/test_exactly_once.py",
    "integration/test_remotes.py",
    "integration/test_monitoring.py",
)
_RANKS = {TESTS / name: rank for rank, name in enumerate(LONG_FILES)}


def longest_first(items: list[pytest.Item]) -> None:
    """Sort in place; the rest, and the tests of a file, stay in the order that they have."""
    items.sort(key=lambda item: _RANKS.get(item.path, len(_RANKS)))
