"""Figures of the production server for Prometheus, summed over its workers.

prometheus_client keeps the figures of each process in a file of ``PROMETHEUS_MULTIPROC_DIR``, which must be set before
it is imported; so it is imported in the worker, and a crashed worker is still counted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from serving.inference_log.inference_log import DROP_REASONS, InferenceLogWriter
from serving.server.bounded_http import Limiter
from serving.server_limits import limits

_NOT_FOUND = 404
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class ServerMetrics:
    """Counts requests, rows and seconds."""

    def __init__(self) -> None:
        import prometheus_client as prometheus  # noqa: PLC0415 see above
        from prometheus_client import multiprocess  # noqa: PLC0415
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

        self._prometheus, self._multiprocess = prometheus, multiprocess
        self._gauge = GaugeMetricFamily
        self.content_type = prometheus.CONTENT_TYPE_LATEST.encode()
        self._requests = prometheus.Counter("kobe_requests", "Requests with a response.", ["path", "status"])
        self._rows = prometheus.Counter("kobe_rows_scored", "Rows scored.", ["model_version"])
        self._unseen = prometheus.Counter(
            "kobe_unknown_categories",
            "Rows scored with a category unknown to the version.",
            ["model_version", "column"],
        )
        self._seconds = prometheus.Histogram(
            "kobe_request_seconds", "Seconds from a request's first byte to its response.", buckets=_BUCKETS
        )
        self._dropped = prometheus.Counter(
            "kobe_inference_log_rows_dropped", "Scored rows that the inference log has lost.", ["reason"]
        )
        self._refused = prometheus.Counter(
            "kobe_requests_refused", "Requests refused, or closed, for a limit.", ["limit"]
        )
        self._limiter: Limiter | None = None
        self._children: dict[tuple[Any, ...], Any] = {}
        for reason in DROP_REASONS:
            # All from the start: an alarm sees the first row, and on a full disk no file has to grow.
            self._child(self._dropped, reason)
        self._recorder: InferenceLogWriter | None = None

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a request and the status of its response."""
        self._child(self._requests, path if status != _NOT_FOUND else "other", str(status)).inc()
        if path == "/invocations":
            self._seconds.observe(seconds)

    def count_rows(self, version: str, rows: int) -> None:
        """Count rows that a version of the model has scored."""
        self._child(self._rows, version).inc(rows)

    def count_unseen(self, version: str, rows: Mapping[str, int]) -> None:
        """Count the scored rows of each feature whose category the version does not know."""
        for column, count in rows.items():
            self._child(self._unseen, version, column).inc(count)

    def count_dropped(self, reason: str, rows: int) -> None:
        """Count rows that the inference log has lost, by a reason of `DROP_REASONS`."""
        self._child(self._dropped, reason).inc(rows)

    def watch(self, recorder: InferenceLogWriter) -> None:
        """Export from now on the size of the inference log."""
        self._recorder = recorder

    def _figures_of_log(self, recorder: InferenceLogWriter) -> Iterator[Any]:
        status, most = recorder.status(), limits()
        figures = {
            "bytes": ("What the rows of the inference log and their indexes take.", status.log_bytes),
            "file_bytes": ("What the files of an inference log in SQLite take.", status.file_bytes),
            "max_bytes": ("What its rows and their indexes may take.", most.log_bytes),
            "spool_bytes": ("What waits, or has just been moved, before the inference log.", status.spool_bytes),
            "max_spool_bytes": ("What the spool may take.", most.spool_bytes),
            "max_days": ("Age at which retention removes rows.", most.log_days),
            "oldest_timestamp_seconds": ("When the oldest row was scored.", status.oldest),
        }
        for name, (help_text, value) in figures.items():
            if value is not None:
                yield self._gauge(f"kobe_inference_log_{name}", help_text, value)

    def count_refused(self, limit: str) -> None:
        """Count a request, or a connection, that was refused for a limit."""
        self._child(self._refused, limit).inc()

    def show(self, limiter: Limiter) -> None:
        """Export from now on the limits of requests and their use."""
        self._limiter = limiter

    def collect(self) -> Iterator[Any]:
        """The figures that are read at each scrape: of limits, and of the inference log."""
        if self._limiter:
            yield from self._figures_of_limits(self._limiter)
        if self._recorder:
            yield from self._figures_of_log(self._recorder)

    def _figures_of_limits(self, limiter: Limiter) -> Iterator[Any]:
        for limit in fields(limiter.limits):
            value = limiter.most_connections if limit.name == "connections" else getattr(limiter.limits, limit.name)
            yield self._gauge(f"kobe_limit_{limit.name}", f"Limit: {limit.metadata['meaning']}.", value)
        yield self._gauge("kobe_bytes_in_flight", "Bytes of bodies and unread responses.", limiter.bytes_in_flight)
        yield self._gauge("kobe_bodies_in_flight", "Long bodies that arrive or are in work.", limiter.bodies_in_flight)
        yield self._gauge("kobe_open_connections", "Connections of all workers.", limiter.open_connections)

    def _child(self, metric: Any, *labels: str) -> Any:  # noqa: ANN401
        key = (metric, *labels)
        if key not in self._children:
            self._children[key] = metric.labels(*labels)
        return self._children[key]

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        registry = self._prometheus.CollectorRegistry()
        self._multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        registry.register(self)
        return bytes(self._prometheus.generate_latest(registry))
