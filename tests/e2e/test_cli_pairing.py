"""`standfast pair` as a process of its own: what it shows, how it ends, and what it leaves."""

from __future__ import annotations

import json
import signal
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import segno

from standfast.postgres.pool import Statement
from standfast.sessions.session import Pairing, State
from tests.e2e.conftest import Line, until
from tests.e2e.processes import Home, Terminal, make_home

WANTED = Statement("test.wanted", "select company_id from standfast_sessions where wanted")
STORED = Statement("test.stored", "select company_id from whatsapp_auth")
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
async def standfast(line: Line) -> AsyncIterator[Home]:
    """A person's machine whose settings name the running service."""
    home = make_home(STANDFAST_STATE_DIR=str(line.settings.state_dir))
    yield home
    home.clear()


async def test_pair_shows_a_qr_and_waits_until_it_is_connected(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """The QR stands whole in the output and, as asked, in a PNG of its owner's alone; 0 once the session is open."""
    pairing = standfast.start("pair", "acme", "--png", "qr.png")
    await pairing.says("Scan it with WhatsApp")
    qr = (await line.event("acme", "qr"))["qr"]
    made = segno.make(qr, error="l", micro=False)
    columns = int(made.symbol_size(border=2)[0])
    lines = pairing.text().splitlines()
    assert [len(line) for line in lines[: (columns + 1) // 2]] == [columns] * ((columns + 1) // 2)
    png = standfast.directory / "qr.png"
    assert png_width(png) == made.symbol_size(scale=6, border=4)[0]
    assert png.stat().st_mode & 0o777 == 0o600
    await line.simulator.ask("POST", "/scan", {"qr": qr, "phone": new_phone()})
    assert await pairing.ended() == 0, pairing.text()
    assert "acme is paired and connected." in pairing.text()


def png_width(path: Path) -> int:
    data = path.read_bytes()
    assert data.startswith(SIGNATURE)
    width: int = struct.unpack(">I", data[16:20])[0]
    return width


async def test_pair_by_phone_number_shows_the_code(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """The code in two halves; entered at the phone, the session opens. The number is nowhere repeated."""
    phone = new_phone()
    pairing = standfast.start("pair", "acme", "--phone", f"+{phone}")
    code = (await line.event("acme", "pairing_code"))["code"]
    await pairing.says(f"Code {code[:4]}-{code[4:]}, valid 50 s")
    await line.simulator.ask("POST", "/enter-code", {"phone": phone, "code": code})
    assert await pairing.ended() == 0, pairing.text()
    assert phone not in pairing.text()


async def test_a_refused_pairing_code_ends_the_command(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """15, with what to do; nothing is paired, and a QR can be asked for at once."""
    await line.simulator.ask("POST", "/faults", {"kind": "refuse-pairing-code", "code": 429})
    ran = await standfast("pair", "acme", "--phone", f"+{new_phone()}", "--no-fallback")
    assert ran.code == 15, ran.out
    assert "status 429" in ran.err
    assert "next: Wait some minutes, or pair by QR." in ran.err
    assert line.session("acme").pairing is None
    assert await line.service.database.fetch(WANTED) == []
    await line.pair("acme", new_phone())


async def test_a_refused_code_is_followed_by_a_qr(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """The command says why, shows the QR by itself, and ends with 0 once a phone has scanned it."""
    phone = new_phone()
    await line.simulator.ask("POST", "/faults", {"kind": "refuse-pairing-code", "code": 429})
    pairing = standfast.start("pair", "acme", "--phone", f"+{phone}")
    await pairing.says("WhatsApp refused a pairing code (status 429); pair by QR instead.")
    await pairing.says("Scan it with WhatsApp")
    await line.simulator.ask("POST", "/scan", {"qr": line.session("acme").prompt, "phone": phone})
    assert await pairing.ended() == 0, pairing.text()
    assert line.events("acme", "paired")[0].get("another_number") is None


async def test_a_window_shows_the_latest_qr_alone(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """A new QR takes the place of the one before; where nothing is left to scan, nothing is drawn."""
    async with standfast.terminal("pair", "acme", columns=90, lines=50) as terminal:
        for _ in range(2):
            qr = await until(
                lambda: line.session("acme").prompt if line.service.pool.sessions() else None, "a QR"
            )
            want = standing(qr)
            await until(lambda want=want: drawn(terminal, len(want)) == want, "the QR on the screen")  # type: ignore[misc]
            since = len(line.heard)
            await line.simulator.ask("POST", "/faults", {"kind": "drop"})
            await line.event("acme", "qr", since)
        await line.simulator.ask("POST", "/scan", {"qr": line.session("acme").prompt, "phone": new_phone()})
        assert await terminal.ended() == 0
        assert "acme is paired and connected." in terminal.text().rsplit("\x1b[?1049l", 1)[1]


def drawn(terminal: Terminal, lines: int) -> list[str]:
    """The first lines on the screen, as wide as the QR that stands there."""
    return [line.rstrip() for line in terminal.screen()[:lines]]


def standing(qr: str) -> list[str]:
    """The lines of half blocks that show this QR: light where the symbol is not."""
    rows = [list(row) for row in segno.make(qr, error="l", micro=False).matrix_iter(scale=1, border=2)]
    if len(rows) % 2:
        rows.append([1] * len(rows[0]))
    blocks = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
    return [
        "".join(blocks[pair] for pair in zip(*rows[i : i + 2], strict=True)) for i in range(0, len(rows), 2)
    ]


async def test_ctrl_c_ends_the_pairing(line: Line, standfast: Home, new_phone: Callable[[], str]) -> None:
    """130; the session is closed and not wanted, PostgreSQL holds nothing of it, and no picture is left."""
    by_qr = standfast.start("pair", "acme", "--png", "qr.png", "--svg", "qr.svg")
    await by_qr.says("Scan it with WhatsApp")
    assert (standfast.directory / "qr.svg").read_bytes().startswith(b"<?xml")
    by_code = standfast.start("pair", "bolt", "--phone", f"+{new_phone()}")
    await by_code.says("valid 50 s")
    for pairing in (by_qr, by_code):
        await pairing.end(signal.SIGINT)
        assert pairing.popen.returncode == 130
        assert "Traceback" not in pairing.text()
    rows = (await standfast("sessions", "--json")).document
    assert [(row["state"], row["reason"]) for row in rows] == [("closed", "the pairing was broken off")] * 2
    assert await line.service.database.fetch(WANTED) == []
    await until(lambda: stored(line, []), "nothing in PostgreSQL")
    assert not list(standfast.directory.glob("*qr.*"))


async def stored(line: Line, companies: list[str]) -> bool:
    return [row[0] for row in await line.service.database.fetch(STORED)] == companies


async def test_who_follows_a_pairing_does_not_end_it(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """A second `pair` shows the same QR at once; Ctrl-C there leaves the first waiting. --json tells lines."""
    first = standfast.start("pair", "acme", "--json")
    await first.says('"event":"qr"')
    second = standfast.start("pair", "acme")
    await second.says("Scan it with WhatsApp")
    await second.end(signal.SIGINT)
    shown = json.loads(first.text().splitlines()[0])
    assert shown["qr"] == line.session("acme").prompt
    await line.simulator.ask("POST", "/scan", {"qr": shown["qr"], "phone": new_phone()})
    assert await first.ended() == 0
    assert [json.loads(told)["event"] for told in first.text().splitlines()] == ["qr", "paired", "open"]


async def test_another_number_replaces_the_company_only_when_confirmed(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """19 with both numbers masked; with --yes the old state is archived and its device unlinked at WhatsApp."""
    old, new = new_phone(), new_phone()
    session = await line.pair("acme", old)
    refused = await standfast("pair", "acme", "--phone", f"+{new}")
    assert (refused.code, session.state) == (19, State.OPEN)
    assert f"…{old[-4:]}" in refused.err
    assert f"…{new[-4:]}" in refused.err
    assert old not in refused.err + refused.out
    pairing = standfast.start("pair", "acme", "--phone", f"+{new}", "--yes")
    code = (await line.event("acme", "pairing_code"))["code"]
    assert (await line.simulator.ask("GET", f"/phones/{old}/devices"))["devices"] == []
    (folder,) = (line.settings.state_dir / "archive").glob("acme-*")
    assert old in json.loads((folder / "creds.json").read_text())["me"]["id"]
    await line.simulator.ask("POST", "/enter-code", {"phone": new, "code": code})
    assert await pairing.ended() == 0, pairing.text()
    assert (line.session("acme").jid or "").startswith(new)
    assert await line.service.database.fetch(WANTED) == [("acme",)]


async def test_a_person_is_asked_before_another_number_takes_the_place(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """In a terminal: no leaves everything as it was; nothing is asked of the old device."""
    await line.pair("acme", new_phone())
    async with standfast.terminal(
        "pair", "acme", "--phone", f"+{new_phone()}", columns=100, lines=50
    ) as terminal:
        await terminal.says("Replace it?")
        terminal.type(b"n\n")
        assert await terminal.ended() == 19
    assert line.session("acme").state is State.OPEN
    assert not list(line.settings.state_dir.glob("archive/*"))


async def test_a_qr_that_another_phone_scans_is_told(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """After a logout whoever scans decides the number; the command, the event and an alert say that it is another."""
    old, new = new_phone(), new_phone()
    await line.pair("acme", old)
    assert (await standfast("logout", "acme", "--yes")).code == 0
    await line.state("acme", State.LOGGED_OUT)
    pairing = standfast.start("pair", "acme")
    await pairing.says("Scan it with WhatsApp")
    await line.simulator.ask("POST", "/scan", {"qr": line.session("acme").prompt, "phone": new})
    assert await pairing.ended() == 0, pairing.text()
    assert f"Paired with another number (…{new[-4:]}) than before (…{old[-4:]})." in pairing.text()
    alerts = [data["name"] for data in line.events("acme", "alert")]
    assert "paired_with_another_number" in alerts


async def test_a_second_code_is_told_when_the_first_is_over(line: Line, new_phone: Callable[[], str]) -> None:
    """Each code once, one after the other; the second can be entered."""
    line.service.pool.pairings._options = line.options.pairing.__class__(code_lifetime_s=0.8)
    phone = new_phone()
    await line.service.pool.pair("acme", Pairing("code", phone))
    first = (await line.event("acme", "pairing_code"))["code"]
    since = len(line.heard)
    second = (await line.event("acme", "pairing_code", since))["code"]
    assert first != second
    await line.simulator.ask("POST", "/enter-code", {"phone": phone, "code": second})
    await line.state("acme", State.OPEN)


async def test_sessions_are_watched(line: Line, standfast: Home, new_phone: Callable[[], str]) -> None:
    """In a terminal the list follows each change, and q ends it; for a program each change is a line."""
    await line.pair("acme", new_phone())
    lines = standfast.start("sessions", "--watch", "--json")
    await lines.says('"state":"open"')
    async with standfast.terminal("sessions", "--watch", columns=100, lines=24) as terminal:
        await until(lambda: "open" in "\n".join(terminal.screen()), "open on the screen")
        await line.service.pool.stop("acme")
        await until(lambda: "stopped by an operator" in "\n".join(terminal.screen()), "closed on the screen")
        terminal.type(b"q")
        assert await terminal.ended() == 0
    await lines.says('"state":"closed"')
    await lines.end(signal.SIGINT)
    assert lines.popen.returncode == 130
