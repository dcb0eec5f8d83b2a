"""Where the shots of a run come from: its tags, its dataset inputs, and what a command prints about it."""

from collections.abc import Mapping

import pandas as pd
from rich.panel import Panel

from data.acquisition.provenance import Provenance
from data.cli.console import console, info
from data.datasets import current, raw_folder
from data.preparation.manifest import Manifest, prepared_path
from data.storage.files import display_path
from monitor.store.tags import DATA_SOURCE, ORIGIN, SYNTHETIC, UNKNOWN
from steps.shared.tracking import Dataset, Tags


def print_provenance(provenance: Provenance) -> None:
    """Print where the shots come from, with a warning if they are synthetic."""
    if provenance.is_synthetic:
        console.print(
            Panel(
                "These shots are SIMULATED, not Kobe Bryant's. Every metric below is computed on synthetic data.\n"
                "For real results, pass the real files: make main SOURCE=FOLDER, or -P source=FOLDER.",
                title="SYNTHETIC DATA",
                style="bold black on yellow",
            )
        )
    source = provenance.location
    info("Raw files:", f"{display_path(raw_folder())} ({provenance.kind}: {source})")


def print_synthetic_warning(*, synthetic: bool) -> None:
    """Print one line if the shots are synthetic."""
    if synthetic:
        info("SYNTHETIC DATA:", "these shots are simulated, not Kobe Bryant's", style="bold black on yellow")


def data_tags(provenance: Provenance) -> Tags:
    """The tags of every run for the origin of its shots."""
    return Tags({DATA_SOURCE: provenance.kind, SYNTHETIC: str(provenance.is_synthetic).lower()})


def origin_tags(held: Mapping[str, str]) -> Tags:
    """The same tags of a run about what another run, or a version, is about."""
    return Tags({name: held.get(name, UNKNOWN) for name in ORIGIN})


def prepared_dataset(manifest: Manifest, name: str, table: pd.DataFrame, context: str) -> Dataset:
    """The record of a prepared table as an input of a run."""
    return Dataset(prepared_path(name), table, context, manifest.sha256[name], current().target.name)
