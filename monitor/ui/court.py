"""Court: where shots are taken, what is expected and what goes in; and a playground to score a spot over REST."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from data import court
from data.datasets import current
from data.schema import PROBABILITY, TARGET
from monitor.charts import court as court_charts
from monitor.charts import performance
from monitor.charts.court_rows import has_place, on_court
from monitor.charts.trust_court import trust_court as court_of
from monitor.health.evaluation import Evaluation
from monitor.metrics import rates
from monitor.metrics.intervals import slices
from monitor.metrics.names import column_name, metric_name
from monitor.store.model_store import current_store
from monitor.store.shots import SEASON, UNKNOWN
from monitor.ui import cache, playground, spot, subject, trust_court, url_state, widgets
from monitor.ui.text import _, sentence

_CURRENT, _TEST, _DEV = "data source", "test set", "all development shots"
_COLORS: dict[str, Literal["result", "prediction", "probability", "residual"]] = {
    "result": "result",
    "prediction": "prediction",
    "P(made)": "probability",
    "residual": "residual",
}
_RESULTS = ("made", "missed", "no label")
_MIN_SHOTS = 5
_VIEW, _TRUST, _PLAYGROUND = "view", "trust", "playground"
_VIEWS = {
    _TRUST: "Trust court",
    "twins": "Actual vs. predicted",
    "shots": "Shots",
    "rates": "Field-goal percentage",
    _PLAYGROUND: "Playground",
}


@dataclass(frozen=True)
class _Filtered:
    """Shots that the filters keep; `of` names the shots and the filters."""

    table: pd.DataFrame
    kept: npt.NDArray[np.bool_]
    rows: int
    of: Hashable


class _Shots(NamedTuple):
    """Shots, the version that scored them, and their evaluation where they are the rows of the data source."""

    table: pd.DataFrame
    version: str
    evaluation: Evaluation | None
    key: str


def show() -> None:
    """Render the page; of a dataset without a court, the playground."""
    if current().court is None:
        st.title(_("Playground"))
        playground.show()
        return
    url_state.restore(_VIEW, _VIEWS, _TRUST)
    left, right = st.columns([1, 3], vertical_alignment="center")
    left.title(_("Court"))
    with right:
        st.segmented_control(
            _("View"), list(_VIEWS), format_func=lambda name: _(_VIEWS[name]), key=_VIEW, required=True,
            label_visibility="collapsed",
        )  # fmt: skip
    view = url_state.remember(_VIEW, _TRUST)
    if view == _PLAYGROUND:
        playground.show()
        return
    with widgets.errors_shown():
        if not has_place(cache.baseline().table, cache.baseline().dataset):
            st.info(_("This dataset has no court. See the drifted features on the page Why."), icon=":material/info:")
            return
        selected = st.segmented_control(
            _("Shots"), [_CURRENT, _TEST, _DEV], default=_CURRENT, key="shot_chart_shots", format_func=_,
            label_visibility="collapsed",
        )  # fmt: skip
        selected = selected or _CURRENT
        shots = _table(selected)
        filtered = _filter(shots)
        labeled = int(filtered.table[TARGET].notna().sum())
        scorer = f"version {shots.version}" if shots.version else "an unknown version"
        st.caption(
            sentence(
                f"{len(filtered.table):,} of {filtered.rows:,} shots ({_(selected)}), {labeled:,} labeled; "
                f"scored by {scorer}"
            )
        )
        if view == _TRUST:
            _show_trust(shots, filtered)
        else:
            _DRAW[view](filtered)


def _table(selected: str) -> _Shots:
    if selected == _CURRENT:
        shown = cache.current()
        subject.show(shown.subject)
        evaluation = shown.evaluation
        return _Shots(on_court(evaluation.current, evaluation.dataset), evaluation.version, evaluation, shown.key)
    if selected == _TEST:
        found = cache.baseline()
        table = on_court(found.table.assign(**{SEASON: UNKNOWN}), found.dataset)
        return _Shots(table, found.version, None, f"{selected} {found.version}")
    champion = cache.champion_number(current_store())
    table = on_court(cache.development(current_store(), champion), cache.baseline().dataset)
    return _Shots(table, champion, None, f"{selected} {champion}")


def _show_trust(shots: _Shots, filtered: _Filtered) -> None:
    evaluation = shots.evaluation
    is_whole = len(filtered.table) == filtered.rows
    if evaluation and is_whole:
        frames = cache.courts(cache.current())
    elif evaluation:
        frames = _one_frame(filtered.table, evaluation.out_of_support[filtered.kept])
    else:
        frames = _one_frame(filtered.table, cache.baseline().support.out_of_support(filtered.table))
    left, right = st.columns([5, 2], gap="medium")
    with left, st.container(key="explorer_box"):
        frame, clicked = trust_court.show(
            frames, key="explorer", marks=cache.promotion_marks(), frame=url_state.read(SEASON), spot=spot.last()
        )
        url_state.write(SEASON, frame)
    with right:
        if evaluation:
            kept = replace(evaluation, current=filtered.table) if not is_whole else evaluation
            spot.show(kept, clicked)
        st.markdown(f"**{_('FG% by zone')}**")
        zones, rate = frames.courts[frame].zones, metric_name("rate")
        widgets.text_table(
            [
                {
                    _("Zone"): _(str(row["zone"])),
                    _("shots"): f"{row['shots']:,}",
                    _("labeled"): f"{row['labeled']:,}",
                    _("FG%"): rate.format(row["rate"]) if row["labeled"] else "-",
                    _("expected"): rate.format(row["expected"]) if row["labeled"] else "-",
                }
                for row in zones.to_dict("records")
            ],
            "zones",
        )
        widgets.download_table(frames.courts[frame].cells, "trust_court", "court_cells")


def _one_frame(table: pd.DataFrame, out_of_support: npt.NDArray[np.bool_]) -> trust_court.Frames:
    return trust_court.encode({trust_court.ALL: court_of(table, out_of_support)})


def _filter(shots: _Shots) -> _Filtered:
    table = shots.table
    columns = st.container(key="explorer_filters").columns([2, 2, 3, 2])
    known = sorted(table[SEASON].unique())
    seasons = columns[0].multiselect(
        _("Season"), known, placeholder=_("all") if known != [UNKNOWN] else _("unknown"), disabled=known == [UNKNOWN],
        key="shot_chart_season",
    )  # fmt: skip
    named = {f"{period:.0f}": period for period in sorted(table["period"].unique())}
    periods = columns[1].multiselect(_("Period"), list(named), placeholder=_("all"), key="shot_chart_period")
    farthest = max(int(np.ceil(table["shot_distance"].max())), 1)
    low, high = columns[2].slider(_("Distance, feet"), 0, farthest, (0, farthest), key="shot_chart_distance")
    results = columns[3].multiselect(_("Result"), _RESULTS, placeholder=_("all"), key="shot_chart_result")
    kept = table["shot_distance"].between(low, high)
    if seasons:
        kept &= table[SEASON].isin(seasons)
    if periods:
        kept &= table["period"].isin([named[period] for period in periods])
    if results:
        actual = table[TARGET].map({1.0: "made", 0.0: "missed"}).fillna("no label")
        kept &= actual.isin(results)
    of = cache.identity(current_store()), shots.key, *map(tuple, (seasons, periods, (low, high), results))
    return _Filtered(table[kept], kept.to_numpy(), len(table), of)


def _show_shots(shots: _Filtered) -> None:
    table, of = shots.table, shots.of
    color = st.segmented_control(
        _("Color"), list(_COLORS), default="result", key="shot_chart_color", format_func=_
    )  # fmt: skip
    color = color or "result"
    left, right = st.columns([3, 2])
    widgets.court_figure(lambda: court_charts.shots_on_court(table, _COLORS[color]), "shots", left, of=(of, color))
    with right:
        labeled = table[table[TARGET].notna()]
        columns = st.columns(2)
        widgets.card(columns[0], _("Shots"), f"{len(table):,}")
        widgets.card(columns[1], _("Labeled"), f"{len(labeled):,}")
        widgets.card(columns[0], _("FG%"), f"{labeled[TARGET].mean():.1%}" if len(labeled) else _("unknown"))
        widgets.card(columns[1], _("Mean P(made)"), f"{table[PROBABILITY].mean():.1%}" if len(table) else _("unknown"))
        widgets.court_figure(lambda: court_charts.density_on_court(table, "Shot locations"), "density", of=of)


def _show_actual_and_predicted(shots: _Filtered) -> None:
    def draw(value: Literal["rate", "expected"], title: str) -> go.Figure:
        return court_charts.hexagons_on_court(rates.hexagons(shots.table, fewest=_MIN_SHOTS), value, title)

    left, right = st.columns(2)
    widgets.court_figure(lambda: draw("rate", _("Actual: FG%")), "actual", left, of=shots.of)
    widgets.court_figure(lambda: draw("expected", _("Predicted: mean P(made)")), "predicted", right, of=shots.of)
    st.caption(
        _("Each hexagon is two feet wide and grows with its number of shots. Hexagons with fewer than 5 are not drawn.")
    )


def _show_rates(shots: _Filtered) -> None:
    columns, table = st.columns(2), shots.table
    for place, (name, groups) in enumerate(slices(table, cache.baseline().dataset).items()):
        label = column_name(name).lower()
        named = groups.cat.rename_categories({each: sentence(str(each)) for each in groups.cat.categories})
        draw = partial(_rates_by, table, named, label, sentence(f"FG% by {label}"))
        widgets.base_figure(draw, f"rates_{name}", columns[place % 2], of=shots.of)
    widgets.base_figure(lambda: _rates_by_foot(table), "rates_feet", of=shots.of)


def _rates_by(table: pd.DataFrame, groups: "pd.Series[str]", by: str, title: str) -> go.Figure:
    return performance.rates(rates.rates_by_group(table, groups), by, title)


def _rates_by_foot(table: pd.DataFrame) -> go.Figure:
    distance, farthest = np.floor(table["shot_distance"].to_numpy()), int(np.ceil(court.MID_COURT_Y))
    feet = rates.rates_by_group(table, np.minimum(distance, farthest).astype(int))
    feet["group"] = feet["group"].astype(str).replace(str(farthest), f"{farthest}+")
    return performance.rates(feet, _("distance, feet"), _("FG% by distance from the hoop"))


_DRAW: dict[str, Callable[[_Filtered], None]] = {
    "twins": _show_actual_and_predicted,
    "shots": _show_shots,
    "rates": _show_rates,
}


if __name__ == "__main__":
    show()
