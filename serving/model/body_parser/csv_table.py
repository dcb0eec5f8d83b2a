"""Parse CSV to doubles with pandas, a few rows at a time, in bounded memory."""

import codecs
import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.exceptions import MlflowException

from .table import (
    MAX_CASES,
    Features,
    Table,
    TextColumn,
    TooLargeError,
    WrongCellsError,
    others,
    refusal,
    split_ids,
)

if TYPE_CHECKING:
    from serving.server_limits import Limits

_MAX_HEAD_BYTES = 64 << 10
_CELLS_AT_ONCE = 200_000
_MAX_MESSAGE = 200
_NULLS = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""Texts that are null in a column of numbers, as in pandas; in a column of strings only the empty one is."""


def read_csv(body: bytes, features: Features, limits: "Limits") -> Table:
    """Parse the features, and the identifier if it exists, of a CSV table.

    Raises
    ------
    TooLargeError
        If there are too many bytes, cells, columns or rows.
    WrongCellsError
        If cells of the features are not numbers.
    mlflow.exceptions.MlflowException
        BAD_REQUEST or INVALID_PARAMETER_VALUE (HTTP 400) if it is not a table of the features.
    """
    if len(body) > limits.csv_bytes:
        raise TooLargeError(limits.csv_bytes, "bytes of CSV", len(body))
    # With any quoting, no line has more cells than the table has commas.
    cells = body.count(b",") + body.count(b"\n") + body.count(b"\r")
    if cells > limits.csv_cells:
        raise TooLargeError(limits.csv_cells, "cells of CSV", cells)
    options = _options(_check_header(body, features), features)
    try:
        return _read(_Feed(body), features, limits, options)
    except (MlflowException, WrongCellsError):
        raise
    except Exception as error:
        # pandas may raise any error.
        words = f"{type(error).__name__}: {error}"[:_MAX_MESSAGE]
        message = f"The body could not be read as a CSV table: {words}"
        raise refusal(message) from error


class _Feed(io.TextIOBase):
    """The body as text for pandas. It ends after the head until `is_open` is set.

    So the column names, which are expensive for pandas, are in the head or are not parsed.
    """

    def __init__(self, body: bytes) -> None:
        self._body, self._at = memoryview(body), 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.is_open = False

    def read(self, size: int | None = None, /) -> str:
        """As of any text."""
        left = len(self._body) - self._at
        if not left:
            return self._decoder.decode(b"", final=True)
        if not self.is_open:
            if self._at:
                raise TooLargeError(_MAX_HEAD_BYTES, "bytes in the first two lines of CSV")
            size = _MAX_HEAD_BYTES
        end = self._at + min(left, size or left)
        part, self._at = self._body[self._at : end], end
        # A part may end within a character, and an empty string would mean the end of the file.
        return self._decoder.decode(part) or self.read(size)

    def readable(self) -> bool:
        """It is."""
        return True


def _options(names: Sequence[str], features: Features) -> dict[str, Any]:
    """How pandas reads the columns of strings: "NA" may be a category, and "007" another than "7"."""
    if not features.texts or not names:
        return {}
    strings = {names[place] for name, place in _places(names, features).items() if name in features.texts}
    nulls = {name: [""] if name in strings else list(_NULLS) for name in names}
    return {"dtype": dict.fromkeys(strings, str), "na_values": nulls, "keep_default_na": False}


def _places(names: Sequence[object], features: Features) -> dict[str, int]:
    """Place of each feature that the table has."""
    pairs = zip(features.names, features.places(names), strict=True)
    return {name: place for name, place in pairs if place >= 0}


def _read(feed: _Feed, features: Features, limits: "Limits", options: Mapping[str, Any]) -> Table:
    text: Any = feed
    with pd.read_csv(text, iterator=True, low_memory=False, **options) as reader:
        first = reader.read(1)
        feed.is_open = True
        names = list(first.columns)
        if len(names) > limits.columns:
            raise TooLargeError(limits.columns, "columns", len(names))
        there = _places(names, features)
        taken = dict(zip(map(features.names.index, there), there.values(), strict=True))
        if features.identifier in names:
            taken[len(features.names)] = names.index(features.identifier)
        texts = {place: TextColumn() for place, name in enumerate(features.names) if name in features.texts}
        parts, rows = [_numbers(first, taken, texts, 0, features)], len(first)
        while True:
            try:
                chunk = reader.read(max(1, _CELLS_AT_ONCE // len(names)))
            except StopIteration:
                break
            parts.append(_numbers(chunk, taken, texts, rows, features))
            rows += len(chunk)
            if rows > limits.rows:
                raise TooLargeError(limits.rows, "rows")
    values, ids = split_ids(np.concatenate(parts), features)
    strings = {place: column.found for place, column in texts.items()}
    return Table(values, ids, others(names, [*there.values()], features), None, strings)


def _numbers(
    chunk: pd.DataFrame, taken: Mapping[int, int], texts: Mapping[int, TextColumn], start: int, features: Features
) -> npt.NDArray[np.float64]:
    """The selected columns as doubles, by their place among them; `start` is the number of the chunk's first row."""
    count_of_features = len(features.names)
    found = np.full((len(chunk), count_of_features + (count_of_features in taken)), np.nan)
    wrong: list[tuple[int, str, object]] = []
    count = 0
    for place, column in taken.items():
        cells = chunk.iloc[:, column]
        if place in texts:
            numbers = [texts[place].place(cell) for cell in cells.tolist()]
            bad = [row for row, number in enumerate(numbers) if number is None]
            found[:, place] = np.array(numbers, dtype=np.float64)
            count += len(bad)
            wrong += [(start + row, features.names[place], cells.iloc[row]) for row in bad[:MAX_CASES]]
            continue
        if cells.dtype.kind in "iufb":
            found[:, place] = cells
            continue
        words = cells.astype(str).where(cells.notna())
        found[:, place] = pd.to_numeric(words, errors="coerce")
        if place < count_of_features:
            rows = np.flatnonzero(np.isnan(found[:, place]) & cells.notna().to_numpy())
            count += len(rows)
            wrong += [(start + row, features.names[place], words.iloc[row]) for row in rows[:MAX_CASES].tolist()]
    if wrong:
        raise WrongCellsError(sorted(wrong, key=lambda cell: cell[0]), count)
    return found


def _check_header(body: bytes, features: Features) -> list[str]:
    """Names of the columns; reject a table with a duplicate feature, which pandas would rename.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400).
    """
    line = body[:_MAX_HEAD_BYTES].decode(errors="replace").removeprefix("\ufeff").partition("\n")[0]
    try:
        names = next(csv.reader([line.rstrip("\r")]), [])
    except csv.Error:
        return []
    if len(set(names)) < len(names):
        features.places(names)
    return names
