"""Groups of rows that are not independent of each other, such as the shots of one game."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from data.datasets import Dataset

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """The group of each row of a table.

    Attributes
    ----------
    code : ndarray of int64, shape (n,)
        Group of each row, from 0.
    count : int
        Number of groups.
    """

    code: npt.NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, values: npt.ArrayLike) -> "Groups":
        """Number the groups of rows.

        Parameters
        ----------
        values : array_like, shape (n,)
            Name or number of each row's group. A row without one is a group of its own.

        Examples
        --------
        >>> Groups.of([20000012, 20000012, None, None]).code.tolist()
        [0, 0, 1, 2]
        """
        code, names = pd.factorize(pd.Series(np.asarray(values)))
        unknown = code < 0
        numbers = code.astype(np.int64)
        numbers[unknown] = len(names) + np.arange(unknown.sum())
        return cls(numbers, len(names) + int(unknown.sum()))

    def totals(self, values: Floats | None = None) -> Floats:
        """Sum values by group, shape (count,); the rows of each group by default."""
        return np.bincount(self.code, weights=values, minlength=self.count).astype(np.float64)

    def draw(self, groups: int, samples: int, stream: np.random.Generator) -> Floats:
        """Draw groups with replacement.

        Parameters
        ----------
        groups : int
            Groups to draw for each sample.
        samples : int
        stream : numpy.random.Generator

        Returns
        -------
        ndarray of float64, shape (samples, count)
            How often each group is drawn.
        """
        drawn: Floats = stream.multinomial(groups, np.full(self.count, 1 / self.count), size=samples).astype(np.float64)
        return drawn

    def design_effect(self, values: Floats) -> float:
        """Variance of a mean over grouped rows, relative to that over as many independent rows; at least 1.

        Effective rows are the rows divided by it (L. Kish, Survey Sampling, 1965, section 5.4).

        Parameters
        ----------
        values : ndarray of float64, shape (n,)

        Examples
        --------
        >>> Groups.of([1, 1, 2, 2, 3, 3, 4, 4]).design_effect(np.array([0.0, 0, 1, 1, 0, 0, 1, 1])).__round__(2)
        2.33
        """
        if self.count < 2 or not np.ptp(values):  # noqa: PLR2004
            return 1.0
        residuals = values - values.mean()
        of_groups = (self.totals(residuals) ** 2).sum() * self.count / (self.count - 1)
        rows = len(values)
        return max(1.0, float(of_groups / ((residuals**2).sum() * rows / (rows - 1))))


def percentile_confidence(confidence: float, groups: int | None) -> float:
    """Confidence of the percentile interval of bootstrap samples of few groups, so that it is as wide as Student's.

    The expanded percentile interval (T. C. Hesterberg, What Teachers Should Know About the Bootstrap, The American
    Statistician 69, 2015), with one degree of freedom fewer than there are groups.

    Parameters
    ----------
    confidence : float
    groups : int or None
        None where rows are drawn.

    Examples
    --------
    >>> [round(percentile_confidence(0.95, groups), 4) for groups in (10, 300, None)]
    [0.9763, 0.9509, 0.95]
    """
    if groups is None or groups < 2:  # noqa: PLR2004
        return confidence
    return float(2 * special.ndtr(special.stdtrit(groups - 1, (1 + confidence) / 2)) - 1)


def groups_of(table: pd.DataFrame, dataset: Dataset) -> "pd.Series[Any] | None":
    """Return the group of each row; None where the dataset or the table has no groups, and rows are independent."""
    column = dataset.group
    return None if column is None or column.name not in table else table[column.name]
