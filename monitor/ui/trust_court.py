"""The trust court in the app: an SVG that plays its seasons in the browser, and sends the spot that is clicked on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import streamlit as st

from data import court
from monitor.charts import trust_court as drawing
from monitor.charts.palette import DIVERGING, DIVERGING_DARK
from monitor.charts.trust_court import TrustCourt
from monitor.ui.text import _

ALL = ""
"""Frame of all seasons."""
_FOLDER = Path(__file__).parent
_DIGITS = 3


class Spot(NamedTuple):
    """Where a person has clicked: feet from the hoop, and the frame that was shown."""

    x: float
    y: float
    frame: str


class Mark(NamedTuple):
    """A promotion between two frames: the frame from which the version predicts, and its name."""

    frame: str
    label: str


class Frames(NamedTuple):
    """Trust courts by season, in order and after `ALL`; and as the browser reads them.

    Attributes
    ----------
    courts : dict of str to TrustCourt
    encoded : str
        JSON.
    digest : str
        SHA-256 of it.
    """

    courts: Mapping[str, TrustCourt]
    encoded: str
    digest: str


def encode(courts: Mapping[str, TrustCourt]) -> Frames:
    """Encode trust courts for the browser, which takes longer than to show them."""
    encoded = json.dumps([{"name": name, **_encoded(found)} for name, found in courts.items()])
    return Frames(courts, encoded, hashlib.sha256(encoded.encode()).hexdigest())


def show(
    frames: Frames,
    *,
    key: str,
    marks: Sequence[Mark] = (),
    frame: str = ALL,
    spot: Spot | None = None,
) -> tuple[str, Spot | None]:
    """Draw the court, and return the frame that is shown and the spot that has just been clicked on.

    Parameters
    ----------
    frames : Frames
    key : str
        Widget key, unique on the page.
    marks : sequence of Mark
    frame : str
        Shown at first.
    spot : Spot, optional
        Marked on the court.
    """
    selected = frame if frame in frames.courts else ALL
    data = {
        "frames": frames.encoded,
        "digest": frames.digest,
        "selected": selected,
        "marks": [mark._asdict() for mark in marks],
        "spot": [spot.x, spot.y] if spot else None,
        **_geometry(),
        "words": {**_words(), "zones": {zone: _(zone) for zone in frames.courts[ALL].zones["zone"]}},
    }
    result = _component()(
        key=key,
        data=data,
        default={"frame": selected},
        on_frame_change=_ignore,
        on_spot_change=_ignore,
        height="content",
    )
    found = getattr(result, "spot", None)
    shown = getattr(result, "frame", None)
    shown = str(shown or selected) if shown in frames.courts else selected
    return shown, Spot(float(found["x"]), float(found["y"]), str(found["frame"])) if found else None


@cache
def _component() -> Any:  # noqa: ANN401 a renderer of Streamlit
    css, js = ((_FOLDER / f"trust_court.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return st.components.v2.component("kobe_trust_court", html='<div class="court"></div>', css=css, js=js)


def _ignore() -> None:
    """A change is read from the result of the component."""


@cache
def _geometry() -> dict[str, Any]:
    return {
        "box": [-drawing.WIDTH / 2, -drawing.TOP, drawing.WIDTH, drawing.TOP - drawing.BOTTOM],
        "lines": [_path(*line) for line in court.court_lines()],
        "outlines": [_path(*line) for line in drawing.zone_lines()],
        "colors": list(DIVERGING),
        "dark": list(DIVERGING_DARK),
        "edges": [round(edge * 100) for edge in drawing.CLASS_EDGES],
    }


def _path(x: Any, y: Any) -> str:  # noqa: ANN401 arrays
    """A line as an SVG path, whose y axis points down."""
    points = [f"{left:.2f} {-up:.2f}" for left, up in zip(np.asarray(x), np.asarray(y), strict=True)]
    return f"M{'L'.join(points)}"


def _encoded(found: TrustCourt) -> dict[str, Any]:
    cells = found.cells
    columns = ("x", "y", "size", "rate", "expected", "low", "high", "difference", "out_of_support")
    rounded = {name: [_plain(value) for value in cells[name].round(_DIGITS)] for name in columns}
    return {
        "radius": round(found.radius * 0.96, _DIGITS),
        "shots": found.shots,
        "labeled": found.labeled,
        "not_drawn": found.not_drawn,
        "out_of_support": round(found.out_of_support, _DIGITS),
        "cells": {
            **rounded,
            "n": cells["shots"].tolist(),
            "labeled": cells["labeled"].tolist(),
            "level": cells["level"].tolist(),
            "significant": cells["significant"].astype(int).tolist(),
            "hatched": cells["hatched"].astype(int).tolist(),
        },
        "zones": [
            {
                "name": zone["zone"], "x": _plain(zone["x"]), "y": _plain(zone["y"]), "n": zone["labeled"],
                "shots": zone["shots"], "rate": _plain(zone["rate"]), "expected": _plain(zone["expected"]),
                "labeled": zone["is_labeled"],
            }
            for zone in found.zones.to_dict("records")
        ],
    }  # fmt: skip


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), _DIGITS)


def _words() -> dict[str, str]:
    return {
        "all": _("All seasons"),
        "play": _("Play the seasons"),
        "pause": _("Pause"),
        "season": _("Season"),
        "expected": _("expected"),
        "shots": _("shots"),
        "without": _("no labels yet"),
        "support": _("unlike all training shots"),
        "of": _("of"),
        "legend_fewer": _("fewer go in than expected"),
        "legend_more": _("more go in, percentage points"),
        "points": _("percentage points"),
        "legend_size": _("size: number of shots"),
        "legend_faded": _("faded: may be chance"),
        "legend_hatched": _("hatched: no training shots there"),
        "legend_hollow": _("hollow: no labels yet"),
        "not_drawn": _("farther shots not drawn"),
        "click": _(
            "Where shots are few, the color is nearer to that of the zone. Click on a spot for its probability."
        ),
        "table": _("Zones as a table"),
        "zone": _("Zone"),
        "fg": _("FG%"),
        "promotion": _("promotion"),
        "title": _("Trust court: shots by place, made minus expected"),
        # A value of the catalog: the browser writes numbers as this language does.
        "locale": _("en-US"),
    }
