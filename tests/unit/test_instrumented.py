"""The one way to PostgreSQL: read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.sources import SOURCE, parsed

DRIVER = {"AsyncConnectionPool", "ConnectionPool", "NullConnectionPool", "AsyncNullConnectionPool"}
CONNECTIONS = {"psycopg", "Connection", "AsyncConnection"}
# The doctor is a command that asks a server which may let nobody in; no service watches it.
MAY_CONNECT = {"postgres/pool.py", "postgres/connection.py"}
DOCTOR = "service/doctor/"


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if not name.startswith(DOCTOR):
            yield from ((name, node) for node in ast.walk(parsed(path)) if isinstance(node, ast.Call))


def test_only_the_instrumented_pool_connects_to_postgresql() -> None:
    """Whoever made a pool or a connection of the driver beside it would have calls that nobody counts."""
    found = set()
    for name, call in calls():
        match call.func:
            case ast.Name(id=made) | ast.Attribute(attr=made) if made in DRIVER:
                found.add(name)
            case ast.Attribute(attr="connect", value=ast.Name(id=of) | ast.Attribute(attr=of)):
                found |= {name} if of in CONNECTIONS else set()
    assert found <= MAY_CONNECT
    assert "postgres/pool.py" in found


def test_every_database_is_made_with_its_observer() -> None:
    """A database whose observer was forgotten would be invisible."""
    made = [
        (name, call)
        for name, call in calls()
        if isinstance(call.func, ast.Name) and call.func.id == "Database"
    ]
    assert len(made) >= 4
    assert [f"{name}:{call.lineno}" for name, call in made if len(call.args) + len(call.keywords) < 2] == []
