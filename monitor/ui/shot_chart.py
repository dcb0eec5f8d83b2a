"""Shot chart: where shots are taken, their results, and their predictions."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import streamlit as st

from data import court
from data.schema import FEATURES, PROBABILITY, TARGET
from monitor.charts import court as court_charts
from monitor.charts import performance
from monitor.metrics import rates
from monitor.metrics.intervals import slices
from monitor.store.model_store import current_store
from monitor.store.shots import SEASON, UNKNOWN
from monitor.ui import cache, subject, widgets
from serving import registry

_CURRENT, _TEST, _DEV = "data source", "test set", "all development shots"
_COLORS: dict[str, Literal["result", "prediction", "probability", "residual"]] = {
    "result": "result",
    "prediction": "prediction",
    "P(made)": "probability",
    "residual": "residual",
}
_VALUES: dict[str, Literal["rate", "expected", "difference", "shots"]] = {
    "FG% minus expected": "difference",
    "FG%": "rate",
    "expected FG%": "expected",
    "shots": "shots",
}
_RESULTS = ("made", "missed", "no label")
_MIN_SHOTS = 5


@dataclass(frozen=True)
class _Filtered:
    table: pd.DataFrame
    rows: int


def show() -> None:
    """Render the page."""
    st.title("Shot chart")
    with widgets.errors_shown():
        selected = st.segmented_control("Shots", [_CURRENT, _TEST, _DEV], default=_CURRENT, key="shot_chart_shots")
        selected = selected or _CURRENT
        table, version = _table(selected)
    filtered = _filter(table)
    labeled = int(filtered.table[TARGET].notna().sum())
    scorer = f"version {version}" if version else "an unknown version"
    st.caption(
        f"{len(filtered.table):,} of {filtered.rows:,} shots ({selected}), {labeled:,} labeled; scored by {scorer}"
    )
    draw = {
        "Shots": _show_shots,
        "Actual vs. predicted": _show_actual_and_predicted,
        "Zones": _show_zones,
        "Field-goal percentage": _show_rates,
    }
    widgets.tabs(draw, filtered.table, "shot_chart_tab")


def _table(selected: str) -> tuple[pd.DataFrame, str]:
    """The shots, and the version that scored them."""
    if selected == _CURRENT:
        shown = cache.current()
        subject.show(shown.subject)
        return shown.evaluation.current, shown.evaluation.version
    if selected == _TEST:
        found = cache.baseline()
        return found.table.assign(**{SEASON: UNKNOWN}), found.version
    champion = registry.champion_number()
    return cache.development(current_store(), champion), champion


def _filter(table: pd.DataFrame) -> _Filtered:
    columns = st.columns([2, 2, 3, 2])
    known = sorted(table[SEASON].unique())
    seasons = columns[0].multiselect(
        "Season", known, placeholder="all" if known != [UNKNOWN] else "unknown", disabled=known == [UNKNOWN],
        key="shot_chart_season",
    )  # fmt: skip
    named = {f"{period:.0f}": period for period in sorted(table["period"].unique())}
    periods = columns[1].multiselect("Period", list(named), placeholder="all", key="shot_chart_period")
    farthest = max(int(np.ceil(table["shot_distance"].max())), 1)
    low, high = columns[2].slider("Distance, feet", 0, farthest, (0, farthest), key="shot_chart_distance")
    results = columns[3].multiselect("Result", _RESULTS, placeholder="all", key="shot_chart_result")
    kept = table["shot_distance"].between(low, high)
    if seasons:
        kept &= table[SEASON].isin(seasons)
    if periods:
        kept &= table["period"].isin([named[period] for period in periods])
    if results:
        actual = table[TARGET].map({1.0: "made", 0.0: "missed"}).fillna("no label")
        kept &= actual.isin(results)
    return _Filtered(table[kept], len(table))


def _show_shots(table: pd.DataFrame) -> None:
    color = st.segmented_control("Color", list(_COLORS), default="result", key="shot_chart_color") or "result"
    left, right = st.columns([3, 2])
    widgets.base_figure(court_charts.shots_on_court(table, _COLORS[color]), "shots", left)
    with right:
        labeled = table[table[TARGET].notna()]
        columns = st.columns(2)
        widgets.card(columns[0], "Shots", f"{len(table):,}")
        widgets.card(columns[1], "Labeled", f"{len(labeled):,}")
        widgets.card(columns[0], "FG%", f"{labeled[TARGET].mean():.1%}" if len(labeled) else "unknown")
        widgets.card(columns[1], "Mean P(made)", f"{table[PROBABILITY].mean():.1%}" if len(table) else "unknown")
        widgets.base_figure(court_charts.density_on_court(table, "Shot locations"), "density")


def _show_actual_and_predicted(table: pd.DataFrame) -> None:
    left, right = st.columns(2)
    widgets.base_figure(court_charts.shots_on_court(table, "result", "Actual"), "actual", left)
    widgets.base_figure(court_charts.shots_on_court(table, "prediction", "Predicted"), "predicted", right)


def _show_zones(table: pd.DataFrame) -> None:
    value = st.segmented_control("Hexagons show", list(_VALUES), default=next(iter(_VALUES)), key="shot_chart_value")
    cells = rates.hexagons(table, fewest=_MIN_SHOTS)
    figure = court_charts.hexagons_on_court(cells, _VALUES[value or next(iter(_VALUES))])
    left, right = st.columns([3, 2])
    widgets.base_figure(figure, "hexagons", left)
    with right:
        st.markdown(
            "Each hexagon is two feet wide and grows with its number of shots. *Expected* is the mean P(made) of its "
            f"labeled shots. Hexagons with fewer than {_MIN_SHOTS} shots are not drawn."
        )
        zone = slices(table)["zone"]
        widgets.base_figure(performance.rates(rates.rates_by_group(table, zone), "zone", "FG% by zone"), "zones")


def _show_rates(table: pd.DataFrame) -> None:
    named = slices(table[[*FEATURES]])
    columns = st.columns(2)
    for place, (name, groups) in enumerate(named.items()):
        figure = performance.rates(rates.rates_by_group(table, groups), name, f"FG% by {name}")
        widgets.base_figure(figure, f"rates_{name}", columns[place % 2])
    distance = np.minimum(np.floor(table["shot_distance"].to_numpy()), np.ceil(court.MID_COURT_Y)).astype(int)
    figure = performance.rates(rates.rates_by_group(table, distance), "distance, feet", "FG% by distance from the hoop")
    widgets.base_figure(figure, "rates_feet")


if __name__ == "__main__":
    show()
