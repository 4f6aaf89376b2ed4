"""The emergency: a node that goes on with Baileys folders while PostgreSQL is gone, and back."""
