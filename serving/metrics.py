"""Figures of the operated door for Prometheus, summed over its workers.

prometheus_client keeps the figures of each process in a file of ``PROMETHEUS_MULTIPROC_DIR``, which must be set before
it is imported; so it is imported in the worker, and a worker that died is still counted.
"""

from typing import Any

_NOT_FOUND = 404
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """Counts requests, rows and seconds."""

    def __init__(self) -> None:
        import prometheus_client as prometheus  # noqa: PLC0415 see above
        from prometheus_client import multiprocess  # noqa: PLC0415

        self._prometheus, self._multiprocess = prometheus, multiprocess
        self.content_type = prometheus.CONTENT_TYPE_LATEST.encode()
        self._requests = prometheus.Counter("kobe_requests", "Requests answered.", ["path", "status"])
        self._rows = prometheus.Counter("kobe_rows_scored", "Rows scored.", ["model_version"])
        self._seconds = prometheus.Histogram(
            "kobe_request_seconds", "Seconds from a request's first byte to its answer.", buckets=_BUCKETS
        )
        self._children: dict[tuple[Any, ...], Any] = {}

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a request and its answer's status."""
        self._child(self._requests, path if status != _NOT_FOUND else "other", str(status)).inc()
        if path == "/invocations":
            self._seconds.observe(seconds)

    def count_rows(self, version: str, rows: int) -> None:
        """Count rows that a version of the model has scored."""
        self._child(self._rows, version).inc(rows)

    def _child(self, metric: Any, *labels: str) -> Any:  # noqa: ANN401
        key = (metric, *labels)
        if key not in self._children:
            self._children[key] = metric.labels(*labels)
        return self._children[key]

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        registry = self._prometheus.CollectorRegistry()
        self._multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return bytes(self._prometheus.generate_latest(registry))
