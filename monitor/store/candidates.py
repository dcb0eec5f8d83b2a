"""The candidate models that the champion was selected from, with the pipelines that their runs keep."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from data.datasets import Dataset, default, for_dataset, from_json
from data.errors import TableError
from monitor.store import tags
from monitor.store.model_store import ModelStore
from monitor.store.records import RunInfo
from serving.model.packaging import DATASET_FILE, load_pipeline, predict_probability

CANDIDATE_FOLDER, CANDIDATE_FILE = "candidate", "model.skops"
"""Where the run of a candidate keeps its pipeline."""

BASE_RATE = "prior"
"""Id of the base-rate baseline, which a training fits with the candidates."""


@dataclass(frozen=True)
class StoredCandidate:
    """A tuned model of the training that the champion came from.

    Attributes
    ----------
    id : str
        PyCaret's.
    name : str
        For people.
    selected : bool
        Whether it is the version's.
    pipeline : sklearn.pipeline.Pipeline
        Takes what `serving.model.packaging.encoder_of` gives.
    dataset : Dataset
        The description that it was trained with.
    """

    id: str
    name: str
    selected: bool
    pipeline: Pipeline
    dataset: Dataset = field(default_factory=default)

    def probability(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """P(made) of the rows of a table that holds the features, shape (n,)."""
        return predict_probability(self.pipeline, table, self.dataset)


def candidates(store: ModelStore, version: str) -> list[StoredCandidate]:
    """The candidates of the training of a version, the selected one first; empty where their runs are gone.

    Raises
    ------
    TableError
        If a run does not hold its pipeline, or not whole.
    """
    found = store.version(version)
    if found is None or not found.run_id:
        return []
    dataset = default()
    if tags.DATASET in found.tags:
        dataset = from_json(store.artifact(found.run_id, DATASET_FILE).read_text(encoding="utf-8"))
    read = [
        StoredCandidate(
            id=run.model_id,
            name=run.name.partition(": ")[2],
            selected=run.model_id == found.model_id,
            pipeline=candidate_pipeline(store, run),
            dataset=dataset,
        )
        for run in store.candidate_runs(found.run_id)
        if run.model_id != BASE_RATE
    ]
    return sorted(read, key=lambda candidate: not candidate.selected)


def candidate_pipeline(store: ModelStore, run: RunInfo) -> Pipeline:
    """The pipeline that the run of a candidate keeps.

    Raises
    ------
    PackagingError
        If it is not the one that the run wrote.
    TableError
        If the run does not hold it, or not whole.
    """
    path = store.artifact(run.run_id, f"{CANDIDATE_FOLDER}/{CANDIDATE_FILE}")
    try:
        return load_pipeline(path, run.tags.get(tags.CANDIDATE_SHA256, ""))
    except (OSError, KeyError, ValueError) as error:
        again = for_dataset("mlflow run . -e treinamento")
        message = f"{path} is no pipeline ({type(error).__name__}: {error}). Train again: {again}"
        raise TableError(message) from error
