"""Panels of Grafana, each kind with the looks that it has on our dashboard.

Invariant: every panel has a unit, a description, and the dashboard's data source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
NODE = 'instance=~"$node"'
COMPANY = f'{NODE}, company=~"$company"'
RATE = "[$__rate_interval]"
GREEN, ORANGE, RED, PURPLE, BLUE = "green", "orange", "red", "purple", "blue"
Panel = dict[str, Any]


def steps(*marks: tuple[float | None, str]) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in marks]}


ALL_GREEN = steps((None, GREEN))
BAD_ABOVE_0 = steps((None, GREEN), (1, RED))


def words(*known: tuple[int, str, str]) -> list[dict[str, Any]]:
    """Value mappings: number, word, colour."""
    options = {str(number): {"text": text, "color": color} for number, text, color in known}
    return [{"type": "value", "options": options}]


VERDICTS = words((0, "healthy", GREEN), (1, "unknown", PURPLE), (2, "warning", ORANGE), (3, "critical", RED))
VAULT = words((0, "online", GREEN), (1, "suspect", PURPLE), (2, "recovering", ORANGE), (3, "outage", RED))


def ranked(metric: str, label: str, *values: str) -> str:
    """A state set as one number: 1, 2, … for `values`, 0 for every other state."""
    parts = (f'{rank} * {metric}{{{NODE}, {label}="{value}"}}' for rank, value in enumerate(values, 1))
    return f"sum by (instance) ({' or '.join(parts)})"


def targets(queries: Mapping[str, str], *, instant: bool = False) -> list[dict[str, Any]]:
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": DATASOURCE,
            "expr": expr,
            "legendFormat": legend,
            "editorMode": "code",
            **({"instant": True, "range": False} if instant else {"range": True}),
        }
        for number, (legend, expr) in enumerate(queries.items())
    ]


def stat(title: str, about: str, queries: Mapping[str, str], unit: str = "short", **more: Any) -> Panel:
    """`more`: thresholds, mappings, width."""
    defaults = {
        "unit": unit,
        "thresholds": more.get("thresholds", ALL_GREEN),
        "mappings": more.get("mappings", []),
        "color": {"mode": "thresholds"},
    }
    options = {
        "colorMode": "background_solid" if "mappings" in more else "value",
        "graphMode": "none" if "mappings" in more else "area",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
        "justifyMode": "auto",
        "orientation": "auto",
    }
    size = (more.get("width", 4), 5)
    return panel("stat", title, about, targets(queries), size, defaults=defaults, options=options)


def lines(title: str, about: str, queries: Mapping[str, str], unit: str = "short", **more: Any) -> Panel:
    """`more`: thresholds, drawn as lines; stacked; width."""
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if more.get("stacked") else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if more.get("stacked") else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if "thresholds" in more else "off"},
    }
    thresholds = more.get("thresholds", ALL_GREEN)
    defaults = {
        "unit": unit,
        "min": more.get("min", 0),
        "custom": custom,
        "thresholds": thresholds,
        "color": {"mode": "palette-classic"},
    }
    options = {
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    size = (more.get("width", 8), 8)
    return panel("timeseries", title, about, targets(queries), size, defaults=defaults, options=options)


def timeline(title: str, about: str, expr: str, mappings: list[dict[str, Any]]) -> Panel:
    defaults = {
        "custom": {"fillOpacity": 80, "lineWidth": 0},
        "mappings": mappings,
        "color": {"mode": "thresholds"},
        "thresholds": ALL_GREEN,
    }
    options = {"showValue": "auto", "mergeValues": True, "rowHeight": 0.9, "legend": {"showLegend": False}}
    query = targets({"{{instance}}": expr})
    return panel("state-timeline", title, about, query, (WIDTH, 5), defaults=defaults, options=options)


def table(title: str, about: str, expr: str, columns: Iterable[str], width: int) -> Panel:
    """One row for each series, of its labels alone."""
    shown = list(columns)
    query = targets({"": expr}, instant=True)
    query[0]["format"] = "table"
    found = panel("table", title, about, query, (width, 7), defaults={}, options={"showHeader": True})
    found["transformations"] = [
        {"id": "filterFieldsByName", "options": {"include": {"names": [*shown, "Value"]}}},
        {
            "id": "organize",
            "options": {"indexByName": {name: place for place, name in enumerate([*shown, "Value"])}},
        },
    ]
    return found


def panel(
    kind: str, title: str, about: str, queries: list[dict[str, Any]], size: tuple[int, int], **config: Any
) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": DATASOURCE,
        "gridPos": {"w": size[0], "h": size[1]},
        "targets": queries,
        "fieldConfig": {"defaults": config["defaults"], "overrides": []},
        "options": config["options"],
    }
