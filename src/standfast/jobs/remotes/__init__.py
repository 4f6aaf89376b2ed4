"""Copies elsewhere: places that take files, and the backups that lie there."""
