"""Drift statistics of one column, of numbers or of categories, and thresholds from their null distribution."""

from abc import ABC, abstractmethod
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.spatial.distance import jensenshannon

from data.groups import Groups

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PSI_BINS = 10
MIN_CATEGORY_SHARE = 0.01
"""Share of the reference below which categories are pooled into one, together with unknown ones."""


class Reference(ABC):
    """A column of the reference, of numbers or of categories: its distinct values, and the cell of each row."""

    values: Floats

    def __init__(self, name: str, known: Integers, cells: Integers, counts: Floats, rows: int) -> None:
        """Take the rows that are not NaN, the cell of each, the rows of each cell, and the number of all rows."""
        self.name, self.counts = name, counts
        self._known, self._cell = known, cells
        self._of_rows = self.count_groups(Groups(np.arange(rows), rows))

    def count_draws(self, drawn: Floats) -> Floats:
        """Count the rows of each cell, shape (r, k), given the draws of each row, shape (r, rows)."""
        counts: Floats = np.asarray(drawn @ self._of_rows)
        return counts

    def count_groups(self, groups: Groups) -> sparse.csr_matrix:
        """Count the rows of each cell in each group, shape (groups, k)."""
        shape = groups.count, len(self.counts)
        return sparse.csr_matrix((np.ones(len(self._known)), (groups.code[self._known], self._cell)), shape)

    @abstractmethod
    def distances(self, current: Floats, reference: Floats) -> dict[str, Floats]:
        """Compute the statistics of samples that `count_draws` has counted, each of shape (r,)."""

    @abstractmethod
    def compare(self, values: Floats, rows: Integers | None = None) -> dict[str, float]:
        """Compute the statistics of a sample of any values, shape (n,); `rows` have each value, by default 1."""


class ReferenceColumn(Reference):
    """A column of numbers of the reference: its distinct values, and the value of each row; NaN is excluded."""

    def __init__(self, name: str, values: Floats) -> None:
        known = np.flatnonzero(~np.isnan(values))
        rows, values = len(values), values[known]
        self.values, code = np.unique(values, return_inverse=True)
        super().__init__(name, known, code, np.bincount(code, minlength=len(self.values)).astype(float), rows)
        # Edges are values of the reference; any others could leave a bin without reference rows.
        edges = np.unique(np.quantile(values, np.linspace(0, 1, PSI_BINS + 1)[1:-1], method="higher"))
        self.edges = edges[edges > self.values[0]]
        self.bin_starts = np.searchsorted(np.digitize(self.values, self.edges), np.arange(len(self.edges) + 1))

    def distances(self, current: Floats, reference: Floats) -> dict[str, Floats]:
        """Compute the statistics of samples whose values all occur in the reference, each of shape (r,)."""
        shares = [counts / counts.sum(axis=1, keepdims=True) for counts in (current, reference)]
        gaps = np.abs(np.cumsum(shares[0] - shares[1], axis=1))
        return {
            "ks": gaps.max(axis=1),
            "psi": _psi(*(np.add.reduceat(counts, self.bin_starts, axis=1) for counts in (current, reference))),
            "wasserstein": gaps[:, :-1] @ np.diff(self.values),
        }

    def compare(self, values: Floats, rows: Integers | None = None) -> dict[str, float]:
        """Compute the statistics of a sample of any values."""
        each = np.ones(len(values), dtype=np.int64) if rows is None else rows
        samples = ((values, each.astype(float)), (self.values, self.counts))
        every = np.union1d(values, self.values)
        shares = [_cdf(held, count, every) for held, count in samples]
        gaps = np.abs(shares[0] - shares[1])
        bins = len(self.edges) + 1
        binned = [np.bincount(np.digitize(held, self.edges), count, bins).astype(float) for held, count in samples]
        return {
            "ks": float(gaps.max()),
            "psi": float(_psi(binned[0][None], binned[1][None])[0]),
            "wasserstein": float(np.sum(gaps[:-1] * np.diff(every))),
        }


class ReferenceCategories(Reference):
    """A column of categories of the reference, by number; rare and unknown ones are pooled, and NaN is excluded.

    Parameters
    ----------
    name : str
    values : ndarray of float64, shape (n,)
        Number of the category of each row.
    """

    def __init__(self, name: str, values: Floats) -> None:
        known = np.flatnonzero(~np.isnan(values))
        self.values, counts = np.unique(values[known], return_counts=True)
        self._frequent = self.values[counts >= MIN_CATEGORY_SHARE * counts.sum()]
        cells = self._cells(values[known])
        counted = np.bincount(cells, minlength=len(self._frequent) + 1).astype(float)
        super().__init__(name, known, cells, counted, len(values))

    def distances(self, current: Floats, reference: Floats) -> dict[str, Floats]:
        """Compute the statistics of samples that are counted by category, each of shape (r,).

        The Jensen-Shannon distance has base 2, so that it is 1 where no category is in both (D. M. Endres and J. E.
        Schindelin, IEEE Transactions on Information Theory 49, 2003).
        """
        return {"js": jensenshannon(current, reference, base=2, axis=1), "psi": _psi(current, reference)}

    def compare(self, values: Floats, rows: Integers | None = None) -> dict[str, float]:
        """Compute the statistics of a sample of any categories."""
        counted = np.bincount(self._cells(values), rows, len(self.counts)).astype(float)
        return {name: float(found[0]) for name, found in self.distances(counted[None], self.counts[None]).items()}

    def _cells(self, values: Floats) -> Integers:
        """Return the cell of each category; the last one is that of rare and unknown ones."""
        place = np.minimum(np.searchsorted(self._frequent, values), max(len(self._frequent) - 1, 0))
        known = self._frequent[place] == values if len(self._frequent) else np.zeros(len(values), dtype=bool)
        cells: Integers = np.where(known, place, len(self._frequent)).astype(np.int64)
        return cells


class DriftThresholds:
    """Drift thresholds for batches of one size; a batch without drift exceeds any of them with probability `alpha`.

    Each null distribution is scaled by the distance between its median and its 95% quantile. All thresholds lie the
    same number of these scales above their median, and a share `alpha` of the draws exceeds at least one threshold
    (single-step max-T). The PSI, a squared distance, is compared by its square root.

    Parameters
    ----------
    drawn : dict of (str, str) to ndarray of float64, shape (r,)
        By column and statistic: the value in each of r batches without drift.
    alpha : float
        Joint false-positive rate.
    expected : set of (str, str)
        Statistics that raise no alarm: their thresholds have the rate `alpha` each, and do not change the others.

    Attributes
    ----------
    threshold : dict of (str, str) to float
        Thresholds by column and statistic.
    """

    def __init__(
        self, drawn: dict[tuple[str, str], Floats], alpha: float, expected: Collection[tuple[str, str]] = ()
    ) -> None:
        self._drawn = {key: np.sort(values) for key, values in drawn.items()}
        self.threshold = {key: float(np.quantile(drawn[key], 1 - alpha)) for key in expected}
        drawn = {key: values for key, values in drawn.items() if key not in expected}
        if not drawn:
            return
        roots = np.sqrt(np.array(list(drawn.values())))
        for index, (_, name) in enumerate(drawn):
            if name != "psi":
                roots[index] **= 2
        middle, high = np.quantile(roots, [0.5, 0.95], axis=1)
        # A statistic that is nearly constant has no scale; its threshold is the maximum of the draws.
        varies = high > middle
        scale = np.where(varies, high - middle, np.inf)
        multiple = np.quantile(((roots - middle[:, None]) / scale[:, None]).max(axis=0), 1 - alpha)
        thresholds = np.where(varies, middle + multiple * np.where(varies, scale, 0), roots.max(axis=1))
        self.threshold |= {
            key: float(value**2 if key[1] == "psi" else value) for key, value in zip(drawn, thresholds, strict=True)
        }

    def p_value(self, key: tuple[str, str], value: float) -> float:
        """Return the share of batches without drift with a value at least as large, counting the batch itself."""
        drawn = self._drawn[key]
        return float((len(drawn) - np.searchsorted(drawn, value, side="left") + 1) / (len(drawn) + 1))


def _psi(current: Floats, reference: Floats) -> Floats:
    """Population stability index of counts of shape (r, bins), with half a row added to each bin."""
    shares = [
        (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + counts.shape[1] / 2) for counts in (current, reference)
    ]
    psi: Floats = ((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum(axis=1)
    return psi


def _cdf(values: Floats, rows: Floats, points: Floats) -> Floats:
    """Empirical cumulative distribution at each point."""
    order = np.argsort(values)
    up_to = np.concatenate([[0.0], np.cumsum(rows[order])])
    share: Floats = up_to[np.searchsorted(values[order], points, side="right")] / up_to[-1]
    return share
