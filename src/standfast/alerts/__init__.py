"""Alerts: told once, by every channel, also while PostgreSQL is away."""
