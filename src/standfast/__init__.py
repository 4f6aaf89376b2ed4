"""Standfast keeps WhatsApp (Baileys) sessions standing when PostgreSQL falls."""

from importlib.metadata import version

__version__ = version("standfast")
