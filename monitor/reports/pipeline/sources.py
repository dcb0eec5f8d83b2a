"""Tables and models of a pipeline that the report measures and draws; what a run no longer holds is absent."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from data.datasets import Dataset, current
from data.errors import KobeShotError
from data.preparation.manifest import FILTERED, IDS, PREDICTIONS, PROD, TEST, TRAIN
from data.storage.tables import TableReader
from monitor import portuguese
from monitor.reports import games, split_sensitivity
from monitor.reports.games import Games
from monitor.reports.pipeline import evidence
from monitor.reports.pipeline.facts import Chain, RunFacts, selected_candidate
from monitor.store import tags
from monitor.store.candidates import BASE_RATE, candidate_pipeline
from monitor.store.model_store import ModelStore
from serving import registry
from serving.batch.in_process import dataset_of

MAX_ROWS = 50_000
"""Rows of a table that are drawn; of a larger one a systematic sample is."""

RAW_DEV, RAW_PROD = "raw_dev", "raw_prod"


@dataclass(frozen=True)
class Sources:
    """Tables by name, models by id and by the name of their run, and the rows of train and test with their games.

    Attributes
    ----------
    tables : mapping of str to pandas.DataFrame
        ``data_filtered``, ``base_train``, ``base_test``, ``base_prod``, ``predictions`` and the raw tables.
    models : mapping of str to sklearn.pipeline.Pipeline
        Tuned candidates by PyCaret's id.
    labels : mapping of str to str
        Names of the candidates by id.
    selected : str
        Id of the selected model.
    rows : pandas.DataFrame or None
        The whole training and test set; None if it is too large, or the games of its rows are not known.
    games : Games or None
        Games of `rows`.
    is_test : ndarray of bool or None
        Which of `rows` are test rows.
    dataset : Dataset or None
        The description that the trained version keeps.
    """

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    models: Mapping[str, Pipeline] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    selected: str = ""
    rows: pd.DataFrame | None = None
    games: Games | None = None
    is_test: npt.NDArray[np.bool_] | None = None
    dataset: Dataset | None = None

    def measure(self) -> dict[str, float]:
        """Metrics of the report's own run: see `monitor.reports.pipeline.evidence`."""
        found: dict[str, float] = {}
        for name in ("base_dev", "base_prod"):
            table = self.tables.get(FILTERED if name == "base_dev" else PROD)
            if table is not None and len(table):
                found |= evidence.describe_base(name, table)
        if (test := self.tables.get(TEST)) is not None:
            found |= evidence.compare_candidates(test, self.models, self.selected, self.dataset)
        if current().court and self.games is not None and self.is_test is not None:
            found |= games.shared_games(self.games.game, self.is_test)
        return found


@registry.translate_store_errors()
def read(store: ModelStore, chain: Chain) -> Sources:
    """Read the tables and models of a pipeline."""
    scored = chain.application.tags.get(tags.PREDICTIONS, PREDICTIONS.name)
    places = {
        RAW_DEV: (chain.acquisition, f"raw/{current().raw_tables[0]}"),
        RAW_PROD: (chain.acquisition, f"raw/{current().raw_tables[1]}"),
        **{name: (chain.preparation, f"tables/{name}.parquet") for name in (FILTERED, TRAIN, TEST, PROD)},
        "predictions": (chain.application, f"tables/{scored}"),
    }
    tables = {}
    for name, (run, path) in places.items():
        with contextlib.suppress(KobeShotError, OSError):
            if run:
                tables[name] = TableReader(file_of(store, run, path)).systematic_sample(MAX_ROWS)
    models, labels = {}, {}
    # A version of a retraining was tested on other rows.
    for each in store.candidate_runs(chain.training.run_id) if not chain.trained.trained_on_labels else ():
        if each.model_id != BASE_RATE:
            with contextlib.suppress(KobeShotError):
                models[each.model_id] = candidate_pipeline(store, each)
                labels[each.model_id] = portuguese.model_name(each.model_id, each.name)
    selected = selected_candidate(chain.training, chain.trained, chain.candidates).tags.get(tags.MODEL_ID, "")
    rows, of_rows, is_test = _with_games(store, chain)
    return Sources(tables, models, labels, selected, rows, of_rows, is_test, _described(chain))


def _described(chain: Chain) -> Dataset:
    """The description that the trained version keeps."""
    with contextlib.suppress(KobeShotError):
        return dataset_of(chain.trained.number)
    return current()


def file_of(store: ModelStore, run: RunFacts, path: str) -> Path:
    """A file of a run: an artifact, or where the run wrote it if it was too large to be copied."""
    location = run.tags.get(tags.location_of(Path(path).stem))
    return Path(location) if location else store.artifact(run.run_id, path)


def _with_games(
    store: ModelStore, chain: Chain
) -> tuple[pd.DataFrame | None, Games | None, npt.NDArray[np.bool_] | None]:
    nothing = (None, None, None)
    if not chain.preparation or not chain.acquisition:
        return nothing
    try:
        readers = {
            name: TableReader(file_of(store, chain.preparation, f"tables/{name}.parquet"))
            for name in (TRAIN, TEST, *IDS.values())
        }
        if sum(readers[name].rows or 0 for name in (TRAIN, TEST)) > split_sensitivity.MAX_ROWS:
            return nothing
        sets = {name: reader.systematic_sample(split_sensitivity.MAX_ROWS) for name, reader in readers.items()}
        columns = [current().id.raw_name, *games.group_columns(current())]
        raw = TableReader(file_of(store, chain.acquisition, f"raw/{current().raw_tables[0]}"), columns)
        ids = pd.concat([sets[IDS[name]] for name in (TRAIN, TEST)])[current().id.name]
        found = games.games(ids, raw.systematic_sample(10 * split_sensitivity.MAX_ROWS))
    except (KobeShotError, KeyError, OSError, ValueError):
        return nothing
    rows = pd.concat(
        [sets[name][[*current().feature_names, current().target.name]] for name in (TRAIN, TEST)], ignore_index=True
    )
    if found is None or len(found.game) != len(rows):
        return nothing
    return rows, found, np.arange(len(rows)) >= len(sets[TRAIN])
