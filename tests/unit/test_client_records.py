"""What the Python API answers with."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import standfast
from standfast.authstate.company import Company
from standfast.service.records import Group, Member, Prompt, Sent, Session, Status
from standfast.sessions import session
from standfast.sessions.events import Event, Message

PHONE, TEXT = "79990000001", "the text of it"
JID = f"{PHONE}@s.whatsapp.net"


def test_a_session_has_every_field_that_the_service_tells() -> None:
    """Whoever adds a field to `session.Session.as_wire` adds it to `records.Session`: `--json` prints that."""
    wire = session.Session(Company("acme")).as_wire()
    assert {field.name for field in msgspec.structs.fields(Session)} == set(wire)
    assert msgspec.to_builtins(msgspec.convert(wire, Session)) == wire


@pytest.mark.parametrize(
    "record",
    [
        Sent("acme", "3EB0", JID, {"type": "text", "text": TEXT}, "sent", 1.0, 1.0, 2.0, 1),
        Session(company="acme", state="open", jid=JID),
        Message(
            id="3EB0",
            chat=JID,
            sender=JID,
            timestamp_s=1,
            company="acme",
            type="text",
            text=TEXT,
            push_name=TEXT,
        ),
        Event("acme", "message", {"message": {"chat": JID, "text": TEXT}}, 7),
        Event("acme", "qr", {"qr": TEXT, "phone": PHONE}),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_repr_shows_no_number_and_no_text(record: Any) -> None:
    """Records end up in logs and tracebacks; the company they are of is all that is told."""
    shown = repr(record)
    assert "acme" in shown
    assert PHONE not in shown
    assert TEXT not in shown


def test_the_repr_of_a_group_and_of_a_prompt_shows_nothing_either() -> None:
    """Names and members of groups, and what is to be scanned, are nobody's who reads a log."""
    member = Member(jid=JID, phone_jid=JID)
    group = Group(jid="120363000@g.us", name=TEXT, description=TEXT, owner=JID, participants=[member])
    for record in (
        group,
        member,
        Prompt(kind="qr", ttl_s=20.0, qr=TEXT),
        Prompt(kind="pairing_code", ttl_s=50.0, code=TEXT),
    ):
        assert PHONE not in repr(record)
        assert TEXT not in repr(record)


def test_a_status_of_a_newer_service_is_read() -> None:
    """Fields that this version does not know are passed over and stand in the document."""
    document = {
        "service": "standfast/9",
        "uptime_s": 1.0,
        "state_dir": "s",
        "gateway": "s/gateway.sock",
        "database": {"state": "unknown", "shards": 3},
        "host": {"pid": None, "ready": False},
        "vault": {"companies": []},
        "sessions": [{"company": "acme", "state": "hibernating", "wanted": True, "dreams": 1}],
    }
    status = msgspec.structs.replace(msgspec.convert(document, Status), document=document)
    assert (status.database.state, status.sessions[0].state, status.is_ready) == (
        "unknown",
        "hibernating",
        False,
    )
    assert status.document["sessions"][0]["dreams"] == 1


def test_everything_that_is_offered_is_there() -> None:
    """Each name of `standfast.__all__` can be had, and its module says the same."""
    for name in standfast.__all__:
        assert getattr(standfast, name).__name__ == name
