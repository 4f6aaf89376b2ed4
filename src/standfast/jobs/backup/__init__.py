"""Backups: made, listed, validated, proven, sent away."""
