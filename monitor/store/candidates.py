"""The models that the champion was chosen from, as their runs keep them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow import MlflowClient
from sklearn.pipeline import Pipeline

from data.schema import FEATURES
from monitor.store.tables import TableError, artifact
from serving import registry
from serving.model.packaging import load_pipeline

CANDIDATE_FOLDER, CANDIDATE_FILE = "candidate", "model.skops"
"""Where the run of a candidate keeps its pipeline."""
CANDIDATE_SHA256 = "sha256_candidate"
"""Tag of that run: SHA-256 of the file. A run of 0.1.0 has none."""

_PRIOR = "prior"


@dataclass(frozen=True)
class Candidate:
    """A tuned model of the training that the champion came from.

    Attributes
    ----------
    id : str
        PyCaret's.
    name : str
        In words.
    chosen : bool
        Whether it is the version's.
    pipeline : sklearn.pipeline.Pipeline
        Takes an array of shape (n, 6) in the order of ``FEATURES``.
    """

    id: str
    name: str
    chosen: bool
    pipeline: Pipeline

    def probability(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """P(made) of the rows of a table that holds the features, shape (n,)."""
        return np.asarray(self.pipeline.predict_proba(table[list(FEATURES)].to_numpy(dtype=np.float64))[:, 1])


def candidates(version: str) -> list[Candidate]:
    """The candidates of the training of a version, the chosen one first; empty where their runs are gone.

    Raises
    ------
    TableError
        If a run does not hold its pipeline, or not whole.
    """
    run_id, model_id = registry.run_of(version), registry.tags_of(version).get("model_id")
    if not run_id:
        return []
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_runs(
        [experiment],
        f"tags.mlflow.parentRunId = '{run_id}' and tags.model_id LIKE '%' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time ASC"],
    )
    read = [
        Candidate(
            id=run.data.tags["model_id"],
            name=str(run.info.run_name).partition(": ")[2],
            chosen=run.data.tags["model_id"] == model_id,
            pipeline=pipeline_of(run.info.run_id, run.data.tags),
        )
        for run in found
        if run.data.tags["model_id"] != _PRIOR
    ]
    return sorted(read, key=lambda candidate: not candidate.chosen)


def pipeline_of(run_id: str, tags: Mapping[str, str]) -> Pipeline:
    """The pipeline that the run of a candidate keeps.

    Parameters
    ----------
    run_id : str
    tags : mapping of str to str
        Of the run.

    Raises
    ------
    PackagingError
        If it is not the one that the run has written.
    TableError
        If the run does not hold it, or not whole.
    """
    path = artifact(run_id, f"{CANDIDATE_FOLDER}/{CANDIDATE_FILE}")
    try:
        return load_pipeline(path, tags.get(CANDIDATE_SHA256, ""))
    except (OSError, KeyError, ValueError) as error:
        message = f"{path} is no pipeline ({type(error).__name__}: {error}). Train again: mlflow run . -e treinamento"
        raise TableError(message) from error
