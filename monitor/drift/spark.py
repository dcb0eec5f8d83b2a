"""Drift sketches with Spark: each worker sketches a partition, and a tree reduction merges the sketches.

PySpark is an extra of this project (``spark``) and is imported where it is used.
"""

import io
import json
import warnings
from collections.abc import Iterator, Mapping
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from data.datasets import Dataset
from data.errors import TableError
from data.schema import MODEL_VERSION, PROBABILITY
from data.spark.session import translate_errors
from data.spark.tables import quote_identifier, read, stored_table
from data.storage.dataset_reader import DatasetReader
from monitor.drift.sketches import Bins, DistinctCount, Histogram, Sample, Sketcher, TableSketch
from monitor.scored_tables import sketched, validate_scored_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_POSITION = "position"


def sketch(
    session: "SparkSession", path: Path, sketcher: Sketcher, version: str = "", folder: Path | None = None
) -> TableSketch:
    """Sketch a table of scored shots.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
    path : pathlib.Path
        A table that every worker can read under this path.
    sketcher : monitor.drift.sketches.Sketcher
        Sketcher of the reference; workers get a copy.
    version : str
        Count only the rows that this version scored.
    folder : pathlib.Path, optional
        Folder, which every worker sees, of a copy that is needed if Spark does not read the table as it is; by default
        that of the table.

    Returns
    -------
    Counts
        Same as `Sketcher.sketch_all` of `monitor.scored_tables.iter_chunks`.

    Raises
    ------
    TableError
        If the table cannot be read, has no rows, lacks a column, or holds anything but numbers within their ranges.
    SparkError
        If the job fails.
    """
    dataset = sketcher.encoding.dataset
    columns = (*sketched(dataset), MODEL_VERSION) if version else sketched(dataset)
    reader = DatasetReader(path, columns, dataset=dataset)
    if reader.rows == 0:
        validate_scored_table(reader.systematic_sample(1), path, dataset)
    position = "" if dataset.id.name in reader.schema.names else _POSITION
    with stored_table(reader, folder or path.parent) as stored:
        frame = read(session, stored, columns, position=position)
        if version:
            frame = frame.filter(f"try_cast({quote_identifier(MODEL_VERSION)} AS double) = {int(version)}")
        return sketch_frame(frame, sketcher, path)


def sketch_frame(frame: "DataFrame", sketcher: Sketcher, path: Path) -> TableSketch:
    """Sketch a Spark DataFrame; see `sketch`.

    Parameters
    ----------
    frame : pyspark.sql.DataFrame
        One or more rows, with any of the columns of `monitor.scored_tables.sketched`.
    sketcher : monitor.drift.sketches.Sketcher
    path : pathlib.Path
        Path for error messages.
    """
    dataset = sketcher.encoding.dataset
    kinds = {name: _kind(name, dataset) for name in frame.columns if name in {*sketched(dataset), _POSITION}}
    wanted = [
        f"try_cast({quote_identifier(name)} AS {kind}) AS {quote_identifier(name)}" for name, kind in kinds.items()
    ]
    if _POSITION not in frame.columns:
        wanted.append(f"monotonically_increasing_id() AS {_POSITION}")
    # PySpark leaves closing the result socket to Python's garbage collector.
    with translate_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        parts = frame.selectExpr(*wanted).mapInPandas(
            partial(_sketches, sketcher, path), "sketch binary, problem string"
        )
        found: TableSketch | str = parts.rdd.map(partial(_read, sketcher)).treeReduce(_merged)
    if isinstance(found, str):
        raise TableError(found)
    return found


def _kind(name: str, dataset: Dataset) -> str:
    """Spark's type of a column of a scored table."""
    if name in {*dataset.id.names, _POSITION}:
        return "bigint"
    return "double" if name == PROBABILITY or dataset.column(name).is_numeric else "string"


def _sketches(sketcher: Sketcher, path: Path, batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yield the sketch of a partition, or its error."""
    try:
        chunks = (
            sketcher.sketch(validate_scored_table(batch, path, sketcher.encoding.dataset), batch[_POSITION].to_numpy())
            for batch in batches
            if len(batch)
        )
        first = next(chunks, None)
        if first is None:
            return
        found = reduce(TableSketch.merge, chunks, first)
    except (TableError, ValueError) as error:
        yield pd.DataFrame({"sketch": [None], "problem": [str(error)]})
    else:
        yield pd.DataFrame({"sketch": [pack(found)], "problem": [None]})


def pack(counts: TableSketch) -> bytes:
    """Serialize a sketch as the bytes of its arrays."""
    arrays = {
        "size": np.array([counts.rows, counts.out_of_support]),
        "is_binned": np.array([histogram.is_binned for histogram in counts.columns.values()]),
        "hashes": counts.sample.hashes,
        "features": counts.sample.features,
        "unseen": np.frombuffer(json.dumps(counts.unseen).encode(), dtype=np.uint8),
    }
    if counts.groups is not None and counts.sample.groups is not None:
        arrays |= {"groups": counts.groups.hashes, "sampled_groups": counts.sample.groups}
    for place, histogram in enumerate(counts.columns.values()):
        arrays |= {f"values_{place}": histogram.values, f"rows_{place}": histogram.rows}  # noqa: PD011 no table
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def unpack(data: bytes, bins: Mapping[str, Bins]) -> TableSketch:
    """Deserialize what `pack` returned, given the bins of the columns."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        rows, out_of_support = arrays["size"].tolist()
        columns = {
            name: Histogram(each, arrays[f"values_{place}"], arrays[f"rows_{place}"], is_binned=bool(binned))
            for place, ((name, each), binned) in enumerate(zip(bins.items(), arrays["is_binned"], strict=True))
        }
        has_groups = "groups" in arrays
        sampled = Sample(arrays["hashes"], arrays["features"], arrays["sampled_groups"] if has_groups else None)
        groups = DistinctCount(arrays["groups"]) if has_groups else None
        return TableSketch(rows, columns, out_of_support, sampled, json.loads(bytes(arrays["unseen"])), groups)


def _read(sketcher: Sketcher, row: Any) -> TableSketch | str:  # noqa: ANN401 a Row
    return str(row["problem"]) if row["sketch"] is None else unpack(bytes(row["sketch"]), sketcher.bins)


def _merged(one: TableSketch | str, other: TableSketch | str) -> TableSketch | str:
    if isinstance(one, str) or isinstance(other, str):
        return one if isinstance(one, str) else other
    return one.merge(other)
