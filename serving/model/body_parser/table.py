"""Results, errors and parameters of the parsers."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

MAX_CASES = 10
"""Maximum number of wrong cells in a message."""
MAX_TEXT = 200
"""Maximum number of characters of a string."""
NO_TEXTS: Mapping[int, Sequence[str]] = MappingProxyType({})
"""Of a table whose features are all numbers."""


class Features(Protocol):
    """Which columns are read."""

    @property
    def names(self) -> list[str]:
        """The features, in the order of the signature."""

    @property
    def identifier(self) -> str:
        """Column that is parsed with them if a table has it, or empty."""

    @property
    def texts(self) -> frozenset[str]:
        """The features whose cells are strings."""

    def places(self, columns: Sequence[object]) -> list[int]:
        """Position of each feature, -1 for an optional one that is missing; an error if another is, or is ambiguous."""


class Table(NamedTuple):
    """A table of numbers and strings.

    Attributes
    ----------
    values : ndarray of float64, shape (n, features)
        The features in the order of the signature; of a string its place in `texts`. NaN where a cell is null.
    ids : ndarray of float64, shape (n,), or None
        The identifier, if it was requested and the table has it; NaN where a cell is not a number.
    ignored : list
        Columns that were ignored.
    params : object
        The parameters of the request, unchanged.
    texts : mapping of int to sequence of str
        The strings of each feature of strings, by its place.
    """

    values: npt.NDArray[np.float64]
    ids: npt.NDArray[np.float64] | None = None
    ignored: Sequence[object] = ()
    params: Any = None
    texts: Mapping[int, Sequence[str]] = NO_TEXTS


class OddPayload(NamedTuple):
    """A small decoded body in an unusual form, for MLflow's own parsers."""

    payload: dict[str, Any]


class WrongCellsError(Exception):
    """Cells of features that are not numbers.

    Attributes
    ----------
    cells : list of (int, str, object)
        Row, counted from 0, feature and value of the first of them.
    count : int
        Number of such cells.
    """

    def __init__(self, cells: Sequence[tuple[int, str, object]], count: int) -> None:
        super().__init__(f"{count} cells are no numbers")
        self.cells, self.count = list(cells[:MAX_CASES]), count


class TooLargeError(MlflowException):  # type: ignore[misc]
    """A body, or its content, exceeds a limit: HTTP 413."""

    def __init__(self, limit: int, unit: str, found: int | None = None) -> None:
        count = "" if found is None else f", found {found:,}"
        super().__init__(f"expected at most {limit:,} {unit} in a request{count}; send the table in parts", BAD_REQUEST)

    def get_http_status_code(self) -> int:
        """413."""
        return 413


class TextColumn:
    """Collects the cells of a feature of strings.

    Attributes
    ----------
    found : list of str
        Each string once.

    Examples
    --------
    >>> column = TextColumn()
    >>> [column.place(cell) for cell in ("Dunk", None, "Layup", "Dunk", 2.0)]
    [0.0, nan, 1.0, 0.0, 2.0]
    >>> column.found
    ['Dunk', 'Layup', '2']
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self._places: dict[str, float] = {}

    def place(self, cell: object) -> float | None:
        """Place of a cell in `found`; NaN if it is null or empty, None if it is neither a string nor a number."""
        if cell is None or cell == "" or cell != cell:  # noqa: PLR0124 only NaN differs from itself
            return np.nan
        text = cell if type(cell) is str else _text_of(cell)
        if text is None:
            return None
        place = self._places.get(text)
        if place is None and _is_storable(text):
            place = self._places[text] = float(len(self.found))
            self.found.append(text)
        return place


def _is_storable(text: str) -> bool:
    """Whether a string is short, and any database takes it: PostgreSQL no NUL, and none a part of a surrogate pair."""
    if len(text) > MAX_TEXT or "\0" in text:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _text_of(cell: object) -> str | None:
    """A number, such as a season, as the string that names its category."""
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else str(cell)
    return str(cell) if isinstance(cell, int) else None


def refusal(message: str) -> MlflowException:
    """A body is not a table: HTTP 400."""
    return MlflowException(message, BAD_REQUEST)


def split_ids(
    cells: npt.NDArray[np.float64], features: Features
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
    """The features and, if it was parsed with them, the identifier."""
    count = len(features.names)
    return (cells, None) if cells.shape[1] == count else (np.ascontiguousarray(cells[:, :count]), cells[:, count])


def others(names: Sequence[object], places: Sequence[int], features: Features) -> list[object]:
    """Columns that are neither features, which `places` names, nor the identifier."""
    taken = set(places)
    return [name for place, name in enumerate(names) if place not in taken and name != features.identifier]
