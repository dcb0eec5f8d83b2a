"""The reader of `data.storage.dataset_reader` by its former name, until its last user has the new one."""

from data.storage.dataset_reader import DatasetReader as ShotReader
from data.storage.dataset_reader import chart_hint, read_labels

__all__ = ["ShotReader", "chart_hint", "read_labels"]
