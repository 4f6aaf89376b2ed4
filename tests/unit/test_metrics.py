"""Metrics of a made-up health document."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from standfast.health.document import Health
from standfast.health.metrics import Metrics, sessions
from standfast.health.metrics.sessions import COMPANIES, COUNTERS, OTHER, Companies
from standfast.sessions.session import State
from tests.health_documents import full_health, job_figures, session_wires, tallies

DOCS = Path("docs/metrics.md").read_text()
SECTIONS = (
    "service",
    "database",
    "pool",
    "queries",
    "keys",
    "vault",
    "sessions",
    "backups",
    "machine",
    "alerts",
)
Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scraped(
    health: Health, wires: list[dict[str, Any]], companies: Sequence[str] | None = None
) -> Values:
    """Every sample by its name and labels."""
    metrics = Metrics(lambda: health, lambda: wires, tallies, jobs=job_figures)
    scrape = await metrics.scrape(companies=companies)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for one in samples(scrape.body)}


def samples(body: bytes) -> list[Sample]:
    return [sample for family in parse_text(body.decode()) for sample in family.samples]


def companies_of(values: Values) -> set[str]:
    return {value for _, labels in values for label, value in labels if label == "company"}


async def test_every_section_is_shown() -> None:
    """One figure of each, in base units; what is known of single companies stands under their label."""
    values = await scraped(full_health(), session_wires(5))
    for name, labels, value in (
        ("standfast_build_info", {"node": "alpha", "python": "3.11.7", "version": "0.1.0"}, 1),
        ("standfast_health_verdict", {"verdict": "critical"}, 1),
        ("standfast_health_verdict", {"verdict": "healthy"}, 0),
        ("standfast_health_findings", {"code": "session_down", "level": "warning", "section": "sessions"}, 2),
        ("standfast_database_up", {}, 0),
        ("standfast_database_latency_seconds", {}, 0.00042),
        ("standfast_pool_connections", {"state": "active"}, 10),
        ("standfast_server_max_connections", {}, 97),
        ("standfast_query_recent_seconds", {"percentile": "99"}, 0.048),
        ("standfast_query_duration_seconds_bucket", {"le": "0.005", "statement": "journal.push"}, 1),
        ("standfast_query_duration_seconds_bucket", {"le": "10.0", "statement": "auth.load"}, 0),
        ("standfast_query_duration_seconds_count", {"statement": "auth.load"}, 1),
        ("standfast_statement_failures_total", {"statement": "journal.push"}, 1),
        ("standfast_keys", {"type": "session"}, 120_000),
        ("standfast_company_keys_expired", {"company": "acme"}, 12),
        ("standfast_vault_state", {"state": "outage"}, 1),
        ("standfast_vault_state", {"state": "online"}, 0),
        ("standfast_vault_outage_seconds", {}, 200),
        ("standfast_vault_leases", {"lease": "fenced"}, 0),
        ("standfast_sessions", {"state": "open"}, 3),
        ("standfast_session_open", {"company": "co-0003"}, 0),
        ("standfast_session_wanted", {"company": "co-0003"}, 1),
        ("standfast_session_messages_total", {"company": "co-0001", "direction": "received"}, 20),
        ("standfast_session_retry_receipts_total", {"company": "co-0001", "direction": "sent"}, 3),
        ("standfast_session_ping_seconds", {"company": "co-0001"}, 0.08),
        ("standfast_backup_state", {"state": "ok"}, 1),
        ("standfast_backup_proven_age_seconds", {}, 8_997),
        ("standfast_job_runs_total", {"job": "backup", "outcome": "failed"}, 1),
        ("standfast_job_last_outcome", {"job": "backup", "outcome": "failed"}, 1),
        ("standfast_job_last_outcome", {"job": "backup", "outcome": "done"}, 0),
        ("standfast_job_last_run_duration_seconds", {"job": "backup"}, 2.5),
        ("standfast_cleanup_runs_total", {"outcome": "failed"}, 0),
        ("standfast_cleanup_duration_seconds_total", {}, 1.25),
        ("standfast_cleanup_removed_keys_total", {"type": "session"}, 40),
        ("standfast_disk_free_bytes", {"what": "state"}, 120 * 10**9),
        ("standfast_alerts_open", {"level": "critical"}, 700),
        ("standfast_alert_open", {"level": "warning", "name": "slow_queries"}, 1),
        ("standfast_alert_channel_up", {"channel": "sentry"}, 0),
    ):
        assert values[name, tuple(sorted(labels.items()))] == pytest.approx(value), name
    assert values["process_resident_memory_bytes", ()] > 0


@pytest.mark.parametrize("missing", SECTIONS)
async def test_a_section_that_is_not_known_is_left_out(missing: str) -> None:
    """Nothing stands for it, least of all a nought; everything else stays."""
    full = await scraped(full_health(), session_wires(1))
    values = await scraped(full_health(**{missing: None}), session_wires(1))
    assert values.keys() < full.keys()
    assert len(values) > len(full) / 2


async def test_openmetrics_where_it_is_asked_for() -> None:
    """The strict parser of the format takes it."""
    metrics = Metrics(full_health, lambda: session_wires(3), tallies, jobs=job_figures)
    scrape = await metrics.scrape("application/openmetrics-text; version=1.0.0")
    families = list(parse_openmetrics(scrape.body.decode()))  # type: ignore[no-untyped-call]
    assert scrape.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert len({family.name for family in families}) == len(families) > 60


async def test_labels_are_bounded() -> None:
    """Of 1,000 sessions 200 have their label; the others are summed up, so that sums over all stay right."""
    wires = session_wires(1_000)
    values = await scraped(full_health(keys=None), wires)
    assert len(companies_of(values)) == COMPANIES + 1

    def total(name: str) -> float:
        return sum(value for (one, _), value in values.items() if one == name)

    assert total("standfast_session_messages_total") == 1_000 * 30
    assert total("standfast_session_open") == 600
    assert total("standfast_session_wanted") == 800
    oldest = values["standfast_session_last_message_age_seconds", (("company", OTHER),)]
    assert oldest == 999
    assert len(values) < 4_000


async def test_a_made_up_key_type_makes_no_label_of_its_own() -> None:
    """The table may hold any text as a type: beyond thirty they are one."""
    health = full_health()
    assert health.keys is not None
    health.keys.types = {f"type-{number}": number for number in range(1_000)}
    values = await scraped(health, [])
    shown = [value for (name, _), value in values.items() if name == "standfast_keys"]
    assert (len(shown), sum(shown)) == (31, sum(range(1_000)))


async def test_a_token_for_one_company_sees_nothing_of_others() -> None:
    """Their names are nowhere, and no sum holds them."""
    values = await scraped(full_health(), session_wires(1_000), ["co-0998", "co-none"])
    assert companies_of(values) == {"co-0998"}
    assert values["standfast_sessions", (("state", "open"),)] == 0
    assert values["standfast_sessions", (("state", "closed"),)] == 1
    assert ("standfast_database_up", ()) in values
    shown = {name for name, _ in values}
    assert not {name for name in shown if name.startswith(("standfast_alert", "standfast_keys"))}


LOOKS = st.lists(
    st.dictionaries(st.integers(0, 5), st.tuples(st.integers(0, 3), st.booleans()), max_size=6), max_size=8
)


@given(LOOKS)
def test_no_counter_falls_because_another_company_goes(looks: list[dict[int, tuple[int, bool]]]) -> None:
    """Whatever comes, goes and is made anew: what the others have counted together never falls."""
    companies = Companies(limit=2)
    counts: dict[int, int] = defaultdict(int)
    last = 0.0
    for look in looks:
        wires = []
        for number, (more, is_new) in look.items():
            counts[number] = more + (0 if is_new else counts[number])
            wires.append({**session_wires(1)[0], "company": f"co-{number}", "messages_sent": counts[number]})
        figures = companies.figures(wires)["messages_sent"]
        assert len(figures) <= 3
        assert figures.get(OTHER, last) >= last
        last = figures.get(OTHER, last)


def test_the_words_are_those_of_the_rooms() -> None:
    """A new state, verdict or counter of a session is not forgotten here."""
    assert list(sessions.STATES) == [state.value for state in State]
    assert set(COUNTERS) <= session_wires(1)[0].keys()


async def test_every_metric_is_documented() -> None:
    """docs/metrics.md names each, and none that does not exist."""
    metrics = Metrics(full_health, lambda: session_wires(1), tallies, jobs=job_figures)
    text = (await metrics.scrape()).body.decode()
    shown = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE standfast_")}
    assert shown == set(re.findall(r"`(standfast_\w+)`", DOCS.split("## The metrics")[1]))
