"""`standfast up`: the service in the foreground, with its live view.

Invariant: Ctrl-C and SIGTERM end everything that was started, in order and within seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging.handlers
import signal
import time
from collections.abc import AsyncIterator, Iterator
from enum import Enum

import structlog
from rich.console import Console
from rich.live import Live

from standfast.authstate.company import company_id
from standfast.cli.live import LiveView
from standfast.cli.output import duration
from standfast.errors import PairingFailed, StandfastError
from standfast.logs import configure_logging
from standfast.service.demo import Demo
from standfast.service.notify import Notifier
from standfast.service.operators import pairing_of
from standfast.service.service import Service, ServiceOptions
from standfast.service.supervision import Supervision
from standfast.sessions.events import Event
from standfast.settings import Settings

log = structlog.get_logger(__name__)
REFRESH_S = 0.5
LOG_BYTES = 10 * 1024 * 1024


class Mode(Enum):
    """What the service connects its sessions to."""

    WHATSAPP = "whatsapp"
    SIMULATOR = "simulator"
    GATEWAY = "gateway"


async def up(settings: Settings, *, mode: Mode, company: str, console: Console) -> None:
    """Run until a signal ends it. Without any wanted session, `company` is paired: by QR, or by code where
    `USE_PAIRING_CODE` and `WHATSAPP_PHONE_NUMBER` are set."""
    running = asyncio.create_task(_up(settings, mode, company, console))
    signalled = False

    def end() -> None:
        nonlocal signalled
        signalled = True
        running.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    try:
        await running
    except asyncio.CancelledError:
        if not signalled:
            raise


async def _up(settings: Settings, mode: Mode, company: str, console: Console) -> None:
    supervision = Supervision(Notifier.from_environment())
    if not console.is_terminal or console.is_dumb_terminal:
        async with supervision.running(), _running(settings, mode, company) as service:
            with supervision.serving(service):
                await _report(service, console)
        return
    console.print("Starting …", style="dim")
    with contextlib.ExitStack() as afterwards:  # what happens on the way out is logged too
        async with supervision.running(), _running(settings, mode, company) as service:
            afterwards.enter_context(_log_to_file(service, console))
            with supervision.serving(service):
                await _show(service, console, show_qr=mode is Mode.WHATSAPP)


def _running(settings: Settings, mode: Mode, company: str) -> contextlib.AbstractAsyncContextManager[Service]:
    if mode is Mode.SIMULATOR:
        return _with_simulator(settings)
    if mode is Mode.GATEWAY:
        return Service(settings, ServiceOptions(gateway_only=True))
    return _with_whatsapp(settings, company)


@contextlib.asynccontextmanager
async def _with_whatsapp(settings: Settings, company: str) -> AsyncIterator[Service]:
    company_id(company)
    async with Service(settings) as service:
        if service.roster.asked:
            await _pair_first(service, company)
            yield service
            return
        later = asyncio.create_task(_pair_later(service, company))
        try:
            yield service
        finally:
            later.cancel()
            await asyncio.wait({later})


async def _pair_first(service: Service, company: str) -> None:
    """Where no session is wanted, pair `company`."""
    if service.pool.sessions() or await service.roster.wanted():
        return
    settings = service.settings
    phone = settings.whatsapp_phone_number
    by = pairing_of(
        "code" if settings.use_pairing_code else "qr",
        phone.get_secret_value() if phone else None,
        settings.default_region,
        fallback=settings.pairing_fallback,
    )
    try:
        await service.pool.pair(company, by)
    except PairingFailed as refused:
        # It is paired and was stopped: no reason to keep everything else from running.
        log.warning("nothing is started", reason=refused.message, next_step=refused.next_step)


async def _pair_later(service: Service, company: str) -> None:
    """The same, once PostgreSQL has answered: until then nobody knows what is wanted."""
    await service.roster.was_asked.wait()
    try:
        await _pair_first(service, company)
    except StandfastError as error:
        log.warning("nothing is paired", reason=error.message, next_step=error.next_step)


@contextlib.asynccontextmanager
async def _with_simulator(settings: Settings) -> AsyncIterator[Service]:
    async with Service(settings.for_simulator(), ServiceOptions(with_simulator=True)) as service:
        assert service.simulator is not None
        demo = Demo(service.pool, service.messenger, service.bus, service.simulator)
        await demo.start()
        try:
            yield service
        finally:
            await demo.stop()


async def _show(service: Service, console: Console, *, show_qr: bool) -> None:
    view = LiveView(show_qr=show_qr)
    unsubscribe = service.bus.subscribe(view.take)
    try:
        with Live(view, console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                view.status = await service.status()
                live.refresh()
                await asyncio.sleep(REFRESH_S)
    finally:
        unsubscribe()
        console.print("Ending …", style="dim")


@contextlib.contextmanager
def _log_to_file(service: Service, console: Console) -> Iterator[None]:
    """The screen belongs to the view, so the log goes to a file of the state directory."""
    path, began = service.state.path / "standfast.log", time.monotonic()
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=2)
    path.chmod(0o600)
    configure_logging(service.settings.log_level, handler=handler)
    try:
        yield
    finally:
        configure_logging(service.settings.log_level)
        handler.close()
        console.print(f"Ended after {duration(time.monotonic() - began)}. Log: {path}", soft_wrap=True)


async def _report(service: Service, console: Console) -> None:
    """Plain lines for a pipe or a log collector."""

    def take(event: Event) -> None:
        line = _line_of(event)
        if line is not None:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    unsubscribe = service.bus.subscribe(take)
    try:
        status = await service.status()
        for name in ("service", "state_dir", "gateway", "http"):
            if status[name] is not None:
                console.print(f"{name}: {status[name]}", markup=False, highlight=False, soft_wrap=True)
        for session in status["sessions"]:
            take(Event(session["company"], "state", session))
        await asyncio.Event().wait()
    finally:
        unsubscribe()


def _line_of(event: Event) -> str | None:
    if event.kind == "state":
        why = f" ({event.data['reason']})" if event.data.get("reason") else ""
        return f"{event.company}: {event.data['state']}{why}"
    if event.kind in ("qr", "pairing_code"):
        return f"{event.company}: waits to be paired; show it with: standfast pair {event.company}"
    if event.kind == "alert":
        next_step = event.data["facts"].get("next_step")
        return f"{event.data['level']}: {event.data['message']}" + (
            f" (next: {next_step})" if next_step else ""
        )
    return None
