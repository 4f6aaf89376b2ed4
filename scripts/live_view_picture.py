"""Draws docs/images/live-view.svg: the live view of a real `standfast up --simulator`, as it stands after a while.

Run `.venv/bin/python scripts/live_view_picture.py`. The state directory is a temporary one, shown as people have it.
"""

from __future__ import annotations

import asyncio
import io
import re
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from standfast.cli.live import LiveView
from standfast.logs import configure_logging
from standfast.service.demo import Demo
from standfast.service.service import Service, ServiceOptions
from standfast.sessions.events import Event
from standfast.settings import Settings

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "live-view.svg"
WATCHED_S = 20.0
OPEN_TIMEOUT_S = 45.0


async def watch(state_dir: Path) -> LiveView:
    """The view of a demo that has chatted for a while."""
    settings = Settings(state_dir=state_dir).for_simulator()
    view, chatting = LiveView(show_qr=False), asyncio.Event()

    def take(event: Event) -> None:
        view.take(event)
        if view.traffic.latest:
            chatting.set()

    async with Service(settings, ServiceOptions(with_simulator=True)) as service:
        assert service.simulator is not None
        demo = Demo(service.pool, service.messenger, service.bus, service.simulator)
        unsubscribe = service.bus.subscribe(take)
        await demo.start()
        try:
            await asyncio.wait_for(chatting.wait(), OPEN_TIMEOUT_S)
            await asyncio.sleep(WATCHED_S)
            view.status = as_people_have_it(await service.status(), state_dir)
        finally:
            unsubscribe()
            await demo.stop()
    return view


def as_people_have_it(status: dict[str, Any], state_dir: Path) -> dict[str, Any]:
    """The status with the usual state directory in the place of the temporary one."""
    usual = "~/.local/state/standfast"
    return {
        name: value.replace(str(state_dir), usual) if isinstance(value, str) else value
        for name, value in status.items()
    }


def main() -> None:
    """Watch, draw, write."""
    configure_logging("warning")
    with tempfile.TemporaryDirectory(prefix="sf-") as directory:
        view = asyncio.run(watch(Path(directory).resolve()))
    console = Console(record=True, width=100, height=30, file=io.StringIO(), force_terminal=True)
    console.print(view)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    # Names of classes in the picture come from this id; a fixed one keeps two pictures comparable.
    drawn = console.export_svg(title="standfast up --simulator", unique_id="live-view")
    # A picture that fetches fonts from somewhere is not shown everywhere, and tells who looks at it.
    PICTURE.write_text(
        re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL).replace("Fira Code, ", "")
    )
    print(f"wrote {PICTURE.name}")


if __name__ == "__main__":
    main()
