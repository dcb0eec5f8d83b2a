"""Paths and checksums of the tables that ``preparacao`` and ``aplicacao`` write."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.acquisition.provenance import Provenance
from data.datasets import Dataset, current, for_dataset, processed_folder
from data.errors import StaleDataError
from data.paths import PROCESSED
from data.storage.files import display_path, sha256

FILTERED, TRAIN, TEST, PROD = "data_filtered", "base_train", "base_test", "base_prod"
TABLES = (FILTERED, TRAIN, TEST, PROD)
"""Names of the tables of a preparation."""
IDS = {TRAIN: "base_train_ids", TEST: "base_test_ids"}
"""Names of the tables of ids and groups, in the order of the rows of train and test."""

MANIFEST = PROCESSED / "manifest.json"
PREDICTIONS = PROCESSED / "predictions_prod.parquet"
"""The scored prod table of the default dataset; see `predictions_path` for that of the current one."""


@dataclass(frozen=True)
class Manifest:
    """Checksums of the last preparation, and the provenance of its raw files.

    Attributes
    ----------
    provenance : Provenance
        Provenance of the raw files.
    sha256 : dict of str to str
        SHA-256 of each processed table by name, including those of ``IDS``.
    """

    provenance: Provenance
    sha256: dict[str, str]


def read_manifest() -> Manifest:
    """What the last preparation wrote.

    Raises
    ------
    StaleDataError
        If there is none.
    """
    try:
        record = json.loads(manifest_path().read_text(encoding="utf-8"))
        return Manifest(Provenance.from_record(record["provenance"]), dict(record["sha256"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        message = (
            f"{display_path(processed_folder())} contains no prepared tables. Run the preparation first: "
            f"{for_dataset('mlflow run . -e preparacao')}"
        )
        raise StaleDataError(message) from error


def read_prepared(manifest: Manifest, name: str) -> pd.DataFrame:
    """Read a table of the last preparation; see `verified_path` for exceptions."""
    return pd.read_parquet(verified_path(manifest, name))


def require_described(table: pd.DataFrame, dataset: Dataset | None = None) -> None:
    """Raise if the features of train or test are not those of the description, which was edited since.

    Raises
    ------
    StaleDataError
        With the features that are missing, or that are no longer described.
    """
    dataset = dataset or current()
    expected, found = {*dataset.feature_names, dataset.target.name}, set(map(str, table.columns))
    if expected == found:
        return
    differences = [
        f"{words} {', '.join(sorted(names))}"
        for words, names in (("without", expected - found), ("with", found - expected))
        if names
    ]
    message = (
        f"expected prepared tables with the features of the description of {dataset.name}; found tables "
        f"{' and '.join(differences)}: the description has changed since. Run the preparation again: "
        f"{for_dataset('mlflow run . -e preparacao')}"
    )
    raise StaleDataError(message)


def require_prod_features(names: Iterable[str], dataset: Dataset, of: str) -> None:
    """Raise if the prepared prod table lacks features, which were added to or removed from the description since.

    Parameters
    ----------
    names : iterable of str
        Columns of the table.
    dataset : Dataset
        Description of what scores the table, or of this process.
    of : str
        What needs the features, for the message.

    Raises
    ------
    StaleDataError
        With the features that are missing.
    """
    known = set(names)
    missing = [name for name in dataset.feature_names if name not in known]
    if missing:
        message = (
            f"expected a prepared prod table with the features of {of}; found one without {', '.join(missing)}: the "
            f"description has changed since. Train again: {for_dataset('mlflow run . -e main')}"
        )
        raise StaleDataError(message)


def read_ids(manifest: Manifest, name: str) -> "pd.Series[Any] | None":
    """Read the id (Int64) of each row of train or test; None for a preparation of 0.1.0, which kept no ids.

    See `verified_path` for exceptions.
    """
    column = current().id.name
    return read_prepared(manifest, IDS[name])[column].astype("Int64") if IDS[name] in manifest.sha256 else None


def read_groups(manifest: Manifest, name: str) -> "pd.Series[Any] | None":
    """Read the group of each row of train or test; None where the description names no group.

    See `verified_path` for exceptions.
    """
    group = current().group
    if group is None or IDS[name] not in manifest.sha256:
        return None
    table = read_prepared(manifest, IDS[name])
    return table[group.name]


def verified_path(manifest: Manifest, name: str) -> Path:
    """Return the path of a prepared table after verifying its checksum.

    Raises
    ------
    StaleDataError
        If the table is missing or was changed.
    """
    path = prepared_path(name)
    if not path.exists() or sha256(path) != manifest.sha256.get(name):
        message = (
            f"{display_path(path)} is not the file of the last preparation. Run the preparation again: "
            f"{for_dataset('mlflow run . -e preparacao')}"
        )
        raise StaleDataError(message)
    return path


def prepared_path(name: str) -> Path:
    """Path of a prepared table of the dataset of this process: a file, or a folder of parts."""
    return processed_folder(root=PROCESSED) / f"{name}.parquet"


def manifest_path() -> Path:
    """Path of the manifest of the dataset of this process."""
    return processed_folder(root=MANIFEST.parent) / MANIFEST.name


def predictions_path() -> Path:
    """Path of the scored prod table of the dataset of this process."""
    return processed_folder(root=PREDICTIONS.parent) / PREDICTIONS.name
