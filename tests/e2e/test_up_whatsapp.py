"""`standfast up` alone: the first start pairs a company. Only the host's address of WhatsApp is not what ships."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import segno
from pydantic import SecretStr
from rich.console import Console

from standfast.cli import up
from standfast.logs import configure_logging
from standfast.postgres.options import DatabaseOptions
from standfast.service.service import Service, ServiceOptions
from standfast.service.simulator import Simulator
from standfast.settings import Settings
from tests.e2e.conftest import until
from tests.e2e.processes import plain

_HALF_BLOCKS = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}


class Screen(io.StringIO):
    """What a terminal was told to show."""

    def lines(self) -> list[str]:
        """The last picture that was drawn whole."""
        pictures = self.getvalue().split("\x1b[H")
        return plain(pictures[-2] if len(pictures) > 2 else pictures[-1])

    def shows(self, text: str) -> bool:
        return text in "\n".join(self.lines())


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    yield
    configure_logging("info")


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, simulator: Simulator) -> list[Service]:
    """The services that `up` makes, each with a host that connects to the simulator."""
    made: list[Service] = []

    def make(settings: Settings) -> Service:
        made.append(Service(settings, ServiceOptions(host_environment=simulator.host_environment())))
        return made[-1]

    monkeypatch.setattr(up, "Service", make)
    return made


@pytest.fixture
def settings(state_dir: Path, database_options: DatabaseOptions) -> Settings:
    dsn = SecretStr(database_options.to_conninfo())
    return Settings(state_dir=state_dir, database_url=dsn, http_port=0)


@contextlib.asynccontextmanager
async def running(
    settings: Settings, columns: int, lines: int, term: str = "xterm-256color"
) -> AsyncIterator[Screen]:
    """`up` in a terminal of this size and kind; it must not end by itself."""
    screen = Screen()
    console = Console(
        file=screen,
        force_terminal=True,
        width=columns,
        height=lines,
        legacy_windows=False,
        _environ={"TERM": term},
    )
    task = asyncio.create_task(up._up(settings, up.Mode.WHATSAPP, "main", console))
    try:
        yield screen
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def prompt(services: list[Service], screen: Screen, title: str) -> str:
    """What the company is to be paired with, once the screen shows it."""

    def shown() -> str | None:
        sessions = services[0].pool.sessions() if services and screen.shows(title) else []
        return sessions[0].prompt if sessions else None

    found: str = await until(shown, lambda: f"{title!r} on the screen:\n" + "\n".join(screen.lines()))
    return found


def modules(lines: list[str]) -> list[tuple[int, ...]]:
    """The QR that stands in half blocks on the screen, as rows of light (1) and dark (0) modules."""
    rows: list[tuple[int, ...]] = []
    for line in lines:
        halves = [_HALF_BLOCKS[block] for block in line]
        rows += [tuple(upper for upper, _ in halves), tuple(lower for _, lower in halves)]
    return rows


def expected(text: str, border: int = 2) -> list[tuple[int, ...]]:
    """The QR of `text`, from the library's own matrix."""
    made = segno.make(text, error="l", micro=False).matrix_iter(scale=1, border=border)
    return [tuple(0 if module else 1 for module in row) for row in made]


async def test_a_first_start_shows_a_qr_that_can_be_scanned(
    services: list[Service], settings: Settings, simulator: Simulator, new_phone: Callable[[], str]
) -> None:
    """At 120x50 the QR of company `main` stands whole on the screen; a phone that scans it connects the session."""
    async with running(settings, 120, 50) as screen:
        qr = await prompt(services, screen, "Scan with WhatsApp > Linked devices: main")
        drawn = screen.lines()
        first = next(i for i, line in enumerate(drawn) if "Scan with" in line) + 1
        want = expected(qr)
        width, height = len(want[0]), (len(want) + 1) // 2
        shown = modules([line[:width].ljust(width) for line in drawn[first : first + height]])
        assert [shown[i] for i in range(len(want))] == want
        assert "Ctrl-C ends it" in "\n".join(drawn)
        await simulator.ask("POST", "/scan", {"qr": qr, "phone": new_phone()})
        await until(lambda: screen.shows("● open"), "open on the screen")
        assert not screen.shows("Scan with")


async def test_a_window_too_small_for_the_qr_says_what_it_needs(
    services: list[Service], settings: Settings
) -> None:
    """At 80x24 no part of a QR is drawn; the size that it needs is, and how to have it as a picture."""
    async with running(settings, 80, 24) as screen:
        qr = expected(await prompt(services, screen, "needs a window of"))
        shown = "\n".join(screen.lines())
        assert "▀" not in shown
        words = " ".join(shown.split())
        size = f"{len(qr[0])} columns and {(len(qr) + 1) // 2 + 12} lines"
        assert f"{size}. Enlarge it, or: standfast pair main --png FILE" in words


async def test_with_use_pairing_code_a_first_start_shows_a_code(
    services: list[Service], settings: Settings, simulator: Simulator, new_phone: Callable[[], str]
) -> None:
    """The code stands on the screen in two halves; entered at the phone it connects the session."""
    phone = new_phone()
    by_code = settings.model_copy(
        update={"use_pairing_code": True, "whatsapp_phone_number": SecretStr(phone)}
    )
    async with running(by_code, 80, 24) as screen:
        code = await prompt(services, screen, "Pairing code of main")
        assert screen.shows(f"{code[:4]}-{code[4:]}")
        await simulator.ask("POST", "/enter-code", {"phone": phone, "code": code})
        await until(lambda: screen.shows("● open"), "open on the screen")


async def test_a_later_start_pairs_nobody(
    services: list[Service], settings: Settings, simulator: Simulator, new_phone: Callable[[], str]
) -> None:
    """A company that is paired is connected; no QR is shown for it."""
    async with running(settings, 120, 50) as screen:
        qr = await prompt(services, screen, "Scan with")
        await simulator.ask("POST", "/scan", {"qr": qr, "phone": new_phone()})
        await until(lambda: screen.shows("● open"), "open on the screen")
    async with running(settings, 120, 50) as screen:
        await until(lambda: screen.shows("● open"), "open on the screen")
        assert "Scan with" not in screen.getvalue()


async def test_a_stopped_company_does_not_keep_up_from_starting(
    services: list[Service], settings: Settings, simulator: Simulator, new_phone: Callable[[], str]
) -> None:
    """Where `main` is paired and its session not wanted, the service starts, pairs nobody, and says what to do."""
    async with running(settings, 120, 50) as screen:
        qr = await prompt(services, screen, "Scan with")
        await simulator.ask("POST", "/scan", {"qr": qr, "phone": new_phone()})
        await until(lambda: screen.shows("● open"), "open on the screen")
        await services[-1].pool.stop("main")
    async with running(settings, 120, 50) as screen:
        await until(lambda: screen.shows("● closed"), "closed on the screen")
        assert screen.shows("standfast start main")
        assert "Scan with" not in screen.getvalue()
        await services[-1].pool.start("main")
        await until(lambda: screen.shows("● open"), "open on the screen")


async def test_a_dumb_terminal_gets_plain_lines(services: list[Service], settings: Settings) -> None:
    """Where the cursor cannot be moved, states are told line by line."""
    async with running(settings, 120, 50, term="dumb") as screen:
        await until(lambda: "main: qr" in screen.getvalue(), screen.getvalue)
        assert "\x1b[H" not in screen.getvalue()
