"""Simulation of shots with the 25 columns of the public files and a known P(made).

Shares and field-goal percentages by distance (`data.simulation.players`) and the effects below are estimated from the
public files and rounded. The true P(made) is a smooth function of the six features alone, so tests can measure the
error of a model. Shots are generated in chunks of a fixed size, each from its own random stream. The first n rows of a
seed are therefore the same for any number of rows, and any number of rows is written in the memory of one chunk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pydantic import AfterValidator, Field

from data import court
from data.cli.config import CommandConfig
from data.cli.console import info
from data.cli.progress import ProgressCallback, progress_bar
from data.schema import COLUMN, THREE_POINTS, TWO_POINTS
from data.simulation.players import KOBE, Player
from data.storage.files import atomic_write, display_path, size_bytes, translate_disk_full
from data.storage.tables import TableWriter, arrow_schema, table_writer, validate_file_format

Floats = npt.NDArray[np.float64]

PUBLIC_ROWS = 30_697
"""Number of rows of both public files, the default size."""

BLOCK_ROWS = 65_536

SIMULATION = "simulation"
"""Key of ``DataFrame.attrs`` that marks synthetic shots; pandas keeps it in the Parquet files that it writes."""

COLUMNS = tuple(COLUMN)
"""Names of the columns of synthetic shots, those of the public files."""

_FEET = np.array([0, 1.5, 4, 8, 15, 18, 23.5, 25, 27, 29, 32, 40, 94])
_OPPONENTS = np.array(
    [
        *("ATL", "BKN", "BOS", "CHA", "CHI", "CLE", "DAL", "DEN", "DET", "GSW", "HOU", "IND", "LAC", "MEM", "MIA"),
        *("MIL", "MIN", "NOP", "NYK", "OKC", "ORL", "PHI", "PHX", "POR", "SAC", "SAS", "TOR", "UTA", "WAS"),
    ]
)
_SHOTS_PER_GAME = 20


def true_probability(table: pd.DataFrame, player: Player = KOBE) -> Floats:
    """The true P(made) of synthetic shots.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns lat, lon (or lng), minutes_remaining, period, playoffs, shot_distance.
    player : Player
        Player who takes the shots.

    Returns
    -------
    ndarray of float64, shape (n,)
        P(made) of each shot.

    Examples
    --------
    >>> shots = iter_chunks(1_000, seed=7)
    >>> true_probability(next(shots)).round(2).max() <= 0.75
    True
    """
    longitude = table["lon"] if "lon" in table else table["lng"]
    x, _ = court.to_feet(table["lat"], longitude)
    distance = table["shot_distance"].to_numpy(dtype=float)
    fg_percentage = np.interp(distance, _FEET, player.fg_percentage)
    logit = np.log(fg_percentage / (1 - fg_percentage)) + 0.006 * x
    logit = logit - 0.25 * (table["minutes_remaining"].to_numpy() == 0) - 0.04 * (table["period"].to_numpy() - 2.5)
    return np.asarray(1 / (1 + np.exp(-logit)), dtype=float)


def shots(rows: int, seed: int) -> pd.DataFrame:
    """Simulate a table of two-point and three-point shots.

    Parameters
    ----------
    rows : int
        Number of shots, 1 or more.
    seed : int
        The same seed gives the same shots.

    Returns
    -------
    pandas.DataFrame
        The 25 columns of the public files with their types. ``shot_made_flag`` is missing in about 16% of the rows.
        `true_probability` gives their true P(made). ``attrs`` marks them as synthetic.

    Raises
    ------
    ValueError
        If `rows` is less than 1.
    """
    table = pd.concat(iter_chunks(rows, seed), ignore_index=True)
    table.attrs[SIMULATION] = name(rows, seed)
    return table


def name(rows: int, seed: int) -> str:
    """Name of a simulation.

    Examples
    --------
    >>> name(100, 42)
    'rows=100 seed=42'
    """
    return f"rows={rows} seed={seed}"


def iter_chunks(rows: int, seed: int) -> Iterator[pd.DataFrame]:
    """Simulate the shots of `shots`, in blocks of at most ``BLOCK_ROWS`` rows."""
    if rows < 1:
        message = f"rows: expected 1 or more, found {rows}"
        raise ValueError(message)
    for start in range(0, rows, BLOCK_ROWS):
        yield block(seed, start // BLOCK_ROWS).iloc[: rows - start]


def block(seed: int, number: int, player: Player = KOBE) -> pd.DataFrame:
    """One block of `iter_chunks`, with all its ``BLOCK_ROWS`` rows, independent of the others.

    Parameters
    ----------
    seed : int
    number : int
        0 for the first.
    player : Player
        Player who takes the shots.
    """
    return _block(np.random.default_rng([seed, number]), number * BLOCK_ROWS, player)


def _validate_out(out: Path) -> Path:
    return validate_file_format(out.resolve()) if out.suffix else out.resolve()


def marked(rows: int, seed: int, on_progress: ProgressCallback = lambda _rows: None) -> Iterator[pd.DataFrame]:
    """Simulate chunks, each with the mark of `shots`.

    Parameters
    ----------
    rows, seed : int
        See `shots`.
    on_progress : callable
        Called with the number of rows of a chunk after its use.
    """
    for chunk in iter_chunks(rows, seed):
        table = chunk.reset_index(drop=True)
        table.attrs[SIMULATION] = name(rows, seed)
        yield table
        on_progress(len(table))


class SyntheticConfig(CommandConfig):
    """Write one table of synthetic two-point and three-point shots, in the memory of one chunk."""

    rows: int = Field(default=PUBLIC_ROWS, ge=1, description="number of shots")
    seed: int = Field(default=42, ge=0, description="the same seed gives the same shots")
    out: Annotated[Path, AfterValidator(_validate_out)] = Field(
        description="a .parquet or .csv file, or a folder for parts; a .parquet of many rows becomes a folder"
    )


def run(config: SyntheticConfig) -> None:
    """Write the table."""
    schema = arrow_schema(next(marked(config.rows, config.seed)))
    with (
        translate_disk_full(config.out.parent),
        progress_bar("simulating", config.rows) as advance,
        _output_writer(config.out, schema) as writer,
    ):
        for chunk in marked(config.rows, config.seed, advance):
            writer.write(pa.Table.from_pandas(chunk, schema=schema, preserve_index=False))
    info("Simulated", f"{config.rows:,} shots, {size_bytes(config.out) / 1e6:,.1f} MB: {display_path(config.out)}")


@contextmanager
def _output_writer(out: Path, schema: pa.Schema) -> Iterator[TableWriter]:
    if out.suffix:
        with table_writer(out, schema) as writer:
            yield writer
        return
    with atomic_write(out) as partial, TableWriter(partial, schema, ".parquet") as writer:
        yield writer


def _block(stream: np.random.Generator, start: int, player: Player) -> pd.DataFrame:
    size = BLOCK_ROWS
    three = stream.random(size) < player.three_point_share
    x, y = np.where(three, _three_point_positions(stream, size, player), _two_point_positions(stream, size, player))
    loc_x, loc_y = np.rint(x * 10).astype(np.int64), np.rint(y * 10).astype(np.int64)
    x, y = loc_x / 10, loc_y / 10
    latitude, longitude = court.to_degrees(x, y)
    distance = np.floor(np.hypot(x, y)).astype(np.int64)
    zone = court.zones(x, y)
    action, combined = _actions(stream, distance)
    games = _games(stream, start, player)
    table = pd.DataFrame(
        {
            "action_type": action,
            "combined_shot_type": combined,
            "game_event_id": stream.integers(2, 660, size),
            "game_id": games["game_id"],
            "lat": latitude.round(4),
            "loc_x": loc_x,
            "loc_y": loc_y,
            "lon": longitude.round(4),
            "minutes_remaining": _minutes(stream, three),
            "period": stream.choice(np.arange(1, 8), size, p=[0.262, 0.219, 0.27, 0.2365, 0.011, 0.001, 0.0005]),
            "playoffs": games["playoffs"],
            "season": games["season"],
            "seconds_remaining": stream.integers(0, 60, size),
            "shot_distance": distance,
            "shot_made_flag": np.nan,
            "shot_type": np.where(three, THREE_POINTS, TWO_POINTS),
            "shot_zone_area": zone.area,
            "shot_zone_basic": zone.basic,
            "shot_zone_range": zone.range,
            "team_id": np.int64(1610612747),
            "team_name": "Los Angeles Lakers",
            "game_date": games["game_date"],
            "matchup": games["matchup"],
            "opponent": games["opponent"],
            "shot_id": np.arange(start + 1, start + size + 1),
        }
    )
    made = (stream.random(size) < true_probability(table, player)).astype(float)
    table["shot_made_flag"] = np.where(stream.random(size) < player.unlabeled_share, np.nan, made)
    return table


def _two_point_positions(stream: np.random.Generator, size: int, player: Player) -> Floats:
    shares = np.array(player.two_point_feet, dtype=float)
    feet = stream.choice(len(shares), size, p=shares / shares.sum())
    radius = feet + stream.random(size)
    angle = stream.uniform(-0.05, np.pi + 0.05, size)
    elbow = (feet >= 16) & (stream.random(size) < player.elbow_share)
    angle = np.where(elbow, np.pi / 2 + stream.choice([-1.0, 1.0], size) * stream.normal(0.7, 0.2, size), angle)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    hoop = stream.random(size) < player.at_the_hoop_share
    x, y = np.where(hoop, 0.0, x), np.where(hoop, 0.0, y)
    outside = court.is_three_pointer(x, y)
    shrink = np.where(outside, (court.CORNER_THREE_X - 0.5) / np.maximum(np.hypot(x, y), 1), 1.0)
    return np.stack([x * shrink, y * shrink])


def _three_point_positions(stream: np.random.Generator, size: int, player: Player) -> Floats:
    radius = court.THREE_POINT_RADIUS + 0.15 + stream.gamma(2.0, 0.95, size)
    angle = np.pi / 2 + stream.choice([-1.0, 1.0], size) * np.abs(stream.normal(0.55, 0.33, size)).clip(max=1.15)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    kind = stream.random(size)
    corner = kind < player.corner_share
    corner_x = stream.choice([-1.0, 1.0], size, p=[0.42, 0.58]) * stream.uniform(22.2, 24.2, size)
    x, y = np.where(corner, corner_x, x), np.where(corner, stream.uniform(-2, court.CORNER_THREE_Y - 0.1, size), y)
    heave = kind > 1 - player.backcourt_share
    x, y = np.where(heave, stream.uniform(-20, 20, size), x), np.where(heave, stream.uniform(36, 79, size), y)
    return np.stack([x.clip(-court.SIDELINE_X, court.SIDELINE_X), y])


def _minutes(stream: np.random.Generator, three: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    last = stream.random(len(three)) < np.where(three, 0.14, 0.02)
    return np.where(last, 0, stream.integers(0, 12, len(three)))


def _actions(stream: np.random.Generator, distance: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.str_], ...]:
    draw = stream.random(len(distance))
    near = distance <= 3
    dunk, layup = near & (draw < 0.18), near & (draw >= 0.18) & (draw < 0.94)
    combined = np.select([dunk, layup], ["Dunk", "Layup"], "Jump Shot")
    return np.select([dunk, layup], ["Slam Dunk Shot", "Layup Shot"], "Jump Shot"), combined


def _games(stream: np.random.Generator, start: int, player: Player) -> dict[str, npt.NDArray[Any]]:
    games = BLOCK_ROWS // _SHOTS_PER_GAME + 1
    year = player.first_season + stream.integers(0, player.seasons, games)
    playoffs = stream.random(games) < 0.147
    opening = year.astype("U4").astype("datetime64[Y]") + np.timedelta64(10, "M")
    day = np.where(playoffs, stream.integers(170, 225, games), stream.integers(0, 165, games))
    opponent = stream.choice(_OPPONENTS, games)
    venue = stream.choice(np.array(["@", "vs."]), games)
    matchup = np.char.add(np.char.add(np.char.add("LAL ", venue), " "), opponent)
    season = np.char.add(np.char.add(year.astype("U4"), "-"), np.char.zfill(((year + 1) % 100).astype("U2"), 2))
    number = np.arange(games) + (start // BLOCK_ROWS) * games
    each = np.repeat(np.arange(games), _SHOTS_PER_GAME)[:BLOCK_ROWS]
    columns: dict[str, npt.NDArray[Any]] = {
        "game_id": 20_000_001 + number,
        "playoffs": playoffs.astype(np.int64),
        "season": season.astype(object),
        "game_date": (opening.astype("datetime64[D]") + day).astype("U10").astype(object),
        "matchup": matchup.astype(object),
        "opponent": opponent.astype(object),
    }
    return {name: values[each] for name, values in columns.items()}
