"""Features and P(made) as floats, which the statistics of drift compare: categories by their number, dates as days."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import Column, Dataset
from data.schema import PROBABILITY

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Encoding:
    """How the compared columns of a dataset are encoded.

    Attributes
    ----------
    dataset : Dataset
    names : tuple of str
        The compared columns: the features in order, and ``probability`` where predictions are compared.
    categories : dict of str to tuple of str
        Known categories of each categorical feature, the most frequent first; a category has its place as its number,
        and all unknown ones the next number.
    """

    dataset: Dataset
    names: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset, table: pd.DataFrame, known: Mapping[str, Sequence[str]] | None = None) -> "Encoding":
        """Return the encoding for comparisons with a table.

        Parameters
        ----------
        dataset : Dataset
        table : pandas.DataFrame
            Reference rows; predictions are compared if it has ``probability``.
        known : mapping of str to sequence of str, optional
            Categories of the training rows by feature; by default those of `table`.
        """
        names = (*dataset.feature_names, *([PROBABILITY] if PROBABILITY in table else []))
        given = known or {}
        categories = {
            column.name: tuple(given[column.name]) if column.name in given else by_frequency(table[column.name])
            for column in dataset.categorical
        }
        return cls(dataset, names, categories)

    @property
    def features(self) -> tuple[Column, ...]:
        """The features, in the order of the columns."""
        return self.dataset.features

    def is_categorical(self, name: str) -> bool:
        """Whether a compared column is a categorical feature."""
        return name in self.categories

    def is_date(self, name: str) -> bool:
        """Whether a compared column is a date."""
        return name != PROBABILITY and self.dataset.column(name).kind == "date"

    def unit(self, name: str) -> str:
        """Unit of a compared column; empty where it has none."""
        if name == PROBABILITY:
            return ""
        return "days" if self.is_date(name) else self.dataset.column(name).unit

    def encode(self, table: pd.DataFrame) -> Floats:
        """Encode the compared columns of a table, shape (n, columns); NaN is a null of a nullable feature.

        Raises
        ------
        ValueError
            If a column is missing, a value is infinite, or one is null in a column that is not nullable.
        """
        missing = [name for name in self.names if name not in table]
        if missing:
            message = f"expected the columns {', '.join(self.names)}; missing {', '.join(missing)}"
            raise ValueError(message)
        if not self.categories and not self.dataset.dates:
            values = table[list(self.names)].to_numpy(dtype=float)
        else:
            values = np.column_stack([self._column(table[name], name) for name in self.names])
        nullable = np.array([name != PROBABILITY and self.dataset.column(name).nullable for name in self.names])
        invalid = np.isinf(values) | (np.isnan(values) & ~nullable)
        if invalid.any():
            row, column = np.argwhere(invalid)[0]
            name = self.names[column]
            expected = (
                "a category" if name in self.categories else "a date" if self.is_date(name) else "a finite number"
            )
            message = f"row {row}, column {name}: expected {expected}; found {table[name].iloc[row]}"
            raise ValueError(message)
        return values

    def unseen(self, table: pd.DataFrame) -> dict[str, Counter[str]]:
        """Count the rows of each unknown category, by feature."""
        found = {}
        for name, known in self.categories.items():
            values = table[name].dropna().astype(str)
            found[name] = Counter(values[~values.isin(known)].tolist())
        return found

    def _column(self, values: "pd.Series[Any]", name: str) -> Floats:
        if name in self.categories:
            return self._codes(values, self.categories[name])
        if self.is_date(name):
            return days(values)
        return values.to_numpy(dtype=float)

    @staticmethod
    def _codes(values: "pd.Series[Any]", known: Sequence[str]) -> Floats:
        null = values.isna().to_numpy()
        place = pd.Categorical(values.astype(str), categories=list(known)).codes
        code = np.where(place < 0, len(known), place).astype(np.float64)
        return np.where(null, np.nan, code)


def by_frequency(values: "pd.Series[Any]") -> tuple[str, ...]:
    """Distinct categories, the most frequent first; equally frequent ones in alphabetical order."""
    counts = Counter(values.dropna().astype(str).tolist())
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))


def days(values: "pd.Series[Any]") -> Floats:
    """Convert dates to days since 1970; NaN where there is none.

    Examples
    --------
    >>> days(pd.Series(["1970-01-02", None])).tolist()
    [1.0, nan]
    """
    dates = pd.to_datetime(values, errors="coerce", format="ISO8601", utc=True)
    found: Floats = ((dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(dtype=float)
    return found
