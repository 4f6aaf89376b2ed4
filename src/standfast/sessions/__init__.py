"""Sessions: gateway, engine, session pool and the state machine of each company."""
