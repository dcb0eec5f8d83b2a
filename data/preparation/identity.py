"""Which shots are the same: by ``shot_id``, never by their values, which many shots share."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.schema import FEATURES, SHOT_ID, TARGET

_MIN_ALIKE = 0.5
_TOLERANCE = 1e-6


def among(rows: pd.DataFrame, others: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows are shots that stand among others, shape (n,).

    Sources that count their shots from 1 use the same numbers for different shots: where most shots that share a
    number have different values, none is taken for the same.

    Parameters
    ----------
    rows, others : pandas.DataFrame
        The features, ``shot_made_flag`` and ``shot_id``, which may be null where it is not known.

    Examples
    --------
    >>> shots = pd.DataFrame({**dict.fromkeys(FEATURES, 1.0), TARGET: 1, SHOT_ID: [7, 8]})
    >>> among(shots, shots.tail(1)).tolist()
    [False, True]
    >>> among(shots, shots.tail(1).assign(lat=2.0)).tolist()
    [False, False]
    """
    columns = [*FEATURES, TARGET]
    ids = rows[SHOT_ID].astype("Int64")
    known = others[[*columns, SHOT_ID]].dropna(subset=SHOT_ID).drop_duplicates(SHOT_ID)
    known = known.set_index(known[SHOT_ID].astype("int64"))[columns].astype(float)
    found: npt.NDArray[np.bool_] = (ids.isin(known.index) & ids.notna()).to_numpy(dtype=bool)
    if found.any():
        ours = rows.loc[found, columns].to_numpy(dtype=float)
        theirs = known.loc[ids[found].astype("int64")].to_numpy()
        alike = np.isclose(ours, theirs, rtol=0, atol=_TOLERANCE, equal_nan=True).all(axis=1)
        if alike.mean() < _MIN_ALIKE:
            found[:] = False
    return found
