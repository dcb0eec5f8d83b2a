"""Distances between samples of one column, and how large they become by chance."""

import numpy as np
import numpy.typing as npt

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

    def compare(self, values: Floats, rows: npt.NDArray[np.int64] | None = None) -> dict[str, float]:
        """The statistics of a sample of any values.

        Parameters
        ----------
        values : ndarray of float64, shape (n,)
        rows : ndarray of int64, shape (n,), optional
            How many rows of the sample have each of them; one without.
        """
        each = np.ones(len(values), dtype=np.int64) if rows is None else rows
        samples = ((values, each.astype(float)), (self.values, self.counts))
        every = np.union1d(values, self.values)
        shares = [_cumulated(held, count, every) for held, count in samples]
        apart = np.abs(shares[0] - shares[1])
        bins = len(self.edges) + 1
        binned = [np.bincount(np.digitize(held, self.edges), count, bins).astype(float) for held, count in samples]
        return {
            "ks": float(apart.max()),
            "psi": float(_psi(binned[0][None], binned[1][None])[0]),
            "wasserstein": float(np.sum(apart[:-1] * np.diff(every))),
        }


class DriftThresholds:
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


def _cumulated(values: Floats, rows: Floats, places: Floats) -> Floats:
    """Share of the rows that have a value up to each place."""
    order = np.argsort(values)
    up_to = np.concatenate([[0.0], np.cumsum(rows[order])])
    share: Floats = up_to[np.searchsorted(values[order], places, side="right")] / up_to[-1]
    return share
