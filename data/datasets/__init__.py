"""Datasets: what a table is, in one TOML file, and not how it is read; see ``docs/datasets.md``."""

from data.datasets.current import (
    VARIABLE,
    current,
    current_name,
    for_dataset,
    log_file,
    processed_folder,
    raw_folder,
    use,
)
from data.datasets.description import Column, Court, Dataset, File, Kind, Monitoring, Role, Rows, Slice, Source, Test
from data.datasets.loader import default, from_json, load
from data.datasets.words import worded, worded_in_portuguese

__all__ = [
    "VARIABLE",
    "Column",
    "Court",
    "Dataset",
    "File",
    "Kind",
    "Monitoring",
    "Role",
    "Rows",
    "Slice",
    "Source",
    "Test",
    "current",
    "current_name",
    "default",
    "for_dataset",
    "from_json",
    "load",
    "log_file",
    "processed_folder",
    "raw_folder",
    "use",
    "worded",
    "worded_in_portuguese",
]
