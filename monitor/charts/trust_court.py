"""The trust court: where shots are taken, and where the model promises more or less than goes in.

This module computes what is drawn. `monitor.charts.static` draws it as an image, `monitor.ui.trust_court` in the app.

Each hexagon has a size, how many shots are taken there, and a color, made minus expected shots per shot. Where shots
are few, the difference is shrunk towards the one of its zone (empirical Bayes with the between-hexagon variance of
R. DerSimonian and N. Laird, Controlled Clinical Trials 7, 1986); where it is not statistically significant, the
hexagon is faded. A hexagon is hatched if most of its shots are out of the training support.
"""

from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data import court
from data.schema import PROBABILITY, TARGET
from monitor.metrics import rates

Floats = npt.NDArray[np.float64]

CLASS_EDGES = (-0.08, -0.03, 0.03, 0.08)
"""Made minus expected shots per shot at which the five classes of color meet."""
HATCHED_FROM = 0.5
"""Out-of-support rate of a hexagon from which it is hatched."""
WIDTH, TOP = 72.0, 35.0
"""Drawn width, centered on the hoop, and the drawn depth, both in feet: the rest of a half court has few shots."""
BOTTOM = -7.0
MIN_SIZE = 0.32
"""Smallest drawn hexagon, as a share of the largest."""

_SIGNIFICANT = NormalDist().inv_cdf(0.975)
_FULL_SIZE_QUANTILE = 0.9
_MIN_ZONE_SHOTS = 10
_MIN_VARIANCE = 1e-4

_LABELS: dict[str, tuple[float, float]] = {
    "Restricted Area": (0.0, -1.6),
    "In The Paint (Non-RA)": (0.0, 9.2),
    "Mid-Range, left": (-16.6, 1.4),
    "Mid-Range, left center": (-13.4, 14.4),
    "Mid-Range, center": (0.0, 18.4),
    "Mid-Range, right center": (13.4, 14.4),
    "Mid-Range, right": (16.6, 1.4),
    "Left Corner 3": (-30.4, 2.6),
    "Right Corner 3": (30.4, 2.6),
    "Above the Break 3, left": (-30.6, 19.0),
    "Above the Break 3, center": (0.0, 31.6),
    "Above the Break 3, right": (30.6, 19.0),
}
"""Zones, in display order, and where each is labeled, in feet from the hoop."""
BACKCOURT = "Backcourt"
_AREAS = {
    "Left Side(L)": "left",
    "Left Side Center(LC)": "left center",
    "Center(C)": "center",
    "Right Side Center(RC)": "right center",
    "Right Side(R)": "right",
}


@dataclass(frozen=True)
class TrustCourt:
    """What one trust court shows.

    Attributes
    ----------
    cells : pandas.DataFrame
        One row per hexagon: ``x`` and ``y`` of its center, feet; ``size``, its radius as a share of the largest;
        ``level``, its class of color from 0 to 4, or -1 without labels; ``significant`` and ``hatched``, bool;
        ``zone``; ``shots``, ``labeled``, ``rate``, ``expected``, ``low`` and ``high`` as in `monitor.metrics.rates`;
        ``difference``, shrunk; ``out_of_support``, the share of its shots.
    zones : pandas.DataFrame
        One row per zone with shots: ``zone``; ``x`` and ``y`` of its label; ``shots``, ``labeled``, ``rate``,
        ``expected``, ``low``, ``high``; ``significant``, bool; ``out_of_support``.
    shots, labeled : int
        Shots on the court and off it, and those of them with a label.
    out_of_support : float
        Share of all shots.
    not_drawn : int
        Shots that are too far away to be drawn.
    radius : float
        Radius of the largest hexagon, feet.
    """

    cells: pd.DataFrame
    zones: pd.DataFrame
    shots: int
    labeled: int
    out_of_support: float
    not_drawn: int
    radius: float = field(default=rates.SIZE_FEET / np.sqrt(3))

    @property
    def description(self) -> str:
        """The court in one sentence, for those who do not see it."""
        drawn = self.zones[self.zones["labeled"] > 0]
        parts = [f"{row.zone}: FG% {row.rate:.1%}, expected {row.expected:.1%}" for row in drawn.itertuples()]
        return f"{self.shots:,} shots, {self.out_of_support:.0%} out of support. {'; '.join(parts) or 'No labels yet'}."


def trust_court(
    shots: pd.DataFrame, out_of_support: npt.NDArray[np.bool_], *, size_feet: float = rates.SIZE_FEET
) -> TrustCourt:
    """Compute the trust court of scored shots.

    Parameters
    ----------
    shots : pandas.DataFrame
        ``lat`` and ``lng`` in degrees, ``shot_made_flag`` (1, 0 or NaN) and ``probability``, P(made).
    out_of_support : ndarray of bool, shape (n,)
        Which shots are out of the training support.
    size_feet : float
        Distance between the centers of adjacent hexagons, feet.
    """
    x, y = court.to_feet(shots["lat"], shots["lng"])
    placed = np.isfinite(x) & np.isfinite(y)
    table = shots.loc[placed, [TARGET, PROBABILITY]].reset_index(drop=True)
    x, y, outside = x[placed], y[placed], np.asarray(out_of_support, dtype=float)[placed]
    labels, expected = table[TARGET].to_numpy(dtype=float), table[PROBABILITY].to_numpy(dtype=float)
    variance = np.where(np.isnan(labels), 0.0, expected * (1 - expected))
    zone_of = zone_names(x, y)
    zones = _summarized(table, zone_of, outside, variance)
    cells = _cells(table, x, y, outside, variance, size_feet)
    cells["zone"] = zone_names(cells["x"].to_numpy(), cells["y"].to_numpy())
    cells = _shrunk(cells, zones)
    drawn = (cells["y"] <= TOP) & (cells["x"].abs() <= WIDTH / 2) & (cells["y"] >= BOTTOM)
    not_drawn = int(cells.loc[~drawn, "shots"].sum())
    cells = cells[drawn].reset_index(drop=True)
    busy = float(np.quantile(cells["shots"], _FULL_SIZE_QUANTILE)) if len(cells) else 1.0
    cells["size"] = np.clip(np.sqrt(cells["shots"] / busy), MIN_SIZE, 1)
    return TrustCourt(
        cells,
        _labeled_zones(zones),
        shots=len(table),
        labeled=int((~np.isnan(labels)).sum()),
        out_of_support=float(outside.mean()) if len(outside) else 0.0,
        not_drawn=not_drawn,
        radius=size_feet / np.sqrt(3),
    )


def zone_names(x: Floats, y: Floats) -> npt.NDArray[np.str_]:
    """Zone of each position in feet from the hoop: the NBA's basic zones, the large ones divided into areas."""
    found = court.zones(x, y)
    area = np.array([_AREAS.get(name, "") for name in found.area.tolist()], dtype="<U12")
    # Above the break there are three areas: the side of the basic zone is the side of the court.
    area = np.where(
        (found.basic == "Above the Break 3") & (area != "center"), np.where(np.asarray(x) < 0, "left", "right"), area
    )
    divided = np.isin(found.basic, ["Mid-Range", "Above the Break 3"])
    return np.where(divided, np.char.add(np.char.add(found.basic.astype("<U30"), ", "), area), found.basic)


def zone_lines() -> list[tuple[Floats, Floats]]:
    """Outlines of the zones that are no lines of the court, each as x and y in feet from the hoop."""
    angle = np.linspace(0, 2 * np.pi, 60)
    lines = [(4 * np.cos(angle), 4 * np.sin(angle))]
    for side in (-1, 1):
        edge = np.array([8.0, 8.0])
        lines.append((side * edge, np.array([court.BASELINE_Y, 13.8])))
        corner = np.array([court.CORNER_THREE_X, court.SIDELINE_X])
        lines.append((side * corner, np.full(2, court.CORNER_THREE_Y)))
        lines.append(_ray(side * 18, 16, np.hypot(court.SIDELINE_X, TOP)))
        lines.append(_ray(side * 54, 16, court.THREE_POINT_RADIUS))
        between = np.radians(np.linspace(18, 54, 20)) * side
        lines.append((16 * np.sin(between), 16 * np.cos(between)))
    lines.append((np.array([-8.0, 8.0]), np.full(2, 13.8)))
    return [_within(each) for each in lines]


def hexagon(radius: float) -> tuple[Floats, Floats]:
    """Corners of a hexagon around the origin; the first points up."""
    angle = np.pi / 2 + np.arange(6) * np.pi / 3
    return radius * np.cos(angle), radius * np.sin(angle)


def hatching(radius: float) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Lines that hatch a hexagon around the origin, from lower left to upper right, each as two ends."""
    inner, slope = radius * np.sqrt(3) / 2, np.sqrt(0.5)
    ends = []
    for offset in (-0.5 * radius, 0.0, 0.5 * radius):
        reach = np.sqrt(inner**2 - offset**2) * slope
        shift = offset * slope
        ends.append(((float(-reach + shift), float(-reach - shift)), (float(reach + shift), float(reach - shift))))
    return ends


def _cells(  # noqa: PLR0913, PLR0917 columns of one table
    table: pd.DataFrame, x: Floats, y: Floats, outside: Floats, variance: Floats, size_feet: float
) -> pd.DataFrame:
    centers, place = rates.hexagon_places(x, y, size_feet)
    found = _summarized(table, place, outside, variance)
    member = found["group"].to_numpy(dtype=np.int64)
    return found.drop(columns="group").assign(x=centers[member, 0], y=centers[member, 1])


def _summarized(table: pd.DataFrame, groups: "npt.NDArray[Any]", outside: Floats, variance: Floats) -> pd.DataFrame:
    """`rates_by_group` with the mean variance of a label and the out-of-support rate of each group."""
    found, (names, place) = rates.rates_by_group(table, groups), np.unique(groups, return_inverse=True)
    total = np.bincount(place, weights=variance, minlength=len(names))
    out = np.bincount(place, weights=outside, minlength=len(names))
    labeled = found["labeled"].to_numpy(dtype=float)
    mean = np.maximum(total / np.maximum(labeled, 1), _MIN_VARIANCE)
    return found.assign(variance=np.where(labeled > 0, mean, np.nan), out_of_support=out / found["shots"])


def _shrunk(cells: pd.DataFrame, zones: pd.DataFrame) -> pd.DataFrame:
    """Shrink the difference of each hexagon towards its zone, as far as differences within zones are only chance."""
    of_zone = zones.set_index("group")
    known = (cells["labeled"] > 0).to_numpy()
    # The center of a hexagon may be in a zone without shots: the hexagon then stands for itself.
    target = cells["zone"].map(of_zone["difference"]).fillna(cells["difference"]).to_numpy(dtype=float)
    rows = cells["labeled"].to_numpy(dtype=float)
    zone_rows = np.maximum(cells["zone"].map(of_zone["labeled"]).fillna(0).to_numpy(dtype=float), rows)
    variance = cells["variance"].to_numpy(dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(known, rows / variance, 0.0)
        between = _between(cells["difference"].to_numpy(dtype=float), target, weight, cells["zone"].to_numpy())
        own = between / (between + variance / rows)
        shrunk = own * cells["difference"].to_numpy(dtype=float) + (1 - own) * target
        error = np.sqrt(own**2 * variance / rows + (1 - own) ** 2 * variance / zone_rows + own * (1 - own) * between)
    level = np.where(known, np.searchsorted(CLASS_EDGES, np.nan_to_num(shrunk), side="right"), -1)
    return cells.assign(
        difference=np.where(known, shrunk, np.nan),
        level=level,
        significant=known & (np.abs(np.nan_to_num(shrunk)) > _SIGNIFICANT * np.nan_to_num(error, nan=np.inf)),
        hatched=cells["out_of_support"] >= HATCHED_FROM,
    )


def _between(difference: Floats, target: Floats, weight: Floats, zone: "npt.NDArray[Any]") -> float:
    """Variance of the hexagons of a zone more than chance explains; 0 where there is none."""
    used = weight > 0
    if used.sum() <= len(np.unique(zone[used])):
        return 0.0
    _, member = np.unique(zone[used], return_inverse=True)
    total = np.bincount(member, weights=weight[used])
    squares = np.bincount(member, weights=weight[used] ** 2)
    excess = float((weight[used] * (difference[used] - target[used]) ** 2).sum()) - (used.sum() - len(total))
    divisor = float((total - squares / total).sum())
    return max(0.0, excess / divisor) if divisor > 0 else 0.0


def _labeled_zones(zones: pd.DataFrame) -> pd.DataFrame:
    order = {name: place for place, name in enumerate([*_LABELS, BACKCOURT])}
    found = zones.rename(columns={"group": "zone"})
    found = found.sort_values("zone", key=lambda names: names.map(order)).reset_index(drop=True)
    error = np.sqrt(found["variance"] / found["labeled"].where(found["labeled"] > 0))
    places = [_LABELS.get(str(name), (np.nan, np.nan)) for name in found["zone"]]
    return found.assign(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        significant=(found["difference"].abs() > _SIGNIFICANT * error).to_numpy(),
        is_labeled=(found["labeled"] >= _MIN_ZONE_SHOTS).to_numpy(),
    )


def _ray(degrees: float, start: float, end: float) -> tuple[Floats, Floats]:
    """A line away from the hoop, at an angle to the middle of the court."""
    distance = np.linspace(start, end, 30)
    return distance * np.sin(np.radians(degrees)), distance * np.cos(np.radians(degrees))


def _within(line: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    x, y = line
    inside = (np.abs(x) <= court.SIDELINE_X) & (y <= TOP) & (y >= court.BASELINE_Y)
    return x[inside], y[inside]
