"""Where the training shots are, and which shots lie outside: nothing can be promised of those."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from data import court
from data.schema import FEATURES

NEIGHBOURS = 10
"""How many training shots must be near a shot."""
_INSIDE_SHARE = 0.999
_ROWS_PER_NEIGHBOUR = 20
_ELSEWHERE = ("minutes_remaining", "period", "playoffs")


@dataclass(frozen=True)
class Support:
    """The region of the training shots.

    A shot lies outside if its tenth nearest training shot, in feet across, along and from the hoop, is farther away
    than that of 99.9 % of the training shots, or if no training shot had its minute, its period, or its kind of game.

    Attributes
    ----------
    limit : float
        Greatest distance of a shot inside to its tenth nearest training shot, feet.
    known : dict of str to ndarray of float64
        The values that each other feature had in training.
    """

    neighbours: NearestNeighbors
    limit: float
    known: dict[str, npt.NDArray[np.float64]]

    @classmethod
    def of(cls, training: pd.DataFrame) -> "Support":
        """The region of a table of training shots.

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
            message = f"expected two or more training rows to tell where they are; found {len(training)}"
            raise ValueError(message)
        places = _places(training)
        count = max(1, min(NEIGHBOURS, len(training) // _ROWS_PER_NEIGHBOUR))
        neighbours = NearestNeighbors(n_neighbors=count, algorithm="kd_tree").fit(places)
        # Among its own kind a training shot is not its own neighbour.
        distances = neighbours.kneighbors()[0][:, -1]
        limit = float(np.quantile(distances, _INSIDE_SHARE))
        return cls(neighbours, limit, {name: np.unique(training[name]) for name in _ELSEWHERE})

    def outside(self, table: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Which rows lie outside, shape (n,)."""
        if table.empty:
            return np.zeros(0, dtype=bool)
        strange = np.zeros(len(table), dtype=bool)
        for name, values in self.known.items():
            strange |= ~table[name].isin(values).to_numpy()
        # Kobe's shots share few places, so each place is asked for once.
        places, which = np.unique(_places(table), axis=0, return_inverse=True)
        far = self.neighbours.kneighbors(places)[0][:, -1] > self.limit
        found: npt.NDArray[np.bool_] = strange | far[which]
        return found


def _places(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    values = table[list(FEATURES)].astype(float)
    x, y = court.to_feet(values["lat"], values["lng"])
    # The four decimals of a degree are hundredths of a foot.
    return np.column_stack([x, y, values["shot_distance"]]).round(2)
