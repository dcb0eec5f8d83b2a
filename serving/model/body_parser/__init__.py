"""Bytes of a body → a table of doubles, in a memory that is bounded whatever is sent.

MLflow runs a copy of this package with the served model, so it does not import anything of this project. What a body
costs is known before it is parsed: of JSON and CSV by the separators of their values, of Parquet by footer, schema
and page headers. A body is parsed once; what is wrong with it is reported from what was read.
"""

from .csv_table import read_csv
from .json_table import read_json
from .parquet import read_parquet
from .table import BodyLimits, Features, OddPayload, Table, TooLargeError, WrongCellsError

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
_READERS = {JSON: read_json, CSV: read_csv, PARQUET: read_parquet}

__all__ = [
    "CSV",
    "JSON",
    "PARQUET",
    "BodyLimits",
    "Features",
    "OddPayload",
    "Table",
    "TooLargeError",
    "WrongCellsError",
    "read_body",
]


def read_body(body: bytes, content_type: str, features: Features, limits: BodyLimits) -> Table | OddPayload:
    """The features, and the identifier where it is there, of a body.

    Parameters
    ----------
    body : bytes
    content_type : str
        ``JSON``, ``CSV`` or ``PARQUET``.
    features : Features
        What is read.
    limits : BodyLimits

    Returns
    -------
    Table or OddPayload
        An `OddPayload` is left to MLflow's own parsers: they know forms and parameters that are not read here.

    Raises
    ------
    TooLargeError
        HTTP 413, if the body, or what it would become, exceeds a limit.
    WrongCellsError
        If cells of the features are no numbers.
    mlflow.exceptions.MlflowException
        HTTP 400, without stack trace, if there is no table of the features.
    """
    return _READERS[content_type](body, features, limits)
