"""Jobs at their times: what is due, who of a fleet does it, and what became of it."""
