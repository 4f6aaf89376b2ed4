"""Standfast keeps WhatsApp (Baileys) sessions standing when PostgreSQL falls.

The Python API: `async with standfast.connect() as sf: await sf.send("company", "+7…", "hi")`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from standfast.version import __version__ as __version__

if TYPE_CHECKING:
    from standfast.errors import StandfastError
    from standfast.service.client import Client, connect
    from standfast.service.records import Sent, Session, Status
    from standfast.service.service import Service, ServiceOptions
    from standfast.sessions.events import Event, Message
    from standfast.settings import Settings, load_settings

__all__ = [
    "Client",
    "Event",
    "Message",
    "Sent",
    "Service",
    "ServiceOptions",
    "Session",
    "Settings",
    "StandfastError",
    "Status",
    "connect",
    "load_settings",
]

# Loaded when first used: `standfast --help` and small scripts need little of it.
_HOMES = {
    "Client": "service.client",
    "Event": "sessions.events",
    "Message": "sessions.events",
    "Sent": "service.records",
    "Service": "service.service",
    "ServiceOptions": "service.service",
    "Session": "service.records",
    "Settings": "settings",
    "StandfastError": "errors",
    "Status": "service.records",
    "connect": "service.client",
    "load_settings": "settings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'standfast' has no attribute {name!r}")
    return getattr(import_module(f"standfast.{_HOMES[name]}"), name)
