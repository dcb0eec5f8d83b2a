"""Scoring requests of a page: one shot, a file of shots, or the production set."""

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
import numpy.typing as npt
import pandas as pd
import requests

from data import court
from data.datasets import current, worded
from data.errors import TableError
from data.preparation.manifest import FILTERED, PROD, TEST, prepared_path
from data.schema import MODEL_VERSION, PREDICTION, PROBABILITY
from data.storage.dataset_reader import DatasetReader
from data.storage.locations import local_table
from data.storage.scratch import scratch
from data.storage.tables import TableReader
from monitor.metrics.binary import evaluate
from serving.batch.local import labels_of
from serving.client.cli import score
from serving.client.endpoint import ScoringClient, ScoringError, base_url
from serving.inference_log.inference_log import ORIGIN_HEADER, UPLOAD, WHAT_IF
from serving.shot_tables import features_of, open_shots, problems_of, shot_ids_of, typed_with_problems

RETRY_SECONDS = 5.0
"""How long a page retries a request; shorter than a job, because a person waits."""
SUFFIXES = [
    *("parquet", "csv", "tsv", "txt", "gz", "zip", "feather", "arrow", "arrows"),
    *("json", "jsonl", "ndjson", "db", "sqlite", "duckdb"),
]
"""Extensions of files that can be uploaded."""

_MAX_PROBLEMS_SHOWN = 10
_ROUNDING_FEET = 1.0
_MAX_SHOTS = 200_000
_EXAMPLES = 2_000

Value = float | str | None
"""Value of a feature; of a category or a date, a string."""


@dataclass(frozen=True)
class ShotPrediction:
    """The prediction of a server for one row.

    Attributes
    ----------
    shot : dict of str to float, str or None
        The features.
    url : str
        URL of the server.
    made : bool
        Predicted label.
    probability : float
        P(made).
    version : str or None
        Model version that scored the shot; None if the server does not report it.
    milliseconds : float
        Latency of the request.
    time : datetime
        Time of the response, in UTC.
    """

    shot: dict[str, Value]
    url: str
    made: bool
    probability: float
    version: str | None
    milliseconds: float
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def request(self) -> dict[str, list[dict[str, Value]]]:
        """The request as JSON."""
        return {"dataframe_records": [self.shot]}

    @property
    def response(self) -> dict[str, list[dict[str, float]]]:
        """The response as JSON."""
        return {"predictions": [{current().target.name: int(self.made), PROBABILITY: self.probability}]}

    @property
    def curl(self) -> str:
        """The same request as a curl command."""
        body = shlex.quote(json.dumps(self.request))
        url = shlex.quote(f"{self.url}/invocations")
        return f"curl {url} \\\n  -H 'Content-Type: application/json' -H '{ORIGIN_HEADER}: {WHAT_IF}' \\\n  -d {body}"


def has_position(shot: Mapping[str, object]) -> bool:
    """Whether a row has a position on the court."""
    place = current().court
    return place is not None and {place.x, place.y} <= shot.keys()


def position_of(shot: Mapping[str, Value]) -> tuple[float, float]:
    """Position of a shot across and along the court, in feet from the hoop."""
    place = current().court
    if place is None:
        message = "expected a dataset with a court"
        raise ValueError(message)
    x, y = court.positions(pd.DataFrame([{name: shot[name] for name in (place.x, place.y)}]), place)
    return float(x[0]), float(y[0])


def features_at(x: float, y: float) -> dict[str, float]:
    """The features of a position on the court, clipped to the ranges of the description.

    Parameters
    ----------
    x, y : float
        Across and along the court, feet from the hoop.

    Examples
    --------
    >>> features_at(16.7, 7.2)
    {'lat': 33.9723, 'lng': -118.1028, 'shot_distance': 18.0}
    """
    place = current().court
    if place is None:
        return {}
    across, along = x, y
    if place.unit == "degrees":
        # The raw files hold positions with four decimals, and distances in feet, rounded down.
        along, across = (round(float(degrees[0]), 4) for degrees in court.to_degrees([x], [y]))
    elif place.unit == "tenths of a foot":
        across, along = round(10 * x), round(10 * y)
    found = {place.y: along, place.x: across, place.distance: np.floor(np.hypot(x, y))}
    ranges = {column.name: column.limits for column in current().features}
    return {name: float(np.clip(value, *ranges[name])) for name, value in found.items() if name in ranges}


def problems_of_shot(shot: Mapping[str, Value]) -> dict[str, str]:
    """Schema violations of a row by feature; a value of None is missing.

    Examples
    --------
    >>> shot = {"lat": 34, "lng": -118.2, "minutes_remaining": 3, "period": 11, "playoffs": 0, "shot_distance": None}
    >>> for name, problem in problems_of_shot(shot).items():
    ...     print(f"{name}: {problem}")
    period: found 11, expected an integer from 1 to 10
    shot_distance: found nothing, expected a float from 0 to 94
    """
    return {
        name: f"found {_shown(value)}, expected {current().column(name).constraint_text}"
        for name, value in shot.items()
        if not is_allowed(name, value)
    }


def _shown(value: Value) -> str:
    if value is None:
        return "nothing"
    return repr(value) if isinstance(value, str) else format(value, ".10g")


def is_allowed(name: str, value: Value) -> bool:
    """Whether the description of the dataset allows a value of a feature."""
    column = current().column(name)
    if value is None:
        return column.nullable
    if isinstance(value, str):
        return not column.allowed or value in column.allowed
    low, high = column.limits
    if (low is not None and value < low) or (high is not None and value > high):
        return False
    return column.kind == "float" or float(value).is_integer()


def distance_of(shot: Mapping[str, Value]) -> float:
    """Distance between the position of a shot and the hoop, in feet."""
    return float(np.hypot(*position_of(shot)))


def contradiction(shot: Mapping[str, Value]) -> float:
    """Error of the distance of a shot, given its position, in feet; 0 if it is within rounding, or none is given.

    The public files hold distances in feet, mostly rounded down, so rounding errors are below one foot.

    Examples
    --------
    >>> contradiction({"lat": 33.9723, "lng": -118.1028, "shot_distance": 18.0})
    0.0
    >>> round(contradiction({"lat": 33.9723, "lng": -118.1028, "shot_distance": 3.0}), 1)
    -15.2
    """
    place = current().court
    given = shot.get(place.distance) if place else None
    if not isinstance(given, int | float):
        return 0.0
    difference = given - distance_of(shot)
    return difference if abs(difference) > _ROUNDING_FEET else 0.0


def score_shot(shot: Mapping[str, Value], url: str, *, patience: float = RETRY_SECONDS) -> ShotPrediction:
    """Score one row with a server, which marks it as a what-if request in its inference log.

    Parameters
    ----------
    shot : mapping of str to float, str or None
        The features.
    url : str
        URL of the server, with or without ``/invocations``.
    patience : float
        Seconds for which requests are retried.

    Raises
    ------
    ScoringError
        If the server does not respond (a `RejectedRowsError` if it rejects the values).
    """
    with _url_errors_translated(url):
        endpoint = ScoringClient(url, retry_timeout=patience, origin=WHAT_IF)
        endpoint.probe()
        started = time.perf_counter()
        predictions = endpoint.score(_cells(shot))
        milliseconds = 1_000 * (time.perf_counter() - started)
    version = None if predictions.version is None else str(predictions.version)
    made, probability = bool(predictions.label[0]), float(predictions.probability[0])
    return ShotPrediction(dict(shot), endpoint.url, made, probability, version, milliseconds)


def _cells(shot: Mapping[str, Value]) -> npt.NDArray[np.float64] | npt.NDArray[np.object_]:
    """The features in order: doubles, or objects if some are strings."""
    features = current().features
    row = [[shot[feature.name] for feature in features]]
    if all(feature.is_numeric for feature in features):
        return np.array(row, dtype=np.float64)
    # A null number is NaN, a null string None.
    for place, feature in enumerate(features):
        if feature.is_numeric and row[0][place] is None:
            row[0][place] = np.nan
    return np.array(row, dtype=np.object_)


def example_rows() -> pd.DataFrame | None:
    """Features of some test rows, which fill a form with possible values; None if no table is prepared."""
    path = prepared_path(TEST)
    if not path.exists():
        return None
    try:
        return TableReader(path, list(current().feature_names)).systematic_sample(_EXAMPLES)
    except TableError:
        return None


@dataclass(frozen=True)
class UploadedTable:
    """A table of rows that is ready to be sent.

    Attributes
    ----------
    name : str
        File name.
    table : pandas.DataFrame
        The table with all its columns, as it was read.
    sent : pandas.DataFrame
        The features as doubles, and ``shot_id`` where every row has one.
    labels : ndarray of float64, shape (n,)
        1 made, 0 missed, NaN unknown.
    extra_columns : tuple of str
        Columns that are not in the schema. They are passed through, but not sent.
    warning : str
        How many labels could not be read; empty if all were.
    """

    name: str
    table: pd.DataFrame
    sent: pd.DataFrame
    labels: npt.NDArray[np.float64]
    extra_columns: tuple[str, ...]
    warning: str = ""


def read_shots(name: str, content: bytes) -> UploadedTable:
    """Read a file of shots.

    Parameters
    ----------
    name : str
        File name.
    content : bytes

    Raises
    ------
    TableError
        If the file cannot be read, has no rows, lacks a feature, or has an invalid row.
    """
    with scratch("uploads") as folder:
        file = folder / f"upload{''.join(Path(name).suffixes[-2:])}"
        file.write_bytes(content)
        with local_table(str(file)) as path:
            return _shots_of(open_shots(path, name=name))


def _shots_of(reader: DatasetReader, max_rows: int | None = None) -> UploadedTable:
    name = reader.name
    chunk = reader.table() if max_rows is None else reader.sampled_table(max_rows)
    if not len(chunk):
        message = worded("expected at least one shot; the table has no rows.")
        message = f"{name}: {message}"
        raise TableError(message)
    values, problems = features_of(chunk)
    problems = {**problems_of(values), **problems}
    if problems:
        raise TableError(_problems_message(name, problems))
    labels = labels_of(chunk)
    typed, not_typed = typed_with_problems(chunk)
    chunk = chunk if not_typed else typed
    dataset = current()
    sent = pd.DataFrame(values, columns=list(dataset.feature_names))
    ids = shot_ids_of(chunk)
    if ids is not None:
        sent[dataset.id.name] = ids
    described = {name for column in dataset.columns for name in column.names}
    extra_columns = tuple(column for column in chunk.column_names if column not in described)
    return UploadedTable(name, chunk.to_pandas(), sent, labels, extra_columns, reader.warning)


def production_set() -> UploadedTable:
    """The production set of the last preparation; of more than 200,000 rows, a systematic sample.

    Raises
    ------
    TableError
        If the file does not exist, or is not a table of shots.
    """
    path = prepared_path(PROD)
    try:
        return _shots_of(open_shots(path, name=path.name), _MAX_SHOTS)
    except TableError as error:
        message = f"{path}: expected the production set of a preparation; it cannot be read. Prepare it: make main"
        raise TableError(message) from error


def historical_shots() -> pd.DataFrame | None:
    """Positions (lat, lng, in degrees) of all prepared shots, or None if there are none.

    Raises
    ------
    TableError
        If a prepared table cannot be read.
    """
    tables: list[pd.DataFrame] = []
    place = current().court
    if place is None:
        return None
    for path in map(prepared_path, (FILTERED, PROD)):
        if path.exists():
            try:
                rows = TableReader(path, [place.x, place.y]).systematic_sample(_MAX_SHOTS)
                x, y = court.positions(rows, place)
                latitude, longitude = court.to_degrees(x, y)
                tables.append(pd.DataFrame({"lat": latitude, "lng": longitude}))
            except TableError as error:
                message = f"{path}: expected a prepared table; it cannot be read ({error}). Prepare it again: make main"
                raise TableError(message) from error
    return pd.concat(tables, ignore_index=True) if tables else None


@dataclass(frozen=True)
class ScoredUpload:
    """A table that a server has scored.

    Attributes
    ----------
    shots : UploadedTable
        The table that was sent.
    table : pandas.DataFrame
        The table as it was read, with prediction, probability and model_version.
    url : str
        URL of the server.
    seconds : float
        Duration from the first request to the last response.
    labeled : int
        Rows with a label.
    metrics : dict of str to float
        Metrics of the labeled rows; empty if there are none.
    """

    shots: UploadedTable
    table: pd.DataFrame
    url: str
    seconds: float
    labeled: int
    metrics: dict[str, float]

    @property
    def share_predicted_made(self) -> float:
        """Share of the rows with a predicted label of made."""
        return float(self.table[PREDICTION].mean())

    @property
    def mean_probability(self) -> float:
        """Mean P(made)."""
        return float(self.table[PROBABILITY].mean())

    @property
    def versions(self) -> str:
        """The versions that scored the rows, comma-separated."""
        return ", ".join(str(version) for version in sorted(self.table[MODEL_VERSION].dropna().unique())) or "unknown"

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


def score_shots(shots: UploadedTable, url: str, *, on_progress: Callable[[int], None]) -> ScoredUpload:
    """Score a table of shots with a server, and compute the metrics of its labeled rows.

    The server marks the rows as an upload in its inference log.

    Parameters
    ----------
    shots : UploadedTable
    url : str
        URL of the server, with or without ``/invocations``.
    on_progress : callable
        Called with the number of rows after each response.

    Raises
    ------
    ScoringError
        If the server does not respond, or rejects rows.
    """
    started = time.perf_counter()
    with _url_errors_translated(url):
        predictions = score(shots.sent, url, on_progress=on_progress, retry_timeout=RETRY_SECONDS, origin=UPLOAD)
    seconds = time.perf_counter() - started
    probability = predictions[PROBABILITY].to_numpy()
    table = shots.table.assign(
        **{
            PREDICTION: predictions[current().target.name].to_numpy(),
            PROBABILITY: probability,
            MODEL_VERSION: predictions[MODEL_VERSION].array,
        }
    )
    known = ~np.isnan(shots.labels)
    metrics = evaluate(shots.labels[known], probability[known]) if known.any() else {}
    return ScoredUpload(shots, table, base_url(url), seconds, int(known.sum()), metrics)


@contextlib.contextmanager
def _url_errors_translated(url: str) -> Iterator[None]:
    try:
        yield
    except requests.RequestException as error:
        message = f"Expected the URL of a scoring server such as http://127.0.0.1:5001; found {url!r} ({error})."
        raise ScoringError(message) from error


def _problems_message(name: str, problems: Mapping[int, str]) -> str:
    shown = [f"- row {row}, {problems[row]}" for row in sorted(problems)[:_MAX_PROBLEMS_SHOWN]]
    if len(problems) > len(shown):
        shown.append(f"- and {len(problems) - len(shown):,} more rows")
    head = f"{name}: {len(problems):,} row(s), counted from 0, are invalid. Nothing was sent. Fix or remove them:"
    return "\n".join([head, "", *shown])
