"""What Baileys stores, and the contract of who keeps it."""
