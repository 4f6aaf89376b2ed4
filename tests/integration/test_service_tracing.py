"""A running service that OpenTelemetry's variables ask for traces."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from standfast.health import tracing
from standfast.postgres.options import DatabaseOptions
from tests.collector import attributes, collecting
from tests.integration.services import running


async def test_calls_of_a_service_are_traced(
    state: Path, tcp_options: DatabaseOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first statement to the last; they are brought away before it has ended, and then it is off."""
    with collecting() as collected:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collected.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "bots")
        async with running(state, tcp_options) as now:
            async with asyncio.timeout(10):
                await now.service.database.ping()
        assert not tracing.is_on()
        (resource,) = {tuple(sorted(one.items())) for one in collected.resources}
        assert dict(resource)["service.name"] == "bots"
        spans = {span.name: attributes(span) for span in collected.spans}
        assert spans["ping"]["db.system.name"] == "postgresql"
        assert len(spans) > 3
