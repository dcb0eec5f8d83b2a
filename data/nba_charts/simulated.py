"""A synthetic shot chart of a second player, in the columns of stats.nba.com, with a known P(made).

The player is `data.simulation.players.GUARD`. ``GRID_TYPE`` marks each row as synthetic, so a CSV file keeps the mark
too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import AfterValidator, Field
from scipy.special import entr

from data.cli.config import CommandConfig, run_command
from data.cli.console import info
from data.nba_charts.column_mapping import SIMULATED_CHART
from data.simulation import synthetic
from data.simulation.players import GUARD
from data.simulation.synthetic import SIMULATION
from data.storage.files import display_path, translate_disk_full
from data.storage.tables import arrow_schema, table_writer, validate_file_format

_SEASON_AND_KIND = 100_000
_EVENTS_BETWEEN_SHOTS = 24
_PLAYER_ID = 99_000_001


def blocks(rows: int, seed: int) -> Iterator[pd.DataFrame]:
    """Simulate shots of the guard, in chunks like `data.simulation.synthetic.iter_chunks`.

    Ids of games and shots follow the NBA's rules. Rows of a block are sorted by time.

    Parameters
    ----------
    rows, seed : int
        See `data.simulation.synthetic.shots`; at most 1,000,000 rows, because the ids of games end there.
    """
    for start in range(0, rows, synthetic.BLOCK_ROWS):
        table = synthetic.block(seed, start // synthetic.BLOCK_ROWS, GUARD).iloc[: rows - start]
        year = table["season"].str[2:4].astype("int64")
        kind = np.where(table["playoffs"] == 1, 400, 200)
        game = (kind + year) * _SEASON_AND_KIND + table["game_id"] % _SEASON_AND_KIND
        clock = 60 * table["minutes_remaining"] + table["seconds_remaining"]
        ordered = (
            table.assign(game_id=game, clock=-clock)
            .sort_values(["game_date", "game_id", "period", "clock"], ignore_index=True)
            .drop(columns="clock")
        )
        event = 2 + _EVENTS_BETWEEN_SHOTS * ordered.groupby("game_id").cumcount()
        yield ordered.assign(game_event_id=event, shot_id=ordered["game_id"] * 10_000 + event)


def as_chart(shots: pd.DataFrame, simulation: str) -> pd.DataFrame:
    """Convert shots of the guard to the format of stats.nba.com.

    Parameters
    ----------
    shots : pandas.DataFrame
        Of `blocks`.
    simulation : str
        Name of the simulation.
    """
    made = shots["shot_made_flag"].astype("int64")
    home = shots["matchup"].str.contains("vs.", regex=False)
    own = shots["matchup"].str[:3]
    chart = pd.DataFrame(
        {
            "GRID_TYPE": SIMULATED_CHART + simulation,
            "GAME_ID": shots["game_id"].astype(str).str.zfill(10),
            "GAME_EVENT_ID": shots["game_event_id"],
            "PLAYER_ID": _PLAYER_ID,
            "PLAYER_NAME": "Simulated Guard",
            "TEAM_ID": shots["team_id"],
            "TEAM_NAME": shots["team_name"],
            "PERIOD": shots["period"],
            "MINUTES_REMAINING": shots["minutes_remaining"],
            "SECONDS_REMAINING": shots["seconds_remaining"],
            "EVENT_TYPE": np.where(made == 1, "Made Shot", "Missed Shot"),
            "ACTION_TYPE": shots["action_type"],
            "SHOT_TYPE": shots["shot_type"],
            "SHOT_ZONE_BASIC": shots["shot_zone_basic"],
            "SHOT_ZONE_AREA": shots["shot_zone_area"],
            "SHOT_ZONE_RANGE": shots["shot_zone_range"],
            "SHOT_DISTANCE": shots["shot_distance"],
            "LOC_X": shots["loc_x"],
            "LOC_Y": shots["loc_y"],
            "SHOT_ATTEMPTED_FLAG": 1,
            "SHOT_MADE_FLAG": made,
            "GAME_DATE": shots["game_date"].str.replace("-", ""),
            "HTM": own.where(home, shots["opponent"]),
            "VTM": shots["opponent"].where(home, own),
        }
    )
    chart.attrs[SIMULATION] = simulation
    return chart


class SyntheticChartConfig(CommandConfig):
    """Write a synthetic shot chart of a modern guard, in the columns of stats.nba.com."""

    rows: int = Field(default=15_000, ge=1, le=1_000_000, description="number of shots")
    seed: int = Field(default=42, ge=0, description="the same seed gives the same shots")
    out: Annotated[Path, AfterValidator(validate_file_format)] = Field(description="a .csv or .parquet file")


def run(config: SyntheticChartConfig) -> None:
    """Write the chart and print the log loss of the true probabilities."""
    out, simulation = config.out.resolve(), f"{GUARD.name} {synthetic.name(config.rows, config.seed)}"
    schema = arrow_schema(as_chart(next(blocks(1, config.seed)), simulation))
    losses = []
    with translate_disk_full(out.parent), table_writer(out, schema) as writer:
        for shots in blocks(config.rows, config.seed):
            writer.write(pa.Table.from_pandas(as_chart(shots, simulation), schema=schema, preserve_index=False))
            true_p = synthetic.true_probability(shots, GUARD)
            expected: pd.Series[float] = pd.Series(entr(true_p) + entr(1 - true_p))
            losses.append(expected.groupby(shots["shot_type"]).agg(["sum", "count"]))
    info("Simulated", f"a guard's chart of {config.rows:,} shots: {display_path(out)}")
    for points, total, count in pd.concat(losses).groupby(level=0).sum().itertuples(name=None):
        info("  log loss of the true probabilities:", f"{total / count:.4f} ({points}, {count:,.0f} shots)", style="")


if __name__ == "__main__":
    run_command(SyntheticChartConfig, run)
