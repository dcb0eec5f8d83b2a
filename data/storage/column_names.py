"""Names of columns in tables that a person hands in: spelling does not matter, and some have aliases."""

import re
from collections.abc import Sequence

from data.schema import COLUMN, FEATURES, PROBABILITY, RAW_COLUMN_NAMES

ALIASES = {"latitude": "lat", "longitude": "lon", "long": "lon", "shot_made": "shot_made_flag"}
"""Other names of columns. ``lon`` and ``lng`` name the same column at every boundary."""

_SEPARATORS = re.compile(r"[\s_.\-/]+")
_INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


def folded(name: str) -> str:
    """Return a name without case, spaces, dashes, dots and underscores.

    Examples
    --------
    >>> folded(" Shot-Made Flag")
    'shotmadeflag'
    """
    return _SEPARATORS.sub("", name.casefold())


_KNOWN = {folded(name): name for name in (*COLUMN, *FEATURES, PROBABILITY, "request_id")}
_KNOWN |= {folded(alias): name for alias, name in ALIASES.items()}


def canonical(name: str) -> str:
    """Return the name of a column in `data.schema`, or the unchanged name of another column.

    Examples
    --------
    >>> [canonical(name) for name in ("LAT", "Longitude", "lng", "Shot Distance", "Mood")]
    ['lat', 'lon', 'lng', 'shot_distance', 'Mood']
    """
    return _KNOWN.get(folded(name), name)


def is_known(name: str) -> bool:
    """Whether a name is that of a column of `data.schema`, in some spelling."""
    return folded(name) in _KNOWN


def is_index(name: str) -> bool:
    """Whether a name is that of an index which pandas wrote.

    Examples
    --------
    >>> [is_index(name) for name in ("", "Unnamed: 0", "__index_level_0__", "index")]
    [True, True, True, False]
    """
    return _INDEX.fullmatch(name) is not None


def unique(names: Sequence[str]) -> list[str]:
    """Number the repetitions of names that no column of `data.schema` has, as pandas does.

    Examples
    --------
    >>> unique(["lat", "x", "x", "x"])
    ['lat', 'x', 'x.1', 'x.2']
    """
    found: list[str] = []
    for name in names:
        number, other = 1, name
        while other in found and not is_known(name):
            other = f"{name}.{number}"
            number += 1
        found.append(other)
    return found


def longitude(names: Sequence[str]) -> list[str]:
    """The names of the longitude among names."""
    return [name for pair in RAW_COLUMN_NAMES.items() for name in pair if name in names]
