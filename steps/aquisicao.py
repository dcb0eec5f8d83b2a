"""Entry point ``aquisicao``: fill ``data/raw`` with the two raw files."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from data.acquisition.download import MAX_SOURCE_BYTES
from data.acquisition.provenance import Provenance
from data.acquisition.sources import acquire, validate_source
from data.datasets import Dataset, raw_folder
from data.datasets.current import load_cached
from data.paths import RAW
from data.simulation.synthetic import PUBLIC_ROWS
from data.storage.tables import TableReader
from monitor.store import run_names
from steps.shared.command import StepConfig, run_command
from steps.shared.data_origin import data_tags, print_provenance
from steps.shared.tracking import Artifact, Metrics, Record, Tags, log_records, step_run

RUN_NAME = run_names.ACQUISITION

_LONGEST_TAG = 5_000


def _validate_source(source: str, info: ValidationInfo) -> str:
    name = info.data.get("dataset")
    return validate_source(source, load_cached(name)) if name else source


class AquisicaoConfig(StepConfig):
    """Fill data/raw with the two raw tables: dataset_kobe_dev.parquet and dataset_kobe_prod.parquet of kobe."""

    source: Annotated[str, AfterValidator(_validate_source)] = Field(
        default="auto",
        description="auto (keep valid files, else download the public ones, else simulate), synthetic, "
        "an https:// base URL, a folder with the two raw tables (or folders of such), "
        "or one table, which is split as the dataset describes (kobe: by shot_type): a file of any format that is "
        "read, a folder of Parquet files, or a table of a database",
    )
    synthetic_rows: int = Field(
        default=PUBLIC_ROWS,
        ge=100,
        le=1_000_000_000,
        description="number of synthetic shots, where shots are simulated",
    )
    synthetic_seed: int = Field(default=42, ge=0, description="seed of the simulation")
    max_source_bytes: int = Field(
        default=MAX_SOURCE_BYTES, ge=1, description="bytes that the files of a source may have together"
    )


def run(config: AquisicaoConfig) -> Provenance:
    """Acquire, in a run of its own."""
    with step_run(RUN_NAME, config):
        provenance = acquire(
            config.source,
            rows=config.synthetic_rows,
            seed=config.synthetic_seed,
            max_bytes=config.max_source_bytes,
            dataset=config.description,
        )
        log_records(_records(provenance, config.description))
        print_provenance(provenance)
    return provenance


def _records(provenance: Provenance, dataset: Dataset) -> Iterator[Record]:
    yield data_tags(provenance)
    yield Tags({f"sha256_{name.partition('.')[0]}": digest for name, digest in provenance.sha256.items()})
    for name, hops in provenance.redirects.items():
        yield Tags({f"redirects_{name.partition('.')[0]}": " → ".join(hops)[:_LONGEST_TAG]})
    for name in dataset.raw_tables:
        path = raw_folder(dataset, RAW) / name
        yield Metrics({f"rows_{name.partition('.')[0]}": float(TableReader(path).rows or 0)})
        yield Artifact(path, "raw")


if __name__ == "__main__":
    run_command(AquisicaoConfig, run)
