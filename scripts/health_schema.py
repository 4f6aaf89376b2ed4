"""Writes docs/health.schema.json, the JSON Schema of `standfast health --json`, from the document's types.

Invariant: the same types give the same text, so that a test can hold the file against them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from standfast.health.document import SCHEMA, Health

FILE = Path(__file__).parent.parent / "docs" / "health.schema.json"
_DEPTH = 4  # a field of a section is a line


def text() -> str:
    """The file as it should be."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"standfast health --json, {SCHEMA}",
        **_unwrapped(msgspec.json.schema(Health)),
    }
    return _lines(schema, 0) + "\n"


def _unwrapped(value: Any) -> Any:
    """Without the line breaks that docstrings have."""
    if isinstance(value, dict):
        return {name: _unwrapped(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_unwrapped(one) for one in value]
    return " ".join(value.split()) if isinstance(value, str) else value


def _lines(value: Any, depth: int) -> str:
    if not isinstance(value, dict) or not value or depth == _DEPTH:
        return json.dumps(value, ensure_ascii=False)
    margin = "  " * (depth + 1)
    rows = (f"{margin}{json.dumps(name)}: {_lines(one, depth + 1)}" for name, one in value.items())
    return "{\n" + ",\n".join(rows) + "\n" + "  " * depth + "}"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
