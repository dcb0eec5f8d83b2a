"""Entry point ``preparacao``: raw shots → the filtered table, its train and test parts, and the prod table."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pandas as pd
from pydantic import Field
from sklearn.model_selection import train_test_split

from data.console import say
from data.errors import SchemaError
from data.files import RAW, sha256, shown, write_parquet, write_text
from data.prepared import FILTERED, MANIFEST, PROD, TEST, TRAIN, Manifest, prepared_path
from data.provenance import Provenance, read_provenance
from data.raw_tables import DEV_FILE, PROD_FILE, check_pair
from data.schema import FEATURES, GAME_DATE, RAW_NAME, SHOT_ID, TARGET
from monitor import pictures
from steps.aquisicao import data_tags, remind
from steps.command import StepConfig, run_command
from steps.tracking import Artifact, Dataset, Metrics, Params, Picture, Record, step_run, write

RUN_NAME = "PreparacaoDados"

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
    ``shot_id`` first, and ``game_date`` (str), which orders its rows in time, where the raw file has it; its
    ``shot_made_flag`` (float64) is null where the label is unknown.
    """

    filtered: pd.DataFrame
    train: pd.DataFrame
    test: pd.DataFrame
    prod: pd.DataFrame
    dropped: dict[str, int]

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by the names of their files."""
        return {FILTERED: self.filtered, TRAIN: self.train, TEST: self.test, PROD: self.prod}


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
    dated = [GAME_DATE] if GAME_DATE in prod else []
    scorable = prod[list(FEATURES)].notna().all(axis=1)
    dropped |= {f"dropped_prod_missing_{name}": int(prod[name].isna().sum()) for name in FEATURES}
    return Prepared(
        filtered=filtered,
        train=train.reset_index(drop=True),
        test=test.reset_index(drop=True),
        prod=prod.loc[scorable, [SHOT_ID, *dated, *_COLUMNS]].reset_index(drop=True),
        dropped={"dropped_dev_rows": int((~complete).sum()), "dropped_prod_rows": int((~scorable).sum()), **dropped},
    )


def run(config: PreparacaoConfig) -> Prepared:
    """Prepare, in a run of its own."""
    with step_run(RUN_NAME, config):
        provenance = read_provenance()
        remind(synthetic=provenance.is_synthetic)
        write([data_tags(provenance), Params({"features": ",".join(FEATURES)})])
        raw = check_pair(RAW)
        prepared = prepare(raw[DEV_FILE], raw[PROD_FILE], config)
        manifest = _save(prepared, provenance)
        say("Filtered dev table:", f"{len(prepared.filtered)} × {prepared.filtered.shape[1]}")
        for name, table in prepared.tables().items():
            say(f"  {shown(prepared_path(name))}:", f"{len(table):,} × {table.shape[1]}")
        write(_records(prepared, raw, manifest))
    return prepared


def dataset(manifest: Manifest, name: str, table: pd.DataFrame, context: str) -> Dataset:
    """The record of a prepared table as an input of a run."""
    return Dataset(prepared_path(name), table, context, manifest.sha256[name], TARGET)


def _select(raw: pd.DataFrame) -> pd.DataFrame:
    table = raw[[RAW_NAME.get(name, name) for name in _COLUMNS]].astype("float64").set_axis(_COLUMNS, axis=1)
    dates = {GAME_DATE: raw[GAME_DATE].astype("string")} if GAME_DATE in raw else {}
    return table.assign(**{SHOT_ID: pd.to_numeric(raw[SHOT_ID]).astype("int64"), **dates})


def _save(prepared: Prepared, provenance: Provenance) -> Manifest:
    for name, table in prepared.tables().items():
        write_parquet(table, prepared_path(name))
    manifest = Manifest(provenance, {name: sha256(prepared_path(name)) for name in prepared.tables()})
    write_text(json.dumps(asdict(manifest), indent=2) + "\n", MANIFEST)
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
        yield Artifact(prepared_path(name))
    yield Artifact(MANIFEST)
    yield Picture("histograms", pictures.histograms(prepared.filtered))
    yield Picture("shot_map", pictures.shot_map(prepared.filtered))
    yield Picture("rate_by_zone", pictures.rate_by_zone(prepared.filtered))
    yield Picture("rate_by_distance", pictures.rate_by_distance(prepared.filtered))


if __name__ == "__main__":
    run_command(PreparacaoConfig, run)
