"""Court: where shots are taken, what became of them, and what the model thought."""

from dataclasses import dataclass
from typing import Literal

import mlflow
import numpy as np
import pandas as pd
import streamlit as st

from data import court
from data.schema import FEATURES, PROBABILITY, TARGET
from monitor.charts import court as court_charts
from monitor.charts import performance
from monitor.metrics import rates
from monitor.metrics.intervals import slices
from monitor.store.shots import SEASON, UNKNOWN
from monitor.ui import cache, subject, widgets
from serving import registry

_CURRENT, _TEST, _DEV = "in operation", "test rows of dev", "all dev shots"
_COLOURS: dict[str, Literal["result", "prediction", "probability", "residual"]] = {
    "result": "result",
    "prediction": "prediction",
    "P(made)": "probability",
    "residual": "residual",
}
_VALUES: dict[str, Literal["rate", "expected", "difference", "shots"]] = {
    "difference to expected": "difference",
    "rate": "rate",
    "expected rate": "expected",
    "shots": "shots",
}
_RESULTS = ("made", "missed", "no label")
_FEWEST = 5


@dataclass(frozen=True)
class _Filtered:
    table: pd.DataFrame
    of: int


def show() -> None:
    """Draw the page."""
    st.title("Court")
    with widgets.format_values():
        chosen = st.segmented_control("Shots", [_CURRENT, _TEST, _DEV], default=_CURRENT, key="court_shots") or _CURRENT
        table, version = _table(chosen)
    filtered = _filter(table)
    labeled = int(filtered.table[TARGET].notna().sum())
    scored = f"P(made) by version {version}" if version else "P(made) by a version that nobody knows"
    st.caption(f"{len(filtered.table):,} of {filtered.of:,} shots ({chosen}), {labeled:,} of them labeled; {scored}")
    draw = {
        "Shots": _show_shots,
        "Real against predicted": _show_sides,
        "Zones": _show_zones,
        "Rates": _show_rates,
    }
    widgets.tabs(draw, filtered.table, "court_tab")


def _table(chosen: str) -> tuple[pd.DataFrame, str]:
    """The shots, and the version that scored them."""
    if chosen == _CURRENT:
        shown = cache.current()
        subject.show(shown.subject)
        return shown.look.current, shown.look.version
    if chosen == _TEST:
        found = cache.baseline()
        return found.table.assign(**{SEASON: UNKNOWN}), found.version
    champion = registry.number(registry.require_champion())
    return cache.development(mlflow.get_tracking_uri(), champion), champion


def _filter(table: pd.DataFrame) -> _Filtered:
    columns = st.columns([2, 2, 3, 2])
    known = sorted(table[SEASON].unique())
    seasons = columns[0].multiselect(
        "Season", known, placeholder="all" if known != [UNKNOWN] else "not known of these", disabled=known == [UNKNOWN],
        key="court_season",
    )  # fmt: skip
    named = {f"{period:.0f}": period for period in sorted(table["period"].unique())}
    periods = columns[1].multiselect("Period", list(named), placeholder="all", key="court_period")
    farthest = max(int(np.ceil(table["shot_distance"].max())), 1)
    low, high = columns[2].slider("Distance, feet", 0, farthest, (0, farthest), key="court_distance")
    results = columns[3].multiselect("Result", _RESULTS, placeholder="all", key="court_result")
    kept = table["shot_distance"].between(low, high)
    if seasons:
        kept &= table[SEASON].isin(seasons)
    if periods:
        kept &= table["period"].isin([named[period] for period in periods])
    if results:
        said = table[TARGET].map({1.0: "made", 0.0: "missed"}).fillna("no label")
        kept &= said.isin(results)
    return _Filtered(table[kept], len(table))


def _show_shots(table: pd.DataFrame) -> None:
    said = st.segmented_control("Colour", list(_COLOURS), default="result", key="court_colour") or "result"
    left, right = st.columns([3, 2])
    widgets.base_figure(court_charts.shots_on_court(table, _COLOURS[said]), "shots", left)
    with right:
        labelled = table[table[TARGET].notna()]
        columns = st.columns(2)
        widgets.card(columns[0], "Shots", f"{len(table):,}")
        widgets.card(columns[1], "Labelled", f"{len(labelled):,}")
        widgets.card(columns[0], "Made", f"{labelled[TARGET].mean():.1%}" if len(labelled) else "unknown")
        widgets.card(columns[1], "Mean P(made)", f"{table[PROBABILITY].mean():.1%}" if len(table) else "none")
        widgets.base_figure(court_charts.density_on_court(table, "Where they were taken"), "density")


def _show_sides(table: pd.DataFrame) -> None:
    left, right = st.columns(2)
    widgets.base_figure(court_charts.shots_on_court(table, "result", "Real"), "real", left)
    widgets.base_figure(court_charts.shots_on_court(table, "prediction", "Predicted"), "predicted", right)


def _show_zones(table: pd.DataFrame) -> None:
    said = st.segmented_control("Hexagons show", list(_VALUES), default="difference to expected", key="court_value")
    cells = rates.hexagons(table, fewest=_FEWEST)
    figure = court_charts.hexagons_on_court(cells, _VALUES[said or "difference to expected"])
    left, right = st.columns([3, 2])
    widgets.base_figure(figure, "hexagons", left)
    with right:
        st.markdown(
            "Each hexagon is two feet wide and grows with its number of shots. *Expected* is the mean P(made) of its "
            f"labelled shots. Hexagons of fewer than {_FEWEST} shots are left out."
        )
        zone = slices(table)["zone"]
        widgets.base_figure(performance.rates(rates.rates_by_group(table, zone), "zone", "Made by zone"), "zones")


def _show_rates(table: pd.DataFrame) -> None:
    named = slices(table[[*FEATURES]])
    columns = st.columns(2)
    for place, (name, groups) in enumerate(named.items()):
        figure = performance.rates(rates.rates_by_group(table, groups), name, f"Made by {name}")
        widgets.base_figure(figure, f"rates_{name}", columns[place % 2])
    distance = np.minimum(np.floor(table["shot_distance"].to_numpy()), np.ceil(court.MID_COURT_Y)).astype(int)
    figure = performance.rates(
        rates.rates_by_group(table, distance), "distance, feet", "Made by whole feet from the hoop"
    )
    widgets.base_figure(figure, "rates_feet")


if __name__ == "__main__":
    show()
