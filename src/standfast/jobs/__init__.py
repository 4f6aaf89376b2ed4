"""What is done to the tables and for them, at set times or by command: cleanup, backups, change log, restores."""
