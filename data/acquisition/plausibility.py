"""Checks of a table across columns: units, shot types at places where they do not count so, and made shots only.

A mistake that most rows show is an error, one that more than a thousandth of them show a warning. The public files
contain a few.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from data import court
from data.cli.console import warn
from data.datasets import Court, Dataset, current
from data.errors import SchemaError
from data.schema import THREE_POINTS, TWO_POINTS

MAX_DIFFERENCE_FEET = 2.0
"""Difference between ``shot_distance`` and the distance of the position from which a row is counted; the largest of the
public files is 1 foot."""

_MIN_ROWS, _MIN_SHARE, _MAX_SHARE = 10, 0.001, 0.5
_MARGIN_FEET = 3.0
_PAINT = ("Restricted Area", "In The Paint (Non-RA)")

Mask = npt.NDArray[np.bool_]


@dataclass
class _Count:
    """Rows that can be checked, and those that contradict themselves."""

    rows: int = 0
    wrong: int = 0
    example: str = ""

    def add(self, checked: Mask, wrong: Mask, chunk: pd.DataFrame, columns: list[str]) -> None:
        self.rows += int(checked.sum())
        self.wrong += int(wrong.sum())
        if wrong.any() and not self.example:
            row = chunk.iloc[int(np.flatnonzero(wrong)[0])]
            self.example = ", ".join(f"{name} {row[name]}" for name in columns)

    @property
    def is_systematic(self) -> bool:
        return self.rows >= _MIN_ROWS and self.wrong > _MAX_SHARE * self.rows


@dataclass
class PlausibilityCheck:
    """Finds rows whose columns contradict each other, chunk by chunk.

    Parameters
    ----------
    name : str
        Name of the table in messages.
    dataset : Dataset
        By default that of this process. Without a court, only the labels are checked.
    """

    name: str
    dataset: Dataset = field(default_factory=current)
    _distance: _Count = field(default_factory=_Count)
    _type: _Count = field(default_factory=_Count)
    _zone: _Count = field(default_factory=_Count)
    _made: int = 0
    _missed: int = 0
    _tenths: int = 0
    _short: int = 0
    _tenfold: int = 0
    _longest: float = 0.0

    def add(self, chunk: pd.DataFrame) -> None:
        """Check the next chunk; a cell that is no number is not checked."""
        label = self.dataset.target.raw_name
        if label in chunk:
            labels = _numbers(chunk, label)
            self._made += int((labels == 1).sum())
            self._missed += int((labels == 0).sum())
        if self.dataset.court:
            self._add_shots(chunk, self.dataset.court)

    def _add_shots(self, chunk: pd.DataFrame, place: Court) -> None:
        names = [self.dataset.column(name).raw_name for name in (place.y, place.x)]
        types = chunk["shot_type"].to_numpy() if "shot_type" in chunk else np.full(len(chunk), None)
        if set(names) <= set(chunk):
            feet = _feet(place.unit, *(_numbers(chunk, name) for name in names))
            self._add_places(chunk, feet, types, names)
            if place.distance and self.dataset.column(place.distance).raw_name in chunk:
                self._add_distances(chunk, feet, self.dataset.column(place.distance).raw_name, names)
        if "shot_zone_basic" in chunk and "shot_type" in chunk:
            zones = chunk["shot_zone_basic"].to_numpy()
            is_three_pointer = np.isin(zones, [zone for zone in court.BASIC_ZONES if zone.endswith("3")])
            wrong = (is_three_pointer & (types == TWO_POINTS)) | (np.isin(zones, _PAINT) & (types == THREE_POINTS))
            self._zone.add(np.isin(zones, court.BASIC_ZONES), wrong, chunk, ["shot_zone_basic", "shot_type"])

    def _add_places(
        self, chunk: pd.DataFrame, feet: npt.NDArray[np.float64], types: npt.NDArray[np.object_], names: list[str]
    ) -> None:
        is_near = feet < court.CORNER_THREE_X - _MARGIN_FEET
        is_far = feet > court.THREE_POINT_RADIUS + _MARGIN_FEET
        wrong = (is_near & (types == THREE_POINTS)) | (is_far & (types == TWO_POINTS))
        checked = ~np.isnan(feet) & np.isin(types, [TWO_POINTS, THREE_POINTS])
        self._type.add(checked, wrong, chunk, ["shot_type", *names])

    def _add_distances(self, chunk: pd.DataFrame, feet: npt.NDArray[np.float64], name: str, names: list[str]) -> None:
        distance = _numbers(chunk, name)
        checked = ~np.isnan(feet) & ~np.isnan(distance)
        wrong = checked & (np.abs(distance - feet) > MAX_DIFFERENCE_FEET)
        self._distance.add(checked, wrong, chunk, [name, *names])
        self._tenths += int((wrong & (np.abs(distance - 10 * feet) <= MAX_DIFFERENCE_FEET)).sum())
        self._longest = max(self._longest, float(distance[checked].max(initial=0.0)))
        self._tenfold += int((wrong & (np.abs(distance / 10 - feet) <= MAX_DIFFERENCE_FEET)).sum())
        self._short += int((wrong & (np.abs(distance / 0.3048 - feet) <= 2 * MAX_DIFFERENCE_FEET)).sum())

    def _require_both_labels(self) -> None:
        dataset, labeled = self.dataset, self._made + self._missed
        if labeled < _MIN_ROWS or (self._made and self._missed):
            return
        found = dataset.positive if self._made else dataset.negative
        message = (
            f"{self.name}: expected {dataset.positive} and {dataset.negative} {dataset.rows}; found {labeled:,} "
            f"{found} ones only. Is {dataset.target.name} the outcome? "
            "Give a table with both, or another target."
        )
        raise SchemaError(message)

    def finish(self) -> None:
        """Print warnings about a few rows.

        Raises
        ------
        SchemaError
            If most rows contradict themselves, or all labeled shots are made.
        """
        place = self.dataset.court
        if place is None:
            self._require_both_labels()
            return
        if self._made >= _MIN_ROWS and not self._missed:
            message = (
                f"{self.name}: expected made and missed shots; found {self._made:,} made shots and no missed one. The "
                "NBA's API returns made shots only by default: download the chart again with "
                "context_measure_simple='FGA'."
            )
            raise SchemaError(message)
        names = ", ".join(self.dataset.column(name).raw_name for name in (place.y, place.x))
        self._finish(self._distance, self._distance_advice(), f"{place.distance} and the position ({names})")
        self._finish(
            self._type, "Check shot_type, and the unit of the position.", f"shot_type and the position ({names})"
        )
        self._finish(self._zone, "Check both columns.", "shot_type and shot_zone_basic")

    def hint(self) -> str:
        """Describe the unit of distances out of range, if most rows show it; empty otherwise."""
        place = self.dataset.court
        if not (place and place.distance and self._distance.is_systematic):
            return ""
        limit = self.dataset.column(place.distance).maximum
        if limit is None or self._longest <= limit or 2 * self._tenfold <= self._distance.wrong:
            return ""
        return f"{place.distance} is in tenths of a foot; feet are expected. Divide it by 10."

    def _distance_advice(self) -> str:
        if hint := self.hint():
            return hint
        if 2 * self._tenths > self._distance.wrong:
            return (
                "The position is a tenth of the distance: LOC_X and LOC_Y are in feet, and tenths of a foot are "
                "expected (lat = 34.0443 - LOC_Y/1000, lon = -118.2698 + LOC_X/1000). Multiply them by 10."
            )
        if 2 * self._short > self._distance.wrong:
            return "shot_distance is in meters; feet are expected. Divide it by 0.3048."
        return "Expected shot_distance in feet, and LOC_X and LOC_Y in tenths of a foot."

    def _finish(self, count: _Count, advice: str, columns: str) -> None:
        if count.wrong <= _MIN_SHARE * count.rows:
            return
        text = (
            f"{self.name}: {columns} contradict each other in {count.wrong:,} of {count.rows:,} row(s), such as "
            f"{count.example}."
        )
        if count.is_systematic:
            message = f"{text} {advice}"
            raise SchemaError(message)
        warn(text)


def _numbers(chunk: pd.DataFrame, name: str) -> npt.NDArray[np.float64]:
    """Values of a column; NaN where a cell is no number."""
    return pd.to_numeric(chunk[name], errors="coerce").to_numpy(dtype=np.float64)


def _feet(unit: str, along: npt.NDArray[np.float64], across: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distance of a position from the hoop."""
    if unit == "degrees":
        return np.hypot(*court.to_feet(along, across))
    return np.hypot(along, across) / (10 if unit == "tenths of a foot" else 1)
