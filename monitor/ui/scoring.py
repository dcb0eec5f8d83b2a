"""Shots that a page lets a server score: one, a file of them, or the production set."""

import contextlib
import io
import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import requests

from data import court
from data.preparation.manifest import FILTERED, PROD, prepared_path
from data.schema import (
    COLUMN,
    FEATURES,
    MODEL_VERSION,
    PREDICTION,
    PROBABILITY,
    RAW_COLUMN_NAMES,
    SHOT_ID,
    TARGET,
    feature_column,
)
from data.storage.tables import TableError, TableReader
from monitor.metrics.binary import evaluate
from serving.client.cli import score
from serving.client.endpoint import ScoringClient, ScoringError, base_url
from serving.inference_log.inference_log import ORIGIN_HEADER, UPLOAD, WHAT_IF
from serving.shot_tables import features_of, problems_of, shot_ids_of

PATIENCE_SECONDS = 5.0
"""A person who waits before a page is told sooner than a job is."""
_ANSWERS = (PREDICTION, PROBABILITY, MODEL_VERSION)
_MOST_PROBLEMS_SHOWN = 10
_WHOLE_FEET = 1.0
_MOST_SHOTS = 200_000


@dataclass(frozen=True)
class ShotPrediction:
    """What a server answered to one shot.

    Attributes
    ----------
    shot : dict of str to float
        The features.
    address : str
        Of the server.
    made : bool
        The label.
    probability : float
        P(made).
    version : str or None
        That answered; None where the server does not say.
    milliseconds : float
        From request to answer.
    time : datetime
        When, in UTC.
    """

    shot: dict[str, float]
    address: str
    made: bool
    probability: float
    version: str | None
    milliseconds: float
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def sent(self) -> dict[str, list[dict[str, float]]]:
        """The request as JSON."""
        return {"dataframe_records": [self.shot]}

    @property
    def answered(self) -> dict[str, list[dict[str, float]]]:
        """The answer as JSON."""
        return {"predictions": [{TARGET: int(self.made), PROBABILITY: self.probability}]}

    @property
    def curl(self) -> str:
        """The same request as a command."""
        body = shlex.quote(json.dumps(self.sent))
        url = shlex.quote(f"{self.address}/invocations")
        return f"curl {url} \\\n  -H 'Content-Type: application/json' -H '{ORIGIN_HEADER}: {WHAT_IF}' \\\n  -d {body}"


def features_at(x: float, y: float) -> dict[str, float]:
    """The features that a place on the court decides; within the ranges of the schema.

    Parameters
    ----------
    x, y : float
        Across and along the court, feet from the hoop.

    Examples
    --------
    >>> features_at(16.7, 7.2)
    {'lat': 33.9723, 'lng': -118.1028, 'shot_distance': 18.0}
    """
    lat, lng = court.to_degrees([x], [y])
    # The raw files hold positions to a ten-thousandth of a degree, and distances in whole feet, cut off.
    found = {"lat": round(float(lat[0]), 4), "lng": round(float(lng[0]), 4), "shot_distance": np.floor(np.hypot(x, y))}
    ranges = {name: (feature_column(name).minimum, feature_column(name).maximum) for name in found}
    return {name: float(np.clip(value, *ranges[name])) for name, value in found.items()}


def problems_of_shot(shot: Mapping[str, float | None]) -> dict[str, str]:
    """What the schema says against each feature of a shot; None is a value that is missing.

    Examples
    --------
    >>> shot = {"lat": 34, "lng": -118.2, "minutes_remaining": 3, "period": 11, "playoffs": 0, "shot_distance": None}
    >>> for name, problem in problems_of_shot(shot).items():
    ...     print(f"{name}: {problem}")
    period: found 11, expected a whole number from 1 to 10
    shot_distance: found nothing, expected a number from 0 to 94
    """
    return {
        name: f"found {'nothing' if value is None else format(value, '.10g')}, expected {feature_column(name).allowed}"
        for name, value in shot.items()
        if not is_allowed(name, value)
    }


def is_allowed(name: str, value: float | None) -> bool:
    """Whether the schema allows a value of a feature."""
    column = feature_column(name)
    if value is None or not float(column.minimum or 0) <= value <= float(column.maximum or 0):
        return False
    return column.kind != "integer" or float(value).is_integer()


def distance_of(shot: Mapping[str, float]) -> float:
    """Feet between the place of a shot and the hoop."""
    x, y = court.to_feet([shot["lat"]], [shot["lng"]])
    return float(np.hypot(x, y)[0])


def distance_at(latitude: float, longitude: float) -> float:
    """The distance that the public files would hold for a place, within the range of the schema.

    Examples
    --------
    >>> distance_at(33.9723, -118.1028)
    18.0
    """
    x, y = court.to_feet([latitude], [longitude])
    return features_at(float(x[0]), float(y[0]))["shot_distance"]


def contradiction(shot: Mapping[str, float]) -> float:
    """Feet by which the distance of a shot is wrong for its place; 0 where both can be of one shot.

    The public files hold whole feet, mostly cut off: distance and place never differ by a whole foot there.

    Examples
    --------
    >>> contradiction({"lat": 33.9723, "lng": -118.1028, "shot_distance": 18.0})
    0.0
    >>> round(contradiction({"lat": 33.9723, "lng": -118.1028, "shot_distance": 3.0}), 1)
    -15.2
    """
    difference = shot["shot_distance"] - distance_of(shot)
    return difference if abs(difference) > _WHOLE_FEET else 0.0


def score_shot(shot: Mapping[str, float], address: str, *, patience: float = PATIENCE_SECONDS) -> ShotPrediction:
    """Ask a server for one shot, which its inference log does not take for one of the operation.

    Parameters
    ----------
    shot : mapping of str to float
        The features.
    address : str
        Of the server, with or without ``/invocations``.
    patience : float
        Seconds for which a server that does not answer is asked again.

    Raises
    ------
    ScoringError
        If the server does not answer (a `RefusedError` if it refuses the values).
    """
    with _address_told(address):
        endpoint = ScoringClient(address, patience=patience, origin=WHAT_IF)
        endpoint.check()
        started = time.perf_counter()
        answers = endpoint.score(np.array([[shot[name] for name in FEATURES]], dtype=np.float64))
        milliseconds = 1_000 * (time.perf_counter() - started)
    version = None if answers.version is None else str(answers.version)
    label, made = bool(answers.label[0]), float(answers.probability[0])
    return ShotPrediction(dict(shot), endpoint.address, label, made, version, milliseconds)


@dataclass(frozen=True)
class UploadedTable:
    """A table of shots that was read and may be sent.

    Attributes
    ----------
    name : str
        Of the file.
    table : pandas.DataFrame
        As it was, with all its columns.
    sent : pandas.DataFrame
        The features as doubles, and ``shot_id`` where every row has one.
    labels : pandas.Series of float or None
        1 made, 0 missed, NaN unknown; None if there is no such column.
    aside : tuple of str
        Columns that no shot has; they are not sent, and kept.
    """

    name: str
    table: pd.DataFrame
    sent: pd.DataFrame
    labels: "pd.Series[float] | None"
    aside: tuple[str, ...]


def read_shots(name: str, content: bytes) -> UploadedTable:
    """Read a file of shots.

    Parameters
    ----------
    name : str
        Of the file; says whether it is Parquet or CSV.
    content : bytes

    Raises
    ------
    TableError
        If it cannot be read, holds no rows, lacks a feature, or a row is no shot; names what was found where.
    """
    return _shots_of(name, _read(name, content))


def _shots_of(name: str, piece: pa.Table) -> UploadedTable:
    doubled = sorted({column for column in piece.column_names if piece.column_names.count(column) > 1})
    missing = [own for own in FEATURES if not {own, RAW_COLUMN_NAMES.get(own, own)} & set(piece.column_names)]
    if missing or doubled:
        found = ", ".join(piece.column_names[:40]) or "no columns"
        what = f"missing: {', '.join(missing)}" if missing else f"found twice: {', '.join(doubled)}"
        message = f"{name}: expected the columns {', '.join(FEATURES)} (lng or lon), each once; {what}. Found: {found}."
        raise TableError(message)
    if not len(piece):
        message = f"{name}: expected at least one shot; the table holds no rows."
        raise TableError(message)
    values, problems = features_of(piece)
    problems = {**problems_of(values), **problems}
    labels = _labels(piece, problems)
    if problems:
        raise TableError(_told(name, problems))
    sent = pd.DataFrame(values, columns=list(FEATURES))
    ids = shot_ids_of(piece)
    if ids is not None:
        sent[SHOT_ID] = ids
    aside = tuple(column for column in piece.column_names if column not in {*COLUMN, *FEATURES, *_ANSWERS})
    return UploadedTable(name, piece.to_pandas(), sent, labels, aside)


def production_set() -> UploadedTable:
    """The production table of the last preparation; of one of more than 200,000 rows, about as many from all over it.

    Raises
    ------
    TableError
        If it is not there, or is no table of shots.
    """
    path = prepared_path(PROD)
    try:
        piece = pa.Table.from_pandas(TableReader(path).sample(_MOST_SHOTS), preserve_index=False)
    except TableError as error:
        message = f"{path}: expected the production set of a preparation; it cannot be read. Prepare it: make main"
        raise TableError(message) from error
    return _shots_of(path.name, piece)


def historical_shots() -> pd.DataFrame | None:
    """Positions (lat, lng) of all prepared shots, dev and prod, or None where none are prepared.

    Raises
    ------
    TableError
        If a prepared table cannot be read.
    """
    tables = []
    for path in map(prepared_path, (FILTERED, PROD)):
        if path.exists():
            try:
                tables.append(TableReader(path, ["lat", "lng"]).sample(_MOST_SHOTS))
            except TableError as error:
                message = f"{path}: expected a prepared table; it cannot be read ({error}). Prepare it again: make main"
                raise TableError(message) from error
    return pd.concat(tables, ignore_index=True) if tables else None


@dataclass(frozen=True)
class Scored:
    """A table that a server has answered.

    Attributes
    ----------
    shots : Shots
        What was sent.
    table : pandas.DataFrame
        The table as it was read, with prediction, probability and model_version.
    address : str
        Of the server.
    seconds : float
        From the first request to the last answer.
    labelled : int
        Rows that have a label.
    metrics : dict of str to float
        Of the labelled rows; empty where there are none.
    """

    shots: UploadedTable
    table: pd.DataFrame
    address: str
    seconds: float
    labelled: int
    metrics: dict[str, float]

    @property
    def share_predicted_made(self) -> float:
        """Share of the rows that are predicted to be made."""
        return float(self.table[PREDICTION].mean())

    @property
    def mean_probability(self) -> float:
        """Mean P(made)."""
        return float(self.table[PROBABILITY].mean())

    @property
    def versions(self) -> str:
        """The versions that answered, in words."""
        return ", ".join(str(version) for version in sorted(self.table[MODEL_VERSION].dropna().unique())) or "not said"

    @cached_property
    def csv(self) -> bytes:
        """The table as CSV."""
        return bytes(self.table.to_csv(index=False).encode())

    @cached_property
    def parquet(self) -> bytes:
        """The table as Parquet."""
        sink = io.BytesIO()
        self.table.to_parquet(sink, index=False)
        return sink.getvalue()


def score_shots(
    shots: UploadedTable, address: str, *, on_progress: Callable[[int], None], patience: float = PATIENCE_SECONDS
) -> Scored:
    """Ask a server for a table of shots, and compare with the labels that are known.

    Its inference log does not take them for shots of the operation.

    Parameters
    ----------
    shots : Shots
    address : str
        Of the server, with or without ``/invocations``.
    on_progress : callable
        Called with the number of rows after each answer.
    patience : float
        Seconds for which a server that does not answer is asked again.

    Raises
    ------
    ScoringError
        If the server does not answer, or refuses rows.
    """
    started = time.perf_counter()
    with _address_told(address):
        answers = score(shots.sent, address, on_progress=on_progress, patience=patience, origin=UPLOAD)
    seconds = time.perf_counter() - started
    made = answers[PROBABILITY].to_numpy()
    table = shots.table.assign(
        **{
            PREDICTION: answers[TARGET].to_numpy(),
            PROBABILITY: made,
            MODEL_VERSION: answers[MODEL_VERSION].array,
        }
    )
    known = np.zeros(len(made), dtype=bool) if shots.labels is None else shots.labels.notna().to_numpy()
    metrics = evaluate(shots.labels[known], made[known]) if shots.labels is not None and known.any() else {}
    return Scored(shots, table, base_url(address), seconds, int(known.sum()), metrics)


@contextlib.contextmanager
def _address_told(address: str) -> Iterator[None]:
    try:
        yield
    except requests.RequestException as error:
        message = (
            f"Expected the address of a scoring server such as http://127.0.0.1:5001; found {address!r} ({error})."
        )
        raise ScoringError(message) from error


def _read(name: str, content: bytes) -> pa.Table:
    kind = Path(name).suffix.lower()
    try:
        match kind:
            case ".parquet":
                return pq.ParquetFile(io.BytesIO(content)).read()
            case ".csv":
                return pa_csv.read_csv(io.BytesIO(content), parse_options=pa_csv.ParseOptions(newlines_in_values=True))
    except (pa.ArrowException, OSError, ValueError) as error:
        message = f"{name}: expected a {kind[1:]} table; it cannot be read ({error})."
        raise TableError(message) from error
    message = f"{name}: expected a name that ends in .parquet or .csv."
    raise TableError(message)


def _labels(piece: pa.Table, problems: dict[int, str]) -> "pd.Series[float] | None":
    """The labels; what is wrong with them is added to `problems`."""
    if TARGET not in piece.column_names:
        return None
    cells = piece.column(TARGET).to_pandas()
    labels: pd.Series[float] = pd.to_numeric(cells, errors="coerce").astype("float64")
    for row in np.flatnonzero(cells.notna() & ~labels.isin((0, 1))).tolist():
        problems.setdefault(row, f"column {TARGET}: found {cells.iloc[row]!r}, expected 1, 0 or nothing")
    return labels


def _told(name: str, problems: Mapping[int, str]) -> str:
    shown = [f"- row {row}, {problems[row]}" for row in sorted(problems)[:_MOST_PROBLEMS_SHOWN]]
    if len(problems) > len(shown):
        shown.append(f"- and {len(problems) - len(shown):,} more rows")
    head = f"{name}: {len(problems):,} row(s), counted from 0, are no shots. Nothing was sent; mend or remove them:"
    return "\n".join([head, "", *shown])
