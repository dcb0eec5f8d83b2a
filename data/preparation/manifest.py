"""The tables that ``preparacao`` and ``aplicacao`` write, and whether they are still those."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.acquisition.provenance import Provenance
from data.errors import StaleDataError
from data.paths import PROCESSED
from data.schema import SHOT_ID
from data.storage.files import display_path, sha256

FILTERED, TRAIN, TEST, PROD = "data_filtered", "base_train", "base_test", "base_prod"
TABLES = (FILTERED, TRAIN, TEST, PROD)
"""Names of the tables of a preparation."""
IDS = {TRAIN: "base_train_ids", TEST: "base_test_ids"}
"""Names of the tables that say which shots those are: ``shot_id`` alone, in the order of their rows."""

MANIFEST = PROCESSED / "manifest.json"
PREDICTIONS = PROCESSED / "predictions_prod.parquet"
"""The scored prod table."""


@dataclass(frozen=True)
class Manifest:
    """What the last preparation wrote, and from what.

    Attributes
    ----------
    provenance : Provenance
        Of the raw files.
    sha256 : dict of str to str
        SHA-256 of each processed table by its name, those of ``IDS`` among them.
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
        record = json.loads(MANIFEST.read_text(encoding="utf-8"))
        return Manifest(Provenance(**record["provenance"]), dict(record["sha256"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        message = f"{display_path(PROCESSED)} holds no prepared tables. Make them first: mlflow run . -e preparacao"
        raise StaleDataError(message) from error


def read_prepared(manifest: Manifest, name: str) -> pd.DataFrame:
    """A table as the last preparation wrote it; see `verified_path` for what it raises."""
    return pd.read_parquet(verified_path(manifest, name))


def read_ids(manifest: Manifest, name: str) -> "pd.Series[Any] | None":
    """``shot_id`` (Int64) of each row of train or test; None where the last preparation was of 0.1.0, which kept none.

    See `verified_path` for what it raises.
    """
    return read_prepared(manifest, IDS[name])[SHOT_ID].astype("Int64") if IDS[name] in manifest.sha256 else None


def verified_path(manifest: Manifest, name: str) -> Path:
    """File of a prepared table, or folder of its parts, that is what the last preparation wrote.

    Raises
    ------
    StaleDataError
        If it is missing or differs from what was written.
    """
    path = prepared_path(name)
    if not path.exists() or sha256(path) != manifest.sha256.get(name):
        message = (
            f"{display_path(path)} is not the file of the last preparation. Prepare again: mlflow run . -e preparacao"
        )
        raise StaleDataError(message)
    return path


def prepared_path(name: str) -> Path:
    """File of a prepared table, or folder of its parts."""
    return PROCESSED / f"{name}.parquet"
