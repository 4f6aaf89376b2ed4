"""Writes deploy/grafana/standfast.json, the Grafana dashboard: `python -m scripts.dashboard`.

Invariant: the file is what this writes (a test compares both); a panel's place follows from its order in `rows`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripts.dashboard.panels import DATASOURCE, NODE, WIDTH, Panel
from scripts.dashboard.rows import rows

TARGET = Path("deploy/grafana/standfast.json")
SCHEMA_VERSION = 41


def placed(titled: Iterable[tuple[str, list[Panel]]]) -> list[Panel]:
    """Every panel with its id and place: from left to right, row after row."""
    found: list[Panel] = []
    y = 0
    for title, panels in titled:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        found.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place})
        x, y, height = 0, y + 1, 0
        for one in panels:
            width, one_height = one["gridPos"]["w"], one["gridPos"]["h"]
            if x + width > WIDTH:
                x, y, height = 0, y + height, 0
            one["gridPos"] = {"x": x, "y": y, "w": width, "h": one_height}
            x, height = x + width, max(height, one_height)
            found.append(one)
        y += height
    return [{"id": number, **one} for number, one in enumerate(found, 1)]


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


def dashboard() -> dict[str, Any]:
    source = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
    return {
        "title": "Standfast",
        "uid": "standfast",
        "description": "WhatsApp sessions that stand when PostgreSQL falls. Metrics: docs/metrics.md",
        "tags": ["standfast", "whatsapp", "postgresql"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {
            "list": [
                source,
                variable("node", "Node", "label_values(standfast_build_info, instance)"),
                variable("company", "Company", f"label_values(standfast_session_wanted{{{NODE}}}, company)"),
            ]
        },
        "panels": placed(rows()),
    }


def written(document: dict[str, Any]) -> str:
    """JSON with one line for each panel, so that a change shows as the panel that it changes."""
    panels = ",\n".join(f"    {json.dumps(one)}" for one in document["panels"])
    head = json.dumps({**document, "panels": []}, indent=2)
    return head.replace('"panels": []', f'"panels": [\n{panels}\n  ]') + "\n"


if __name__ == "__main__":
    TARGET.write_text(written(dashboard()))
