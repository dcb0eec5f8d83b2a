"""Entry point ``preparacao``: raw shots → the filtered table, its train and test parts, and the prod table."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from pydantic import Field
from sklearn.model_selection import train_test_split

from data.console import say
from data.errors import SchemaError, StaleDataError
from data.files import PROCESSED, RAW, sha256, shown, write_parquet, write_text
from data.provenance import Provenance, read_provenance
from data.raw_tables import DEV_FILE, PROD_FILE, check_pair
from data.schema import FEATURES, RAW_NAME, SHOT_ID, TARGET
from monitor import pictures
from steps.aquisicao import data_tags, remind
from steps.command import StepConfig, run_command
from steps.tracking import Artifact, Dataset, Metrics, Params, Picture, Record, step_run, write

RUN_NAME = "PreparacaoDados"

FILTERED, TRAIN, TEST, PROD = "data_filtered", "base_train", "base_test", "base_prod"

_MANIFEST = PROCESSED / "manifest.json"
_COLUMNS = [*FEATURES, TARGET]


class PreparacaoConfig(StepConfig):
    """Select the columns, drop dev rows with missing values, split into train and test, keep every prod row."""

    test_size: float = Field(
        default=0.2, gt=0, lt=1, description="share of the filtered rows that is kept for the test"
    )
    seed: int = Field(default=42, ge=0, lt=2**32, description="seed of the stratified random split")


@dataclass(frozen=True)
class Prepared:
    """The tables of a preparation and what was left out of them.

    ``filtered``, ``train`` and ``test`` hold the six features (float64) and ``shot_made_flag`` (int64); ``prod`` holds
    ``shot_id`` first, and its ``shot_made_flag`` (float64) is null where the label is unknown.
    """

    filtered: pd.DataFrame
    train: pd.DataFrame
    test: pd.DataFrame
    prod: pd.DataFrame
    dropped: dict[str, int]

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by the names of their files."""
        return {FILTERED: self.filtered, TRAIN: self.train, TEST: self.test, PROD: self.prod}


@dataclass(frozen=True)
class Manifest:
    """What the last preparation wrote, and from what.

    Attributes
    ----------
    provenance : Provenance
        Of the raw files.
    sha256 : dict of str to str
        SHA-256 of each processed table by its name.
    """

    provenance: Provenance
    sha256: dict[str, str]


def prepare(dev: pd.DataFrame, prod: pd.DataFrame, config: PreparacaoConfig) -> Prepared:
    """Select, drop and split.

    Parameters
    ----------
    dev, prod : pandas.DataFrame
        Checked raw tables.
    config : PreparacaoConfig
        Size and seed of the split.

    Raises
    ------
    SchemaError
        If too few labelled dev rows are left to be split with both results on both sides.
    """
    dev, prod = _select(dev), _select(prod)
    complete = dev[_COLUMNS].notna().all(axis=1)
    dropped = {f"dropped_dev_missing_{name}": int(dev[name].isna().sum()) for name in _COLUMNS}
    filtered = dev.loc[complete, _COLUMNS].astype({TARGET: "int64"}).reset_index(drop=True)
    try:
        train, test = train_test_split(
            filtered, test_size=config.test_size, random_state=config.seed, stratify=filtered[TARGET]
        )
    except ValueError as error:
        message = (
            f"{DEV_FILE} leaves {len(filtered):,} rows with every feature and a label, "
            f"{filtered[TARGET].sum():,} made: too few to split with test_size {config.test_size:g} ({error}). "
            "Expected both results on both sides."
        )
        raise SchemaError(message) from error
    scorable = prod[list(FEATURES)].notna().all(axis=1)
    dropped |= {f"dropped_prod_missing_{name}": int(prod[name].isna().sum()) for name in FEATURES}
    return Prepared(
        filtered=filtered,
        train=train.reset_index(drop=True),
        test=test.reset_index(drop=True),
        prod=prod.loc[scorable, [SHOT_ID, *_COLUMNS]].reset_index(drop=True),
        dropped={"dropped_dev_rows": int((~complete).sum()), "dropped_prod_rows": int((~scorable).sum()), **dropped},
    )


def run(config: PreparacaoConfig) -> Prepared:
    """Prepare, in a run of its own."""
    with step_run(RUN_NAME, config):
        provenance = read_provenance()
        remind(provenance)
        write([data_tags(provenance), Params({"features": ",".join(FEATURES)})])
        raw = check_pair(RAW)
        prepared = prepare(raw[DEV_FILE], raw[PROD_FILE], config)
        manifest = _save(prepared, provenance)
        say("Filtered dev table:", f"{len(prepared.filtered)} × {prepared.filtered.shape[1]}")
        for name, table in prepared.tables().items():
            say(f"  {shown(_path(name))}:", f"{len(table):,} × {table.shape[1]}")
        write(_records(prepared, raw, manifest))
    return prepared


def read_manifest() -> Manifest:
    """What the last preparation wrote.

    Raises
    ------
    StaleDataError
        If there is none.
    """
    try:
        record = json.loads(_MANIFEST.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"{shown(PROCESSED)} holds no prepared tables. Make them first: mlflow run . -e preparacao"
        raise StaleDataError(message) from error
    return Manifest(Provenance(**record["provenance"]), record["sha256"])


def read_prepared(manifest: Manifest, name: str) -> pd.DataFrame:
    """A table as the last preparation wrote it.

    Raises
    ------
    StaleDataError
        If the file is missing or differs from what was written.
    """
    path = _path(name)
    if not path.is_file() or sha256(path) != manifest.sha256.get(name):
        message = (
            f"{shown(path)} is not the file that the last preparation wrote. Prepare again: mlflow run . -e preparacao"
        )
        raise StaleDataError(message)
    return pd.read_parquet(path)


def dataset(manifest: Manifest, name: str, table: pd.DataFrame, context: str) -> Dataset:
    """The record of a prepared table as an input of a run."""
    return Dataset(_path(name), table, context, manifest.sha256[name], TARGET)


def _select(raw: pd.DataFrame) -> pd.DataFrame:
    table = raw[[RAW_NAME.get(name, name) for name in _COLUMNS]].astype("float64").set_axis(_COLUMNS, axis=1)
    return table.assign(**{SHOT_ID: pd.to_numeric(raw[SHOT_ID]).astype("int64")})


def _path(name: str) -> Path:
    return PROCESSED / f"{name}.parquet"


def _save(prepared: Prepared, provenance: Provenance) -> Manifest:
    for name, table in prepared.tables().items():
        write_parquet(table, _path(name))
    manifest = Manifest(provenance, {name: sha256(_path(name)) for name in prepared.tables()})
    write_text(json.dumps(asdict(manifest), indent=2) + "\n", _MANIFEST)
    return manifest


def _records(prepared: Prepared, raw: dict[str, pd.DataFrame], manifest: Manifest) -> Iterator[Record]:
    yield Metrics({f"rows_{name}": float(len(table)) for name, table in prepared.tables().items()})
    yield Metrics({f"share_made_{name}": float(table[TARGET].mean()) for name, table in prepared.tables().items()})
    yield Metrics({"rows_base_prod_unlabelled": float(prepared.prod[TARGET].isna().sum())})
    yield Metrics({name: float(count) for name, count in prepared.dropped.items()})
    yield Params({f"sha256_{name}": digest for name, digest in manifest.sha256.items()})
    for file, table in raw.items():
        name = file.partition(".")[0]
        yield Dataset(RAW / file, table, "raw", manifest.provenance.sha256[file], TARGET)
        yield Picture(f"missing_values_{name}", pictures.missing_values(table, f"Missing values, {name}"))
    for name, table in prepared.tables().items():
        yield dataset(manifest, name, table, "prepared")
        yield Artifact(_path(name))
    yield Artifact(_MANIFEST)
    yield Picture("histograms", pictures.histograms(prepared.filtered))
    yield Picture("shot_map", pictures.shot_map(prepared.filtered))
    yield Picture("rate_by_zone", pictures.rate_by_zone(prepared.filtered))
    yield Picture("rate_by_distance", pictures.rate_by_distance(prepared.filtered))


if __name__ == "__main__":
    run_command(PreparacaoConfig, run)
