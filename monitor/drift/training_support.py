"""Support of the training data: the region with training shots; predictions outside it are not backed by data."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from data import court
from data.schema import FEATURES

N_NEIGHBORS = 10
"""Number of nearest training shots that define the distance of a shot."""
_SUPPORTED_SHARE = 0.999
_ROWS_PER_NEIGHBOR = 20
_DISCRETE = ("minutes_remaining", "period", "playoffs")


@dataclass(frozen=True)
class Support:
    """The region covered by the training shots.

    A shot is out of support if its tenth nearest training shot, in feet across, along and from the hoop, is farther
    away than for 99.9% of the training shots, or if no training shot has its minute, its period or its game type.

    Attributes
    ----------
    max_distance : float
        Maximum distance of a supported shot to its tenth nearest training shot, feet.
    known : dict of str to ndarray of float64
        Training values of each other feature.
    """

    neighbors: NearestNeighbors
    max_distance: float
    known: dict[str, npt.NDArray[np.float64]]

    @classmethod
    def of(cls, training: pd.DataFrame) -> "Support":
        """Fit the support to a table of training shots.

        Parameters
        ----------
        training : pandas.DataFrame
            The features.

        Raises
        ------
        ValueError
            If there are fewer than two rows.
        """
        if len(training) < 2:  # noqa: PLR2004
            message = f"expected two or more training rows to fit the training support; found {len(training)}"
            raise ValueError(message)
        locations = _locations(training)
        count = max(1, min(N_NEIGHBORS, len(training) // _ROWS_PER_NEIGHBOR))
        neighbors = NearestNeighbors(n_neighbors=count, algorithm="kd_tree").fit(locations)
        # Without arguments, `kneighbors` does not count a training shot as its own neighbor.
        distances = neighbors.kneighbors()[0][:, -1]
        max_distance = float(np.quantile(distances, _SUPPORTED_SHARE))
        return cls(neighbors, max_distance, {name: np.unique(training[name]) for name in _DISCRETE})

    def out_of_support(self, table: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which rows are out of support, shape (n,)."""
        if table.empty:
            return np.zeros(0, dtype=bool)
        unseen = np.zeros(len(table), dtype=bool)
        for name, values in self.known.items():
            unseen |= ~table[name].isin(values).to_numpy()
        # Kobe's shots share few locations, so each location is queried once.
        locations, which = np.unique(_locations(table), axis=0, return_inverse=True)
        far = self.neighbors.kneighbors(locations)[0][:, -1] > self.max_distance
        found: npt.NDArray[np.bool_] = unseen | far[which]
        return found


def _locations(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    values = table[list(FEATURES)].astype(float)
    x, y = court.to_feet(values["lat"], values["lng"])
    # Four decimals of a degree correspond to hundredths of a foot.
    return np.column_stack([x, y, values["shot_distance"]]).round(2)
