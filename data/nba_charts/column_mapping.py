"""Mapping of the columns of stats.nba.com's shot charts to the columns of the raw tables."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from data import court
from data.datasets import default
from data.errors import SchemaError
from data.schema import COLUMN, SHOT_ID

SIMULATED_CHART = "Simulated Shot Chart Detail: "
"""Prefix of ``GRID_TYPE`` of a simulated chart, before the name of the simulation."""

EXCLUDED_GAME_TYPES = {1: "preseason", 3: "all-star"}
"""Excluded game types, by the digit of ``GAME_ID`` after its leading zeros."""
_PLAYOFFS = 4
_FIRST_GAME, _LAST_GAME = 10_000_001, 69_999_999
_GAMES_OF_A_TYPE, _GAMES_OF_A_SEASON = 10_000_000, 100_000
_EVENTS = 10_000
# The league started in 1946, so two digits of a year are unique until 2046.
_FIRST_YEAR = 46
_MAX_SHOWN = 10


@dataclass(frozen=True)
class ColumnMapping:
    """Mapping of one column of the raw table.

    Attributes
    ----------
    name : str
        Name in the raw table.
    chart : tuple of str
        Source columns of the chart.
    how : str
        Description of the conversion.
    """

    name: str
    chart: tuple[str, ...]
    how: str = "unchanged"

    @property
    def needed(self) -> bool:
        """Whether a chart without the source columns cannot be converted."""
        return self.name == "shot_type" or COLUMN[self.name] in default().required


MAPPING: tuple[ColumnMapping, ...] = (
    ColumnMapping(
        SHOT_ID,
        ("GAME_ID", "GAME_EVENT_ID"),
        "`GAME_ID` without leading zeros, followed by `GAME_EVENT_ID` in 4 digits",
    ),
    ColumnMapping("game_id", ("GAME_ID",), "without leading zeros"),
    ColumnMapping("game_event_id", ("GAME_EVENT_ID",)),
    ColumnMapping("lat", ("LOC_Y",), "34.0443 - `LOC_Y`/1000"),
    ColumnMapping("lon", ("LOC_X",), "-118.2698 + `LOC_X`/1000"),
    ColumnMapping("loc_x", ("LOC_X",)),
    ColumnMapping("loc_y", ("LOC_Y",)),
    ColumnMapping("minutes_remaining", ("MINUTES_REMAINING",)),
    ColumnMapping("seconds_remaining", ("SECONDS_REMAINING",)),
    ColumnMapping("period", ("PERIOD",)),
    ColumnMapping("playoffs", ("GAME_ID",), "1 if the game type is 4, otherwise 0"),
    ColumnMapping("season", ("GAME_ID",), "its 4th and 5th digit, such as 2015-16"),
    ColumnMapping("shot_distance", ("SHOT_DISTANCE",)),
    ColumnMapping("shot_made_flag", ("SHOT_MADE_FLAG",)),
    ColumnMapping("shot_type", ("SHOT_TYPE",)),
    ColumnMapping("action_type", ("ACTION_TYPE",)),
    ColumnMapping("shot_zone_area", ("SHOT_ZONE_AREA",)),
    ColumnMapping("shot_zone_basic", ("SHOT_ZONE_BASIC",)),
    ColumnMapping("shot_zone_range", ("SHOT_ZONE_RANGE",)),
    ColumnMapping("team_id", ("TEAM_ID",)),
    ColumnMapping("team_name", ("TEAM_NAME",)),
    ColumnMapping("game_date", ("GAME_DATE",), "20151028 becomes 2015-10-28"),
    ColumnMapping("matchup", ("VTM", "HTM"), "the visitors @ the hosts"),
)
"""The columns of the converted table, in order."""

REQUIRED_COLUMNS = tuple(dict.fromkeys(name for column in MAPPING if column.needed for name in column.chart))
"""Columns that a chart must have."""


def map_columns(chunk: pd.DataFrame, name: str, first_row: int = 0) -> pd.DataFrame:
    """Convert a chunk of a chart to the columns of ``MAPPING``; numbers may still be strings.

    Parameters
    ----------
    chunk : pandas.DataFrame, index 0 to n - 1
    name : str
        Name of the chart in messages.
    first_row : int
        Row of the chart that the chunk starts with.

    Raises
    ------
    SchemaError
        States the rows with an invalid ``GAME_ID``, ``GAME_EVENT_ID`` or ``GAME_DATE``. Other columns are validated
        later.

    Examples
    --------
    >>> made = {"PERIOD": [1], "MINUTES_REMAINING": [10], "SHOT_DISTANCE": [18], "SHOT_MADE_FLAG": [1]}
    >>> where = {"LOC_X": [167], "LOC_Y": [72], "SHOT_TYPE": ["2PT Field Goal"]}
    >>> chart = pd.DataFrame({"GAME_ID": ["0041500407"], "GAME_EVENT_ID": [12]} | made | where)
    >>> map_columns(chart, "chart.csv")[["shot_id", "lat", "lon", "playoffs", "season"]].values.tolist()
    [[415004070012, 33.9723, -118.1028, 1, '2015-16']]
    """
    validator = _ColumnValidator(name, first_row)
    game = validator.integers(
        chunk["GAME_ID"],
        _FIRST_GAME,
        _LAST_GAME,
        "an NBA game such as 0021500001, with the game type 1 to 6 as its third digit",
    )
    event = validator.integers(chunk["GAME_EVENT_ID"], 0, _EVENTS - 1, f"an integer from 0 to {_EVENTS - 1:,}")
    latitude, longitude = court.to_degrees(
        pd.to_numeric(chunk["LOC_X"], errors="coerce") / 10, pd.to_numeric(chunk["LOC_Y"], errors="coerce") / 10
    )
    year = game // _GAMES_OF_A_SEASON % 100
    year += 1900 + 100 * (year < _FIRST_YEAR)
    made: dict[str, object] = {
        SHOT_ID: game * _EVENTS + event,
        "game_id": game,
        "game_event_id": event,
        "lat": latitude.round(4),
        "lon": longitude.round(4),
        "playoffs": (game_type(game) == _PLAYOFFS).astype("int64"),
        "season": year.astype(str) + "-" + ((year + 1) % 100).astype(str).str.zfill(2),
    }
    if "GAME_DATE" in chunk:
        made["game_date"] = validator.dates(chunk["GAME_DATE"])
    if {"VTM", "HTM"} <= set(chunk):
        made["matchup"] = chunk["VTM"] + " @ " + chunk["HTM"]
    columns = {
        column.name: made.get(column.name, chunk.get(column.chart[0]))
        for column in MAPPING
        if set(chunk).issuperset(column.chart)
    }
    return pd.DataFrame(columns, index=chunk.index)


def game_type(game: "pd.Series[int]") -> "pd.Series[int]":
    """Game types by ``GAME_ID`` without leading zeros.

    1 preseason, 2 regular season, 3 all-star, 4 playoffs, 5 play-in, 6 final of the NBA Cup.
    """
    return game // _GAMES_OF_A_TYPE


class _ColumnValidator:
    """Converts columns of a chart and raises with the rows of invalid values."""

    def __init__(self, name: str, first_row: int) -> None:
        self._name, self._first_row = name, first_row

    def integers(self, column: "pd.Series[int]", lowest: int, highest: int, expected: str) -> "pd.Series[int]":
        numbers = pd.to_numeric(column, errors="coerce")
        self._raise_invalid(column, ~(numbers.between(lowest, highest) & (numbers % 1 == 0)), expected)
        return numbers.astype("int64")

    def dates(self, column: "pd.Series[str]") -> "pd.Series[str]":
        strings = column.astype("string").str.replace("-", "")
        dates = pd.to_datetime(strings.where(strings.str.fullmatch(r"\d{8}")), format="%Y%m%d", errors="coerce")
        self._raise_invalid(column, strings.notna() & dates.isna(), "a date such as 20151028 or 2015-10-28, or none")
        return dates.dt.strftime("%Y-%m-%d")

    def _raise_invalid(
        self, column: "pd.Series[int] | pd.Series[str]", is_invalid: "pd.Series[bool]", expected: str
    ) -> None:
        found = np.flatnonzero(is_invalid)
        if not len(found):
            return
        lines = [
            f"  row {self._first_row + place}, column {column.name}: found {column.iloc[place]!r}, expected {expected}"
            for place in found[:_MAX_SHOWN]
        ]
        more = [f"  and {len(found) - len(lines):,} more"] if len(found) > len(lines) else []
        head = f"{self._name} is not a shot chart of the NBA in {len(found):,} row(s). Fix or remove them:"
        raise SchemaError("\n".join([head, *lines, *more]))
