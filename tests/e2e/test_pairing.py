"""Pairing: by code, refused, not completed, and not asked for twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from standfast.errors import PairingFailed
from standfast.sessions.session import Pairing, State
from tests.e2e.conftest import Line, shares_loop, stays


@shares_loop
async def test_a_company_pairs_by_code(shared_pair: Line, new_phone: Callable[[], str]) -> None:
    """The code that the event tells, typed in the phone, links the device; no QR is shown."""
    line, phone = shared_pair, new_phone()
    await line.service.pool.pair("typed", Pairing("code", phone))
    told = await line.event("typed", "pairing_code")
    assert line.session("typed").prompt == told["code"]
    assert told["ttl_s"] == 50
    await line.simulator.ask("POST", "/enter-code", {"phone": phone, "code": told["code"]})
    session = await line.state("typed", State.OPEN)
    assert session.jid is not None
    assert session.jid.startswith(phone)
    assert session.prompt is None
    assert line.events("typed", "qr") == []


@shares_loop
async def test_a_wrong_code_may_be_typed_again(shared_pair: Line, new_phone: Callable[[], str]) -> None:
    """A mistyped code is refused in the phone and harms nothing; the right one still works."""
    line, phone = shared_pair, new_phone()
    await line.service.pool.pair("mistyped", Pairing("code", phone))
    code = (await line.event("mistyped", "pairing_code"))["code"]
    with pytest.raises(Exception, match="not the one the client shows"):
        await line.simulator.ask("POST", "/enter-code", {"phone": phone, "code": "AAAA-AAAA"})
    await line.simulator.ask("POST", "/enter-code", {"phone": phone, "code": code})
    await line.state("mistyped", State.OPEN)


@shares_loop
async def test_a_refused_code_closes_the_session(shared_pair: Line, new_phone: Callable[[], str]) -> None:
    """Where WhatsApp refuses a code, none is shown, the session closes and says what to do; that then works."""
    line, phone = shared_pair, new_phone()
    await line.simulator.ask("POST", "/faults", {"kind": "refuse-pairing-code", "phone": phone, "code": 429})
    await line.service.pool.pair("refused", Pairing("code", phone))
    assert (await line.event("refused", "pairing_refused"))["status"] == 429
    session = await line.state("refused", State.CLOSED)
    assert session.reason == "WhatsApp refused a pairing code (status 429)"
    assert session.next_step == "Wait some minutes, or pair by QR."
    assert line.events("refused", "pairing_code") == []
    await line.pair("refused", phone)


async def test_a_qr_that_nobody_scans_is_not_shown_for_ever(line: Line, new_phone: Callable[[], str]) -> None:
    """When the time for scanning is over (408), the session closes, does not reconnect, and can be paired anew."""
    await line.service.pool.pair("acme", Pairing("qr"))
    await line.state("acme", State.QR)
    await line.simulator.ask("POST", "/faults", {"kind": "close", "code": 408})
    session = await line.state("acme", State.CLOSED)
    assert session.reason == "the pairing was not completed in time"
    assert session.next_step == "Pair again: 'standfast pair acme'."
    assert session.prompt is None
    await stays(lambda: session.state is State.CLOSED, "it reconnected", for_s=0.6)
    await line.restart()
    assert line.service.pool.sessions() == []
    await line.pair("acme", new_phone())


async def test_an_interrupted_pairing_goes_on(line: Line, new_phone: Callable[[], str]) -> None:
    """A connection that drops while a QR is on show comes back with a new QR, and that one can be scanned."""
    await line.service.pool.pair("acme", Pairing("qr"))
    first = (await line.event("acme", "qr"))["qr"]
    since = len(line.heard)
    await line.simulator.ask("POST", "/faults", {"kind": "drop"})
    second = (await line.event("acme", "qr", since))["qr"]
    assert second != first
    await line.simulator.ask("POST", "/scan", {"qr": second, "phone": new_phone()})
    await line.state("acme", State.OPEN)


async def test_a_paired_company_is_not_paired_again(line: Line, new_phone: Callable[[], str]) -> None:
    """Pairing a company that is linked is refused, and its session goes on as it was."""
    session = await line.pair("acme", new_phone())
    with pytest.raises(PairingFailed, match="paired and connected") as refused:
        await line.service.pool.pair("acme", Pairing("qr"))
    assert refused.value.next_step == "Unlink it first: 'standfast logout acme'."
    assert session.state is State.OPEN

    # The same while its connection is away for a moment.
    await line.simulator.ask("POST", "/faults", {"kind": "drop", "for_ms": 700})
    await line.state("acme", State.CLOSED)
    with pytest.raises(PairingFailed, match="paired already"):
        await line.service.pool.pair("acme", Pairing("qr"))
    await line.state("acme", State.OPEN)
    assert len(line.events("acme", "paired")) == 1
