"""Entry point ``preparacao``: make the filtered table, its train and test parts, and the prod table of the raw shots.

An engine writes all tables into a staging folder; then they are moved together to their paths.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import AfterValidator, Field

from data import datasets
from data.acquisition.provenance import Provenance, read_provenance
from data.cli.console import info
from data.cli.progress import progress_bar
from data.datasets import processed_folder, raw_folder
from data.engines.choice import LOCAL, check_name, open_engine
from data.paths import PROCESSED, RAW
from data.preparation.contract import REJECTS, PreparationParams, PreparationResult
from data.preparation.manifest import FILTERED, IDS, PROD, TABLES, Manifest, manifest_path, prepared_path
from data.preparation.prepare import prepare, progress_total
from data.storage.files import atomic_write, display_path, remove_path, sha256, translate_disk_full, write_text
from data.storage.staging import staging
from data.storage.tables import TableReader
from monitor.charts import static
from monitor.store import run_names
from steps.shared.command import StepConfig, run_command
from steps.shared.data_origin import data_tags, prepared_dataset, print_synthetic_warning
from steps.shared.engine_config import RejectingConfig
from steps.shared.tracking import Artifact, Dataset, FigureRecord, Metrics, Params, Record, Text, log_records, step_run

RUN_NAME = run_names.PREPARATION

_SAMPLE_ROWS = 200_000


class SplitConfig(StepConfig):
    """How the filtered rows are split."""

    test_size: float = Field(
        default=0.2, gt=0, lt=1, description="share of the filtered rows that is kept for the test"
    )
    seed: int = Field(default=42, ge=0, lt=2**32, description="seed of the stratified random split")


class PreparacaoConfig(SplitConfig, RejectingConfig):
    """Select the columns, drop dev rows with missing values, split into train and test, keep every prod row."""

    engine: Annotated[str, AfterValidator(check_name)] = Field(
        default=LOCAL,
        description="local computes in this process in bounded memory; spark distributes the work; the URL of an "
        "Ibis backend, such as databricks://…, computes there, with its driver installed",
    )

    @property
    def plan(self) -> PreparationParams:
        """The parameters of the engine."""
        return PreparationParams(self.test_size, self.seed, self.rows_rejected_at_most)


def run(config: PreparacaoConfig) -> PreparationResult:
    """Prepare, in a run of its own."""
    config.check()
    with step_run(RUN_NAME, config):
        provenance = read_provenance()
        print_synthetic_warning(synthetic=provenance.is_synthetic)
        log_records([data_tags(provenance), Params({"features": ",".join(config.description.feature_names)})])
        folder = processed_folder(config.description, PROCESSED)
        with translate_disk_full(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with staging(folder, "preparation") as stage:
                prepared = _prepare(config, stage)
                manifest = _install(provenance, stage)
        _show(prepared)
        log_records(_records(prepared, manifest, config.description))
    return prepared


def _prepare(config: PreparacaoConfig, out: Path) -> PreparationResult:
    dataset = config.description
    raw = raw_folder(dataset, RAW)
    with (
        open_engine(config.engine, config.master, out) as engine,
        progress_bar("preparing", progress_total(raw, dataset)) as advance,
    ):
        return prepare(engine, raw, out, config.plan, advance, dataset)


def _install(provenance: Provenance, stage: Path) -> Manifest:
    """Move the complete tables to their paths, and remove rejects of an earlier preparation."""
    for name in (*TABLES, *IDS.values(), *REJECTS):
        staged = stage / prepared_path(name).name
        if staged.exists():
            with atomic_write(prepared_path(name)) as partial:
                staged.replace(partial)
        else:
            remove_path(prepared_path(name))
    manifest = Manifest(provenance, {name: sha256(prepared_path(name)) for name in (*TABLES, *IDS.values())})
    write_text(json.dumps(asdict(manifest), indent=2) + "\n", manifest_path())
    return manifest


def _show(prepared: PreparationResult) -> None:
    columns = {name: len(TableReader(prepared_path(name)).schema) for name in TABLES}
    for kind, needed in (("dev", "a feature or a label"), ("prod", "a feature")):
        if dropped := prepared.dropped[f"dropped_{kind}_rows"]:
            info("Dropped:", f"{dropped:,} {kind} rows without {needed}")
    for (file, count), rejects in zip(prepared.rejected.items(), REJECTS, strict=True):
        if count:
            info(
                "Rejected:",
                f"{count:,} rows of {file} that violate the schema: {display_path(prepared_path(rejects))}",
                style="bold yellow",
            )
    info("Filtered dev table:", f"{prepared.rows[FILTERED]} × {columns[FILTERED]}")
    for name in TABLES:
        info(f"  {display_path(prepared_path(name))}:", f"{prepared.rows[name]:,} × {columns[name]}")


def _records(prepared: PreparationResult, manifest: Manifest, dataset: datasets.Dataset) -> Iterator[Record]:
    yield Metrics({f"rows_{name}": float(prepared.rows[name]) for name in TABLES})
    yield Metrics({f"share_made_{name}": _positive_rate(prepared, name) for name in TABLES})
    yield Metrics({"rows_base_prod_unlabeled": float(prepared.rows[PROD] - prepared.labeled[PROD])})
    yield Metrics({name: float(count) for name, count in prepared.dropped.items()})
    yield Metrics({"rejected_rows": float(sum(prepared.rejected.values()))})
    yield Params({f"sha256_{name}": digest for name, digest in manifest.sha256.items()})
    for file in dataset.raw_tables:
        name = file.partition(".")[0]
        path = raw_folder(dataset, RAW) / file
        raw = _sample(path)
        yield Dataset(path, raw, "raw", manifest.provenance.sha256[file], dataset.target.raw_name)
        yield FigureRecord(f"missing_values_{name}", static.missing_values(raw, f"Missing values, {name}"))
    for name in TABLES:
        yield prepared_dataset(manifest, name, _sample(prepared_path(name)), "prepared")
        yield Artifact(prepared_path(name))
    for name in IDS.values():
        yield Artifact(prepared_path(name))
    for name in REJECTS:
        if prepared_path(name).exists():
            yield Artifact(prepared_path(name))
    yield Artifact(manifest_path())
    yield Text("dataset.json", dataset.to_json())
    filtered = _sample(prepared_path(FILTERED))
    yield FigureRecord("histograms", static.histograms(filtered, dataset))
    if dataset.court is None:
        return
    yield FigureRecord("shot_map", static.shot_map(filtered))
    yield FigureRecord("rate_by_zone", static.rate_by_zone(filtered))
    yield FigureRecord("rate_by_distance", static.rate_by_distance(filtered))


def _positive_rate(prepared: PreparationResult, name: str) -> float:
    """Positive rate of the labeled rows; NaN without labels."""
    return prepared.made[name] / prepared.labeled[name] if prepared.labeled[name] else float("nan")


def _sample(path: Path) -> pd.DataFrame:
    return TableReader(path).systematic_sample(_SAMPLE_ROWS)


if __name__ == "__main__":
    run_command(PreparacaoConfig, run)
