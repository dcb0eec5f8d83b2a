"""The spot on the court that a person has clicked on: its probability, its FG%, its shots, and its support."""

import numpy as np
import pandas as pd
import streamlit as st

from data import court
from data.schema import PROBABILITY, TARGET
from monitor.charts.court_rows import on_court
from monitor.health.evaluation import Evaluation
from monitor.metrics.rates import wilson
from monitor.store.shots import SEASON
from monitor.ui import playground, widgets
from monitor.ui.text import _
from monitor.ui.trust_court import Spot

REACH_FEET = 2.0
"""Shots within this distance of a spot are its shots."""
_KEY = "court_spot"


def last() -> Spot | None:
    """The spot that was clicked on last."""
    found = st.session_state.get(_KEY)
    return found if isinstance(found, Spot) else None


def show(evaluation: Evaluation, clicked: Spot | None) -> None:
    """Describe the spot that was clicked on last, in a row of cards.

    Parameters
    ----------
    evaluation : Evaluation
        Holds the shots.
    clicked : Spot or None
        A new click.
    """
    if clicked:
        st.session_state[_KEY] = clicked
    spot = last()
    if spot is None:
        return
    near, out = near_spot(evaluation, spot)
    labeled = near[near[TARGET].notna()]
    zone = court.zones(np.array([spot.x]), np.array([spot.y])).basic[0]
    distance = np.hypot(spot.x, spot.y)
    with st.container(border=True, key="spot"):
        season = f" · {widgets.plain(spot.frame)}" if spot.frame else ""
        st.markdown(f"**{_('This spot')}**: {_(zone)}, {distance:.0f} {_('feet from the hoop')}{season}")
        columns = st.columns(4)
        widgets.card(columns[0], _("P(made), mean"), f"{near[PROBABILITY].mean():.1%}" if len(near) else _("no shots"))
        if len(labeled):
            low, high = (float(end[0]) for end in wilson([labeled[TARGET].sum()], [len(labeled)]))
            widgets.card(
                columns[1],
                _("FG%"),
                f"{labeled[TARGET].mean():.1%}",
                _("95% CI {low} to {high}").format(low=f"{low:.0%}", high=f"{high:.0%}"),
            )
        else:
            widgets.card(columns[1], _("FG%"), _("no labels"))
        widgets.card(columns[2], _("Shots"), f"{len(near):,}", f"{len(labeled):,} {_('labeled')}")
        support = _("no shots") if not len(near) else _("trained") if out.mean() < 0.5 else _("never trained")  # noqa: PLR2004 most of them
        _offer_playground(spot)
        widgets.card(columns[3], _("Support"), support, f"{out.mean():.0%} {_('out of support')}" if len(near) else "")


def _offer_playground(spot: Spot) -> None:
    pages = st.session_state.get(widgets.PAGES, {})
    if st.button(_("Score a shot from here"), icon=":material/play_circle:", key="spot_score") and "court" in pages:
        playground.pick(spot.x, spot.y)
        st.switch_page(pages["court"], query_params={"view": "playground"})


def near_spot(evaluation: Evaluation, spot: Spot) -> "tuple[pd.DataFrame, np.ndarray[tuple[int], np.dtype[np.bool_]]]":
    """The shots near a spot in its frame, and which of them are out of support."""
    rows = on_court(evaluation.current, evaluation.dataset)
    x, y = court.to_feet(rows["lat"], rows["lng"])
    kept = np.hypot(x - spot.x, y - spot.y) <= REACH_FEET
    if spot.frame and SEASON in rows:
        kept &= (rows[SEASON] == spot.frame).to_numpy()
    return rows[kept], evaluation.out_of_support[kept]
