"""Charts of the loop, drawn with plotly for the app: its decisions, a month of its calendar, a replayed operation."""

import html
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from monitor.charts.layout import base_figure, empty_figure, layout
from monitor.charts.palette import CHALLENGER, CURRENT, LINES, MADE, MISSED, NEUTRAL, REFERENCE, STRATEGY, TRAINING
from monitor.retraining import backtest, calendar, decision_log
from monitor.retraining.calendar import CalendarEvent
from monitor.retraining.decision_log import DecisionRecord

_HOVER_WIDTH = 70


@dataclass(frozen=True)
class Mark:
    """How something is drawn: a colour and, for whom colours say nothing, a symbol."""

    colour: str
    symbol: str
    size: int = 13

    @property
    def marker(self) -> dict[str, object]:
        """As plotly takes it."""
        edge = {"width": 2 if self.symbol.endswith("-open") else 0}
        return {"color": self.colour, "symbol": self.symbol, "size": self.size, "line": edge}


DRY_RUN = "only said"
DECISION_MARKS = {
    decision_log.WAIT: Mark(NEUTRAL, "circle", 11),
    DRY_RUN: Mark(LINES, "diamond-open"),
    decision_log.PENDING: Mark(MISSED, "hourglass"),
    decision_log.PROMOTED: Mark(TRAINING, "star", 17),
    decision_log.REFUSED: Mark(MADE, "diamond"),
    decision_log.INTERRUPTED: Mark(REFERENCE, "triangle-down"),
    decision_log.FAILED: Mark(CURRENT, "x"),
    decision_log.NOTHING: Mark(NEUTRAL, "square"),
}
"""Of a decision, by what came of it."""
ENTRY_MARKS = {
    calendar.LOOK: Mark(REFERENCE, "circle"),
    calendar.DECISION: Mark(MADE, "diamond"),
    calendar.PROMOTION: Mark(TRAINING, "star", 16),
    calendar.ROLL_BACK: Mark(CHALLENGER, "triangle-left", 14),
    calendar.DUE: Mark(REFERENCE, "circle-open", 14),
    calendar.TRAINING: Mark(LINES, "square-open"),
    calendar.STALE: Mark(CURRENT, "x-open"),
}
"""Of the entries of the calendar."""
DASHES = {backtest.LOOP: "solid", backtest.NEVER: "dash", backtest.EVERY: "dot"}
"""Of the strategies of a replayed operation."""
EVENT_MARKS = {
    backtest.ALARM: Mark(MADE, "triangle-up"),
    backtest.TRAINING: Mark(REFERENCE, "square", 11),
    backtest.REFUSAL: Mark(CURRENT, "x", 11),
    backtest.PROMOTION: Mark(TRAINING, "star", 16),
}
"""Of what happened in a replay."""

_CHAMPION, _WAITED, _RETRAINED = 0, 1, 2
_CROWNED = {"promotion": ("became champion", Mark(MISSED, "triangle-up")),
            "roll back": ("rolled back", Mark(CHALLENGER, "triangle-left", 14))}  # fmt: skip
_ACROSS = 4


def timeline(log: Sequence[DecisionRecord], promotions: pd.DataFrame) -> go.Figure:
    """Decisions over time, and below them who was champion.

    Parameters
    ----------
    log : sequence of LoggedDecision
    promotions : pandas.DataFrame
        ``when``, ``version``, ``kind`` and ``why``, as `monitor.store.listings.promotions_table` has them.
    """
    figure = base_figure(height=310, legend_rows=2)
    if not log and promotions.empty:
        return empty_figure(figure)
    for name, mark in DECISION_MARKS.items():
        own = [decision for decision in log if _name(decision) == name]
        if own:
            lanes = [_WAITED if decision.decision == decision_log.WAIT else _RETRAINED for decision in own]
            _add_marks(figure, [decision.moment for decision in own], lanes, name, mark, map(_hover, own))
    if len(promotions):
        _add_champions(figure, promotions.sort_values("when"), [decision.moment for decision in log])
    figure.update_yaxes(
        tickvals=[_CHAMPION, _WAITED, _RETRAINED],
        ticktext=["champion", "wait", "retrain"],
        range=[-0.7, 2.5],
        zeroline=False,
        showgrid=True,
    )
    return figure


def month(first: date, entries: Sequence[CalendarEvent], today: date) -> go.Figure:
    """A month as a sheet of a calendar, with a mark for each kind of entry in the cell of its day.

    Parameters
    ----------
    first : datetime.date
        Any day of the month.
    entries : sequence of Entry
        Those of other months are left out, but for the days of the first and last week.
    today : datetime.date
        Its cell has a frame.
    """
    sheet = calendar.weeks(first)
    figure = base_figure(f"{first:%B %Y}", height=130 + 84 * len(sheet), legend_rows=1)
    figure.update_layout(legend={"y": 0, "yanchor": "top"}, margin={"b": 48})
    cells = {day: (column, row) for row, week in enumerate(sheet) for column, day in enumerate(week)}
    figure.update_layout(
        shapes=[_cell(*cells[day], inside=day.month == first.month, now=day == today) for day in cells]
    )
    _add_day_numbers(figure, cells, first)
    for place, (kind, mark) in enumerate(ENTRY_MARKS.items()):
        on_day: dict[date, list[str]] = {}
        for entry in entries:
            if entry.kind == kind and entry.day in cells:
                on_day.setdefault(entry.day, []).append(entry.words)
        if not on_day:
            continue
        # Every kind has its own place within a cell, so that none hides another.
        across, down = -0.36 + 0.24 * (place % _ACROSS), 0.02 + 0.29 * (place // _ACROSS)
        figure.add_scatter(
            x=[cells[day][0] + across for day in on_day],
            y=[cells[day][1] + down for day in on_day],
            name=kind,
            mode="markers+text",
            marker=mark.marker,
            text=[str(len(words)) if len(words) > 1 else "" for words in on_day.values()],
            textposition="middle right",
            customdata=[[calendar.format_date(day), _wrapped(words)] for day, words in on_day.items()],
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra>" + kind + "</extra>",
        )
    figure.update_xaxes(
        tickvals=list(range(7)), ticktext=[f"{day:%a}" for day in sheet[0]], side="top", range=[-0.52, 6.52],
        showgrid=False, zeroline=False, fixedrange=True,
    )  # fmt: skip
    figure.update_yaxes(
        range=[len(sheet) - 0.48, -0.52], showgrid=False, zeroline=False, showticklabels=False, fixedrange=True
    )
    return figure


def replayed(record: Mapping[str, Any]) -> go.Figure:
    """Loss of each batch of a replayed operation, its mean so far, and what the loop did after which batch.

    Parameters
    ----------
    record : mapping
        As `monitor.retraining.backtest.Replay.record` makes it.
    """
    batches = record["batches"]
    if not batches:
        return empty_figure(base_figure())
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.4, 0.4, 0.2])
    figure.update_layout(layout("", 640, legend_rows=2))
    numbers = [batch["number"] for batch in batches]
    described = [
        f"{batch['since']} to {batch['until']}<br>{batch['rows']:,} rows, {batch['labelled']:,} labelled; champion "
        f"version {batch['version']}; verdict {batch['verdict']}"
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
    _add_events(figure, record["marks"])
    figure.update_xaxes(range=[min(numbers) - 0.6, max(numbers) + 1.1])
    figure.update_xaxes(title="batch", row=3, col=1)
    figure.update_yaxes(title="loss of the batch", row=1, col=1)
    figure.update_yaxes(title="mean so far", row=2, col=1)
    figure.update_yaxes(automargin=True, tickformat=".3~f")
    return figure


def _name(decision: DecisionRecord) -> str:
    if decision.decision == decision_log.WAIT:
        return decision_log.WAIT
    if decision.mode == "dry_run":
        return DRY_RUN
    return decision.outcome if decision.outcome in DECISION_MARKS else decision_log.PENDING


def _hover(decision: DecisionRecord) -> str:
    until = f" until {calendar.format_datetime(decision.labels_until)}" if decision.labels_until else ""
    came = f"What came of it: {decision.outcome_reason}" if calendar.acted(decision) and decision.outcome_reason else ""
    versions = f"champion version {decision.champion}" if decision.champion else "no champion"
    if decision.challenger:
        versions += f", challenger version {decision.challenger}"
    return _wrapped(
        [
            calendar.describe_decision(decision),
            *(f"• {reason}" for reason in decision.reasons),
            *([came] if came else []),
            f"{decision.labels:,} labelled rows{until}, {decision.new_labels:,} of them new",
            versions,
        ]
    )


def _wrapped(texts: Iterable[str]) -> str:
    lines = [line for text in texts for line in textwrap.wrap(text, _HOVER_WIDTH)]
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def _add_marks(  # noqa: PLR0913, PLR0917 what a row of marks has
    figure: go.Figure, times: Sequence[object], lanes: Sequence[int], name: str, mark: Mark, hovers: Iterable[str]
) -> None:
    figure.add_scatter(
        x=list(times),
        y=list(lanes),
        text=list(hovers),
        name=name,
        mode="markers",
        marker=mark.marker,
        hovertemplate="%{text}<extra>" + name + "</extra>",
    )


def _add_champions(figure: go.Figure, promotions: pd.DataFrame, moments: Sequence[datetime]) -> None:
    times = list(promotions["when"])
    figure.add_scatter(
        x=[times[0], max([*times, *moments])],
        y=[_CHAMPION, _CHAMPION],
        mode="lines",
        line={"color": LINES, "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=times,
        y=[_CHAMPION - 0.36] * len(times),
        text=[f"v{version}" for version in promotions["version"]],
        mode="text",
        hoverinfo="skip",
        showlegend=False,
    )
    back = promotions["kind"] == "roll back"
    for kind, own in (("promotion", promotions[~back]), ("roll back", promotions[back])):
        if len(own):
            name, mark = _CROWNED[kind]
            hovers = [
                _wrapped([f"Version {version} is champion, {calendar.format_datetime(when)}", str(why)])
                for when, version, why in zip(own["when"], own["version"], own["why"], strict=True)
            ]
            _add_marks(figure, list(own["when"]), [_CHAMPION] * len(own), name, mark, hovers)


def _cell(column: int, row: int, *, inside: bool, now: bool) -> dict[str, object]:
    return {
        "type": "rect",
        "x0": column - 0.48,
        "x1": column + 0.48,
        "y0": row - 0.46,
        "y1": row + 0.46,
        "line": {"color": MISSED if now else LINES, "width": 3 if now else 0.5},
        "fillcolor": "rgba(138, 143, 152, 0.10)" if inside else "rgba(0, 0, 0, 0)",
        "opacity": 1 if inside or now else 0.5,
        "layer": "below",
    }


def _add_day_numbers(figure: go.Figure, cells: dict[date, tuple[int, int]], first: date) -> None:
    for inside in (True, False):
        days = {day: cell for day, cell in cells.items() if (day.month == first.month) is inside}
        figure.add_scatter(
            x=[column - 0.42 for column, _ in days.values()],
            y=[row - 0.28 for _, row in days.values()],
            text=[str(day.day) for day in days],
            mode="text",
            textposition="middle right",
            opacity=1 if inside else 0.45,
            hoverinfo="skip",
            showlegend=False,
        )


def _add_events(figure: go.Figure, marks: Sequence[Mapping[str, Any]]) -> None:
    lanes = {kind: lane for lane, kind in enumerate(reversed(EVENT_MARKS))}
    for kind, mark in EVENT_MARKS.items():
        own = [event for event in marks if event["kind"] == kind]
        figure.add_scatter(
            # It happened between this batch and the next.
            x=[event["batch"] + 0.5 for event in own],
            y=[lanes[kind]] * len(own),
            text=[f"after batch {event['batch']}<br>{_wrapped([event['words']])}" for event in own],
            name=kind,
            mode="markers",
            marker=mark.marker,
            hovertemplate="%{text}<extra>" + kind + "</extra>",
            row=3,
            col=1,
            showlegend=False,
        )
        if kind == backtest.PROMOTION:
            for event in own:
                figure.add_vline(x=event["batch"] + 0.5, line={"color": mark.colour, "dash": "dot", "width": 1})
    figure.update_yaxes(
        tickvals=list(lanes.values()), ticktext=list(lanes), range=[-0.6, len(lanes) - 0.4], row=3, col=1
    )
