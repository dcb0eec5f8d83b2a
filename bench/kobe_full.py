"""Log loss of the settings that a training on ``kobe_full`` selected, on all labeled shots of the public files.

Run ``mlflow run . -e main -P dataset=kobe_full`` first, then ``python -m bench.kobe_full``. The estimator of the
champion, or of ``--version``, is fitted again, with the same settings, in five random folds, in five folds that split
no game, and on the first 80% of the shots by time, to score the others. The settings were selected on the seasons
before 2013-14, by folds of their own.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from data import datasets
from data.cli.console import info
from data.datasets import Dataset, raw_folder
from data.errors import KobeShotError
from data.storage.dataset_reader import DatasetReader
from monitor.store.candidates import StoredCandidate, candidates
from monitor.store.model_store import current_store
from serving.model.packaging import encoder_of, with_categories

_FOLDS, _SEED, _EARLY = 5, 42, 0.8
_TARGETS = {"five random folds": 0.603, "five folds by game": 0.604, "last 20% of time": 0.628}

Split = tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]


def main() -> None:
    """Print the three losses, each with what it is to be at most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", default="", help="number of the version; the champion by default")
    version = parser.parse_args().version
    with datasets.use("kobe_full"):
        store = current_store()
        found = candidates(store, version or store.require_champion().version)
        if not found:
            command = "mlflow run . -e main -P dataset=kobe_full"
            message = f"expected the run of the version's training; found none. Train: {command}"
            raise KobeShotError(message)
        shots = _labeled(found[0].dataset)
        info("Shots", f"{len(shots):,} labeled; {found[0].name} of version {version or 'champion'}")
        for name, (value, base_rate) in losses(found[0], shots).items():
            info(f"  {name}:", f"log loss {value:.4f} (at most {_TARGETS[name]}); of the base rate {base_rate:.4f}")


def losses(candidate: StoredCandidate, shots: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Mean log losses of the folds of each way to split: of the model, and of the base rate of its training rows.

    Parameters
    ----------
    candidate : StoredCandidate
        Its settings are fitted again in each fold.
    shots : pandas.DataFrame
        Labeled shots in the order of time, with ``game_id``.
    """
    dataset = with_categories(candidate.dataset, shots)
    features = encoder_of(dataset).inputs(shots)
    labels = shots[dataset.target.name].to_numpy(dtype=float)
    games = shots[dataset.group.name].to_numpy() if dataset.group else None
    random = StratifiedKFold(_FOLDS, shuffle=True, random_state=_SEED).split(features, labels)
    by_game = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=_SEED).split(features, labels, games)
    rows, early = np.arange(len(labels)), int(_EARLY * len(labels))
    by_time: list[Split] = [(rows[:early], rows[early:])]

    def scores(splits: Iterator[Split]) -> Iterator[tuple[float, float]]:
        for fit_rows, score_rows in splits:
            fitted = clone(candidate.pipeline).fit(features[fit_rows], labels[fit_rows])
            made = fitted.predict_proba(features[score_rows])[:, 1]
            base_rate = np.full(len(score_rows), labels[fit_rows].mean())
            yield float(log_loss(labels[score_rows], made)), float(log_loss(labels[score_rows], base_rate))

    ways = zip(_TARGETS, (random, by_game, iter(by_time)), strict=True)
    means = {name: np.mean([*scores(splits)], axis=0) for name, splits in ways}
    return {name: (float(mean[0]), float(mean[1])) for name, mean in means.items()}


def _labeled(dataset: Dataset) -> pd.DataFrame:
    folder = raw_folder(dataset)
    tables = [DatasetReader(folder / name, dataset=dataset).whole() for name in dataset.raw_tables]
    names = {column.raw_name: column.name for column in dataset.columns}
    shots = pd.concat(tables, ignore_index=True).rename(columns=names).dropna(subset=[dataset.target.name])
    order = [dataset.time.name if dataset.time else dataset.id.name, dataset.id.name]
    return shots.sort_values(order, kind="stable").reset_index(drop=True)


if __name__ == "__main__":
    main()
