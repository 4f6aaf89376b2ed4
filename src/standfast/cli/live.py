"""The live terminal view of a running service.

Draws what the service's status says; decides nothing. Invariant: a QR is drawn whole or not at all.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from standfast.cli.output import duration
from standfast.cli.prompts import grouped
from standfast.cli.standing import company_lines, node_line, outage_lines, vault_line
from standfast.sessions.events import Event
from standfast.sessions.phone import masked
from standfast.sessions.qr import TERMINAL_STYLE, qr_lines

STATE_STYLES = {
    "open": "green",
    "connecting": "yellow",
    "qr": "cyan",
    "pairing": "cyan",
    "closed": "red",
    "replaced": "red",
    "logged_out": "red",
    "forbidden": "red",
    "online": "green",
    "suspect": "yellow",
    "outage": "red",
    "recovering": "cyan",
    "unavailable": "red",
}
_BARS = " ▁▂▃▄▅▆▇█"
_CONVERSATION_LINES = 8
_ALERT_LINES = 3
_LEVEL_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red"}


class Traffic:
    """Messages of the last minute, by second, and the latest few texts."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque(maxlen=60)
        self.latest: deque[tuple[float, str, str, str]] = deque(maxlen=_CONVERSATION_LINES)
        self.total = 0

    def take(self, event: Event) -> None:
        """Count an event if it is an inbound message."""
        if event.kind != "message" or event.data["message"].get("from_me"):
            return
        message = event.data["message"]
        second = int(time.monotonic())
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = (second, self._seconds[-1][1] + 1)
        else:
            self._seconds.append((second, 1))
        self.total += 1
        sender = str(message.get("sender_alt") or message.get("sender") or "")
        text = str(message.get("text") or f"({message.get('type')})")
        self.latest.append((time.time(), event.company, masked(sender.split("@", maxsplit=1)[0]), text))

    def by_second(self, width: int) -> list[int]:
        """Counts of the last `width` whole seconds, oldest first."""
        counts = dict(self._seconds)
        now = int(time.monotonic())
        return [counts.get(second, 0) for second in range(now - width, now)]

    def rate(self, over_s: int = 10) -> float:
        """Messages a second over the last `over_s` seconds."""
        return sum(self.by_second(over_s)) / over_s


class LiveView:
    """A rich renderable; `status` is what `Service.status()` returned last."""

    def __init__(self, show_qr: bool) -> None:
        self.status: dict[str, Any] = {}
        self.prompts: dict[str, tuple[str, str, float]] = {}
        self.traffic = Traffic()
        self.alerts: deque[tuple[float, str, str]] = deque(maxlen=_ALERT_LINES)
        self._show_qr = show_qr

    def take(self, event: Event) -> None:
        """Keep what the view shows of an event."""
        self.traffic.take(event)
        if event.kind in ("qr", "pairing_code"):
            value = str(event.data["qr" if event.kind == "qr" else "code"])
            ends = time.monotonic() + float(event.data.get("ttl_s", 20))
            self.prompts[event.company] = (event.kind, value, ends)
        elif event.kind == "alert":
            self.alerts.append((event.data["at"], event.data["level"], event.data["message"]))
        elif event.kind == "state" and event.data["state"] not in ("qr", "pairing"):
            self.prompts.pop(event.company, None)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._prompts(console)
        yield self._head()
        yield from self._outage(console.width)
        yield Group(self._sessions(console.width), *self._advice(), self._facts(console.width))
        if self.alerts:
            yield from self._alerts()
        if self.traffic.latest and console.height >= 24:
            yield self._conversation()
        yield Text(" Ctrl-C ends it.", style="dim")

    def _prompts(self, console: Console) -> RenderResult:
        for company, (kind, value, ends) in self.prompts.items():
            left = max(0, int(ends - time.monotonic()))
            if kind == "pairing_code":
                shown = grouped(value)
                yield Panel(
                    Text(f"{shown}\n", style="bold", justify="center")
                    + Text("WhatsApp > Linked devices > Link with phone number", style="dim"),
                    title=f"Pairing code of {company} ({left} s)",
                    width=min(console.width, 60),
                )
            elif self._show_qr:
                yield from self._qr(console, company, value, left)

    def _qr(self, console: Console, company: str, value: str, left: int) -> RenderResult:
        lines = qr_lines(value)
        # The rest of the view needs room of its own: a QR cut at the edge cannot be scanned.
        if console.width < len(lines[0]) or console.height < len(lines) + 12:
            yield Text(
                f" The QR of {company} needs a window of {len(lines[0])} columns and {len(lines) + 12} lines. "
                f"Enlarge it, or: standfast pair {company} --png FILE",
                style="yellow",
            )
            return
        yield Text(f" Scan with WhatsApp > Linked devices: {company} ({left} s)", style="bold cyan")
        yield Text("\n".join(lines), style=TERMINAL_STYLE, no_wrap=True)

    def _head(self) -> RenderableType:
        head = Table.grid(expand=True)
        head.add_column()
        head.add_column(justify="right")
        service = str(self.status.get("service", "standfast")).replace("/", " ")
        mode = "  [cyan]simulator[/]" if self.status.get("simulator") else ""
        head.add_row(f" [bold]{service}[/]{mode}", f"up {duration(self.status.get('uptime_s', 0))} ")
        return head

    def _outage(self, width: int) -> RenderResult:
        """Before everything else: whoever is woken looks here first."""
        lines = outage_lines(self.status)
        if lines:
            state = self.status["vault"]["state"]
            yield Panel(
                Group(*lines),
                title=f"{state}",
                title_align="left",
                border_style=STATE_STYLES[state],
                width=width,
            )

    def _alerts(self) -> RenderResult:
        for at, level, message in self.alerts:
            clock = time.strftime("%H:%M:%S", time.localtime(at))
            yield Text.assemble(
                (f" {clock} ", "dim"),
                (message, _LEVEL_STYLES.get(level, "")),
                overflow="ellipsis",
                no_wrap=True,
            )

    def _sessions(self, width: int) -> RenderableType:
        sessions = self.status.get("sessions", [])
        table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=True)
        for name, justify in (
            ("company", "left"),
            ("state", "left"),
            ("for", "right"),
            ("in", "right"),
            ("out", "right"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        if width >= 90:
            table.add_column("undecryptable", justify="right")
            table.add_column("reconnects", justify="right")
        table.add_column("", ratio=1)
        for row in sessions:
            state = row["state"]
            cells = [
                row["company"],
                Text(f"● {state}", style=STATE_STYLES.get(state, "")),
                duration(row["since_s"]),
                f"{row['messages_received']:,}",
                f"{row['messages_sent']:,}",
            ]
            if width >= 90:
                cells += [str(row["undecryptable"]), str(row["reconnects"])]
            note = row["reason"] or ("" if not row["jid"] else masked(row["jid"].split("@")[0]))
            table.add_row(*cells, Text(note, style="dim", overflow="ellipsis", no_wrap=True))
        if not sessions:
            table.add_row(
                Text("no session yet: standfast pair COMPANY", style="dim"), *[""] * (len(table.columns) - 1)
            )
        return table

    def _advice(self) -> list[RenderableType]:
        """What to do, for the first few sessions that need somebody."""
        needy = [row for row in self.status.get("sessions", []) if row["next_step"]]
        lines = [Text(f" {row['company']}: {row['next_step']}", style="yellow") for row in needy[:3]]
        return [*company_lines(self.status.get("vault") or {}), *lines]

    def _facts(self, width: int) -> RenderableType:
        database, host = self.status.get("database", {}), self.status.get("host", {})
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", min_width=10)
        facts.add_column(overflow="fold")
        bars = self._bars(min(60, max(10, width - 50)))
        facts.add_row(
            " messages",
            f"[bold]{self.traffic.rate():.1f}/s[/]  [green]{bars}[/]  {self.traffic.total:,} received",
        )
        state = database.get("state", "unknown")
        line = f"[{STATE_STYLES.get(state, 'yellow')}]● {state}[/]  {database.get('server', 'PostgreSQL')}"
        if database.get("latency_ms") is not None:
            line += f", {database['latency_ms']:.1f} ms"
        if database.get("error") and not outage_lines(self.status):
            line += f"  [red]{database['error']}[/]"
        facts.add_row(" database", line)
        vault = self.status.get("vault")
        if vault:
            facts.add_row(" vault", vault_line(vault))
            facts.add_row(" node", node_line(vault))
        if host:
            facts.add_row(
                " host",
                f"Node, {_pids(self.status)}, {host.get('rss_mb', 0):.0f} MB, restarts {host.get('restarts', 0)}",
            )
        facts.add_row(" state", str(self.status.get("state_dir", "")))
        facts.add_row(" gateway", str(self.status.get("gateway", "")))
        if self.status.get("http"):
            facts.add_row(" http", f"{self.status['http']}/docs")
        return facts

    def _bars(self, width: int) -> str:
        counts = self.traffic.by_second(width)
        top = max([*counts, 1])
        return "".join(_BARS[round(count / top * (len(_BARS) - 1))] for count in counts)

    def _conversation(self) -> RenderableType:
        lines = Table.grid(padding=(0, 1))
        for at, company, sender, text in self.traffic.latest:
            clock = time.strftime("%H:%M:%S", time.localtime(at))
            lines.add_row(
                f" [dim]{clock}[/]",
                Text(company, style="bold"),
                f"[dim]from {sender}[/]",
                Text(text, overflow="ellipsis", no_wrap=True),
            )
        return Panel(lines, title="latest messages", title_align="left", border_style="dim", box=box.ROUNDED)


def _pids(status: dict[str, Any]) -> str:
    pids = [str(host["pid"]) for host in status.get("hosts", ())]
    return f"pid {', '.join(pids) or '-'}"
