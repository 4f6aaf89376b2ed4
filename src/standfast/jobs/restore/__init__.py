"""Restore: what a backup or the change log knows of companies, put in place of what the database has."""
