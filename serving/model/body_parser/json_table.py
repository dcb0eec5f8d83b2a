"""Parse JSON to doubles, in the table forms of MLflow's scoring protocol."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

from .table import (
    MAX_CASES,
    Features,
    OddPayload,
    Table,
    TextColumn,
    TooLargeError,
    WrongCellsError,
    others,
    refusal,
)

if TYPE_CHECKING:
    from serving.server_limits import Limits

_LANGUAGE_MODEL_KEYS = {"messages", "prompt", "input"}
"""Keys by which MLflow treats a body as a request to a language model; it ignores all others next to a table."""
_MAX_ODD_BYTES, _MAX_ODD_VALUES = 16 << 10, 2_000
"""Maximum size of a body in an unusual form, which MLflow parses; the cost of some of them is quadratic."""
_LENIENT_SHARE = 2
"""A body that is not strict JSON is parsed by Python, which blocks other requests twice as long."""
_NAME_TYPES = {str, int, bool}
"""JSON values that can name a column; a number is its position."""
_MAX_TEXT = 1_000
_FEW_ROWS = 32
"""So many rows are parsed into one array, which costs less than one for each column."""
_SHOWN = 80


class _Form(NamedTuple):
    """A table in one of the usual forms: its columns, its number of rows, and the rows of selected columns."""

    columns: list[Any]
    length: int
    rows: Callable[[list[int]], list[Sequence[Any]]]


def read_json(body: bytes, features: Features, limits: "Limits") -> Table | OddPayload:
    """Parse the features, and the identifier if it exists, of a JSON body.

    Raises
    ------
    TooLargeError
        If there are too many bytes, values, columns or rows.
    WrongCellsError
        If cells of the features are not numbers.
    mlflow.exceptions.MlflowException
        BAD_REQUEST or INVALID_PARAMETER_VALUE (HTTP 400) if it is not JSON, or not a table of the features.
    """
    if len(body) > limits.json_bytes:
        raise TooLargeError(limits.json_bytes, "bytes of JSON", len(body))
    values = body.count(b",") + body.count(b"[") + body.count(b"{")
    if values > limits.json_values:
        raise TooLargeError(limits.json_values, "values of JSON", values)
    payload = _decode(body, values, limits)
    form = _form(payload, limits)
    if form is None:
        if len(body) <= _MAX_ODD_BYTES and values <= _MAX_ODD_VALUES and isinstance(payload, dict):
            return OddPayload(payload)
        message = (
            f"Expected an object with exactly one of the keys {', '.join(_PARSERS)}, which holds a table; "
            f"found {_shape(payload)}."
        )
        raise refusal(message)
    params = payload["params"] if isinstance(payload, dict) and "params" in payload else None
    if not form.columns and not form.length:
        return Table(np.empty((0, len(features.names))), params=params)
    return _table(form, features, params)


def _decode(body: bytes, values: int, limits: "Limits") -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # NaN, infinity, UTF-16, a byte order mark, and numbers outside the range of a double.
        if values > limits.json_values // _LENIENT_SHARE or len(body) > limits.json_bytes // _LENIENT_SHARE:
            message = (
                f"The body is no JSON as RFC 8259 has it: {str(error)[:_SHOWN]}. "
                f"Python's own (NaN, Infinity, UTF-16) is read up to {limits.json_values // _LENIENT_SHARE:,} values "
                f"and {limits.json_bytes // _LENIENT_SHARE:,} bytes."
            )
            raise refusal(message) from error
    try:
        return json.loads(body)
    except RecursionError as error:
        message = "The body is no JSON that can be read: it nests too deep."
        raise refusal(message) from error
    except ValueError as error:
        # The error for a body that is not UTF-8 contains the body.
        words = (
            f": {error.msg}: line {error.lineno} column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else ""
        )
        message = f"The body is no JSON{words or f' ({type(error).__name__})'}."
        raise refusal(message) from error


def _form(payload: object, limits: "Limits") -> _Form | None:
    """The table of a payload, or None for an unusual form.

    Raises
    ------
    TooLargeError
        If there are too many columns or rows.
    mlflow.exceptions.MlflowException
        BAD_REQUEST (HTTP 400) if rows are not rows, which pandas would convert in its own way.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> def rows(payload):
    ...     form = _form(payload, SimpleNamespace(columns=200, rows=10))
    ...     return form.columns, form.rows([*range(len(form.columns))])
    >>> rows({"dataframe_split": {"columns": ["lat", "lng"], "data": [[33.9, -118.2], [34.0]]}})
    (['lat', 'lng'], [[33.9, -118.2], [34.0, None]])
    >>> rows({"inputs": [{"lat": 33.9}, {"lng": -118.2}]})
    (['lat', 'lng'], [[33.9, None], [None, -118.2]])
    >>> rows({"inputs": {"lat": [33.9, 34.0]}})
    (['lat'], [(33.9,), (34.0,)])
    >>> rows({"inputs": {"lat": 33.9}})
    (['lat'], [(33.9,)])
    >>> rows({"inputs": [[33.9, -118.2]]})
    ([0, 1], [[33.9, -118.2]])
    """
    if not isinstance(payload, dict) or payload.keys() & _LANGUAGE_MODEL_KEYS:
        return None
    found = _PARSERS.keys() & payload.keys()
    if len(found) != 1:
        return None
    key = found.pop()
    form = _PARSERS[key](payload[key], limits)
    if form is None:
        return None
    if len(form.columns) > limits.columns:
        raise TooLargeError(limits.columns, "columns", len(form.columns))
    if form.length > limits.rows:
        raise TooLargeError(limits.rows, "rows", form.length)
    return form if set(map(type, form.columns)) <= _NAME_TYPES else None


def _split(table: object, _: "Limits") -> _Form | None:
    if not isinstance(table, dict):
        return None
    columns, rows = table.get("columns"), table.get("data")
    if not isinstance(rows, list):
        message = f"dataframe_split: expected data, a list of rows; found {_shape(rows)}"
        raise refusal(message)
    if columns is None and rows and isinstance(rows[0], list):
        columns = [*range(len(rows[0]))]
    return _by_position(columns, rows) if isinstance(columns, list) else None


def _by_position(columns: list[Any], rows: list[Any]) -> _Form:
    """Rows that are lists; a short row lacks its last cells, as in pandas."""
    width = len(columns)
    uneven = False
    for number, row in enumerate(rows):
        if type(row) is list and len(row) == width:
            continue
        if not isinstance(row, list) or len(row) > width:
            found = f"{len(row)} cells" if isinstance(row, list) else _shape(row)
            message = (
                f"No row was scored. row {number}: expected a list of {width} cells, one per column; found {found}"
            )
            raise refusal(message)
        uneven = True

    def select(places: list[int]) -> list[Sequence[Any]]:
        if uneven:
            return [[row[place] if place < len(row) else None for place in places] for row in rows]
        if places == [*range(width)]:
            return rows
        return [[row[place] for place in places] for row in rows]

    return _Form(columns, len(rows), select)


def _records(table: object, limits: "Limits") -> _Form | None:
    if not isinstance(table, list) or not set(map(type, table)) <= {dict}:
        return None
    columns = table[0] if len(table) == 1 else dict.fromkeys(itertools.chain.from_iterable(table))
    if len(columns) > limits.columns:
        raise TooLargeError(limits.columns, "columns", len(columns))
    names = [*columns]

    def select(places: list[int]) -> list[Sequence[Any]]:
        wanted = [names[place] for place in places]
        return [[record.get(name) for name in wanted] for record in table]

    return _Form(names, len(table), select)


def _tensor(table: object, limits: "Limits") -> _Form | None:
    """``inputs`` or ``instances``: records, columns, a row, or rows by position, whose columns are numbered."""
    if isinstance(table, list) and table and not any(isinstance(row, dict) for row in table):
        rows = table if all(isinstance(row, list) for row in table) else [table]
        if any(len(row) != len(rows[0]) for row in rows):
            return None
        return _by_position([*range(len(rows[0]))], rows)
    if not isinstance(table, dict):
        return _records(table, limits)
    names, columns = [*table], [*table.values()]
    if not any(isinstance(column, list | dict) for column in columns):
        return _Form(names, 1, lambda places: [tuple(columns[place] for place in places)])
    if all(isinstance(column, list) for column in columns) and len(set(map(len, columns))) == 1:
        return _Form(names, len(columns[0]), lambda places: [*zip(*(columns[place] for place in places), strict=True)])
    return None


_PARSERS: dict[str, Callable[[Any, "Limits"], _Form | None]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "inputs": _tensor,
    "instances": _tensor,
}
"""The parser of the table under each key."""


def _table(form: _Form, features: Features, params: object) -> Table:
    ids: npt.NDArray[np.float64] | None = None
    ignored: Sequence[object] = ()
    if form.columns == features.names:
        places = [*range(len(features.names))]
    else:
        places = features.places(form.columns)
        ignored = others(form.columns, places, features)
        if features.identifier and features.identifier in form.columns:
            cells = [row[0] for row in form.rows([form.columns.index(features.identifier)])]
            ids = _numbers(cells)
    if features.texts or -1 in places:
        values, texts = _mixed(form, places, features)
        return Table(values, ids, ignored, params, texts)
    rows = form.rows(places)
    try:
        values = np.array(rows, dtype=np.float64) if rows else np.empty((0, len(features.names)))
        if values.shape == (len(rows), len(features.names)):
            return Table(values, ids, ignored, params)
    except (TypeError, ValueError, OverflowError):
        pass
    raise _wrong_cells(rows, features.names)


def _mixed(
    form: _Form, places: list[int], features: Features
) -> tuple[npt.NDArray[np.float64], dict[int, Sequence[str]]]:
    """Numbers and strings, column by column; an optional column that is missing is null."""
    few = _mixed_few(form, places, features) if 0 < form.length <= _FEW_ROWS else None
    if few:
        return few
    values = np.full((form.length, len(features.names)), np.nan)
    texts: dict[int, Sequence[str]] = {}
    wrong: list[tuple[int, str, object]] = []
    there = [place for place in places if place >= 0]
    columns = iter(zip(*form.rows(there), strict=True))
    for number, (name, place) in enumerate(zip(features.names, places, strict=True)):
        cells = next(columns, ()) if place >= 0 else ()
        if name in features.texts:
            column = TextColumn()
            found = [column.place(cell) for cell in cells]
            wrong += [(row, name, cells[row]) for row, cell in enumerate(found) if cell is None]
            texts[number], numbers = column.found, _doubles(found)
        else:
            numbers = _doubles(cells)
            wrong += [(row, name, cell) for row, cell in enumerate(cells) if numbers is None and not _is_number(cell)]
        if cells and numbers is not None:
            values[:, number] = numbers
    if wrong:
        raise WrongCellsError(sorted(wrong, key=lambda cell: cell[0]), len(wrong))
    return values, texts


def _mixed_few(
    form: _Form, places: list[int], features: Features
) -> tuple[npt.NDArray[np.float64], dict[int, Sequence[str]]] | None:
    """As `_mixed` has it, with one array for all columns of few rows; None if a cell is wrong."""
    rows = form.rows([place for place in places if place >= 0])
    # Copies: an error shows the cells that were sent.
    if -1 in places:
        table = [[next(cells) if place >= 0 else None for place in places] for cells in map(iter, rows)]
    else:
        table = [[*row] for row in rows]
    columns = {number: TextColumn() for number, name in enumerate(features.names) if name in features.texts}
    for row in table:
        for number, column in columns.items():
            row[number] = place = column.place(row[number])
            if place is None:
                return None
    try:
        values = np.array(table, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    texts: dict[int, Sequence[str]] = {number: column.found for number, column in columns.items()}
    return (values, texts) if values.shape == (form.length, len(places)) else None


def _doubles(cells: Sequence[object]) -> npt.NDArray[np.float64] | None:
    try:
        values = np.array(cells, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return values if values.ndim == 1 else None


def _wrong_cells(rows: Sequence[Sequence[object]], names: Sequence[str]) -> WrongCellsError:
    found: list[tuple[int, str, object]] = []
    count = 0
    for number, row in enumerate(rows):
        for name, cell in zip(names, row, strict=True):
            if not _is_number(cell):
                count += 1
                if count <= MAX_CASES:
                    found.append((number, name, cell))
    return WrongCellsError(found, count)


def _numbers(cells: Sequence[object]) -> npt.NDArray[np.float64]:
    """Cells as doubles, NaN where they are not numbers."""
    try:
        return np.array(cells, dtype=np.float64).reshape(len(cells))
    except (TypeError, ValueError, OverflowError):
        return pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce").to_numpy(dtype=np.float64)


def _is_number(value: object) -> bool:
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        return False
    try:
        return value is None or (not isinstance(value, list | dict) and float(value) is not None)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def _shape(value: object) -> str:
    """Describe a value briefly, however long it is."""
    if isinstance(value, dict):
        keys = ", ".join(repr(key)[:_SHOWN] if len(key) <= _SHOWN else f"{key[:_SHOWN]!r}…" for key in [*value][:10])
        return f"an object of {len(value):,} keys ({keys})"
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    return "null" if value is None else f"a {type(value).__name__}"
