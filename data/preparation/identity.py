"""Identity of rows by their ids; many different rows have the same values."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import Dataset, current

_MIN_EQUAL_SHARE = 0.5
_TOLERANCE = 1e-6


def is_among(rows: pd.DataFrame, others: pd.DataFrame, dataset: Dataset | None = None) -> npt.NDArray[np.bool_]:
    """Whether each row is a shot of another table, shape (n,).

    Sources that number their shots from 1 use the same ids for different shots. If most shots with a common id have
    different values, no row counts as the same shot.

    Parameters
    ----------
    rows, others : pandas.DataFrame
        The features, the label and the id, which may be null.
    dataset : Dataset, optional
        By default that of this process.

    Examples
    --------
    >>> shots = pd.DataFrame({**dict.fromkeys(current().feature_names, 1.0), "shot_made_flag": 1, "shot_id": [7, 8]})
    >>> is_among(shots, shots.tail(1)).tolist()
    [False, True]
    >>> is_among(shots, shots.tail(1).assign(lat=2.0)).tolist()
    [False, False]
    """
    described = dataset or current()
    own_id, target = described.id.name, described.target.name
    columns = [*described.feature_names, target]
    ids = rows[own_id].astype("Int64")
    known = others[[*columns, own_id]].dropna(subset=own_id).drop_duplicates(own_id)
    known = known.set_index(known[own_id].astype("int64"))[columns]
    found: npt.NDArray[np.bool_] = (ids.isin(known.index) & ids.notna()).to_numpy(dtype=bool)
    if found.any():
        own, other = rows.loc[found, columns], known.loc[ids[found].astype("int64")]
        equal = np.ones(len(own), dtype=bool)
        for column in (*described.features, described.target):
            equal &= _equal(own[column.name], other[column.name], is_number=column.is_numeric or column.name == target)
        if equal.mean() < _MIN_EQUAL_SHARE:
            found[:] = False
    return found


def _equal(own: "pd.Series[Any]", other: "pd.Series[Any]", *, is_number: bool) -> npt.NDArray[np.bool_]:
    if is_number:
        first, second = (column.to_numpy(dtype=float) for column in (own, other))
        return np.isclose(first, second, rtol=0, atol=_TOLERANCE, equal_nan=True)
    texts = [column.astype("string").fillna("").to_numpy(dtype=object) for column in (own, other)]
    return np.asarray(texts[0] == texts[1], dtype=bool)
