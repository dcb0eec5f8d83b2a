from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.loop import (
    BETTER,
    CASES,
    NOISY,
    RECOVERED,
    RESAMPLED,
    UNCHANGED,
    WORSE,
    BenchData,
    Case,
    Trial,
    noisy,
    trials,
)
from data.acquisition.raw_tables import write_split
from data.preparation.contract import PreparationParams
from data.preparation.manifest import PROD, TEST, TRAIN
from data.schema import FEATURES, TARGET
from data.simulation import synthetic
from tests.raw import prepare_locally


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> BenchData:
    folder: Path = tmp_path_factory.mktemp("shots")
    write_split(synthetic.iter_chunks(synthetic.PUBLIC_ROWS, 0), folder)
    prepare_locally(folder, folder, PreparationParams())
    return BenchData.of(*(pd.read_parquet(folder / f"{name}.parquet") for name in (TRAIN, TEST, PROD)))


@pytest.fixture(scope="module")
def tried(data: BenchData) -> list[tuple[Case, Trial]]:
    return trials(0, data, [400, 800])


def test_each_case_runs_once_with_each_sample_size(data: BenchData, tried: list[tuple[Case, Trial]]) -> None:
    found = [(case, trial.rows) for case, trial in tried]
    expected = [(case, rows) for case in (WORSE, RESAMPLED, NOISY, BETTER) for rows in (400, 800)]
    once = [(RECOVERED, len(data.test)), (UNCHANGED, 4_500)]
    assert sorted(found, key=str) == sorted([*expected, *once], key=str)
    assert {case for case, _ in found} == set(CASES)


def test_shuffled_labels_are_rejected_and_true_labels_promoted(tried: list[tuple[Case, Trial]]) -> None:
    found = dict(tried)
    assert "champion" in found[WORSE].failed
    assert found[WORSE].difference > 0
    assert found[RECOVERED].failed == ()
    assert found[RECOVERED].difference < 0


def test_shuffling_separates_labels_from_rows_and_keeps_both(data: BenchData) -> None:
    shuffled = data.development.shuffled(np.random.default_rng(0))
    assert (shuffled.features == data.development.features).all()
    assert shuffled.labels.sum() == data.development.labels.sum()
    assert (shuffled.labels != data.development.labels).mean() > 0.3


def test_no_model_is_trained_on_the_rows_of_its_comparison(data: BenchData) -> None:
    older = len(data.with_labels.labels) - len(data.development.labels)
    labeled = older + len(data.holdout)
    assert 0 < older <= labeled / 2 + 50
    trained_rows = {tuple(row) for row in data.with_labels.features[-older:]}
    assert np.mean([tuple(row) in trained_rows for row in data.holdout[list(FEATURES)].to_numpy()]) < 0.05
    assert data.holdout[TARGET].notna().all()


def test_noise_on_the_logit_has_no_bias() -> None:
    probability = np.full(100_000, 0.3)
    first, second = (noisy(probability, np.random.default_rng(seed)) for seed in range(2))
    assert np.log(first / (1 - first)).mean() == pytest.approx(np.log(0.3 / 0.7), abs=0.005)
    assert np.log(second / (1 - second)).std() == pytest.approx(0.2, abs=0.005)
