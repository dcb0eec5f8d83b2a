"""The rows of any dataset as the charts of the court and of predictions take them: the columns of Kobe's shots."""

import numpy as np
import pandas as pd

from data import court
from data.datasets import Dataset
from data.schema import TARGET


def with_label(rows: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Rows whose label is ``shot_made_flag``, whatever the target of the dataset is called."""
    name = dataset.target.name
    return rows if name == TARGET or name not in rows else rows.rename(columns={name: TARGET})


def has_place(rows: pd.DataFrame, dataset: Dataset) -> bool:
    """Whether the rows are on a court."""
    return dataset.court is not None and {dataset.court.x, dataset.court.y} <= set(rows.columns)


def on_court(rows: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Rows with ``lat`` and ``lng`` in degrees, ``shot_distance`` in feet, ``period``, and ``shot_made_flag``."""
    rows = with_label(rows, dataset)
    if dataset.court is None or (dataset.court.unit == "degrees" and {"lat", "lng"} <= set(rows.columns)):
        return rows
    x, y = court.positions(rows, dataset.court)
    latitude, longitude = court.to_degrees(x, y)
    distance = rows[dataset.court.distance] if dataset.court.distance in rows else np.hypot(x, y)
    period = rows["period"] if "period" in rows else 1.0  # noqa: SIM401 a table has no typed get
    return rows.assign(lat=latitude, lng=longitude, shot_distance=distance, period=period)
