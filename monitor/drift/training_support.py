"""Support of the training data: the region with training rows; predictions outside it are not backed by data."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from data import court
from data.datasets import Court, Dataset
from monitor.drift.encoding import by_frequency

N_NEIGHBORS = 10
"""Number of nearest training rows that define the distance of a row, and of training rows that support a category."""
_SUPPORTED_SHARE = 0.999
_ROWS_PER_NEIGHBOR = 20
_MAX_DISCRETE = 50
_MAX_NEIGHBORS_SEARCHED = 20_000

Floats = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Space:
    """A space with distances between rows: the court, in feet, or the other continuous features, standardized.

    Attributes
    ----------
    columns : tuple of str
        The features that place a row.
    place : Court or None
        The court; None for other features.
    means, scales : ndarray of float64, shape (columns,)
        Mean and standard deviation of the training rows. A null is placed at the mean.
    neighbors : sklearn.neighbors.NearestNeighbors
        The places of the training rows, or of 20,000 of them; on the court, where many have the same place, of all.
    rows : ndarray of int64, shape (places,)
        Number of training rows at each place.
    count : int
        Number of nearest training rows that define the distance of a row.
    max_distance : float
        Maximum distance of a supported row to its tenth nearest training row.
    """

    columns: tuple[str, ...]
    place: Court | None
    means: Floats
    scales: Floats
    neighbors: NearestNeighbors
    rows: npt.NDArray[np.int64]
    count: int
    max_distance: float

    @classmethod
    def of(cls, training: pd.DataFrame, columns: tuple[str, ...], place: Court | None, count: int) -> "Space":
        """Fit a space to training rows; `count` is the number of nearest rows."""
        values = training[list(columns)].astype(float)
        means, scales = values.mean().fillna(0).to_numpy(), values.std(ddof=0).replace(0, np.nan).fillna(1).to_numpy()
        held = training
        if place is None and len(training) > _MAX_NEIGHBORS_SEARCHED:
            held = training.sample(_MAX_NEIGHBORS_SEARCHED, random_state=0)
        places, _, rows = _distinct(_locations(held, columns, place, means, scales))
        neighbors = NearestNeighbors(n_neighbors=min(count + 1, len(places)), algorithm="kd_tree").fit(places)
        # A training row is not its own neighbor.
        away, which = neighbors.kneighbors(places)
        distances = _distance_of_row(away, which, rows, count + 1)
        max_distance = float(np.quantile(np.repeat(distances, rows), _SUPPORTED_SHARE))
        return cls(columns, place, means, scales, neighbors, rows, count, max_distance)

    def far(self, table: pd.DataFrame) -> Marks:
        """Return which rows are farther away than `max_distance`, shape (n,)."""
        if table.empty:
            return np.zeros(0, dtype=bool)
        places, which, _ = _distinct(_locations(table, self.columns, self.place, self.means, self.scales))
        away, nearest = self.neighbors.kneighbors(places)
        distances = _distance_of_row(away, nearest, self.rows, self.count)
        found: Marks = (distances > self.max_distance)[which]
        return found


@dataclass(frozen=True)
class Support:
    """The region covered by the training rows.

    A row is out of support if, in one of the spaces, its tenth nearest training row is farther away than for 99.9% of
    the training rows; if no training row has its value of a discrete feature, a number with at most 50 different whole
    training values; or if fewer than ten training rows have its category, or a null where it has one. Few training rows
    need fewer neighbors. Dates are expected to move on and are always in support.

    Attributes
    ----------
    spaces : tuple of Space
        The court, where the dataset has one, and the other continuous features.
    known : dict of str to ndarray of float64
        Training values of each discrete feature.
    categories : dict of str to tuple of str
        Training values of each categorical feature, the most frequent first.
    supported : dict of str to frozenset of str
        Categories with enough training rows.
    nulls : dict of str to bool
        Whether a null of a nullable feature has enough training rows.
    """

    spaces: tuple[Space, ...]
    known: Mapping[str, Floats]
    categories: Mapping[str, tuple[str, ...]]
    supported: Mapping[str, frozenset[str]]
    nulls: Mapping[str, bool]

    @classmethod
    def of(cls, training: pd.DataFrame, dataset: Dataset) -> "Support":
        """Fit the support to a table of training rows.

        Parameters
        ----------
        training : pandas.DataFrame
            The features.
        dataset : Dataset

        Raises
        ------
        ValueError
            If there are fewer than two rows.
        """
        if len(training) < 2:  # noqa: PLR2004
            message = f"expected two or more training rows to fit the training support; found {len(training)}"
            raise ValueError(message)
        count = max(1, min(N_NEIGHBORS, len(training) // _ROWS_PER_NEIGHBOR))
        place = _court(dataset)
        numeric = [column.name for column in dataset.numeric if column.name not in place]
        known = {name: np.unique(training[name].dropna().to_numpy(dtype=float)) for name in numeric}
        discrete = {name: values for name, values in known.items() if _is_discrete(values)}
        continuous = tuple(name for name in numeric if name not in discrete)
        spaces = [*([(place, dataset.court)] if place else []), *([(continuous, None)] if continuous else [])]
        texts = {column.name: training[column.name].dropna().astype(str) for column in dataset.categorical}
        counts = {name: values.value_counts() for name, values in texts.items()}
        return cls(
            tuple(Space.of(training, columns, court_, count) for columns, court_ in spaces),
            discrete,
            {name: by_frequency(values) for name, values in texts.items()},
            {name: frozenset(rows.index[rows >= count]) for name, rows in counts.items()},
            {
                column.name: int(training[column.name].isna().sum()) >= count
                for column in dataset.features
                if column.nullable and column.kind != "date"
            },
        )

    def out_of_support(self, table: pd.DataFrame) -> Marks:
        """Return which rows are out of support, shape (n,)."""
        found = self.unseen(table)
        for space in self.spaces:
            found |= space.far(table)
        return found

    def unseen(self, table: pd.DataFrame) -> Marks:
        """Return which rows have a discrete value, a category or a null without enough training rows, shape (n,)."""
        found = np.zeros(len(table), dtype=bool)
        for name, values in self.known.items():
            found |= ~(table[name].isin(values) | table[name].isna()).to_numpy()
        for name, categories in self.supported.items():
            found |= ~(table[name].astype(str).isin(categories) | table[name].isna()).to_numpy()
        for name, supported in self.nulls.items():
            if not supported:
                found |= table[name].isna().to_numpy()
        return found


def _court(dataset: Dataset) -> tuple[str, ...]:
    """Features that are the place on the court; none where the place is not a feature."""
    place, names = dataset.court, dataset.feature_names
    if place is None or place.x not in names or place.y not in names:
        return ()
    return tuple(name for name in (place.x, place.y, place.distance) if name in names)


def _is_discrete(values: Floats) -> bool:
    return len(values) <= _MAX_DISCRETE and bool((values == np.rint(values)).all())


def _locations(
    table: pd.DataFrame, columns: tuple[str, ...], place: Court | None, means: Floats, scales: Floats
) -> Floats:
    values = table[list(columns)].astype(float)
    if place is None:
        standardized: Floats = ((values.to_numpy() - means) / scales).round(6)
        return np.nan_to_num(standardized)
    values = values.fillna(dict(zip(columns, means, strict=True)))
    others = [values[name] for name in columns if name not in {place.x, place.y}]
    # Four decimals of a degree correspond to hundredths of a foot.
    return np.column_stack([*court.positions(values, place), *others]).round(2)


def _distinct(locations: Floats) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The distinct locations, as many rows have few; the number of each row's, and the number of rows of each."""
    groups = pd.DataFrame(locations).groupby(list(range(locations.shape[1])), sort=False)
    which = groups.ngroup().to_numpy(dtype=np.int64)
    _, first, rows = np.unique(which, return_index=True, return_counts=True)
    return locations[first], which, rows


def _distance_of_row(
    distances: Floats, places: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], number: int
) -> Floats:
    """The distance to the row that has a number among the nearest, from those of the nearest places, nearest first.

    Examples
    --------
    >>> _distance_of_row(np.array([[0.0, 1.0, 5.0]]), np.array([[0, 1, 2]]), np.array([1, 2, 4]), 4).tolist()
    [5.0]
    """
    nearest = np.argmax(np.cumsum(rows[places], axis=1) >= number, axis=1)
    found: Floats = np.take_along_axis(distances, nearest[:, None], axis=1)[:, 0]
    return found
