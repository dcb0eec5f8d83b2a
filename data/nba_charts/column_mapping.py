"""The columns of a shot chart of stats.nba.com, and how the columns of the raw tables come from them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from data import court
from data.errors import SchemaError
from data.schema import COLUMN, SHOT_ID

SIMULATED_CHART = "Simulated Shot Chart Detail: "
"""What ``GRID_TYPE`` of a simulated chart begins with; the name of the simulation follows."""

EXCLUDED_GAME_TYPES = {1: "preseason", 3: "all-star"}
"""Kinds of games, by the digit of ``GAME_ID`` after its leading zeros, whose shots are left out."""
_PLAYOFFS = 4
_FIRST_GAME, _LAST_GAME = 10_000_001, 69_999_999
_GAMES_OF_A_KIND, _GAMES_OF_A_SEASON = 10_000_000, 100_000
_EVENTS = 10_000
# The league began in 1946, and the two digits of its first year will not come again before 2046.
_FIRST_YEAR = 46
_MOST_SHOWN = 10


@dataclass(frozen=True)
class ColumnMapping:
    """How one column of the raw table comes from a chart.

    Attributes
    ----------
    name : str
        Name in the raw table.
    chart : tuple of str
        Columns of the chart that it is made from.
    how : str
        In words.
    """

    name: str
    chart: tuple[str, ...]
    how: str = "as it is"

    @property
    def needed(self) -> bool:
        """Whether there is no table without it."""
        return self.name == "shot_type" or COLUMN[self.name].required


MAPPING: tuple[ColumnMapping, ...] = (
    ColumnMapping(
        SHOT_ID, ("GAME_ID", "GAME_EVENT_ID"), "`GAME_ID` without leading zeros, then `GAME_EVENT_ID` in 4 digits"
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
    ColumnMapping("playoffs", ("GAME_ID",), "1 where the kind of game is 4, else 0"),
    ColumnMapping("season", ("GAME_ID",), "its 4th and 5th digit, as 2015-16"),
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
"""The columns of the written table, in their order."""

REQUIRED_COLUMNS = tuple(dict.fromkeys(name for column in MAPPING if column.needed for name in column.chart))
"""Columns without which a chart cannot be mapped."""


def map_columns(piece: pd.DataFrame, name: str, first_row: int = 0) -> pd.DataFrame:
    """A piece of a chart with the columns of ``MAPPING`` that it has the columns for; numbers may still be texts.

    Parameters
    ----------
    piece : pandas.DataFrame, index 0 to n - 1
    name : str
        What to call the chart in messages.
    first_row : int
        Row of the chart that the piece begins with.

    Raises
    ------
    SchemaError
        Names the rows whose ``GAME_ID``, ``GAME_EVENT_ID`` or ``GAME_DATE`` cannot be one. Other columns are for the
        caller to check.

    Examples
    --------
    >>> made = {"PERIOD": [1], "MINUTES_REMAINING": [10], "SHOT_DISTANCE": [18], "SHOT_MADE_FLAG": [1]}
    >>> where = {"LOC_X": [167], "LOC_Y": [72], "SHOT_TYPE": ["2PT Field Goal"]}
    >>> chart = pd.DataFrame({"GAME_ID": ["0041500407"], "GAME_EVENT_ID": [12]} | made | where)
    >>> map_columns(chart, "chart.csv")[["shot_id", "lat", "lon", "playoffs", "season"]].values.tolist()
    [[415004070012, 33.9723, -118.1028, 1, '2015-16']]
    """
    told = _Told(name, first_row)
    game = told.whole(
        piece["GAME_ID"], _FIRST_GAME, _LAST_GAME, "an NBA game as 0021500001, whose third digit, 1 to 6, is its kind"
    )
    event = told.whole(piece["GAME_EVENT_ID"], 0, _EVENTS - 1, f"a whole number from 0 to {_EVENTS - 1}")
    latitude, longitude = court.to_degrees(
        pd.to_numeric(piece["LOC_X"], errors="coerce") / 10, pd.to_numeric(piece["LOC_Y"], errors="coerce") / 10
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
    if "GAME_DATE" in piece:
        made["game_date"] = told.days(piece["GAME_DATE"])
    if {"VTM", "HTM"} <= set(piece):
        made["matchup"] = piece["VTM"] + " @ " + piece["HTM"]
    columns = {
        column.name: made.get(column.name, piece.get(column.chart[0]))
        for column in MAPPING
        if set(piece).issuperset(column.chart)
    }
    return pd.DataFrame(columns, index=piece.index)


def game_type(game: "pd.Series[int]") -> "pd.Series[int]":
    """The kind of games by their ``GAME_ID`` without leading zeros.

    1 preseason, 2 regular season, 3 all-star, 4 playoffs, 5 play-in, 6 the final of the NBA Cup.
    """
    return game // _GAMES_OF_A_KIND


class _Told:
    """Values of a chart that are what they should be; the rows of those that are not are told."""

    def __init__(self, name: str, first_row: int) -> None:
        self._name, self._first_row = name, first_row

    def whole(self, column: "pd.Series[int]", lowest: int, highest: int, expected: str) -> "pd.Series[int]":
        numbers = pd.to_numeric(column, errors="coerce")
        self._refuse(column, ~(numbers.between(lowest, highest) & (numbers % 1 == 0)), expected)
        return numbers.astype("int64")

    def days(self, column: "pd.Series[str]") -> "pd.Series[str]":
        texts = column.astype("string").str.replace("-", "")
        days = pd.to_datetime(texts.where(texts.str.fullmatch(r"\d{8}")), format="%Y%m%d", errors="coerce")
        self._refuse(column, texts.notna() & days.isna(), "a day as 20151028 or 2015-10-28, or none")
        return days.dt.strftime("%Y-%m-%d")

    def _refuse(self, column: "pd.Series[int] | pd.Series[str]", wrong: "pd.Series[bool]", expected: str) -> None:
        found = np.flatnonzero(wrong)
        if not len(found):
            return
        lines = [
            f"  row {self._first_row + place}, column {column.name}: found {column.iloc[place]!r}, expected {expected}"
            for place in found[:_MOST_SHOWN]
        ]
        more = [f"  and {len(found) - len(lines):,} more"] if len(found) > len(lines) else []
        head = f"{self._name} is no shot chart of the NBA in {len(found):,} row(s). Mend or remove them:"
        raise SchemaError("\n".join([head, *lines, *more]))
