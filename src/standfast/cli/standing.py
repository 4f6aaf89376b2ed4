"""How the state of the vault is told to people: what is away since when, that sessions stand, what to do.

Draws what `standfast status --json` holds under `vault`; decides nothing. Invariant: in an outage the first line says
what is wrong, the second that sessions stand or which do not, the last what to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from standfast.cli.output import duration, size

STATE_STYLES = {"online": "green", "suspect": "yellow", "outage": "bold red", "recovering": "cyan"}
COMPANIES_SHOWN = 5
_LABEL = 10


def outage_lines(status: dict[str, Any]) -> list[Text]:
    """What an operator has to know now; nothing while PostgreSQL is there."""
    vault = status.get("vault") or {}
    tell = {"suspect": _suspect, "outage": _outage, "recovering": _recovering}.get(vault.get("state", ""))
    return [] if tell is None else list(tell(vault, status.get("sessions") or []))


def _suspect(vault: dict[str, Any], _sessions: list[dict[str, Any]]) -> Iterator[Text]:
    cause = (vault.get("cause") or {}).get("message", "not asked yet")
    yield Text(f"PostgreSQL does not answer as it should; it is being looked at: {cause}", style="yellow")


def _outage(vault: dict[str, Any], sessions: list[dict[str, Any]]) -> Iterator[Text]:
    if vault.get("detached"):
        yield from _on_files(vault, sessions)
        return
    cause = vault.get("cause") or {}
    away_s = vault.get("outage_s") or vault.get("since_s", 0)
    began = time.strftime("%H:%M:%S", time.localtime(time.time() - away_s))
    yield Text(
        f"PostgreSQL has been away for {duration(away_s)}, since {began}: {cause.get('message', 'no answer')}",
        style="bold red",
    )
    yield _sessions_line(vault, sessions)
    yield _grace_line(vault)
    yield Text(f"Do: {cause.get('next_step') or 'look at PostgreSQL and the network'}", style="bold yellow")


def _on_files(vault: dict[str, Any], sessions: list[dict[str, Any]]) -> Iterator[Text]:
    answers = "PostgreSQL answers" if vault.get("answered") else "PostgreSQL does not answer"
    since = duration(vault.get("since_s", 0))
    yield Text(
        f"This node has stood on files for {since}: {answers}, and is left alone.", style="bold yellow"
    )
    yield _sessions_line(vault, sessions)
    first = "" if vault.get("answered") else "bring PostgreSQL back; then: "
    yield Text(f"Do: {first}standfast emergency to-postgres", style="bold yellow")


def _sessions_line(vault: dict[str, Any], sessions: list[dict[str, Any]]) -> Text:
    wanted = [row for row in sessions if row.get("wanted")]
    standing = sum(row["state"] == "open" for row in wanted)
    kept = _kept(vault)
    if not wanted:
        clients = sum(row["open"] for row in vault.get("companies", []))
        if not clients:
            return Text(f"Nothing is open here; {kept}.")
        return Text(f"{_counted(clients, 'company', 'companies')} open here go on; {kept}.", style="green")
    if standing == len(wanted):
        return Text(
            f"{standing} of {standing} sessions stand: messages go on both ways; {kept}.", style="green"
        )
    return Text(
        f"{standing} of {len(wanted)} sessions stand; {kept}. Those that do not are below.", style="yellow"
    )


def _kept(vault: dict[str, Any]) -> str:
    if vault.get("cache_mode") == "read-only":
        skipped = sum(row["skipped"] for row in vault.get("companies", []))
        return f"{_counted(skipped, 'write')} skipped (CACHE_MODE=read-only)"
    if not vault.get("replica", {}).get("writable", True):
        return "the local disk takes no writes, so sends are refused"
    journal = vault.get("journal", {})
    if not journal.get("batches"):
        return "nothing waits to be written"
    waiting = f"{_counted(journal['batches'], 'batch', 'batches')} ({size(journal['bytes'])})"
    return f"{waiting} {'is' if journal['batches'] == 1 else 'are'} safe on this machine's disk"


def _grace_line(vault: dict[str, Any]) -> Text:
    limit, age = vault.get("grace_s"), vault.get("confirmed_s")
    if limit is None:
        return Text("Grace: unlimited, new connections open from this machine's replica.", style="green")
    if age is None:
        return Text(
            "Grace: none, PostgreSQL never confirmed this node; no new connection opens.", style="yellow"
        )
    left = limit - age
    if left <= 0:
        return Text(
            f"Grace is over since {duration(-left)}: open sessions stay open; one that loses its connection waits.",
            style="yellow",
        )
    style = "green" if left > limit / 2 else "yellow"
    return Text(
        f"Grace: {duration(left)} left in which sessions can still reconnect or restart.", style=style
    )


def _recovering(vault: dict[str, Any], _sessions: list[dict[str, Any]]) -> Iterator[Text]:
    left = vault.get("journal", {})
    yield Text(
        f"PostgreSQL is back; {_counted(left.get('batches', 0), 'batch', 'batches')} "
        f"({size(left.get('bytes', 0))}) are still to be brought there. Nothing to do.",
        style="cyan",
    )


def vault_line(vault: dict[str, Any]) -> Text:
    """The vault in one line: state, journal, replica, quarantine."""
    state = str(vault.get("state", "unknown"))
    shown, style = (
        ("on files", "yellow") if vault.get("detached") else (state, STATE_STYLES.get(state, "yellow"))
    )
    line = Text.assemble((f"● {shown}", style))
    line.append(f" for {duration(vault.get('outage_s') or vault.get('since_s', 0))}", style="dim")
    journal, replica = vault.get("journal", {}), vault.get("replica", {})
    waiting = journal.get("batches", 0)
    line.append(
        f"  journal {_counted(waiting, 'batch', 'batches')} ({size(journal.get('bytes', 0))})"
        if waiting
        else "  journal empty"
    )
    line.append(f"  replica {_counted(replica.get('companies', 0), 'company', 'companies')}")
    line.append(f" ({size(replica.get('bytes', 0))})")
    if not replica.get("writable", True):
        line.append("  not writable", style="bold red")
    if vault.get("error"):
        line.append(f"  {vault['error']}", style="bold red")
    if vault.get("quarantine"):
        line.append(f"  quarantine {vault['quarantine']}: standfast quarantine list", style="bold yellow")
    return line


def node_line(vault: dict[str, Any]) -> str:
    """The node and how it was told to behave."""
    node = vault.get("node", {})
    limit = vault.get("grace_s")
    grace = "unlimited" if limit is None else duration(limit)
    name = f"{node.get('name', '?')} ({str(node.get('id', ''))[:8]})"
    line = f"{name}, grace {grace}, durability {vault.get('durability')}"
    return line + (", cache read-only" if vault.get("cache_mode") == "read-only" else "")


def company_lines(vault: dict[str, Any]) -> list[Text]:
    """Companies that need somebody: stuck, fenced off, or with writes that have waited for long."""
    lines = []
    for row in vault.get("companies", []):
        if row.get("stuck"):
            lines.append(
                Text(f"{row['company']}: PostgreSQL refuses its writes: {row['stuck']}", style="red")
            )
        elif row.get("lease") == "fenced":
            lines.append(Text(f"{row['company']}: another node owns it now", style="red"))
    return lines[:COMPANIES_SHOWN]


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
