"""The panels of the Grafana dashboard, row by row.

Invariant: every query takes the dashboard's node, and those of single companies its company too.
"""

from __future__ import annotations

from scripts.dashboard.panels import (
    BAD_ABOVE_0,
    COMPANY,
    GREEN,
    NODE,
    ORANGE,
    RATE,
    RED,
    VAULT,
    VERDICTS,
    Panel,
    lines,
    ranked,
    stat,
    steps,
    table,
    timeline,
)

VERDICT = ranked("standfast_health_verdict", "verdict", "unknown", "warning", "critical")
STATE = ranked("standfast_vault_state", "state", "suspect", "recovering", "outage")
OPEN = f'sum(standfast_sessions{{{NODE}, state="open"}})'
PERCENTILES = ("0.50", "0.95", "0.99")
DURATIONS = f"sum by (le) (rate(standfast_query_duration_seconds_bucket{{{NODE}}}{RATE}))"


def rows() -> list[tuple[str, list[Panel]]]:
    return [
        ("Overview", overview()),
        ("PostgreSQL", postgresql()),
        ("Vault", vault()),
        ("Sessions", sessions()),
        ("Keys", keys()),
        ("Machine", machine()),
    ]


def overview() -> list[Panel]:
    bad = f'sum(standfast_alerts_open{{{NODE}, level=~"error|critical"}})'
    warnings = f'sum(standfast_alerts_open{{{NODE}, level="warning"}})'
    grace = steps((None, RED), (60, ORANGE), (150, GREEN))
    return [
        stat("Verdict", "That of 'standfast health'.", {"{{instance}}": VERDICT}, mappings=VERDICTS, width=5),
        stat("PostgreSQL", "As the vault sees it.", {"{{instance}}": STATE}, mappings=VAULT, width=5),
        stat("Sessions open", "Connected to WhatsApp.", {"open": OPEN}, width=3),
        stat(
            "Sessions down",
            "Meant to stand, and not open.",
            {"down": f"sum(standfast_sessions_wanted{{{NODE}}}) - {OPEN}"},
            thresholds=BAD_ABOVE_0,
            width=3,
        ),
        stat(
            "Alerts open",
            "'standfast alerts --open' says what to do.",
            {"error and above": bad, "warning": warnings},
            thresholds=BAD_ABOVE_0,
            width=4,
        ),
        stat(
            "Grace left",
            "For how long new connections may still be opened without PostgreSQL; no data: without bound.",
            {"": f"min(standfast_vault_grace_left_seconds{{{NODE}}})"},
            "s",
            thresholds=grace,
            width=4,
        ),
        table(
            "Open alerts",
            "Alerts whose trouble goes on.",
            f"sum by (instance, name, level) (standfast_alert_open{{{NODE}}})",
            ("level", "name", "instance"),
            12,
        ),
        table(
            "Findings",
            "What 'standfast health' finds.",
            f"sum by (instance, section, code, level) (standfast_health_findings{{{NODE}}})",
            ("level", "section", "code", "instance"),
            12,
        ),
    ]


def postgresql() -> list[Panel]:
    percentiles = {f"p{share[2:]}": f"histogram_quantile({share}, {DURATIONS})" for share in PERCENTILES}
    percentiles["slow above"] = f"max(standfast_query_slow_threshold_seconds{{{NODE}}})"
    by_statement = "sum by (statement) (rate(standfast_{}{{{}}}{}))"
    rate = by_statement.format("query_duration_seconds_count", NODE, RATE)
    spent = by_statement.format("query_duration_seconds_sum", NODE, RATE)
    failed = by_statement.format("statement_failures_total", NODE, RATE)
    return [
        lines("Time of statements", "Percentiles over all statements, retries included.", percentiles, "s"),
        lines("Statements", "The ten most frequent.", {"{{statement}}": f"topk(10, {rate})"}, "ops"),
        lines(
            "Time spent",
            "Seconds a second, by statement: what keeps PostgreSQL busy.",
            {"{{statement}}": f"topk(10, {spent})"},
            "percentunit",
            stacked=True,
        ),
        lines(
            "Failures and retries",
            "A failure is what the caller got, after every retry.",
            {
                "{{statement}} failed": f"{failed} > 0",
                "retries": f"sum(rate(standfast_query_retries_total{{{NODE}}}{RATE}))",
            },
            "ops",
        ),
        lines(
            "Connection pool",
            "Waiting calls have no connection.",
            {
                "{{state}}": f"sum by (state) (standfast_pool_connections{{{NODE}}})",
                "waiting": f"sum(standfast_pool_waiting{{{NODE}}})",
                "limit": f"sum(standfast_pool_max_connections{{{NODE}}})",
            },
        ),
        lines(
            "Round trip and clocks",
            "Of the last look at PostgreSQL; its clock less the node's.",
            {
                "{{instance}} round trip": f"standfast_database_latency_seconds{{{NODE}}}",
                "{{instance}} clock": f"standfast_database_clock_offset_seconds{{{NODE}}}",
            },
            "s",
            min=None,
        ),
    ]


def vault() -> list[Panel]:
    return [
        timeline("PostgreSQL, as the vault sees it", "Outages and recoveries, by node.", STATE, VAULT),
        lines(
            "Journal",
            "Batches that PostgreSQL does not have.",
            {"{{instance}}": f"standfast_vault_journal_batches{{{NODE}}}"},
            width=6,
        ),
        lines(
            "Journal's size",
            "On this machine's disk.",
            {"{{instance}}": f"standfast_vault_journal_bytes{{{NODE}}}"},
            "bytes",
            width=6,
        ),
        lines(
            "Lag",
            "Age of the oldest write that PostgreSQL does not have.",
            {"{{instance}}": f"standfast_vault_lag_seconds{{{NODE}}}"},
            "s",
            thresholds=steps((None, GREEN), (60, RED)),
            width=6,
        ),
        lines(
            "Grace",
            "It runs down while PostgreSQL does not confirm the leases.",
            {
                "{{instance}} left": f"standfast_vault_grace_left_seconds{{{NODE}}}",
                "{{instance}} outage": f"standfast_vault_outage_seconds{{{NODE}}} > 0",
            },
            "s",
            width=6,
        ),
        lines(
            "Leases",
            "Companies by lease; quarantine waits for a decision.",
            {
                "{{lease}}": f"sum by (lease) (standfast_vault_leases{{{NODE}}})",
                "quarantine": f"sum(standfast_vault_quarantine_entries{{{NODE}}})",
                "stuck": f"sum(standfast_vault_stuck_companies{{{NODE}}})",
            },
            width=12,
        ),
        lines(
            "Replica",
            "Size of its file.",
            {"{{instance}}": f"standfast_vault_replica_bytes{{{NODE}}}"},
            "bytes",
            width=12,
        ),
    ]


def sessions() -> list[Panel]:
    counters = "sum by (company) (increase(standfast_session_{}_total{{{}}}{})) > 0"
    return [
        lines(
            "Sessions by state",
            "All companies.",
            {"{{state}}": f"sum by (state) (standfast_sessions{{{NODE}}}) > 0"},
            stacked=True,
        ),
        lines(
            "Messages",
            "Of the chosen companies.",
            {
                "{{direction}}": f"sum by (direction) (rate(standfast_session_messages_total{{{COMPANY}}}{RATE}))",
            },
            "ops",
        ),
        lines(
            "Sessions down",
            "Meant to stand, and not open.",
            {
                "{{company}}": f"topk(20, sum by (company) (standfast_session_wanted{{{COMPANY}}}"
                f" - standfast_session_open{{{COMPANY}}})) > 0"
            },
        ),
        lines(
            "Decrypt failures",
            "Messages that could not be read.",
            {"{{company}}": counters.format("decrypt_failures", COMPANY, RATE)},
        ),
        lines(
            "Retry receipts",
            "Requests to send a message once more.",
            {
                "{{direction}}": "sum by (direction) (increase("
                f"standfast_session_retry_receipts_total{{{COMPANY}}}{RATE}))"
            },
        ),
        lines(
            "Reconnects",
            "Connections that were made anew.",
            {"{{company}}": counters.format("reconnects", COMPANY, RATE)},
        ),
        lines(
            "Silence",
            "The ten sessions that have heard nothing for longest.",
            {
                "{{company}}": f"topk(10, max by (company) (standfast_session_last_traffic_age_seconds{{{COMPANY}}}))"
            },
            "s",
            thresholds=steps((None, GREEN), (90, RED)),
        ),
        lines(
            "Round trip to WhatsApp",
            "Of the last ping: middle and slowest.",
            {
                "median": f"quantile(0.5, standfast_session_ping_seconds{{{COMPANY}}})",
                "slowest": f"max(standfast_session_ping_seconds{{{COMPANY}}})",
            },
            "s",
        ),
        lines(
            "Messages that wait",
            "Not yet handed to WhatsApp.",
            {"{{instance}}": f"standfast_messages_waiting{{{NODE}}}"},
        ),
    ]


def keys() -> list[Panel]:
    return [
        lines(
            "Keys by type",
            "In PostgreSQL.",
            {"{{type}}": f"max by (type) (standfast_keys{{{NODE}}})"},
            stacked=True,
            width=6,
        ),
        lines(
            "Keys by age",
            "Of their last write.",
            {"{{age}}": f"max by (age) (standfast_keys_by_age{{{NODE}}})"},
            stacked=True,
            width=6,
        ),
        lines(
            "Expired keys",
            "With the settings' thresholds.",
            {
                "expired": f"max(standfast_keys_expired{{{NODE}}})",
                "warning": f"max(standfast_keys_expired_warning_threshold{{{NODE}}})",
                "error": f"max(standfast_keys_expired_error_threshold{{{NODE}}})",
            },
            width=6,
        ),
        lines(
            "Size in PostgreSQL",
            "Tables and their indexes.",
            {
                "tables": f"max(standfast_keys_table_bytes{{{NODE}}})",
                "indexes": f"max(standfast_keys_index_bytes{{{NODE}}})",
            },
            "bytes",
            stacked=True,
            width=6,
        ),
        stat("Companies", "With creds in PostgreSQL.", {"": f"max(standfast_auth_records{{{NODE}}})"}),
        stat("Keys a day", "Growth.", {"": f"max(standfast_keys_growth_daily{{{NODE}}})"}),
        stat("Size a day", "Growth.", {"": f"max(standfast_keys_growth_daily_bytes{{{NODE}}})"}, "bytes"),
        stat(
            "Counted",
            "How long ago; estimated since.",
            {"": f"time() - max(standfast_keys_counted_timestamp_seconds{{{NODE}}})"},
            "s",
        ),
        stat(
            "Newest backup",
            "Its age.",
            {"{{instance}}": f"standfast_backup_age_seconds{{{NODE}}}"},
            "s",
            thresholds=steps((None, GREEN), (93_600, RED)),
            width=8,
        ),
    ]


def machine() -> list[Panel]:
    return [
        lines(
            "CPU",
            "Of the service's process, in cores.",
            {"{{instance}}": f'rate(process_cpu_seconds_total{{{NODE}, job=~".*standfast.*"}}{RATE})'},
            "percentunit",
            width=6,
        ),
        lines(
            "Memory",
            "Service, Node hosts, and what is left.",
            {
                "{{instance}} service": f'process_resident_memory_bytes{{{NODE}, job=~".*standfast.*"}}',
                "{{instance}} hosts": f"standfast_hosts_resident_memory_bytes{{{NODE}}}",
                "{{instance}} available": f"standfast_memory_available_bytes{{{NODE}}}",
            },
            "bytes",
            width=6,
        ),
        lines(
            "Free disk",
            "Where state and backups are kept.",
            {
                "{{instance}} {{what}}": f"standfast_disk_free_bytes{{{NODE}}} / standfast_disk_size_bytes{{{NODE}}}"
            },
            "percentunit",
            thresholds=steps((None, RED), (0.1, GREEN)),
            width=6,
        ),
        lines(
            "Event loop",
            "How late it is.",
            {"{{instance}}": f"standfast_event_loop_delay_seconds{{{NODE}}}"},
            "s",
            thresholds=steps((None, GREEN), (0.25, RED)),
            width=6,
        ),
        lines(
            "Open files",
            "And how many there may be.",
            {
                "{{instance}} open": f'process_open_fds{{{NODE}, job=~".*standfast.*"}}',
                "{{instance}} limit": f'process_max_fds{{{NODE}, job=~".*standfast.*"}}',
            },
            width=8,
        ),
        lines(
            "Node hosts",
            "Restarts are those of the chosen interval.",
            {
                "ready": f"sum(standfast_hosts_ready{{{NODE}}})",
                "all": f"sum(standfast_hosts{{{NODE}}})",
                "restarts": f"sum(increase(standfast_host_restarts_total{{{NODE}}}{RATE}))",
            },
        ),
        lines(
            "Alerts to be delivered",
            "By channel; 0 as long as it takes them.",
            {"{{channel}}": f"sum by (channel) (standfast_alert_channel_waiting{{{NODE}}})"},
        ),
    ]
