import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from data.datasets import Test
from monitor.reports.games import Games
from monitor.reports.split_sensitivity import (
    COLUMNS,
    DOUBLE,
    MEASURES,
    ROWS,
    SHARE,
    TIME,
    UNSTRATIFIED,
    USED,
    count_fits,
    metric_name,
    series,
    split_schemes,
    study,
    summary,
)
from serving.model.packaging import with_categories
from steps.training.pipelines import Inputs, with_preprocessing
from tests import orders
from tests.evaluations import population

SEEDS = range(1, 6)


def models() -> dict[str, Pipeline]:
    return {
        "lr": make_pipeline(StandardScaler(), LogisticRegression()),
        "dt": make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=3, random_state=0)),
    }


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return population().head(2_000)


@pytest.fixture(scope="module")
def studied(table: pd.DataFrame) -> pd.DataFrame:
    return study(table, models(), test_size=0.2, seeds=SEEDS)


def test_every_model_is_evaluated_on_every_split_and_progress_is_reported(table: pd.DataFrame) -> None:
    done: list[int] = []
    found = study(table, models(), test_size=0.2, seeds=SEEDS, advance=done.append)
    assert list(found.columns) == list(COLUMNS)
    assert len(found) == sum(done) == count_fits(0.2, len(SEEDS), 2) == 4 * 5 * 2
    assert not found.isna().to_numpy().any()


def test_the_same_seeds_give_the_same_metrics(table: pd.DataFrame, studied: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(study(table, models(), test_size=0.2, seeds=SEEDS), studied)


def test_stratification_keeps_the_positive_rate_and_a_random_split_does_not(studied: pd.DataFrame) -> None:
    shares = studied.groupby("split")[SHARE].nunique()
    assert shares[USED] == 1
    assert shares[UNSTRATIFIED] > 1


def test_metrics_differ_from_split_to_split(studied: pd.DataFrame) -> None:
    found = summary(studied)
    for model in models():
        for measure in MEASURES:
            mean, deviation, low, high = (
                found[metric_name(USED, model, measure, statistic)] for statistic in ("mean", "std", "min", "max")
            )
            assert deviation > 0
            assert low < mean < high


def test_the_summary_has_the_statistics_of_the_table(studied: pd.DataFrame) -> None:
    rows = studied[(studied["split"] == DOUBLE) & (studied["model_id"] == "dt")]
    assert summary(studied)["resplit_double_dt_log_loss_std"] == pytest.approx(rows["log_loss"].std(ddof=1))
    assert summary(studied)["resplit_share_made_test_max"] == studied[studied["split"] == USED][SHARE].max()


def test_the_series_has_one_value_per_seed_of_the_original_kind(studied: pd.DataFrame) -> None:
    found = list(series(studied))
    used = studied[(studied["split"] == USED) & (studied["model_id"] == "lr")]
    assert [place for place, _ in found] == [0, 1, 2, 3, 4]
    assert [metrics["split_lr_f1_score"] for _, metrics in found] == used["f1_score"].tolist()


def test_a_single_split_has_no_standard_deviation(table: pd.DataFrame) -> None:
    found = summary(study(table, models(), test_size=0.2, seeds=[7]))
    assert "resplit_lr_log_loss_mean" in found
    assert not any(name.endswith("_std") for name in found)


def test_the_doubled_test_set_is_excluded_if_it_exceeds_half_of_the_rows() -> None:
    assert [scheme.name for scheme in split_schemes(0.3)] == ["used", "half", "unstratified"]


class Spy(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Records, in lists of its class, the rows that it is trained and tested on."""

    trained: list[set[float]] = []  # noqa: RUF012 clones share it
    tested: list[set[float]] = []  # noqa: RUF012

    def fit(self, values: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]) -> "Spy":  # noqa: D102
        self.trained.append(set(values[:, 0]))
        self.rate_ = labels.mean()
        return self

    def predict_proba(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:  # noqa: D102
        self.tested.append(set(values[:, 0]))
        return np.tile([1 - self.rate_, self.rate_], (len(values), 1))


def test_no_model_is_trained_on_a_row_that_it_is_tested_on(table: pd.DataFrame) -> None:
    numbered = table.assign(lat=np.arange(len(table), dtype=float))
    study(numbered, {"spy": make_pipeline(Spy())}, test_size=0.2, seeds=SEEDS)
    assert len(Spy.trained) == len(Spy.tested) == count_fits(0.2, len(SEEDS), 1)
    for trained, tested in zip(Spy.trained, Spy.tested, strict=True):
        assert not trained & tested
        assert len(trained | tested) == len(table)


def test_the_given_models_are_not_fitted(table: pd.DataFrame) -> None:
    given = models()
    study(table, given, test_size=0.2, seeds=[1])
    assert not hasattr(given["lr"][-1], "coef_")


def test_features_of_every_kind_are_studied_and_groups_stay_whole_where_the_test_is_of_groups() -> None:
    table = orders.orders(400, per_customer=4)
    described = with_categories(orders.DATASET, table).model_copy(update={"test": Test(strategy="group")})
    groups = Games(pd.factorize(table["customer"])[0], np.arange(400).astype("datetime64[D]"))
    inputs = Inputs.of(described)
    given = {"lr": with_preprocessing("lr", LogisticRegression(max_iter=1000), inputs), "spy": make_pipeline(Spy())}
    numbered = table.assign(price=np.arange(400.0))
    Spy.trained.clear()
    Spy.tested.clear()
    found = study(numbered, given, test_size=0.2, seeds=[1, 2], games=groups, dataset=described)
    assert found["split"].drop_duplicates().tolist() == [USED, "half", DOUBLE, ROWS, TIME]
    assert len(found) == count_fits(0.2, 2, 2, has_games=True, by_group=True)
    assert not found.isna().to_numpy().any()
    shared = [
        bool({int(row) // 4 for row in trained} & {int(row) // 4 for row in tested})
        for trained, tested in zip(Spy.trained, Spy.tested, strict=True)
    ]
    assert shared == [False] * 6 + [True] * 2 + [False]
