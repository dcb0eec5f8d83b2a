"""What drift needs of a table, counted by Spark: each worker counts its part, and the counts are merged as a tree.

PySpark is an extra of this project (``spark``), and is imported only where it is used.
"""

import io
import warnings
from collections.abc import Iterator, Mapping
from functools import partial, reduce
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from data.schema import MODEL_VERSION, SHOT_ID
from data.spark.session import translate_errors
from data.spark.tables import quote_identifier, read
from data.storage.tables import TableError, TableReader
from monitor.drift.sketches import Bins, Histogram, Sample, Sketcher, TableSketch
from monitor.scored_tables import COUNTED, validate_scored_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_POSITION = "position"


def count(session: "SparkSession", path: Path, counting: Sketcher, version: str = "") -> TableSketch:
    """Count the rows of a table of scored shots.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
    path : pathlib.Path
        A Parquet file, or a folder of them, on a disk that every worker sees under this name.
    counting : monitor.drift.sketches.Sketcher
        How; workers get a copy.
    version : str
        Count the rows that this version scored only.

    Returns
    -------
    Counts
        As `Counting.count_all` has them of `monitor.scored_tables.pieces`.

    Raises
    ------
    TableError
        If it cannot be read, has no rows, lacks a column, or holds something else than numbers within their ranges.
    SparkError
        If the job fails.
    """
    reader = TableReader(path, COUNTED)
    if reader.rows == 0:
        validate_scored_table(reader.systematic_sample(1), path)
    frame = read(session, path, (*COUNTED, MODEL_VERSION) if version else COUNTED)
    if SHOT_ID not in frame.columns:
        frame = _with_position(frame, reader)
    if version:
        frame = frame.filter(f"try_cast({quote_identifier(MODEL_VERSION)} AS double) = {int(version)}")
    return count_frame(frame, counting, path)


def count_frame(frame: "DataFrame", counting: Sketcher, path: Path) -> TableSketch:
    """Count the rows of a table of Spark; see `count`.

    Parameters
    ----------
    frame : pyspark.sql.DataFrame
        One or more rows with the columns of ``COUNTED``, those of them that there are.
    counting : monitor.drift.sketches.Sketcher
    path : pathlib.Path
        What to call it in a message.
    """
    kinds = {name: "bigint" if name in {SHOT_ID, _POSITION} else "double" for name in frame.columns}
    wanted = [
        f"try_cast({quote_identifier(name)} AS {kind}) AS {quote_identifier(name)}"
        for name, kind in kinds.items()
        if name in {*COUNTED, _POSITION}
    ]
    if _POSITION not in frame.columns:
        wanted.append(f"monotonically_increasing_id() AS {_POSITION}")
    # PySpark leaves it to Python to close the socket that the result comes through.
    with translate_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        parts = frame.selectExpr(*wanted).mapInPandas(
            partial(_counted, counting, path), "counts binary, problem string"
        )
        found: TableSketch | str = parts.rdd.map(partial(_read, counting)).treeReduce(_merged)
    if isinstance(found, str):
        raise TableError(found)
    return found


def _with_position(frame: "DataFrame", reader: TableReader) -> "DataFrame":
    """The table with where each row stands in it, where Spark says which row of which file each is."""
    from pyspark.errors import AnalysisException  # noqa: PLC0415 an extra
    from pyspark.sql import functions  # noqa: PLC0415 an extra

    firsts = accumulate((pq.read_metadata(file).num_rows for file in reader.files), initial=0)
    entries = [
        functions.lit(value)
        for file, first in zip(reader.files, firsts, strict=False)
        for value in (file.resolve().as_uri().replace("file:///", "file:/"), first)
    ]
    first_of_file = functions.try_element_at(functions.create_map(*entries), functions.col("_metadata.file_path"))
    position = first_of_file + functions.col("_metadata.row_index")
    try:
        return frame.select("*", functions.coalesce(position, functions.monotonically_increasing_id()).alias(_POSITION))
    except AnalysisException:
        # Of parts that differ Spark does not say it; what is sampled then depends on how it reads them.
        return frame


def _counted(counting: Sketcher, path: Path, batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Counts of a part, or what is wrong with it."""
    try:
        pieces = (
            counting.count(validate_scored_table(batch, path), batch[_POSITION].to_numpy())
            for batch in batches
            if len(batch)
        )
        first = next(pieces, None)
        if first is None:
            return
        found = reduce(TableSketch.merged, pieces, first)
    except (TableError, ValueError) as error:
        yield pd.DataFrame({"counts": [None], "problem": [str(error)]})
    else:
        yield pd.DataFrame({"counts": [packed(found)], "problem": [None]})


def packed(counts: TableSketch) -> bytes:
    """Counts as the bytes of their arrays."""
    arrays = {
        "size": np.array([counts.rows, counts.outside]),
        "in_cells": np.array([counted.in_cells for counted in counts.columns.values()]),
        "hashes": counts.sample.hashes,
        "features": counts.sample.features,
    }
    for place, counted in enumerate(counts.columns.values()):
        arrays |= {f"values_{place}": counted.values, f"rows_{place}": counted.rows}  # noqa: PD011 no table
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def unpacked(data: bytes, cells: Mapping[str, Bins]) -> TableSketch:
    """Counts from what `packed` gave, of columns with these cells."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        rows, outside = arrays["size"].tolist()
        columns = {
            name: Histogram(each, arrays[f"values_{place}"], arrays[f"rows_{place}"], in_cells=bool(told))
            for place, ((name, each), told) in enumerate(zip(cells.items(), arrays["in_cells"], strict=True))
        }
        return TableSketch(rows, columns, outside, Sample(arrays["hashes"], arrays["features"]))


def _read(counting: Sketcher, row: Any) -> TableSketch | str:  # noqa: ANN401 a Row
    return str(row["problem"]) if row["counts"] is None else unpacked(bytes(row["counts"]), counting.cells)


def _merged(one: TableSketch | str, other: TableSketch | str) -> TableSketch | str:
    if isinstance(one, str) or isinstance(other, str):
        return one if isinstance(one, str) else other
    return one.merged(other)
