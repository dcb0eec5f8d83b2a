"""Traffic, latency and errors of the production server, from its own metrics for Prometheus."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import pandas as pd
import requests
import streamlit as st
from prometheus_client.parser import text_string_to_metric_families

from monitor.charts import monitoring
from monitor.ui import widgets
from monitor.ui.text import _
from serving.client.http import session_for

EVERY_SECONDS = 5.0
_KEPT = 720
_TIMEOUT_SECONDS = (1, 3)
_PATH = "/invocations"
_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_QUANTILES = (0.5, 0.99)


@dataclass(frozen=True)
class Scrape:
    """The counters of the server at one time.

    Attributes
    ----------
    time : datetime
        UTC.
    requests : dict of (str, str) to float
        Requests by path and status.
    rows : dict of str to float
        Scored rows by version.
    buckets : dict of float to float
        Cumulative counts of request durations by upper bound in seconds.
    refused, dropped : float
        Refused requests, and rows that the inference log has lost.
    gauges : dict of str to float
        Other values by name, such as ``kobe_open_connections``.
    """

    time: datetime
    requests: dict[tuple[str, str], float] = field(default_factory=dict)
    rows: dict[str, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)
    refused: float = 0.0
    dropped: float = 0.0
    gauges: dict[str, float] = field(default_factory=dict)

    @property
    def scoring_requests(self) -> float:
        """Scoring requests with any status."""
        return sum(count for (path, _status), count in self.requests.items() if path == _PATH)

    def errors(self, since: int, before: int = 600) -> float:
        """Scoring requests with a status in a range."""
        return sum(
            count
            for (path, status), count in self.requests.items()
            if path == _PATH and status.isdecimal() and since <= int(status) < before
        )


def parse(text: str, time: datetime) -> Scrape:
    """Read the text format of Prometheus.

    Raises
    ------
    ValueError
        If it is another text.
    """
    found = Scrape(time)
    refused = dropped = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if sample.name == "kobe_requests_total":
                found.requests[labels["path"], labels["status"]] = sample.value
            elif sample.name == "kobe_rows_scored_total":
                found.rows[labels["model_version"]] = sample.value
            elif sample.name == "kobe_request_seconds_bucket":
                found.buckets[float(labels["le"])] = sample.value
            elif sample.name == "kobe_requests_refused_total":
                refused += sample.value
            elif sample.name == "kobe_inference_log_rows_dropped_total":
                dropped += sample.value
            elif not labels:
                found.gauges[sample.name] = sample.value
    return Scrape(time, found.requests, found.rows, found.buckets, refused, dropped, found.gauges)


def scrape(url: str) -> Scrape | None:
    """The metrics of the server at a URL; None where it does not respond, or has none, as MLflow's own server."""
    try:
        with session_for(url) as session:
            response = session.get(f"{url}/metrics", timeout=_TIMEOUT_SECONDS)
        found = parse(response.text, datetime.now(UTC)) if response.ok else None
    except (requests.RequestException, ValueError, KeyError):
        return None
    return found if found and (found.requests or found.buckets or found.gauges) else None


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """A quantile of durations from cumulative buckets, as Prometheus' ``histogram_quantile``; None without any.

    Examples
    --------
    >>> quantile({0.01: 50.0, 0.1: 100.0, float("inf"): 100.0}, 0.5)
    0.01
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted, low, below = share * total, 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            inside = buckets[bound] - below
            high = low if bound == float("inf") else bound
            return low + (high - low) * (wanted - below) / inside if inside else high
        low, below = bound, buckets[bound]
    return low


def rates(scrapes: Iterable[Scrape]) -> pd.DataFrame:
    """Requests, rows and errors per second, and latency in milliseconds, between each two scrapes.

    A counter that falls has been reset, because the server was restarted: it counts from 0.

    Returns
    -------
    pandas.DataFrame
        ``time``, ``requests``, ``rows``, ``errors_4xx``, ``errors_5xx``, ``p50`` and ``p99`` (NaN without requests).
    """
    found = []
    for before, after in pairwise(scrapes):
        seconds = (after.time - before.time).total_seconds()
        if seconds <= 0:
            continue
        restarted = after.scoring_requests < before.scoring_requests
        start = Scrape(before.time) if restarted else before
        buckets = {bound: count - start.buckets.get(bound, 0.0) for bound, count in after.buckets.items()}
        median, slow = (quantile(buckets, share) for share in _QUANTILES)
        found.append(
            {
                "time": after.time,
                "requests": (after.scoring_requests - start.scoring_requests) / seconds,
                "rows": (sum(after.rows.values()) - sum(start.rows.values())) / seconds,
                "errors_4xx": (after.errors(_CLIENT_ERROR, _SERVER_ERROR) - start.errors(_CLIENT_ERROR, _SERVER_ERROR))
                / seconds,
                "errors_5xx": (after.errors(_SERVER_ERROR) - start.errors(_SERVER_ERROR)) / seconds,
                "p50": float("nan") if median is None else median * 1_000,
                "p99": float("nan") if slow is None else slow * 1_000,
            }
        )
    columns = ["time", "requests", "rows", "errors_4xx", "errors_5xx", "p50", "p99"]
    return pd.DataFrame(found, columns=columns)


@st.cache_resource(show_spinner=False, max_entries=8)
def _history(url: str) -> "deque[Scrape]":
    """The scrapes of a server, shared by all visitors."""
    del url
    return deque(maxlen=_KEPT)


def show(url: str) -> None:
    """Render the traffic, and refresh it while the page is open."""
    st.fragment(_show, run_every=EVERY_SECONDS)(url)


def _show(url: str) -> None:
    history = _history(url)
    now = datetime.now(UTC)
    if not history or (now - history[-1].time).total_seconds() >= EVERY_SECONDS / 2:
        found = scrape(url)
        if found is None:
            st.info(
                _(
                    "This server has no metrics for Prometheus, or does not respond. The production server has "
                    "them: make serve"
                ),
                icon=":material/cloud_off:",
            )
            return
        history.append(found)
    last, table = history[-1], rates(list(history))
    total = last.scoring_requests
    columns = st.columns(5)
    recent = table.iloc[-1] if len(table) else None
    rate = f"{recent['requests']:,.1f}/s" if recent is not None else _("measuring")
    widgets.card(columns[0], _("Scoring requests"), f"{total:,.0f}", rate)
    widgets.card(columns[1], _("Scored rows"), f"{sum(last.rows.values()):,.0f}", _versions(last.rows))
    median, slow = (quantile(last.buckets, share) for share in _QUANTILES)
    widgets.card(
        columns[2], _("Latency, median"), _milliseconds(median), f"99%: {_milliseconds(slow)}",
        meaning=_("From a request's first byte to its response, since the server started."),
    )  # fmt: skip
    invalid, failed = last.errors(_CLIENT_ERROR, _SERVER_ERROR), last.errors(_SERVER_ERROR)
    widgets.card(columns[3], _("Rejected requests (4xx)"), f"{invalid:,.0f}", f"{invalid / total:.1%}" if total else "")
    widgets.card(columns[4], _("Errors (5xx)"), f"{failed:,.0f}", f"{last.dropped:,.0f} {_('logged rows lost')}")
    if len(table):
        left, right = st.columns(2)
        names = {"requests": _("requests"), "errors_4xx": "4xx", "errors_5xx": "5xx"}
        widgets.base_figure(lambda: monitoring.traffic(table, names, _("Requests per second")), "traffic", left)
        widgets.base_figure(
            lambda: monitoring.traffic(table, {"p50": "50%", "p99": "99%"}, _("Latency, milliseconds")),
            "latency",
            right,
        )
    st.caption(_("Read every 5 seconds while this page is open. Prometheus and Grafana keep it: see deploy/."))


def _versions(rows: Mapping[str, float]) -> str:
    return ", ".join(f"v{version}: {count:,.0f}" for version, count in sorted(rows.items()))


def _milliseconds(seconds: float | None) -> str:
    return _("no requests") if seconds is None else f"{seconds * 1_000:,.1f} ms"
