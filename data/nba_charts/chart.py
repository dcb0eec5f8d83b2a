"""Conversion of shot charts of any NBA player, in the format of stats.nba.com, to the columns of the raw tables.

A chart has the columns of ``ShotChartDetail``, the table that the package ``nba_api`` reads from stats.nba.com.
`convert_charts` converts charts to one table, which is a source for acquisition or an input for batch scoring.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

import pandas as pd
import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import CliPositionalArg

from data.acquisition.plausibility import PlausibilityCheck
from data.acquisition.raw_shots import open_raw, shared_ids
from data.acquisition.raw_tables import CHUNK_ROWS, RawTable, attributes
from data.acquisition.source_table import open_valid, write_whole
from data.cli.config import CommandConfig
from data.cli.console import info, warn
from data.datasets import default
from data.engines.duckdb import duckdb_engine
from data.engines.engine import Engine
from data.errors import FileError, SchemaError, SourceError, TableError
from data.nba_charts.column_mapping import (
    EXCLUDED_GAME_TYPES,
    MAPPING,
    REQUIRED_COLUMNS,
    SIMULATED_CHART,
    game_type,
    map_columns,
)
from data.schema import COLUMN, THREE_POINTS, TWO_POINTS
from data.simulation.synthetic import SIMULATION
from data.storage.content import content_of
from data.storage.dataset_reader import DatasetReader
from data.storage.files import FOLDERS, atomic_write, display_path, translate_disk_full
from data.storage.locations import is_url, local_table, validate_location
from data.storage.output_paths import ensure_writable, paths_overlap
from data.storage.staging import staging
from data.storage.tables import ATTRIBUTES, TableReader, TableWriter, table_writer

_TYPES = {"integer": pa.int64(), "boolean": pa.int64(), "float": pa.float64()}
_SEPARATORS = re.compile(r"[\s\-]+")
_SUFFIXES = tuple(suffix for suffixes in FOLDERS.values() for suffix in suffixes)
_READ_COLUMNS = {"GRID_TYPE", *(name for column in MAPPING for name in column.chart)}


class _ChartReader(DatasetReader):
    """A table with the names of stats.nba.com, in capitals."""

    def _names(self, names: list[str]) -> list[str]:
        return [_SEPARATORS.sub("_", name.strip()).upper() for name in names]

    def _type(self, name: str, found: pa.DataType) -> pa.DataType:
        return super()._type(name.lower(), found)

    def _converts(self, name: str) -> bool:
        return super()._converts(name.lower())

    def _converted(self, name: str, column: pa.Array, target: pa.DataType) -> pa.Array:
        return super()._converted(name.lower(), column, target)

    def _require(self, required: Collection[str]) -> None:
        """Duplicates are those of the columns that are read; see `Chart`."""


class Chart:
    """A shot chart, a file of any format that is read.

    Parameters
    ----------
    path : pathlib.Path

    Attributes
    ----------
    columns : set of str
        Columns that are read, in capitals as in stats.nba.com.

    Raises
    ------
    SchemaError
        If a column is missing or duplicate.
    TableError
        If the file does not exist or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _ChartReader(path)
        capitals = self._reader.schema.names
        if {"LAT", "SHOT_ID"} <= set(capitals):
            message = (
                f"{path.name}: expected a shot chart of stats.nba.com; found a table that already has lat and shot_id. "
                f"It needs no mapping: make main SOURCE={display_path(path)}"
            )
            raise SchemaError(message)
        missing = [name for name in REQUIRED_COLUMNS if name not in capitals]
        if missing:
            message = (
                f"{path.name}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing. Expected a shot chart of "
                f"stats.nba.com with at least {', '.join(REQUIRED_COLUMNS)}; found "
                f"{', '.join(capitals) or 'no columns'}. "
                "Download the chart again (ShotChartDetail), or rename its columns."
            )
            raise SchemaError(message)
        duplicates = sorted(name for name in _READ_COLUMNS if capitals.count(name) > 1)
        if duplicates:
            message = (
                f"{path.name}: column{'s' * (len(duplicates) > 1)} {', '.join(duplicates)} found twice; expected once."
            )
            raise SchemaError(message)
        self.columns = _READ_COLUMNS & set(capitals)

    def iter_chunks(self, *columns: str) -> Iterator[pd.DataFrame]:
        """Iterate over the chart, ``CHUNK_ROWS`` rows at a time; values of a CSV file are strings."""
        reader = _ChartReader(self.path, columns or sorted(self.columns))
        for chunk in reader.chunks(CHUNK_ROWS):
            yield chunk.to_pandas()
        warn(reader.warning)

    def simulations(self) -> set[str]:
        """Names of the simulations that its shots come from; empty for real shots."""
        found = set()
        if self._reader.formats == {"parquet"}:
            marks = json.loads(attributes(self.path) or b"{}")
            found = {str(marks[SIMULATION])} if SIMULATION in marks else set()
        if "GRID_TYPE" in self.columns:
            kinds = {str(kind) for chunk in self.iter_chunks("GRID_TYPE") for kind in chunk["GRID_TYPE"].unique()}
            found |= {kind.removeprefix(SIMULATED_CHART) for kind in kinds if kind.startswith(SIMULATED_CHART)}
        return found


@dataclass
class ConversionResult:
    """Result of a conversion.

    Attributes
    ----------
    shots : collections.Counter
        Number of shots by ``shot_type``.
    excluded : collections.Counter
        Number of excluded shots by game type.
    simulation : str
        Names of the simulations that shots come from; empty if all shots are real.
    """

    shots: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    simulation: str = ""


def chart_files(paths: Sequence[Path]) -> list[Path]:
    """List the files of paths and folders, without duplicates: in the order of `paths`, and by name within a folder.

    Raises
    ------
    ValueError
        If a path does not exist, has another file format, or is a folder without charts.
    """
    files: list[Path] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.name.lower().endswith(_SUFFIXES) and file.is_file())
            found = [file for file in found if not file.name.startswith((".", "_"))]
        if not found or not all(_is_table(file) for file in found):
            kind = "a folder without any" if path.is_dir() else "another file" if path.exists() else "no such file"
            message = f"expected CSV or Parquet files, or folders of them; found {str(path)!r}, {kind}"
            raise ValueError(message)
        files += found
    return list(dict.fromkeys(file.resolve() for file in files))


def _is_table(file: Path) -> bool:
    """Whether a file has the name of a table, or the content of one."""
    if not file.is_file() or file.name.lower().endswith(_SUFFIXES):
        return file.is_file()
    try:
        return bool(content_of(file))
    except (TableError, FileError):
        return False


def convert_charts(files: Sequence[Path], out: Path) -> ConversionResult:
    """Convert charts and write their shots as one table, which is marked as synthetic if any shot is.

    Parameters
    ----------
    files : sequence of pathlib.Path
        See `chart_files`.
    out : pathlib.Path
        A ``.parquet`` file; a CSV file cannot store the mark.

    Returns
    -------
    ConversionResult

    Raises
    ------
    SchemaError
        If a chart lacks a column, a row violates the schema, or a shot is duplicate; `out` is unchanged.
    SourceError
        If there are no shots.
    TableError
        If a file cannot be read.
    """
    charts = [Chart(file) for file in files]
    simulations = sorted({name for chart in charts for name in chart.simulations()})
    result = ConversionResult(simulation="; ".join(simulations))
    schema = _schema(set[str]().union(*(chart.columns for chart in charts)), result.simulation)
    out.parent.mkdir(parents=True, exist_ok=True)
    with staging(out.parent, out.name) as stage, duckdb_engine(stage) as engine:
        converted = stage / "shots.parquet"
        with table_writer(converted, schema) as writer:
            for chart in charts:
                _write(chart, writer, result, engine, stage)
        if not writer.rows:
            counts = ", ".join(f"{count:,} {kind}" for kind, count in (+result.excluded).items())
            found = "no rows to map; expected shots."
            if counts:
                found = f"no rows to map but {counts} shots, which are excluded because their games have other rules."
            message = f"{', '.join(file.name for file in files)}: {found}"
            raise SourceError(message)
        for shared in shared_ids(open_raw(engine, RawTable(converted, dataset=default()))):
            message = (
                f"{shared.count:,} shots are in more than one chart, with the shot_id {shared}; expected each only "
                "once. Give every season of a player once."
            )
            raise SchemaError(message)
        with atomic_write(out) as partial:
            converted.replace(partial)
    return result


def _schema(columns: set[str], simulation: str) -> pa.Schema:
    fields = [
        (column.name, _TYPES.get(COLUMN[column.name].kind, pa.string()))
        for column in MAPPING
        if columns.issuperset(column.chart)
    ]
    return pa.schema(fields, {ATTRIBUTES: json.dumps({SIMULATION: simulation})} if simulation else None)


def _write(chart: Chart, writer: TableWriter, result: ConversionResult, engine: Engine, folder: Path) -> None:
    """Map a chart, validate its shots, and write those that are not excluded."""
    mapped, name = folder / "chart.parquet", chart.path.name
    write_whole(lambda: _mapped(chart, writer.schema), writer.schema, mapped)
    if not TableReader(mapped).rows:
        return
    open_valid(engine, mapped, name, also_required=["shot_type"], dataset=default())
    plausibility = PlausibilityCheck(name, default())
    for chunk in TableReader(mapped).chunks(CHUNK_ROWS):
        shots = chunk.to_pandas()
        plausibility.add(shots)
        kinds = game_type(shots["game_id"])
        for kind, what in EXCLUDED_GAME_TYPES.items():
            result.excluded[what] += int((kinds == kind).sum())
        kept = ~kinds.isin(list(EXCLUDED_GAME_TYPES))
        result.shots.update(shots["shot_type"][kept])
        writer.write(chunk.filter(pa.array(kept)))
    plausibility.finish()


def _mapped(chart: Chart, schema: pa.Schema) -> Iterator[pa.Table]:
    row = 0
    for chunk in chart.iter_chunks():
        yield _to_arrow(map_columns(chunk, chart.path.name, row), schema)
        row += len(chunk)


def _to_arrow(shots: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """Convert shots to Arrow; a column with a cell that is no number stays as strings."""
    columns = []
    for field_ in schema:
        column = shots[field_.name] if field_.name in shots else pd.Series(None, shots.index, dtype=object)
        numbers = pd.to_numeric(column, errors="coerce")
        try:
            is_number = field_.type != pa.string() and bool((numbers.notna() == column.notna()).all())
            columns.append(
                pa.array(numbers if is_number else column.astype("string"), from_pandas=True).cast(field_.type)
            )
        except pa.ArrowException:
            columns.append(pa.array(column.astype("string"), pa.string()))
    return pa.table(columns, names=schema.names)


def _validate_out(out: Path) -> Path:
    if out.suffix.lower() != ".parquet":
        message = f"expected a name that ends in .parquet; found {out.name!r}"
        raise ValueError(message)
    return out.resolve()


def _validate_charts(charts: list[str]) -> list[str]:
    for chart in charts:
        if is_url(chart):
            validate_location(chart)
        else:
            chart_files([Path(chart)])
    return charts


class ShotChartConfig(CommandConfig):
    """Convert shot charts of stats.nba.com (ShotChartDetail) to one table of shots, for SOURCE and table."""

    charts: Annotated[CliPositionalArg[list[str]], AfterValidator(_validate_charts)] = Field(
        description="charts: .csv or .parquet files, folders of them, or tables of databases (chart.db?table=NAME)"
    )
    out: Annotated[Path, AfterValidator(_validate_out)] = Field(description="the .parquet file to write")

    @model_validator(mode="after")
    def check_no_overlap(self) -> Self:
        """Raise if the output would overwrite a chart, or lie in a folder of charts."""
        for chart in self.charts:
            if not is_url(chart) and paths_overlap(Path(chart), self.out):
                message = f"expected out outside of the folder of charts; found {display_path(self.out)} and {chart}"
                raise ValueError(message)
        return self


def _opened(chart: str, stack: ExitStack) -> list[Path]:
    """The files of a chart: its own, or a copy of the table of a database."""
    path = stack.enter_context(local_table(chart))
    return chart_files([path]) if path == Path(chart).expanduser() else [path]


def run(config: ShotChartConfig) -> None:
    """Convert the charts and write the table."""
    ensure_writable(config.out)
    with ExitStack() as stack:
        files = [file for chart in config.charts for file in _opened(chart, stack)]
        with translate_disk_full(config.out.parent):
            result = convert_charts(files, config.out)
    for kind, count in (+result.excluded).items():
        info("Excluded", f"{count:,} {kind} shots")
    if result.simulation:
        info("SYNTHETIC DATA:", f"these shots are synthetic ({result.simulation})", style="bold black on yellow")
    counts = f"{result.shots[TWO_POINTS]:,} two-point and {result.shots[THREE_POINTS]:,} three-point shots"
    info("Converted", f"{counts} of {len(files):,} chart(s): {display_path(config.out)}")
