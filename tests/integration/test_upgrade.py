"""Old and new versions on one database: what an older version says to PostgreSQL works on this version's schema."""

from __future__ import annotations

import json
from pathlib import Path

from standfast.errors import StandfastError
from standfast.postgres.pool import Database, Statement

# What the last version that knew migration 6 sent, but for commands and tables of a moment. Each release adds its file.
RECORDED = Path(__file__).with_name("statements_of_version_6.json")


async def test_an_older_versions_statements_work_on_this_schema(database: Database) -> None:
    """PostgreSQL plans each of them: every table, column, function and type that it names is there, and fits."""
    recorded: dict[str, str] = json.loads(RECORDED.read_text())
    assert len(recorded) > 70
    refused = {}
    for number, (name, sql) in enumerate(recorded.items()):
        try:
            await database.fetch(Statement("upgrade.prepare", f"prepare former_{number} as {sql}"))
        except StandfastError as error:
            refused[name] = str(error)
    assert refused == {}
