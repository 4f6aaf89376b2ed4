"""PostgreSQL: connecting, retrying, migrating and storing; the embedded server for those who have none."""
