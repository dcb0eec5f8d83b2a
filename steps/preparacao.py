"""Entry point ``preparacao``: raw shots → the filtered table, its train and test parts, and the prod table.

The tables are made by an engine, all of them beside their places, and put there together.
"""

import importlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from pydantic import Field

from data.acquisition.provenance import Provenance, read_provenance
from data.acquisition.raw_tables import FILES
from data.cli.console import say
from data.cli.progress import progress
from data.paths import PROCESSED, RAW
from data.preparation import local
from data.preparation.contract import REJECTS, Plan, Prepared
from data.preparation.manifest import FILTERED, IDS, MANIFEST, PROD, TABLES, Manifest, prepared_path
from data.schema import FEATURES, TARGET
from data.spark.session import session
from data.storage.files import disk_full_told, remove, replacing, sha256, shown, write_text
from data.storage.staging import staging
from data.storage.tables import TableReader
from monitor.charts import static
from steps.aquisicao import data_tags, remind
from steps.shared.command import StepConfig, run_command
from steps.shared.engine_config import RejectingConfig
from steps.shared.tracking import Artifact, Dataset, Metrics, Params, Picture, Record, step_run, write

RUN_NAME = "PreparacaoDados"

_SAMPLE_ROWS = 200_000


class SplitConfig(StepConfig):
    """How the filtered rows are split."""

    test_size: float = Field(
        default=0.2, gt=0, lt=1, description="share of the filtered rows that is kept for the test"
    )
    seed: int = Field(default=42, ge=0, lt=2**32, description="seed of the stratified random split")


class PreparacaoConfig(SplitConfig, RejectingConfig):
    """Select the columns, drop dev rows with missing values, split into train and test, keep every prod row."""

    @property
    def plan(self) -> Plan:
        """What is asked of an engine."""
        return Plan(self.test_size, self.seed, self.rows_rejected_at_most)


def run(config: PreparacaoConfig) -> Prepared:
    """Prepare, in a run of its own."""
    config.check()
    with step_run(RUN_NAME, config):
        provenance = read_provenance()
        remind(synthetic=provenance.is_synthetic)
        write([data_tags(provenance), Params({"features": ",".join(FEATURES)})])
        with disk_full_told(PROCESSED):
            PROCESSED.mkdir(parents=True, exist_ok=True)
            with staging(PROCESSED, "preparation") as stage:
                prepared = _prepare(config, stage)
                manifest = _commit(provenance, stage)
        _tell(prepared)
        write(_records(prepared, manifest))
    return prepared


def dataset(manifest: Manifest, name: str, table: pd.DataFrame, context: str) -> Dataset:
    """The record of a prepared table as an input of a run."""
    return Dataset(prepared_path(name), table, context, manifest.sha256[name], TARGET)


def _prepare(config: PreparacaoConfig, out: Path) -> Prepared:
    if config.engine == "spark":
        spark = importlib.import_module("data.preparation.spark")
        prepared: Prepared = spark.prepare(session(config.master), RAW, out, config.plan)
        return prepared
    with progress("preparing", local.work(RAW)) as advance:
        return local.prepare(RAW, out, config.plan, advance)


def _commit(provenance: Provenance, stage: Path) -> Manifest:
    """Put tables that are all whole into their places, and the tables of rejects of an earlier preparation away."""
    for name in (*TABLES, *IDS.values(), *REJECTS.values()):
        staged = stage / prepared_path(name).name
        if staged.exists():
            with replacing(prepared_path(name)) as partial:
                staged.replace(partial)
        else:
            remove(prepared_path(name))
    manifest = Manifest(provenance, {name: sha256(prepared_path(name)) for name in (*TABLES, *IDS.values())})
    write_text(json.dumps(asdict(manifest), indent=2) + "\n", MANIFEST)
    return manifest


def _tell(prepared: Prepared) -> None:
    columns = {name: len(TableReader(prepared_path(name)).schema) for name in TABLES}
    for kind, needed in (("dev", "a feature or a label"), ("prod", "a feature")):
        if dropped := prepared.dropped[f"dropped_{kind}_rows"]:
            say("Dropped:", f"{dropped:,} {kind} rows without {needed}")
    for file, count in prepared.rejected.items():
        if count:
            say(
                "Rejected:",
                f"{count:,} rows of {file} that break the schema: {shown(prepared_path(REJECTS[file]))}",
                style="bold yellow",
            )
    say("Filtered dev table:", f"{prepared.rows[FILTERED]} × {columns[FILTERED]}")
    for name in TABLES:
        say(f"  {shown(prepared_path(name))}:", f"{prepared.rows[name]:,} × {columns[name]}")


def _records(prepared: Prepared, manifest: Manifest) -> Iterator[Record]:
    yield Metrics({f"rows_{name}": float(prepared.rows[name]) for name in TABLES})
    yield Metrics({f"share_made_{name}": _share_made(prepared, name) for name in TABLES})
    yield Metrics({"rows_base_prod_unlabelled": float(prepared.rows[PROD] - prepared.labelled[PROD])})
    yield Metrics({name: float(count) for name, count in prepared.dropped.items()})
    yield Metrics({"rejected_rows": float(sum(prepared.rejected.values()))})
    yield Params({f"sha256_{name}": digest for name, digest in manifest.sha256.items()})
    for file in FILES:
        name = file.partition(".")[0]
        raw = _sample(RAW / file)
        yield Dataset(RAW / file, raw, "raw", manifest.provenance.sha256[file], TARGET)
        yield Picture(f"missing_values_{name}", static.missing_values(raw, f"Missing values, {name}"))
    for name in TABLES:
        yield dataset(manifest, name, _sample(prepared_path(name)), "prepared")
        yield Artifact(prepared_path(name))
    for name in IDS.values():
        yield Artifact(prepared_path(name))
    for name in REJECTS.values():
        if prepared_path(name).exists():
            yield Artifact(prepared_path(name))
    yield Artifact(MANIFEST)
    filtered = _sample(prepared_path(FILTERED))
    yield Picture("histograms", static.histograms(filtered))
    yield Picture("shot_map", static.shot_map(filtered))
    yield Picture("rate_by_zone", static.rate_by_zone(filtered))
    yield Picture("rate_by_distance", static.rate_by_distance(filtered))


def _share_made(prepared: Prepared, name: str) -> float:
    """Made of those with a label; NaN where none has one."""
    return prepared.made[name] / prepared.labelled[name] if prepared.labelled[name] else float("nan")


def _sample(path: Path) -> pd.DataFrame:
    return TableReader(path).sample(_SAMPLE_ROWS)


if __name__ == "__main__":
    run_command(PreparacaoConfig, run)
