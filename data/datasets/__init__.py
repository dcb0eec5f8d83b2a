"""Datasets: what a table is, in one TOML file, and not how it is read; see ``docs/datasets.md``."""

from data.datasets.description import Column, Court, Dataset, File, Kind, Monitoring, Role, Rows, Slice, Source, Test
from data.datasets.loader import default, from_json, load

__all__ = [
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
    "default",
    "from_json",
    "load",
]
