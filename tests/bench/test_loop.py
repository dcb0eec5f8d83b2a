from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.loop import BETTER, CASES, NOISY, RECOVERED, RESAMPLED, WORSE, Ground, noisy, trials
from data.acquisition.raw_tables import write_split
from data.preparation import local
from data.preparation.contract import PreparationParams
from data.preparation.manifest import PROD, TEST, TRAIN
from data.schema import FEATURES, TARGET
from data.simulation import synthetic


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder: Path = tmp_path_factory.mktemp("shots")
    write_split(synthetic.iter_chunks(synthetic.PUBLIC_ROWS, 0), folder)
    local.prepare(folder, folder, PreparationParams())
    return Ground.of(*(pd.read_parquet(folder / f"{name}.parquet") for name in (TRAIN, TEST, PROD)))


def test_each_case_is_judged_once_on_each_number_of_rows(ground: Ground) -> None:
    found = [(case, trial.rows) for case, trial in trials(0, ground, [200, 400])]
    expected = [(case, rows) for case in (WORSE, RESAMPLED, NOISY, BETTER) for rows in (200, 400)]
    assert sorted(found, key=str) == sorted([*expected, (RECOVERED, len(ground.test))], key=str)
    assert {case for case, _ in found} == set(CASES)


def test_shuffled_labels_are_refused_and_true_ones_promoted(ground: Ground) -> None:
    found = dict(trials(0, ground, [800]))
    assert "champion" in found[WORSE].failed
    assert found[WORSE].difference > 0
    assert found[RECOVERED].failed == ()
    assert found[RECOVERED].difference < 0


def test_shuffling_parts_labels_from_rows_and_keeps_both(ground: Ground) -> None:
    shuffled = ground.development.shuffled(np.random.default_rng(0))
    assert (shuffled.features == ground.development.features).all()
    assert shuffled.labels.sum() == ground.development.labels.sum()
    assert (shuffled.labels != ground.development.labels).mean() > 0.3


def test_no_model_learns_from_the_rows_that_it_is_compared_on(ground: Ground) -> None:
    older = len(ground.arrived.labels) - len(ground.development.labels)
    labelled = older + len(ground.later)
    assert 0 < older <= labelled / 2 + 50
    learned = {tuple(row) for row in ground.arrived.features[-older:]}
    assert np.mean([tuple(row) in learned for row in ground.later[list(FEATURES)].to_numpy()]) < 0.05
    assert ground.later[TARGET].notna().all()


def test_noise_on_the_logit_favours_nobody() -> None:
    probability = np.full(100_000, 0.3)
    first, second = (noisy(probability, np.random.default_rng(seed)) for seed in range(2))
    assert np.log(first / (1 - first)).mean() == pytest.approx(np.log(0.3 / 0.7), abs=0.005)
    assert np.log(second / (1 - second)).std() == pytest.approx(0.2, abs=0.005)
