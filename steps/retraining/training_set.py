"""The training sets of a challenger and of its rolling origins: dev rows, and the labels before those it tests on."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import Dataset, current
from data.errors import KobeShotError
from data.groups import groups_of
from data.preparation.identity import is_among
from data.preparation.manifest import IDS, TEST, TRAIN
from data.storage.files import sha256, write_parquet
from monitor.retraining.policy import Origin, rolling_origins
from monitor.store import tables
from monitor.store import tags as store_tags
from monitor.store.model_store import current_store
from monitor.store.records import ModelVersion
from monitor.store.tables import TIME
from serving.model.packaging import with_categories
from steps.training.training_set import TrainingData

_MAX_DEVELOPMENT = 0.5
_MAX_WEIGHT = 5.0


class TrainingSetError(KobeShotError):
    """The delayed labels are too few to train on and to evaluate on."""


class TrainingSets(NamedTuple):
    """The training set of a challenger, and those of the origins before its temporal hold-out, the oldest first.

    The latter are not stored: no version is trained on them.
    """

    challenger: TrainingData
    earlier: tuple[TrainingData, ...]


def build_training_sets(  # noqa: PLR0913 the labels, and how they are used
    labels: pd.DataFrame,
    champion: ModelVersion,
    folder: Path,
    run_id: str,
    *,
    max_labels: int,
    holdout_size: float,
    n_origins: int,
    weighting: str,
) -> TrainingSets:
    """Training rows: the champion's dev rows and the earlier labels. Test rows: the later labels.

    Parameters
    ----------
    labels : pandas.DataFrame
        Labeled rows in the order of ``time``.
    champion : ModelVersion
        Its dev rows are used, and it must not have been trained on the hold-out either.
    folder : pathlib.Path
        For the tables.
    run_id : str
        Run of the decision.
    max_labels : int
        Number of latest labels that are used.
    holdout_size : float
        Share of them, the latest, in the hold-out.
    n_origins : int
        See `monitor.retraining.policy.rolling_origins`.
    weighting : str
        See `label_weights`.

    Raises
    ------
    TrainingSetError
        If there are too few labels on either side.
    """
    dataset = current()
    target = dataset.target.name
    *earlier, last = rolling_origins(labels.tail(max_labels), holdout_size, n_origins, target)
    older, later = last
    if older.empty or later.empty:
        message = (
            f"expected labels to train on and later ones that the champion was not trained on; found "
            f"{len(older):,} and {len(later):,}. Wait for more labels, or give another holdout_size."
        )
        raise TrainingSetError(message)
    development_file = tables.development_table(current_store())
    development = pd.read_parquet(development_file)
    columns = [*dataset.feature_names, target]
    version, digest = champion.version, sha256(development_file)
    development = tables.identified(current_store(), development[columns], TRAIN, version, digest)
    _refuse_development(labels, development)
    unstored = training_data(development, last, dataset, weighting)
    ids = {TRAIN: _identities(dataset, development, older), TEST: _identities(dataset, later)}
    # The column of the groups is among the identities.
    test = unstored.test[columns]
    written = {TRAIN: unstored.train, TEST: test, **{IDS[name]: table for name, table in ids.items()}}
    files = {name: folder / f"{name}.parquet" for name in written}
    for name, table in written.items():
        write_parquet(table, files[name])
    raw = {store_tags.sha256_of(table.partition(".")[0]) for table in dataset.raw_tables}
    kept = {name: value for name, value in champion.tags.items() if name in raw}
    tags = {
        **{name: champion.tags[name] for name in store_tags.ORIGIN if name in champion.tags},
        **kept,
        **{store_tags.sha256_of(name): sha256(path) for name, path in files.items()},
        store_tags.DEVELOPMENT_SHA256: digest,
        store_tags.LABELS_UNTIL: older[TIME].iloc[-1].isoformat(),
        store_tags.TRAINING_LABELS: str(len(older)),
        store_tags.RETRAINING_RUN: run_id,
    }
    shot_ids = {name: table[dataset.id.name] for name, table in ids.items()}
    return TrainingSets(
        replace(unstored, files=files, tags=tags, shot_ids=shot_ids),
        tuple(training_data(development, origin, dataset, weighting) for origin in earlier),
    )


def training_data(development: pd.DataFrame, origin: Origin, dataset: Dataset, weighting: str) -> TrainingData:
    """The rows of an origin, with their weights and groups."""
    target = dataset.target.name
    columns = [*dataset.feature_names, target]
    train = pd.concat([development[columns], origin.train[columns]], ignore_index=True).astype({target: "int64"})
    # Intervals and the gate resample groups.
    group = [dataset.group.name] if dataset.group and dataset.group.name in origin.test else []
    test = origin.test[[*columns, *group]].reset_index(drop=True).astype({target: "int64"})
    arrived, weights = label_weights(len(development), len(origin.train), weighting)
    groups = groups_of(_identities(dataset, development, origin.train), dataset)
    return TrainingData(
        train,
        test,
        files={},
        tags={},
        weights=weights,
        compared_on=arrived,
        dataset=with_categories(dataset, train),
        groups=None if groups is None else groups.to_numpy(),
    )


def _identities(dataset: Dataset, *tables: pd.DataFrame) -> pd.DataFrame:
    """The columns that identify the rows of tables: id, ``time`` and the group, null where they are unknown."""
    group = [dataset.group.name] if dataset.group else []
    kinds = {dataset.id.name: "Int64", TIME: "datetime64[us]"}
    found = [rows.reindex(columns=[dataset.id.name, TIME, *group]).astype(kinds) for rows in tables]
    return pd.concat(found, ignore_index=True)


def _refuse_development(labels: pd.DataFrame, development: pd.DataFrame) -> None:
    """Refuse labels that are mostly dev rows: the champion was trained on those.

    Where the id is unknown on one side, the values are compared: of so many shots most are different.
    """
    identifier = current().id.name
    if identifier in labels and identifier in development and labels[identifier].notna().any():
        share = float(np.mean(is_among(labels, development)))
    else:
        names = [*current().feature_names, current().target.name]
        values = (pd.MultiIndex.from_frame(each[names].astype(object)) for each in (labels, development))
        share = float(np.mean(next(values).isin(next(values))))
    if share > _MAX_DEVELOPMENT:
        message = (
            f"expected labels of {current().rows} in operation; {share:.0%} of these are dev rows, which the champion "
            "was trained on. Pass the rows that were scored later."
        )
        raise TrainingSetError(message)


def label_weights(
    development: int, arrived: int, weighting: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64] | None]:
    """Mask of the delayed labels after so many dev rows, and the sample weight of each row.

    Balanced, labels have the same total weight as the dev rows, and each at most that of five: a tree makes leaves of a
    few rows of large weight.

    Examples
    --------
    >>> label_weights(4, 2, "balanced")[1].tolist()
    [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    """
    is_arrived = np.arange(development + arrived) >= development
    weight = min(development / arrived, _MAX_WEIGHT)
    return is_arrived, np.where(is_arrived, weight, 1.0) if weighting == "balanced" else None
