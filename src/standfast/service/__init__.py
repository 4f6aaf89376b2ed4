"""Wiring and interfaces: the service as a whole, its operators, its Python client."""
