"""Identity of shots by ``shot_id``; many different shots have the same values."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.schema import FEATURES, SHOT_ID, TARGET

_MIN_EQUAL_SHARE = 0.5
_TOLERANCE = 1e-6


def is_among(rows: pd.DataFrame, others: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether each row is a shot of another table, shape (n,).

    Sources that number their shots from 1 use the same ids for different shots. If most shots with a common id have
    different values, no row counts as the same shot.

    Parameters
    ----------
    rows, others : pandas.DataFrame
        The features, ``shot_made_flag`` and ``shot_id``, which may be null.

    Examples
    --------
    >>> shots = pd.DataFrame({**dict.fromkeys(FEATURES, 1.0), TARGET: 1, SHOT_ID: [7, 8]})
    >>> is_among(shots, shots.tail(1)).tolist()
    [False, True]
    >>> is_among(shots, shots.tail(1).assign(lat=2.0)).tolist()
    [False, False]
    """
    columns = [*FEATURES, TARGET]
    ids = rows[SHOT_ID].astype("Int64")
    known = others[[*columns, SHOT_ID]].dropna(subset=SHOT_ID).drop_duplicates(SHOT_ID)
    known = known.set_index(known[SHOT_ID].astype("int64"))[columns].astype(float)
    found: npt.NDArray[np.bool_] = (ids.isin(known.index) & ids.notna()).to_numpy(dtype=bool)
    if found.any():
        own = rows.loc[found, columns].to_numpy(dtype=float)
        other = known.loc[ids[found].astype("int64")].to_numpy()
        equal = np.isclose(own, other, rtol=0, atol=_TOLERANCE, equal_nan=True).all(axis=1)
        if equal.mean() < _MIN_EQUAL_SHARE:
            found[:] = False
    return found
