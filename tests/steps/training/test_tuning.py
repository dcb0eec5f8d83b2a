import contextlib
import gc
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.validation import has_fit_parameter

from data.datasets import Column, Dataset
from data.paths import ROOT
from data.schema import FEATURES, TARGET
from data.simulation import synthetic
from serving.model import packaging
from steps.training.pipelines import Inputs, gradient_boosting, with_preprocessing
from steps.training.tuning import (
    MODEL_NAMES,
    WITHOUT_WEIGHTS,
    Candidate,
    TrainingError,
    Tuner,
    _folds_of_groups,
    select_best,
)
from tests import fork_server
from tests.project import completed, environment

Bools = npt.NDArray[np.bool_]


@pytest.fixture(scope="module")
def train() -> pd.DataFrame:
    table = synthetic.shots(900, seed=5).rename(columns={"lon": "lng"}).dropna(subset=[TARGET])
    return table[[*FEATURES, TARGET]].astype(float).reset_index(drop=True)


@pytest.fixture(scope="module")
def tuner(train: pd.DataFrame) -> Tuner:
    return Tuner(train, cv_folds=2, n_iter=1, session_id=1, criterion="log_loss")


def test_the_ids_are_those_of_pycaret(tuner: Tuner) -> None:
    assert set(tuner.experiment.models().index) - {"dummy"} == set(MODEL_NAMES)


@pytest.mark.parametrize("model_id", MODEL_NAMES)
def test_every_classifier_becomes_a_plain_pipeline_that_is_stored_without_pickle(
    tuner: Tuner, train: pd.DataFrame, model_id: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    candidate = tuner.tune(model_id)
    made = candidate.pipeline.predict_proba(train[list(FEATURES)].to_numpy())[:, 1]
    assert ((made >= 0) & (made <= 1)).all()
    path = tmp_path_factory.mktemp(model_id) / "pipeline.skops"
    packaging.save_pipeline(candidate.pipeline, path)
    again = packaging.load_pipeline(path).predict_proba(train[list(FEATURES)].to_numpy())[:, 1]
    np.testing.assert_array_equal(again, made)


@pytest.mark.parametrize("criterion", ["brier", "roc_auc", "f1_score", "accuracy", "precision", "recall"])
def test_tuning_can_optimize_every_metric(train: pd.DataFrame, criterion: str) -> None:
    candidate = Tuner(train, cv_folds=2, n_iter=1, session_id=1, criterion=criterion).tune("lr")
    mean, deviation = candidate.cross_validated[criterion]
    assert np.isfinite([mean, deviation]).all()


def test_the_base_rate_gives_every_shot_the_same_probability(tuner: Tuner, train: pd.DataFrame) -> None:
    prior = tuner.prior()
    made = prior.pipeline.predict_proba(train[list(FEATURES)].to_numpy())[:, 1]
    assert set(made) == {train[TARGET].mean()}
    assert prior.cross_validated["log_loss"][0] == pytest.approx(log_loss(train[TARGET], made), abs=0.005)


def test_a_tuned_tree_is_sure_of_no_shot_because_of_a_few_rows(tuner: Tuner, train: pd.DataFrame) -> None:
    tree = tuner.tune("dt").pipeline[-1]
    assert tree.tree_.n_node_samples.min() >= 20
    made = tree.predict_proba(train[list(FEATURES)].to_numpy())[:, 1]
    assert made.min() > 0
    assert made.max() < 1


def test_tuning_twice_gives_the_same_model(train: pd.DataFrame) -> None:
    first, second = (
        Tuner(train, cv_folds=2, n_iter=3, session_id=1, criterion="log_loss").tune("dt") for _ in range(2)
    )
    assert first.hyperparameters == second.hyperparameters
    assert first.cross_validated == second.cross_validated


def test_the_winner_of_compare_models_is_found(tuner: Tuner, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = tuner.experiment.compare_models
    monkeypatch.setattr(
        tuner.experiment,
        "compare_models",
        lambda *, exclude, **options: compare(include=["nb", "lda"], **options) if "svm" in exclude else None,
    )
    assert tuner.best_id() in {"nb", "lda"}


def test_more_folds_than_rows_of_a_result_are_refused(train: pd.DataFrame) -> None:
    few = pd.concat([train[train[TARGET] == 0].head(40), train[train[TARGET] == 1].head(3)])
    with pytest.raises(TrainingError, match="cv_folds: expected at most 3"):
        Tuner(few, cv_folds=5, n_iter=1, session_id=1, criterion="log_loss")


def test_a_table_of_a_few_rows_is_trained_on(train: pd.DataFrame) -> None:
    rows = pd.concat([train[train[TARGET] == label].head(4) for label in (0, 1)])
    assert tuner_of(rows).tune("lr").pipeline.predict_proba(rows[list(FEATURES)].to_numpy()).shape == (8, 2)


def candidate(name: str, **scores: float) -> Candidate:
    return Candidate(name, name, None, {}, {metric: (mean, 0.01) for metric, mean in scores.items()})


def test_the_choice_follows_the_direction_of_the_criterion() -> None:
    both = [candidate("a", log_loss=0.68, roc_auc=0.60), candidate("b", log_loss=0.67, roc_auc=0.59)]
    assert select_best(both, "log_loss").id == "b"
    assert select_best(both, "roc_auc").id == "a"


# Sample weights, and rows that models are compared on


def tuner_of(table: pd.DataFrame, **options: object) -> Tuner:
    return Tuner(table, cv_folds=2, n_iter=1, session_id=1, criterion="log_loss", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def later(train: pd.DataFrame) -> Bools:
    """The later half of the rows."""
    return np.arange(len(train)) >= len(train) // 2


@pytest.fixture(scope="module")
def changed(train: pd.DataFrame, later: Bools) -> pd.DataFrame:
    """The same shots with a positive rate of 20% at first and 80% later."""
    rates = np.where(later, 0.8, 0.2)
    return train.assign(**{TARGET: (np.random.default_rng(0).random(len(train)) < rates).astype(float)})


@pytest.fixture(scope="module")
def weighted_tuner(changed: pd.DataFrame, later: Bools) -> Tuner:
    """A tuner to which the later half is all that counts, and that compares on it alone."""
    return tuner_of(changed, weights=np.where(later, 1.0, 1e-9), compared_on=later)


@pytest.fixture(scope="module")
def without_weights(changed: pd.DataFrame) -> Tuner:
    """A tuner to which all these rows are alike."""
    return tuner_of(changed)


def made_by(found: Candidate, table: pd.DataFrame) -> npt.NDArray[np.float64]:
    return np.asarray(found.pipeline.predict_proba(table[list(FEATURES)].to_numpy())[:, 1])


def test_the_base_rate_is_that_of_the_weighted_rows(weighted_tuner: Tuner, changed: pd.DataFrame, later: Bools) -> None:
    made = made_by(weighted_tuner.prior(), changed)
    assert made == pytest.approx(np.full(len(changed), changed.loc[later, TARGET].mean()))


@pytest.mark.parametrize("model_id", ["lr", "dt", "svm", "ridge"])
def test_sample_weights_change_the_fitted_model(
    weighted_tuner: Tuner, without_weights: Tuner, changed: pd.DataFrame, model_id: str
) -> None:
    assert made_by(weighted_tuner.tune(model_id), changed).mean() == pytest.approx(0.8, abs=0.1)
    assert made_by(without_weights.tune(model_id), changed).mean() == pytest.approx(0.5, abs=0.1)


def test_sample_weights_of_one_equal_no_sample_weights(tuner: Tuner, train: pd.DataFrame) -> None:
    weighted = tuner_of(train, weights=np.ones(len(train)), compared_on=np.ones(len(train), dtype=bool)).tune("dt")
    without = tuner.tune("dt")
    np.testing.assert_allclose(made_by(weighted, train), made_by(without, train))
    assert weighted.cross_validated == without.cross_validated


def test_cross_validated_figures_are_about_the_rows_that_are_compared_on(changed: pd.DataFrame, later: Bools) -> None:
    all_rows, of_later = tuner_of(changed).prior(), tuner_of(changed, compared_on=later).prior()
    # The base rate predicts 0.5; the positive rate of the second half is 0.8.
    assert all_rows.cross_validated["log_loss"][0] == pytest.approx(np.log(2), abs=0.01)
    rates = [1 - changed.loc[later, TARGET].mean(), changed.loc[later, TARGET].mean()]
    assert min(abs(of_later.cross_validated["accuracy"][0] - rate) for rate in rates) < 0.02
    assert abs(all_rows.cross_validated["accuracy"][0] - 0.5) < 0.05


@pytest.mark.parametrize("model_id", WITHOUT_WEIGHTS)
def test_a_model_without_sample_weights_is_refused_where_rows_have_them(weighted_tuner: Tuner, model_id: str) -> None:
    words = (
        rf"models: {model_id} \({MODEL_NAMES[model_id]}\) takes no sample weights; omit it, or give weighting=uniform"
    )
    with pytest.raises(TrainingError, match=words):
        weighted_tuner.tune(model_id)


def test_the_models_without_sample_weights_are_those_whose_fit_takes_none(tuner: Tuner) -> None:
    classes = tuner.experiment.models(internal=True)["Class"].drop("dummy")
    assert {name for name, kind in classes.items() if not has_fit_parameter(kind, "sample_weight")} == set(
        WITHOUT_WEIGHTS
    )


def test_a_model_without_sample_weights_is_never_best_where_rows_have_them(
    tuner: Tuner, weighted_tuner: Tuner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one, expected in ((weighted_tuner, set(WITHOUT_WEIGHTS)), (tuner, set())):
        excluded: list[str] = []
        first = one.experiment.create_model("nb", verbose=False)

        def compare(*, exclude: list[str], found: list[str] = excluded, winner: object = first, **_: object) -> object:
            found += exclude
            return winner

        monkeypatch.setattr(one.experiment, "compare_models", compare)
        assert one.best_id() == "nb"
        assert set(excluded) & set(WITHOUT_WEIGHTS) == expected


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ("lr,dt", ["lr", "dt"]),
        ("dt", ["dt"]),
        ("best", ["nb"]),
        ("lr,best", ["lr", "nb"]),
        ("best,lr", ["lr", "nb"]),
        ("nb,best,dt", ["nb", "dt"]),
    ],
)
def test_the_ids_of_a_parameter_name_each_model_once(
    tuner: Tuner, monkeypatch: pytest.MonkeyPatch, models: str, expected: list[str]
) -> None:
    monkeypatch.setattr(tuner, "best_id", lambda: "nb")
    assert tuner.ids(models) == expected


def test_compare_models_runs_only_for_best(tuner: Tuner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "best_id", lambda: pytest.fail("this takes minutes"))
    assert tuner.ids("lr") == ["lr"]


def test_too_few_rows_to_compare_on_are_reported(train: pd.DataFrame) -> None:
    few = np.arange(len(train)) >= len(train) - 3
    with pytest.raises(TrainingError):
        Tuner(train, cv_folds=5, n_iter=1, session_id=1, criterion="log_loss", compared_on=few).prior()


@pytest.mark.parametrize("cv_folds", [5, 30])
def test_every_fold_has_rows_to_compare_on_or_an_error_is_raised(train: pd.DataFrame, cv_folds: int) -> None:
    places = np.concatenate([np.flatnonzero(train[TARGET] == result)[-30:] for result in (0, 1)])
    few = np.isin(np.arange(len(train)), places)
    with contextlib.suppress(TrainingError):
        options = {"cv_folds": cv_folds, "n_iter": 1, "session_id": 1, "criterion": "log_loss"}
        found = Tuner(train, compared_on=few, **options).prior()  # type: ignore[arg-type]
        assert np.isfinite(found.cross_validated["log_loss"]).all()


def test_tuning_starts_no_collection_of_all_garbage(tuner: Tuner) -> None:
    generations: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            generations.append(info["generation"])

    gc.disable()
    gc.callbacks.append(note)
    try:
        tuner.tune("nb")
    finally:
        gc.callbacks.remove(note)
        gc.enable()
    assert set(generations) == {1}


def test_pycaret_leaves_the_style_of_plots_as_it_was() -> None:
    # In a process of its own, which imports PyCaret and what sets the style once more.
    code = (
        "import sys\n"
        "import matplotlib as mpl, numpy as np\n"
        "import pandas as pd\n"
        "for name in list(sys.modules):\n"
        "    if name.partition('.')[0] in {'pycaret', 'yellowbrick'}:\n"
        "        del sys.modules[name]\n"
        "from data.schema import FEATURES, TARGET\n"
        "from steps.training.tuning import Tuner\n"
        "before = dict(mpl.rcParams)\n"
        "rng = np.random.default_rng(1)\n"
        "train = pd.DataFrame(rng.normal(size=(60, 6)), columns=list(FEATURES)).assign(**{TARGET: [0.0, 1.0] * 30})\n"
        "Tuner(train, cv_folds=2, n_iter=1, session_id=1, criterion='log_loss').experiment\n"
        "assert 'yellowbrick' in sys.modules\n"
        "assert dict(mpl.rcParams) == before, {k for k in before if before[k] != mpl.rcParams[k]}\n"
    )
    process = fork_server.start_code(code, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True)
    result = completed(process)
    assert result.returncode == 0, result.stderr


# Features of other kinds, groups, and a sample


MIXED = Dataset(
    name="visits",
    columns=(
        Column(name="age", role="feature", kind="float", nullable=True),
        Column(name="clinic", role="feature", kind="category"),
        Column(name="day", role="feature", kind="date"),
        Column(name="back", role="target", kind="integer"),
    ),
)


@pytest.fixture(scope="module")
def visits() -> pd.DataFrame:
    stream = np.random.default_rng(3)
    clinics = np.array(["north", "south", "east", "rare"])
    table = pd.DataFrame(
        {
            "age": np.where(stream.random(600) < 0.1, np.nan, stream.uniform(0, 90, 600)),
            "clinic": clinics[np.minimum(stream.integers(0, 100, 600) // 33, 3)],
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(stream.integers(0, 300, 600), unit="D"),
        }
    )
    rate = np.where(table.clinic == "north", 0.8, 0.3)
    return table.assign(day=table.day.dt.strftime("%Y-%m-%d"), back=(stream.random(600) < rate).astype(int))


@pytest.fixture(scope="module")
def mixed(visits: pd.DataFrame) -> Tuner:
    dataset = packaging.with_categories(MIXED, visits)
    return Tuner(
        visits,
        cv_folds=2,
        n_iter=1,
        session_id=1,
        criterion="log_loss",
        dataset=dataset,
        groups=np.repeat(np.arange(60), 10),
        max_tuning_rows=400,
    )


@pytest.mark.parametrize("model_id", ["lr", "dt", "hgbc", "lightgbm"])
def test_models_take_categories_dates_and_nulls_and_are_stored_without_pickle(
    mixed: Tuner, visits: pd.DataFrame, model_id: str, tmp_path: Path
) -> None:
    candidate = mixed.tune(model_id)
    made = candidate.probability(visits)
    is_north = (visits["clinic"] == "north").to_numpy()
    assert made[is_north].mean() > made[~is_north].mean() + 0.2
    packaging.save_pipeline(candidate.pipeline, tmp_path / "pipeline.skops")
    again = packaging.load_pipeline(tmp_path / "pipeline.skops")
    np.testing.assert_array_equal(packaging.predict_probability(again, visits, candidate.dataset), made)
    unknown = candidate.probability(visits.assign(clinic="elsewhere"))
    assert np.isfinite(unknown).all()


def test_the_search_has_a_sample_and_the_setting_is_fitted_on_all_rows(mixed: Tuner, visits: pd.DataFrame) -> None:
    assert mixed.is_sampled
    assert len(mixed.experiment.get_config("X_train_transformed")) == 400
    prior = mixed.prior()
    assert prior.probability(visits)[0] == pytest.approx(visits["back"].mean())
    curve = mixed.learning_curve(prior)
    assert [*curve] == sorted(curve)
    assert min(curve) < 50
    assert max(curve) > 400


def test_no_fold_splits_a_group(visits: pd.DataFrame) -> None:
    groups = np.repeat(np.arange(60), 10)
    folds = _folds_of_groups(groups, visits["back"].to_numpy(dtype=float), 3, 1)
    sides = [set(groups[fit]) & set(groups[score]) for fit, score in folds.split()]
    assert sides == [set(), set(), set()]
    with pytest.raises(TrainingError, match="cv_folds: expected at most 2, the groups of base_train; found 3"):
        _folds_of_groups(np.repeat([0, 1], 300), visits["back"].to_numpy(dtype=float), 3, 1)


def test_a_row_without_a_group_is_one_of_its_own_in_the_folds() -> None:
    groups = pd.array([1, 1, 2, 2, None, None, None, None], dtype="Int64").to_numpy()
    strata = np.array([0.0, 1, 0, 1, 0, 1, 0, 1])
    folds = _folds_of_groups(groups, strata, 2, 1)
    assert sorted(row for _, rows in folds.split() for row in rows) == list(range(8))
    assert all({0, 1} <= set(rows) or not {0, 1} & set(rows) for _, rows in folds.split())


def test_a_feature_of_many_categories_is_taken(visits: pd.DataFrame) -> None:
    table = visits.assign(clinic=[f"clinic {number % 300}" for number in range(len(visits))])
    dataset = packaging.with_categories(MIXED, table)
    inputs = Inputs.of(dataset)
    model = with_preprocessing("hgbc", gradient_boosting(inputs, 1).set_params(max_iter=2), inputs)
    fitted = model.fit(packaging.encoder_of(dataset).inputs(table), table["back"])
    assert np.isfinite(packaging.predict_probability(fitted, table.assign(clinic="elsewhere"), dataset)).all()
