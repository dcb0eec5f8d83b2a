"""Court geometry: positions in degrees and in feet from the hoop, zones, and the lines of an NBA half-court.

Positions are in feet from the center of the hoop. `x` runs across the court and grows to the right in the NBA's shot
charts. `y` runs along the court, towards the other basket. The dimensions come from rule 1 of the NBA rule book.
"""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Strings = npt.NDArray[np.str_]

HOOP_LATITUDE = 34.0443
HOOP_LONGITUDE = -118.2698
FEET_PER_DEGREE = 100.0

BASELINE_Y = -5.25
SIDELINE_X = 25.0
MID_COURT_Y = 41.75
THREE_POINT_RADIUS = 23.75
CORNER_THREE_X = 22.0
CORNER_THREE_Y = 8.75

RANGES = ("Less Than 8 ft.", "8-16 ft.", "16-24 ft.", "24+ ft.", "Back Court Shot")
"""The NBA's bands of distance, from the hoop outwards."""
BASIC_ZONES = (
    *("Restricted Area", "In The Paint (Non-RA)", "Mid-Range"),
    *("Left Corner 3", "Right Corner 3", "Above the Break 3", "Backcourt"),
)
"""The NBA's basic zones, from the hoop outwards."""


class Place(Protocol):
    """Which columns are a position, as `data.datasets.Court` describes them."""

    @property
    def x(self) -> str:
        """Column across the court."""

    @property
    def y(self) -> str:
        """Column along the court."""

    @property
    def unit(self) -> str:
        """``degrees``, ``feet`` or ``tenths of a foot``."""


def positions(table: pd.DataFrame, place: Place) -> tuple[Floats, Floats]:
    """Return the positions of shots across and along the court, feet from the hoop.

    Parameters
    ----------
    table : pandas.DataFrame
    place : Place
        Names and unit of the columns.
    """
    x, y = (table[name].to_numpy(dtype=float) for name in (place.x, place.y))
    if place.unit == "degrees":
        return to_feet(y, x)
    scale = 10 if place.unit == "tenths of a foot" else 1
    return x / scale, y / scale


def to_feet(latitude: npt.ArrayLike, longitude: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Convert positions in degrees to feet from the hoop.

    Parameters
    ----------
    latitude, longitude : array_like of float, shape (n,)
        ``lat`` and ``lon`` of the raw files, degrees.

    Returns
    -------
    x, y : ndarray of float64, shape (n,)
        Across and along the court, feet.

    Examples
    --------
    >>> x, y = to_feet([33.9723], [-118.1028])
    >>> x.round(1).tolist(), y.round(1).tolist()
    ([16.7], [7.2])
    """
    x = (np.asarray(longitude, dtype=float) - HOOP_LONGITUDE) * FEET_PER_DEGREE
    y = (HOOP_LATITUDE - np.asarray(latitude, dtype=float)) * FEET_PER_DEGREE
    return x, y


def to_degrees(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Convert positions in feet from the hoop to latitude and longitude; the inverse of `to_feet`."""
    latitude = HOOP_LATITUDE - np.asarray(y, dtype=float) / FEET_PER_DEGREE
    longitude = HOOP_LONGITUDE + np.asarray(x, dtype=float) / FEET_PER_DEGREE
    return latitude, longitude


def is_three_pointer(x: Floats, y: Floats) -> npt.NDArray[np.bool_]:
    """Whether a shot from each position counts three points."""
    corner = (y <= CORNER_THREE_Y) & (np.abs(x) >= CORNER_THREE_X)
    return corner | ((y > CORNER_THREE_Y) & (np.hypot(x, y) >= THREE_POINT_RADIUS))


class Zones(NamedTuple):
    """The NBA's three zone names of each position, each of shape (n,)."""

    basic: Strings
    area: Strings
    range: Strings


def zones(x: Floats, y: Floats) -> Zones:
    """Assign positions in feet from the hoop to the NBA's zones.

    The boundaries are estimated from the public files: radii of 4, 8, 16 and 24 feet, angles of 18, 30 and 54 degrees.
    """
    distance = np.hypot(x, y)
    angle = np.degrees(np.arctan2(np.abs(x), y))
    three = is_three_pointer(x, y)
    backcourt = y > MID_COURT_Y
    left = x < 0
    paint = (np.abs(x) <= 8) & (y <= 13.8)
    corner = np.where(left, "Left Corner 3", "Right Corner 3")
    basic = np.select(
        [backcourt, three & (y <= CORNER_THREE_Y), three, distance < 4, paint],
        ["Backcourt", corner, "Above the Break 3", "Restricted Area", "In The Paint (Non-RA)"],
        "Mid-Range",
    )
    full_side = np.where(left, "Left Side(L)", "Right Side(R)")
    half_side = np.where(left, "Left Side Center(LC)", "Right Side Center(RC)")
    center = (distance < 8) | (angle <= np.where(distance < 16, 30, 18))
    near_center = (distance >= 16) & (angle <= 54) | (three & (y > CORNER_THREE_Y))
    area = np.select([backcourt, center, near_center], ["Back Court(BC)", "Center(C)", half_side], full_side)
    bands = ["Back Court Shot", "24+ ft.", "Less Than 8 ft.", "8-16 ft."]
    band = np.select([backcourt, three, distance < 8, distance < 16], bands, "16-24 ft.")
    return Zones(basic, area, band)


def court_lines() -> list[tuple[Floats, Floats]]:
    """The lines of a half-court, each as x and y in feet from the hoop, for any plotting library."""
    corner_y = np.sqrt(THREE_POINT_RADIUS**2 - CORNER_THREE_X**2)
    free_throw_y = BASELINE_Y + 19
    start = np.arctan2(corner_y, CORNER_THREE_X)
    return [
        _line(
            (-SIDELINE_X, BASELINE_Y),
            (SIDELINE_X, BASELINE_Y),
            (SIDELINE_X, MID_COURT_Y),
            (-SIDELINE_X, MID_COURT_Y),
            (-SIDELINE_X, BASELINE_Y),
        ),
        _line((-8, BASELINE_Y), (-8, free_throw_y), (8, free_throw_y), (8, BASELINE_Y)),
        _line((-6, BASELINE_Y), (-6, free_throw_y)),
        _line((6, BASELINE_Y), (6, free_throw_y)),
        _arc(0, free_throw_y, 6, 0, 2 * np.pi),
        _line((-3, -1.25), (3, -1.25)),
        _arc(0, 0, 0.75, 0, 2 * np.pi),
        _arc(0, 0, 4, 0, np.pi),
        _line((CORNER_THREE_X, BASELINE_Y), (CORNER_THREE_X, corner_y)),
        _line((-CORNER_THREE_X, BASELINE_Y), (-CORNER_THREE_X, corner_y)),
        _arc(0, 0, THREE_POINT_RADIUS, start, np.pi - start),
        _arc(0, MID_COURT_Y, 6, np.pi, 2 * np.pi),
    ]


def _line(*points: tuple[float, float]) -> tuple[Floats, Floats]:
    x, y = np.array(points, dtype=float).T
    return x, y


def _arc(x: float, y: float, radius: float, start: float, end: float) -> tuple[Floats, Floats]:
    angle = np.linspace(start, end, 100)
    return x + radius * np.cos(angle), y + radius * np.sin(angle)
