"""What lies in deploy/ for Prometheus and Grafana, against the metrics that there are, checked by promtool."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families
from scripts.dashboard.__main__ import TARGET, dashboard, written
from typer.core import TyperGroup
from typer.main import get_command

from standfast.cli.main import app
from standfast.health.metrics import Metrics
from tests.health_documents import full_health, job_figures, session_wires, tallies
from tests.promtool import check

DEPLOY = Path("deploy/prometheus").resolve()
RULES = DEPLOY / "alerts.yml"
OF_PROMETHEUS = {"up"}
OF_THE_ALERT = "{{ $labels.level }}"
_METRIC = re.compile(r"\b(?:standfast|process)_\w+|\bup\b")
_COMMAND = re.compile(r"'standfast ([a-z]+)")
_MACROS = {"$__rate_interval": "5m", "$node": ".*", "$company": ".*"}


@pytest.fixture
async def exposed() -> bytes:
    metrics = Metrics(full_health, lambda: session_wires(5), tallies, jobs=job_figures)
    return (await metrics.scrape()).body


@pytest.fixture
def names(exposed: bytes) -> set[str]:
    """Every sample's name."""
    return {
        sample.name
        for family in text_string_to_metric_families(exposed.decode())
        for sample in family.samples
    } | OF_PROMETHEUS


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(TARGET.read_text())["panels"]
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Title and query, with Grafana's variables filled in."""
    for panel in panels():
        for target in panel.get("targets", ()):
            query = target["expr"]
            for macro, value in _MACROS.items():
                query = query.replace(macro, value)
            yield panel["title"], query


def metrics_of(query: str) -> set[str]:
    return set(_METRIC.findall(re.sub(r'"[^"]*"', '""', query)))


def test_promtool_takes_the_metrics(exposed: bytes) -> None:
    """Names, units, types and help texts are as Prometheus wants them."""
    check("check", "metrics", stdin=exposed)


def test_promtool_takes_the_rules() -> None:
    """They are rules, and tests.yml holds: each important one fires when it should, and nothing while all is well."""
    check("check", "rules", RULES.name, cwd=DEPLOY)
    check("test", "rules", "tests.yml", cwd=DEPLOY)


def test_promtool_takes_the_example(tmp_path: Path) -> None:
    """prometheus.yml is a configuration, and loads the rules."""
    for name in ("prometheus.yml", "alerts.yml"):
        (tmp_path / name).write_text((DEPLOY / name).read_text())
    (tmp_path / "standfast.token").touch()
    check("check", "config", "prometheus.yml", cwd=tmp_path)


def test_promtool_takes_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    """Each is PromQL: as a recording rule, it is one."""
    recorded = [{"record": f"panel:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": recorded}]}))
    check("check", "rules", "rules.yml", cwd=tmp_path)
    assert len(recorded) > 60


def test_rules_and_dashboard_ask_for_metrics_that_there_are(names: set[str]) -> None:
    """A renamed metric must not leave a rule that never fires, or an empty panel."""
    asked = {rule["alert"]: metrics_of(rule["expr"]) for rule in rules()}
    asked |= {f"{title}: {query}": metrics_of(query) for title, query in queries()}
    assert {one: missing for one, metrics in asked.items() if (missing := metrics - names)} == {}
    assert all(asked.values())


def test_rules_say_what_to_do() -> None:
    """Each has its severity and words; the commands in it exist."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    commands = set(group.commands)
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "error", "critical", OF_THE_ALERT), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}, rule["alert"]
        named = set(_COMMAND.findall(rule["annotations"]["runbook"]))
        assert named <= commands, rule["alert"]


def test_alerts_with_a_rule_of_their_own_exist() -> None:
    """What StandfastAlertOpen leaves to other rules is raised somewhere: a renamed alert would fall between both."""
    (rule,) = (one for one in rules() if one["alert"] == "StandfastAlertOpen")
    left_out = re.findall(r'name!~"([^"]+)"', rule["expr"])[0].split("|")
    source = "".join(path.read_text() for path in Path("src/standfast").rglob("*.py"))
    assert [name for name in left_out if f'"{name}"' not in source and not name.endswith(".+")] == []


def test_the_dashboard_is_what_its_script_writes() -> None:
    """Else: python -m scripts.dashboard."""
    assert TARGET.read_text() == written(dashboard())


def test_panels_stand_side_by_side() -> None:
    """None covers another, none has another's id, and each has a unit, a description and the chosen data source."""
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"]["uid"] == "${datasource}"
        if panel["type"] in ("stat", "timeseries"):
            assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({panel["id"] for panel in panels()}) == len(panels())
