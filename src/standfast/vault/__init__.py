"""The vault: a durable local replica and journal between sessions and PostgreSQL, and what keeps both in step."""
