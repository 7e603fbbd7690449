"""A span for a statement and one for each of its phases, sent to an OpenTelemetry collector (OTLP over HTTP).

Their parent is what the client names: ``traceparent`` of a sqlcommenter comment in the statement, or of a ``SET LOCAL`` in its
transaction. Of the statement its text without values is told, never the text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from phiproxy import __version__
from phiproxy.ops.otlp_metrics import resource

_PARENT = rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
_COMMENT = re.compile(rb"traceparent='(" + _PARENT + rb")'[^*]*\*/")
_SET = re.compile(rb"set\s+local\s+[\w.\"]*traceparent\"?\s*(?:=|to)\s*'(" + _PARENT + rb")'", re.IGNORECASE)


def parent_in(sent: bytes) -> str:
    """Return the parent that a comment names in what a client has sent; empty where there is none."""
    found = _COMMENT.search(sent) if b"traceparent" in sent else None
    return found[1].decode() if found is not None else ""


def set_in(sent: bytes) -> str:
    """Return the parent that ``SET LOCAL`` names for the rest of the transaction; empty where there is none."""
    found = _SET.search(sent) if b"traceparent" in sent else None
    return found[1].decode() if found is not None else ""


class Traces:
    """Spans for ``endpoint``; of statements whose client names no parent, the part ``ratio`` of them."""

    def __init__(self, endpoint: str, ratio: float) -> None:
        self._provider = TracerProvider(resource=resource(), sampler=ParentBased(TraceIdRatioBased(ratio)))
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("phiproxy", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def statement(
        self, parent: str, phases: Mapping[str, float], total: float, attributes: Mapping[str, str], verdict: str
    ) -> bool:
        """Leave the spans of a statement that has just ended; False where it is not one of those that are taken.

        Its phases are put one behind the other, as long as each took in all: the proxy may have turned from one to another often.
        """
        context = self._propagator.extract({"traceparent": parent}) if parent else None
        end = time.time_ns()
        begin = end - int(total * 1e9)
        span = self._tracer.start_span("statement", context, SpanKind.SERVER, start_time=begin)
        if not span.is_recording():
            return False
        span.set_attributes({"db.system.name": "postgresql", "phiproxy.verdict": verdict, **attributes})
        if verdict == "refused":
            span.set_status(Status(StatusCode.ERROR, "refused"))
        within, at = trace.set_span_in_context(span), begin
        for phase, seconds in phases.items():
            if seconds > 0:
                behind = at + int(seconds * 1e9)
                self._tracer.start_span(phase, within, start_time=at).end(behind)
                at = behind
        span.end(end)
        return True

    def stop(self) -> None:
        """Send what is left, and end."""
        self._provider.shutdown()
