"""The rows of a training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import Dataset, default
from data.preparation.manifest import TEST, TRAIN
from monitor.store.records import is_synthetic
from monitor.store.tags import ORIGIN
from steps.shared.tracking import Tags


@dataclass(frozen=True)
class TrainingData:
    """Training and test rows, and where they come from.

    Attributes
    ----------
    train, test : pandas.DataFrame
        The features (float64, or strings) and the label; no row is in both.
    files : dict of str to pathlib.Path
        The same tables as files, by ``base_train`` and ``base_test``, and those of their ``shot_id`` by
        ``base_train_ids`` and ``base_test_ids`` where they are known.
    tags : dict of str to str
    Of the version that is trained on it: ``data_source``, ``synthetic``, and the SHA-256 of each file behind the tables
        as ``sha256_NAME``.
    weights : ndarray of float64, shape (n,), optional
        Weight of each training row; all the same without.
    compared_on : ndarray of bool, shape (n,), optional
        The training rows on which models are compared for selection; all of them without.
    shot_ids : dict of str to pandas.Series
        Id (Int64) of the rows of both tables, by ``base_train`` and ``base_test``; empty where unknown.
    dataset : Dataset
        The description of the tables, with the categories of the training rows.
    groups : ndarray, shape (n,), optional
        Group of each training row, where the description names one: no fold splits a group.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    files: dict[str, Path]
    tags: dict[str, str]
    weights: npt.NDArray[np.float64] | None = None
    compared_on: npt.NDArray[np.bool_] | None = None
    shot_ids: "dict[str, pd.Series[Any]]" = field(default_factory=dict)
    dataset: Dataset = field(default_factory=default)
    groups: npt.NDArray[Any] | None = None

    def identified(self, name: str) -> pd.DataFrame:
        """The rows of ``base_train`` or ``base_test``, with their id where it is known."""
        table = {TRAIN: self.train, TEST: self.test}[name]
        ids = self.shot_ids.get(name)
        return table if ids is None else table.assign(**{self.dataset.id.name: ids.set_axis(table.index)})

    @property
    def is_synthetic(self) -> bool:
        """Whether the shots are synthetic."""
        return is_synthetic(self.tags)

    @property
    def origin(self) -> Tags:
        """The tags of every run of this training set."""
        return Tags({name: self.tags[name] for name in ORIGIN if name in self.tags})
