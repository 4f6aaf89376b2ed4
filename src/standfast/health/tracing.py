"""Requests, sends and calls to PostgreSQL as OpenTelemetry's spans, where its usual variables ask for them.

Invariant: where tracing is off, OpenTelemetry's SDK is not imported and a span costs one call; a span holds names,
company ids, counts and causes: no phone number, no message, no SQL and no value.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Generator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import structlog

from standfast.errors import StandfastError
from standfast.postgres.observing import ABORTED, CANCELLED, DECLINED, OK, Execution, QueryObserver

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

log = structlog.get_logger(__name__)
Kind = Literal["server", "client", "producer"]
STOP_TIMEOUT_S = 2.0
EXPORT_TIMEOUT_S = 5
_NO_ERRORS = frozenset({OK, DECLINED, CANCELLED, ABORTED})
_NEXT = "Install it: pip install 'standfast[tracing]'; or unset OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_ENDPOINT."
_nothing: contextlib.nullcontext[None] = contextlib.nullcontext()
_tracer: Tracer | None = None


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the variables of OpenTelemetry ask for traces."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporters = environment.get("OTEL_TRACES_EXPORTER")
    if exporters:
        return "otlp" in (one.strip() for one in exporters.split(","))
    return any(
        environment.get(name)
        for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    )


def is_on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


@contextlib.asynccontextmanager
async def traces(node: str) -> AsyncIterator[None]:
    """Spans are made while the context lasts, where this process's environment asks for them."""
    tracing = Tracing(node)
    tracing.start()
    try:
        yield
    finally:
        await tracing.stop()


class Tracing:
    """`start()` and `stop()`; one of a process at a time makes spans."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._provider: TracerProvider | None = None

    def start(self) -> bool:
        """Make spans, where the process's environment asks for them and it can be done; never raises."""
        global _tracer  # noqa: PLW0603 - what makes spans is far from what starts and stops it
        environment = os.environ
        if _tracer is not None or not is_wanted(environment):
            return False
        protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        )
        if protocol != "http/protobuf":
            log.warning("no traces: only OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf is spoken", asked=protocol)
            return False
        try:
            self._provider = _provider(self._node)
        except ImportError:
            log.warning("no traces: OpenTelemetry is not installed", next_step=_NEXT)
            return False
        except Exception as error:  # noqa: BLE001 - a wrong variable must not keep sessions from standing
            log.warning("no traces: OpenTelemetry could not be set up", cause=type(error).__name__)
            return False
        _tracer = self._provider.get_tracer("standfast", version("standfast"))
        return True

    async def stop(self) -> None:
        """Bring away what there is, within seconds whatever the receiver does."""
        global _tracer  # noqa: PLW0603
        provider, self._provider = self._provider, None
        if provider is None:
            return
        _tracer = None
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(done.set)

        # A thread that nobody waits for: it may hang in a receiver that answers nothing.
        threading.Thread(target=end, name="tracing-end", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await done.wait()


def span(
    name: str, kind: Kind, attributes: Mapping[str, Any], parent: Any = None
) -> contextlib.AbstractContextManager[Span | None]:
    """What goes on in the block; None where tracing is off. `parent`: what `here()` or `from_headers()` gave."""
    if _tracer is None:
        return _nothing
    return _spanned(_tracer, name, kind, attributes, parent)


def here() -> Any:
    """The span that is under way, for work that goes on elsewhere; None where tracing is off."""
    if _tracer is None:
        return None
    from opentelemetry import context

    return context.get_current()


def from_headers(headers: Mapping[str, str]) -> Any:
    """The caller's span, by W3C's `traceparent`."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(headers)


def observed(observer: QueryObserver | None) -> QueryObserver | None:
    """The same observer, with spans for what it is told; itself where tracing is off."""
    return observer if _tracer is None else QuerySpans(observer)


class QuerySpans:
    """Makes a span of each call to PostgreSQL, after it has ended, and tells `observer` too."""

    def __init__(self, observer: QueryObserver | None) -> None:
        self._observer = observer

    def on_query(self, execution: Execution) -> None:
        if self._observer is not None:
            self._observer.on_query(execution)
        if _tracer is not None:
            _note(_tracer, execution)


def _note(tracer: Tracer, execution: Execution) -> None:
    from opentelemetry.trace import SpanKind, Status, StatusCode

    ended_ns = time.time_ns()
    made = tracer.start_span(
        execution.name,
        kind=SpanKind.CLIENT,
        start_time=ended_ns - round(execution.duration_s * 1e9),
        attributes={
            "db.system.name": "postgresql",
            "db.operation.name": execution.name,
            "db.response.returned_rows": execution.rows,
            "standfast.retries": execution.retries,
        },
    )
    if execution.outcome not in _NO_ERRORS:
        made.set_attribute("error.type", execution.outcome)
        made.set_status(Status(StatusCode.ERROR))
    made.end(ended_ns)


@contextlib.contextmanager
def _spanned(
    tracer: Tracer, name: str, kind: Kind, attributes: Mapping[str, Any], parent: Any
) -> Generator[Span]:
    from opentelemetry.trace import SpanKind, Status, StatusCode

    with tracer.start_as_current_span(
        name,
        context=parent,
        kind=SpanKind[kind.upper()],
        attributes=dict(attributes),
        record_exception=False,  # an exception's text is not ours to judge here
        set_status_on_exception=False,
    ) as made:
        try:
            yield made
        except Exception as error:
            known = error.code if isinstance(error, StandfastError) else type(error).__name__
            made.set_attribute("error.type", known)
            made.set_status(Status(StatusCode.ERROR))
            raise


def _provider(node: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    environment = os.environ
    facts = {"service.version": version("standfast"), "service.instance.id": node}
    if "service.name=" not in environment.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        facts["service.name"] = environment.get("OTEL_SERVICE_NAME") or "standfast"
    has_timeout = any(
        name.endswith("_TIMEOUT") for name in environment if name.startswith("OTEL_EXPORTER_OTLP")
    )
    exporter = OTLPSpanExporter(timeout=None if has_timeout else EXPORT_TIMEOUT_S)
    provider = TracerProvider(resource=Resource.create(facts), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
