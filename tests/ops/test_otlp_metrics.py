"""Metrics of prometheus_client as OpenTelemetry has them."""

from opentelemetry.sdk.metrics import export as otel
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from phiproxy.ops.otlp_metrics import metrics_data


def test_each_kind() -> None:
    registry = CollectorRegistry()
    Counter("c", "counted", ["label"], registry=registry).labels("x").inc(3)
    Gauge("g", "measured", registry=registry).set(1.5)
    histogram = Histogram("h", "spread", ["phase"], registry=registry, buckets=(0.1, 1))
    for value in (0.05, 0.5, 0.6, 7):
        histogram.labels("plan").observe(value)
    data = metrics_data(registry.collect(), 5)
    metrics = {metric.name: metric.data for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert set(metrics) == {"c", "g", "h"}
    counted = metrics["c"]
    assert isinstance(counted, otel.Sum)
    assert counted.is_monotonic
    assert [(point.value, point.attributes, point.start_time_unix_nano) for point in counted.data_points] == [
        (3, {"label": "x"}, 5)
    ]
    measured = metrics["g"]
    assert isinstance(measured, otel.Gauge)
    assert measured.data_points[0].value == 1.5
    spread = metrics["h"]
    assert isinstance(spread, otel.Histogram)
    (point,) = spread.data_points
    assert (list(point.bucket_counts), list(point.explicit_bounds), point.count) == ([1, 2, 1], [0.1, 1.0], 4)
    assert point.attributes == {"phase": "plan"}
    assert 8.1 < point.sum < 8.2
