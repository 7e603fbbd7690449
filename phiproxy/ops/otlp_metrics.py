"""The metrics of ``/metrics``, sent to an OpenTelemetry collector (OTLP over HTTP) now and then, by a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import export as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from phiproxy import __version__

log = structlog.get_logger("phiproxy.otlp")

_CUMULATIVE = otel.AggregationTemporality.CUMULATIVE


class MetricsExport:
    """Sends what a registry of prometheus_client holds to ``endpoint`` every ``interval`` seconds."""

    def __init__(self, registry: CollectorRegistry, endpoint: str, interval: float) -> None:
        self._registry = registry
        self._exporter = OTLPMetricExporter(endpoint=endpoint.rstrip("/") + "/v1/metrics")
        self._interval = interval
        self._began = time.time_ns()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="phiproxy-otlp", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Send once more, and end; waits for that."""
        self._ending.set()
        self._thread.join(10)
        self._exporter.shutdown()

    def send(self) -> bool:
        """Send now; False where the collector did not take it, which is logged."""
        try:
            result = self._exporter.export(metrics_data(self._registry.collect(), self._began))
        except Exception as error:  # a collector that is away, or wrong, must not end the proxy
            log.warning("metrics cannot be sent", type=type(error).__name__)
            return False
        if result is not otel.MetricExportResult.SUCCESS:
            log.warning("metrics cannot be sent", type="refused")
            return False
        return True

    def _run(self) -> None:
        while not self._ending.wait(self._interval):
            self.send()
        self.send()


def metrics_data(families: Iterable[Metric], began: int) -> otel.MetricsData:
    """Return families of prometheus_client as OpenTelemetry has them; counted since ``began`` (nanoseconds)."""
    now = time.time_ns()
    metrics = [metric for family in families for metric in _metric(family, began, now)]
    scope = otel.ScopeMetrics(InstrumentationScope("phiproxy", __version__), metrics, "")
    return otel.MetricsData([otel.ResourceMetrics(resource(), [scope], "")])


def resource() -> Resource:
    """Return what all of it is about; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME add to it."""
    return Resource.create({"service.name": "phiproxy", "service.version": __version__})


def _metric(family: Metric, began: int, now: int) -> Iterable[otel.Metric]:
    if family.type == "histogram":
        points = list(_histograms(family.samples, began, now))
        if points:
            yield otel.Metric(family.name, family.documentation, "s", otel.Histogram(points, _CUMULATIVE))
        return
    wanted = family.name + ("_total" if family.type == "counter" else "")
    numbers = [
        otel.NumberDataPoint(dict(sample.labels), began, now, sample.value) for sample in family.samples if sample.name == wanted
    ]
    if numbers:
        data = otel.Sum(numbers, _CUMULATIVE, is_monotonic=True) if family.type == "counter" else otel.Gauge(numbers)
        yield otel.Metric(family.name, family.documentation, "", data)


def _histograms(samples: Iterable[Sample], began: int, now: int) -> Iterable[otel.HistogramDataPoint]:
    """Gather the samples of each series; Prometheus counts in buckets what is below, OpenTelemetry what is in them."""
    series: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        one = series.setdefault(tuple(sorted(labels.items())), {"buckets": [], "sum": 0.0, "labels": labels})
        if sample.name.endswith("_bucket"):
            one["buckets"].append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            one["sum"] = sample.value
    for one in series.values():
        yield _histogram(one["labels"], sorted(one["buckets"]), one["sum"], began, now)


def _histogram(
    labels: Mapping[str, str], buckets: list[tuple[float, float]], total: float, began: int, now: int
) -> otel.HistogramDataPoint:
    below = [0, *(int(count) for _, count in buckets)]
    counts = [behind - before for before, behind in pairwise(below)]
    bounds = [bound for bound, _ in buckets[:-1]]  # the last has none
    return otel.HistogramDataPoint(dict(labels), began, now, below[-1], total, counts, bounds, 0.0, 0.0)
