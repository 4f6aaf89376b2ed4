"""`/metrics`: for Prometheus and whatever reads its formats.

Invariant: nothing here waits on PostgreSQL or a session.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from standfast.api.routes import Answer, Routes, caller_of

PATH = "/metrics"
_OPENMETRICS = "application/openmetrics-text"


def add(routes: Routes) -> None:
    """The operations of this resource; none where metrics are off."""
    metrics = routes.parts.metrics
    if metrics is None:
        return

    async def get_metrics(request: Request) -> Response:
        """Every figure of docs/metrics.md, in Prometheus' text format or, where `Accept` asks for it, OpenMetrics. A
        token for single companies gets theirs, and how the service and PostgreSQL stand."""
        headers = request.headers
        scrape = await metrics.scrape(
            headers.get("accept", ""), headers.get("accept-encoding", ""), caller_of(request).companies
        )
        written = Response(scrape.body, media_type=scrape.content_type)
        written.headers["Vary"] = "Accept, Accept-Encoding"
        if scrape.encoding is not None:
            written.headers["Content-Encoding"] = scrape.encoding
        return written

    routes.add(
        "GET",
        PATH,
        get_metrics,
        tag="health",
        scope=None if PATH in routes.parts.guard.public else "read",
        summary="Metrics for Prometheus",
        answers={200: Answer("The metrics.", None, media_types=("text/plain", _OPENMETRICS))},
        also_head=True,
    )
