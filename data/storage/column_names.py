"""Names of columns in tables that a person hands in: spelling does not matter, and some have aliases."""

import re
from collections.abc import Sequence

from data.datasets import Dataset, current
from data.datasets.description import RESERVED, folded
from data.schema import PROBABILITY

REQUEST_ID = "request_id"

_INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
_ADDED = {folded(name): name for name in (PROBABILITY, REQUEST_ID)}


def canonical(name: str, dataset: Dataset | None = None) -> str:
    """Return the name of a column of a dataset, or the unchanged name of another column.

    Parameters
    ----------
    name : str
    dataset : Dataset, optional
        By default that of this process.

    Examples
    --------
    >>> [canonical(name) for name in ("LAT", "Longitude", "lng", "Shot Distance", "Mood")]
    ['lat', 'lon', 'lng', 'shot_distance', 'Mood']
    """
    key = folded(name)
    return (dataset or current()).spelled.get(key) or _ADDED.get(key, name)


def is_known(name: str, dataset: Dataset | None = None) -> bool:
    """Whether a name is that of a column of a dataset, in some spelling."""
    key = folded(name)
    return key in (dataset or current()).spelled or key in _ADDED


def is_index(name: str) -> bool:
    """Whether a name is that of an index which pandas wrote.

    Examples
    --------
    >>> [is_index(name) for name in ("", "Unnamed: 0", "__index_level_0__", "index")]
    [True, True, True, False]
    """
    return _INDEX.fullmatch(name) is not None


def unique(names: Sequence[str], dataset: Dataset | None = None) -> list[str]:
    """Number the repetitions of names that no column of a dataset has, as pandas does.

    Examples
    --------
    >>> unique(["lat", "x", "x", "x"])
    ['lat', 'x', 'x.1', 'x.2']
    """
    found: list[str] = []
    for name in names:
        number, other = 1, name
        while other in found and not is_known(name, dataset):
            other = f"{name}.{number}"
            number += 1
        found.append(other)
    return found


def twins(names: Sequence[str], dataset: Dataset | None = None) -> list[tuple[str, str]]:
    """Pairs of names that name one column: its name in raw tables and its name in the model."""
    # A name that scoring adds to tables is that of scoring's column if the table has the column's own name too.
    return [
        (column.name, column.raw_name)
        for column in (dataset or current()).columns
        if column.name != column.raw_name
        and column.raw_name not in RESERVED
        and {column.name, column.raw_name} <= set(names)
    ]
