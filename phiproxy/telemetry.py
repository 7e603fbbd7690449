"""``telemetry``: metrics and traces for an OpenTelemetry collector. Its libraries are imported only where it is configured."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from phiproxy.errors import ConfigError
from phiproxy.net.statement_times import Finished, StatementTimes
from phiproxy.policy.settings import Telemetry

if TYPE_CHECKING:
    from phiproxy.ops.otlp_metrics import MetricsExport
    from phiproxy.ops.otlp_traces import Traces


class Sending:
    """What one process sends: the metrics of a registry, and the spans of the statements that are measured; either may be None.

    ConfigError where the libraries are missing that are configured.
    """

    def __init__(self, telemetry: Telemetry, registry: CollectorRegistry | None, times: StatementTimes | None) -> None:
        self._metrics: MetricsExport | None = None
        self._traces: Traces | None = None
        if telemetry.endpoint is None:
            return
        try:
            from phiproxy.ops.otlp_metrics import MetricsExport  # noqa: PLC0415
            from phiproxy.ops.otlp_traces import Traces  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise ConfigError(f"telemetry needs {error.name}", hint="pip install 'phiproxy[otel]'") from None
        if times is not None and telemetry.traces:
            self._traces = Traces(telemetry.endpoint, telemetry.ratio)
            times.told_to(partial(_trace, self._traces, telemetry.ratio), every=True)
        if registry is not None:
            self._metrics = MetricsExport(registry, telemetry.endpoint, telemetry.interval)
            self._metrics.start()

    async def stop(self) -> None:
        """Send what is left, and end."""
        for each in (self._metrics, self._traces):
            if each is not None:
                await asyncio.to_thread(each.stop)


def _trace(traces: Traces, ratio: float, finished: Finished) -> None:
    from phiproxy.ops.otlp_traces import parent_in, set_in  # noqa: PLC0415

    finished.trace.parent = set_in(finished.chunk) or finished.trace.parent
    parent = parent_in(finished.chunk) or finished.trace.parent
    if parent or ratio:
        about = {_NAMES[name]: value for name, value in finished.about.items()}
        if (shape := finished.shape()) is not None:
            about["db.query.text"] = shape
        traces.statement(parent, finished.phases, finished.total, about, finished.verdict)
    if finished.session.status == b"I":
        finished.trace.parent = ""  # SET LOCAL ends with the transaction


_NAMES = {"client": "client.address", "user": "db.user", "database": "db.namespace"}
