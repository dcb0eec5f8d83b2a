"""Charts of retraining decisions and of a policy backtest, with plotly for the app."""

import html
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from monitor.charts.layout import base_figure, empty_figure, layout
from monitor.charts.palette import CHALLENGER, CURRENT, LINES, MADE, MISSED, NEUTRAL, REFERENCE, STRATEGY, TRAINING
from monitor.retraining import backtest, calendar
from monitor.store import records
from monitor.store.records import RetrainingDecision

_HOVER_WIDTH = 70


@dataclass(frozen=True)
class MarkerStyle:
    """Color, symbol and size of a marker. The symbol distinguishes it without color."""

    color: str
    symbol: str
    size: int = 13

    @property
    def marker(self) -> dict[str, object]:
        """The ``marker`` argument of plotly."""
        edge = {"width": 2 if self.symbol.endswith("-open") else 0}
        return {"color": self.color, "symbol": self.symbol, "size": self.size, "line": edge}


DRY_RUN = "dry run"
DECISION_STYLES = {
    records.NO_ACTION: MarkerStyle(NEUTRAL, "circle", 11),
    DRY_RUN: MarkerStyle(LINES, "diamond-open"),
    records.PENDING: MarkerStyle(MISSED, "hourglass"),
    records.AWAITING: MarkerStyle(CHALLENGER, "bowtie"),
    records.PROMOTED: MarkerStyle(TRAINING, "star", 17),
    records.REJECTED: MarkerStyle(MADE, "diamond"),
    records.INTERRUPTED: MarkerStyle(REFERENCE, "triangle-down"),
    records.FAILED: MarkerStyle(CURRENT, "x"),
    records.NOTHING_TO_DO: MarkerStyle(NEUTRAL, "square"),
}
"""Markers of decisions by outcome."""
DASHES = {backtest.POLICY: "solid", backtest.NEVER: "dash", backtest.ALWAYS: "dot"}
"""Line styles of the strategies of a policy backtest."""
BACKTEST_STYLES = {
    backtest.ALARM: MarkerStyle(MADE, "triangle-up"),
    backtest.TRAINING: MarkerStyle(REFERENCE, "square", 11),
    backtest.REJECTION: MarkerStyle(CURRENT, "x", 11),
    backtest.PROMOTION: MarkerStyle(TRAINING, "star", 16),
}
"""Markers of the events of a policy backtest."""

_PROMOTION_STYLES = {
    calendar.PROMOTION: ("promotion", MarkerStyle(MISSED, "triangle-up")),
    calendar.ROLL_BACK: ("rollback", MarkerStyle(CHALLENGER, "triangle-left", 14)),
}


def swimlanes(log: Sequence[RetrainingDecision], promotions: pd.DataFrame, versions: pd.DataFrame) -> go.Figure:
    """Versions as lanes: a thick line while a version is champion, and the decisions about it as markers.

    Parameters
    ----------
    log : sequence of RetrainingDecision
    promotions : pandas.DataFrame
        ``when``, ``version``, ``kind`` and ``why``, as returned by `monitor.store.listings.promotions_table`.
    versions : pandas.DataFrame
        ``version``, ``created``, ``gate`` and ``model``, as returned by `monitor.store.listings.versions_table`.
    """
    if versions.empty and not log:
        return empty_figure(base_figure(height=240))
    known = versions.to_dict("records")
    champions = promotions.sort_values("when").to_dict("records") if len(promotions) else []
    lanes = {number: place for place, number in enumerate(sorted(int(row["version"]) for row in known))}
    figure = base_figure(height=110 + 46 * max(len(lanes), 2), legend_rows=2)
    now = datetime.now(UTC)
    for row in known:
        if not pd.isna(row["created"]):
            lane = lanes[int(row["version"])]
            line = {"color": LINES, "width": 2, "dash": "solid" if row["gate"] == "passed" else "dot"}
            figure.add_scatter(
                x=[row["created"], now], y=[lane, lane], mode="lines", line=line, hoverinfo="skip", showlegend=False
            )
    champions = [row for row in champions if int(row["version"]) in lanes]
    for place, row in enumerate(champions):
        end, lane = champions[place + 1]["when"] if place + 1 < len(champions) else now, lanes[int(row["version"])]
        text = _wrapped(
            [f"Version {row['version']} became champion, {calendar.format_datetime(row['when'])}", row["why"]]
        )
        figure.add_scatter(
            x=[row["when"], end], y=[lane, lane], mode="lines", line={"color": MISSED, "width": 12}, name="champion",
            legendgroup="champion", showlegend=place == 0, text=[text, text],
            hovertemplate="%{text}<extra>champion</extra>",
        )  # fmt: skip
    for kind, (name, style) in _PROMOTION_STYLES.items():
        own = [row for row in champions if row["kind"] == kind]
        if own:
            texts = [_wrapped([f"Version {row['version']}: {name}", row["why"]]) for row in own]
            _add_markers(
                figure, [row["when"] for row in own], [lanes[int(row["version"])] for row in own], name, style, texts
            )
    for name, style in DECISION_STYLES.items():
        placed = [(decision, _lane(decision, lanes)) for decision in log if _name(decision) == name]
        shown = [(decision, lane) for decision, lane in placed if lane is not None]
        if shown:
            _add_markers(
                figure, [decision.decided_at for decision, _ in shown], [lane for _, lane in shown], name, style,
                [_hover(decision) for decision, _ in shown],
            )  # fmt: skip
    names = [f"v{version}" for version in lanes]
    figure.update_yaxes(
        tickvals=list(lanes.values()), ticktext=names, range=[-0.7, len(lanes) - 0.3], zeroline=False, showgrid=False
    )
    return figure


def policy_backtest(record: Mapping[str, Any]) -> go.Figure:
    """Log loss of each batch and its running mean by strategy, with the events of continuous training.

    Parameters
    ----------
    record : mapping
        Record of a policy backtest, as written by `monitor.retraining.backtest`.
    """
    batches = record["batches"]
    if not batches:
        return empty_figure(base_figure())
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.4, 0.4, 0.2])
    figure.update_layout(layout("", 640, legend_rows=2))
    numbers = [batch["number"] for batch in batches]
    described = [
        f"{batch['since']} to {batch['until']}<br>{batch['rows']:,} rows, {batch['labeled']:,} labeled; champion "
        f"version {batch['version']}; status {batch['status']}"
        for batch in batches
    ]
    for strategy, name in backtest.STRATEGIES.items():
        line = {"color": STRATEGY[strategy], "dash": DASHES[strategy], "width": 2}
        figure.add_scatter(
            x=numbers,
            y=[batch[strategy] for batch in batches],
            text=described,
            name=name,
            legendgroup=name,
            mode="lines+markers",
            line=line,
            hovertemplate=f"batch %{{x}}: %{{y:.4f}}<br>%{{text}}<extra>{name}</extra>",
            row=1,
            col=1,
        )
        figure.add_scatter(
            x=numbers,
            y=backtest.running_mean(batches, strategy),
            name=name,
            legendgroup=name,
            showlegend=False,
            mode="lines",
            line=line,
            hovertemplate=f"up to batch %{{x}}: %{{y:.4f}}<extra>{name}</extra>",
            row=2,
            col=1,
        )
    _add_events(figure, record["events"])
    figure.update_xaxes(range=[min(numbers) - 0.6, max(numbers) + 1.1])
    figure.update_xaxes(title="batch", row=3, col=1)
    figure.update_yaxes(title="log loss of the batch", row=1, col=1)
    figure.update_yaxes(title="running mean", row=2, col=1)
    figure.update_yaxes(automargin=True, tickformat=".3~f")
    return figure


def _lane(decision: RetrainingDecision, lanes: Mapping[int, int]) -> int | None:
    """The lane of a decision: of its challenger, else of the champion that it is about."""
    for version in (decision.challenger, decision.champion):
        if version.isdecimal() and int(version) in lanes:
            return lanes[int(version)]
    return None


def _name(decision: RetrainingDecision) -> str:
    if decision.decision == records.NO_ACTION:
        return records.NO_ACTION
    if decision.mode == "dry_run":
        return DRY_RUN
    return decision.outcome if decision.outcome in DECISION_STYLES else records.PENDING


def _hover(decision: RetrainingDecision) -> str:
    until = f" until {calendar.format_time_of_label(decision.labels_until)}" if decision.labels_until else ""
    outcome = f"Outcome: {decision.outcome_reason}" if calendar.acted(decision) and decision.outcome_reason else ""
    versions = f"champion version {decision.champion}" if decision.champion else "no champion"
    if decision.challenger:
        versions += f", challenger version {decision.challenger}"
    return _wrapped(
        [
            calendar.describe_decision(decision),
            *(f"• {reason}" for reason in decision.reasons),
            *([outcome] if outcome else []),
            f"{decision.labels:,} labeled rows{until}, {decision.new_labels:,} of them new",
            versions,
        ]
    )


def _wrapped(texts: Iterable[str]) -> str:
    lines = [line for text in texts for line in textwrap.wrap(text, _HOVER_WIDTH)]
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def _add_markers(  # noqa: PLR0913, PLR0917 attributes of a trace
    figure: go.Figure,
    times: Sequence[object],
    lanes: Sequence[int],
    name: str,
    style: MarkerStyle,
    hovers: Iterable[str],
) -> None:
    figure.add_scatter(
        x=list(times),
        y=list(lanes),
        text=list(hovers),
        name=name,
        mode="markers",
        marker=style.marker,
        hovertemplate="%{text}<extra>" + name + "</extra>",
    )


def _add_events(figure: go.Figure, events: Sequence[Mapping[str, Any]]) -> None:
    lanes = {kind: lane for lane, kind in enumerate(reversed(BACKTEST_STYLES))}
    for kind, style in BACKTEST_STYLES.items():
        own = [event for event in events if event["kind"] == kind]
        figure.add_scatter(
            # An event is between its batch and the next one.
            x=[event["batch"] + 0.5 for event in own],
            y=[lanes[kind]] * len(own),
            text=[f"after batch {event['batch']}<br>{_wrapped([event['summary']])}" for event in own],
            name=kind,
            mode="markers",
            marker=style.marker,
            hovertemplate="%{text}<extra>" + kind + "</extra>",
            row=3,
            col=1,
            showlegend=False,
        )
        if kind == backtest.PROMOTION:
            for event in own:
                figure.add_vline(x=event["batch"] + 0.5, line={"color": style.color, "dash": "dot", "width": 1})
    figure.update_yaxes(
        tickvals=list(lanes.values()), ticktext=list(lanes), range=[-0.6, len(lanes) - 0.4], row=3, col=1
    )
