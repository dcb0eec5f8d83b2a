"""Parse a request body to a table of doubles in bounded memory, for any body.

MLflow runs a copy of this package with the served model, so it does not import anything of this project. The parsers
bound the cost of a body before they parse it: of JSON and CSV by the separators of their values, of Parquet by footer,
schema and page headers. A body is parsed once; its errors are reported from the same pass.
"""

from typing import TYPE_CHECKING

from .csv_table import read_csv
from .json_table import read_json
from .parquet import read_parquet
from .table import NO_TEXTS, Features, OddPayload, Table, TooLargeError, WrongCellsError

if TYPE_CHECKING:
    from serving.server_limits import Limits

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
_READERS = {JSON: read_json, CSV: read_csv, PARQUET: read_parquet}

__all__ = [
    "CSV",
    "JSON",
    "NO_TEXTS",
    "PARQUET",
    "Features",
    "OddPayload",
    "Table",
    "TooLargeError",
    "WrongCellsError",
    "read_body",
]


def read_body(body: bytes, content_type: str, features: Features, limits: "Limits") -> Table | OddPayload:
    """Parse the features, and the identifier if the body has it.

    Parameters
    ----------
    body : bytes
    content_type : str
        ``JSON``, ``CSV`` or ``PARQUET``.
    features : Features
        Columns to parse.
    limits : Limits

    Returns
    -------
    Table or OddPayload
        An `OddPayload` is passed to MLflow's own parsers, which support more forms and parameters.

    Raises
    ------
    TooLargeError
        HTTP 413, if the body, or its parsed content, exceeds a limit.
    WrongCellsError
        If cells of the features are not numbers.
    mlflow.exceptions.MlflowException
        HTTP 400, without stack trace, if the body is not a table of the features.
    """
    return _READERS[content_type](body, features, limits)
