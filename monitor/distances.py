"""Distances between samples of one column, and how large they become by chance."""

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

PSI_BINS = 10


class Column:
    """A column of the reference: its different values, and which of them each row has."""

    def __init__(self, name: str, values: Floats) -> None:
        self.name = name
        self.values, self.code = np.unique(values, return_inverse=True)
        self.counts = np.bincount(self.code, minlength=len(self.values)).astype(float)
        self.order = np.argsort(self.code, kind="stable")
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(int)
        self.sorted = np.sort(values)
        # Edges are values of the reference: between two of them there may be a bin that holds none.
        edges = np.unique(np.quantile(values, np.linspace(0, 1, PSI_BINS + 1)[1:-1], method="higher"))
        self.edges = edges[edges > self.values[0]]
        self.bin_starts = np.searchsorted(np.digitize(self.values, self.edges), np.arange(len(self.edges) + 1))

    def counted(self, drawn: Floats) -> Floats:
        """Rows of each value, shape (r, k), from how often each row was drawn, shape (r, rows)."""
        counted: Floats = np.add.reduceat(drawn[:, self.order], self.starts, axis=1)
        return counted

    def distances(self, current: Floats, reference: Floats) -> dict[str, Floats]:
        """The statistics of samples that hold values of the reference only, each of shape (r,)."""
        shares = [counts / counts.sum(axis=1, keepdims=True) for counts in (current, reference)]
        apart = np.abs(np.cumsum(shares[0] - shares[1], axis=1))
        return {
            "ks": apart.max(axis=1),
            "psi": _psi(*(np.add.reduceat(counts, self.bin_starts, axis=1) for counts in (current, reference))),
            "wasserstein": apart[:, :-1] @ np.diff(self.values),
        }

    def compare(self, values: Floats) -> dict[str, float]:
        """The statistics of a sample of any values."""
        counts = [
            np.bincount(np.digitize(each, self.edges), minlength=len(self.edges) + 1) for each in (values, self.sorted)
        ]
        return {
            "ks": float(stats.ks_2samp(values, self.sorted, method="asymp").statistic),
            "psi": float(_psi(counts[0][None].astype(float), counts[1][None].astype(float))[0]),
            "wasserstein": float(stats.wasserstein_distance(values, self.sorted)),
        }


class Limits:
    """The limits of batches of one size, any of which is passed with probability `alpha` by a batch without drift.

    A statistic's limit lies a common multiple of the way from its median to its 95 % quantile beyond its median; the
    multiple is such that one in ``1 / alpha`` of the draws passes any limit (single-step max-T). The PSI, a squared
    distance, is compared by its root.

    Parameters
    ----------
    drawn : dict of (str, str) to ndarray of float64, shape (r,)
        By column and statistic: its value in each of r batches without drift.
    alpha : float

    Attributes
    ----------
    limit : dict of (str, str) to float
        By column and statistic.
    """

    def __init__(self, drawn: dict[tuple[str, str], Floats], alpha: float) -> None:
        self._drawn = {key: np.sort(values) for key, values in drawn.items()}
        roots = np.sqrt(np.array(list(drawn.values()))) if drawn else np.empty((0, 1))
        for place, (_, name) in enumerate(drawn):
            if name != "psi":
                roots[place] **= 2
        middle, high = np.quantile(roots, [0.5, 0.95], axis=1)
        # A statistic that hardly ever moves has no scale of its own; nothing that was drawn passes its limit.
        moves = high > middle
        scale = np.where(moves, high - middle, np.inf)
        multiple = np.quantile(((roots - middle[:, None]) / scale[:, None]).max(axis=0), 1 - alpha)
        limits = np.where(moves, middle + multiple * np.where(moves, scale, 0), roots.max(axis=1))
        self.limit = {
            key: float(value**2 if key[1] == "psi" else value) for key, value in zip(drawn, limits, strict=True)
        }

    def p_value(self, key: tuple[str, str], value: float) -> float:
        """Share of batches without drift that are as far away, the batch in question counted."""
        drawn = self._drawn[key]
        return float((len(drawn) - np.searchsorted(drawn, value, side="left") + 1) / (len(drawn) + 1))


def _psi(current: Floats, reference: Floats) -> Floats:
    """Population stability index of counts of shape (r, bins); half a row more in each bin, so that none is empty."""
    shares = [
        (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + counts.shape[1] / 2) for counts in (current, reference)
    ]
    psi: Floats = ((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum(axis=1)
    return psi
