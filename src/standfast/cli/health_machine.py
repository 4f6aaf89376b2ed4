"""The last lines of `standfast health`: the machine, the alerts that stand open and the channels that tell them.

Invariant: a line each, however much there is to tell; what needs somebody is a finding above.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from standfast.cli.health_figures import STYLES, counted, marked, milliseconds, percent
from standfast.cli.health_sections import Pen, Row
from standfast.cli.output import duration, size
from standfast.health.document import AlertSection, ChannelState, Health, MachineSection


def last_lines(health: Health, pen: Pen) -> list[Row]:
    """Those of what was measured."""
    rows: list[Row] = []
    if health.machine is not None and health.measured_by == "command":
        rows.append(_place(health.machine, pen))
    elif health.machine is not None:
        rows += _machine(health.machine, pen)
    if health.alerts is not None:
        rows += _alerts(health.alerts, pen)
    return rows


def _place(machine: MachineSection, pen: Pen) -> Row:
    """Without the figures of the process that looked, which is no service."""
    memory = pen.mark(f"memory {size(machine.memory_available_bytes)} free", "memory_low")
    return Row("machine", pen.joined(*_disks(machine, pen), memory), main=True)


def _disks(machine: MachineSection, pen: Pen) -> list[Text]:
    """Several directories on one disk are one disk."""
    disks = {(disk.free_bytes, disk.total_bytes): disk for disk in reversed(machine.disks)}
    told = [f"disk {size(disk.free_bytes)} free of {size(disk.total_bytes)}" for disk in disks.values()]
    return [pen.mark(one, "disk_low") for one in told]


def _machine(machine: MachineSection, pen: Pen) -> Iterator[Row]:
    hosts = f" and hosts {size(machine.hosts_rss_bytes)}" if machine.hosts_rss_bytes else ""
    cpu = None if machine.cpu_share is None else f"CPU {percent(machine.cpu_share)}"
    late = machine.event_loop_delay_ms
    yield Row(
        "machine",
        pen.joined(
            *_disks(machine, pen),
            pen.mark(f"memory {size(machine.rss_bytes)}{hosts}", "memory_low"),
            cpu,
            pen.mark(f"{machine.fds:,} of {machine.fds_limit:,} files", "fds_high"),
            None if late is None else pen.mark(f"loop {milliseconds(late)} late", "event_loop_slow"),
        ),
        main=True,
    )


def _alerts(alerts: AlertSection, pen: Pen) -> Iterator[Row]:
    if alerts.open:
        names = ", ".join(
            f"{one.name.replace('_', ' ')} ({duration(pen.now - one.since)})" for one in alerts.open[:3]
        )
        more = f" and {len(alerts.open) - 3} more" if len(alerts.open) > 3 else ""
        told = Text(f"{counted(len(alerts.open), 'alert')} open: {names}{more}", style=STYLES["warning"])
    else:
        told = Text("none open")
    yield Row("alerts", pen.joined(told, *(_channel(one, pen) for one in alerts.channels)), main=True)


def _channel(channel: ChannelState, pen: Pen) -> Text:
    waiting = f", {channel.waiting} waiting" if channel.waiting else ""
    if channel.error is not None:
        return marked(f"{channel.name} fails{waiting}", "warning", pen.glyphs)
    return Text(f"{channel.name} ok{waiting}")
