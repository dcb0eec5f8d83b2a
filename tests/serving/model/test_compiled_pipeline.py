import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier

from serving.model.compilation import COMPILED, DETAILS, TOLERANCE, compile_verified, probe_rows
from serving.model.compiled_pipeline import CompiledPipeline, NotCompilableError

COLUMNS: list[dict[str, object]] = [
    {"name": "lat", "minimum": 33.1568, "maximum": 34.0968},
    {"name": "lng", "minimum": -118.5198, "maximum": -118.0198},
    {"name": "minutes", "minimum": 0, "maximum": 12, "whole": True},
    {"name": "action", "minimum": 0, "maximum": 30, "whole": True, "nullable": True},
    {"name": "zone", "minimum": 0, "maximum": 6, "whole": True, "nullable": True},
    {"name": "margin", "minimum": None, "maximum": None, "nullable": True},
]
NAMES = [str(column["name"]) for column in COLUMNS]
PLACE, COUNT, CATEGORIES, MARGIN = [0, 1], [2], [3, 4], [5]
Table = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def table() -> tuple[Table, Table]:
    """Training rows without nulls and their labels: two codes of categories are rare, and the last ones are unseen."""
    stream, rows = np.random.default_rng(3), 1_200
    values = np.column_stack(
        [
            stream.uniform(33.2, 34.05, rows),
            stream.uniform(-118.5, -118.05, rows),
            stream.integers(0, 12, rows, endpoint=True),
            np.minimum(stream.geometric(0.15, rows) - 1, 28),
            stream.integers(0, 5, rows),
            stream.normal(0, 8, rows),
        ]
    ).astype(np.float64)
    score = 4 * (values[:, 0] - 33.6) + (values[:, 3] % 3 - 1) + 0.1 * values[:, 5] * (values[:, 4] > 2)
    return values, (score + stream.logistic(size=rows) > 0).astype(np.float64)


@pytest.fixture(scope="module")
def table_with_nulls(table: tuple[Table, Table]) -> tuple[Table, Table]:
    values, labels = table[0].copy(), table[1]
    stream = np.random.default_rng(4)
    for column in (*CATEGORIES, *MARGIN):
        values[stream.random(len(values)) < 0.08, column] = np.nan
    return values, labels


def encoded(encoder: object) -> ColumnTransformer:
    """What a training does with columns of every kind."""
    return ColumnTransformer(
        [
            ("categories", encoder, CATEGORIES),
            ("place", SplineTransformer(n_knots=5), slice(0, 2)),
            (
                "numbers",
                make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
                [*COUNT, *MARGIN],
            ),
        ]
    )


def ordinal(unknown: float) -> ColumnTransformer:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=unknown)
    return ColumnTransformer([("categories", encoder, CATEGORIES)], remainder="passthrough")


BOOSTING = {"max_iter": 25, "max_leaf_nodes": 12, "random_state": 0}
LINEAR, TREE = LogisticRegression(max_iter=500), DecisionTreeClassifier(max_depth=6, random_state=0)
ENCODERS = {
    "one-hot": OneHotEncoder(handle_unknown="ignore"),
    "one-hot, rare ones together": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=30),
    "one-hot, dense, first dropped": OneHotEncoder(handle_unknown="ignore", drop="first", sparse_output=False),
    "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
    "target": TargetEncoder(random_state=0),
}
OF_NUMBERS: dict[str, Pipeline] = {
    "logistic regression": make_pipeline(StandardScaler(), LINEAR),
    "logistic regression, multinomial": make_pipeline(StandardScaler(), LogisticRegression(multi_class="multinomial")),
    "linear discriminant analysis": make_pipeline(MinMaxScaler(), LinearDiscriminantAnalysis()),
    "decision tree": make_pipeline(StandardScaler(), TREE),
    "decision tree without a scaler": make_pipeline(DecisionTreeClassifier(max_depth=9, random_state=0)),
    "random forest": make_pipeline(StandardScaler(), RandomForestClassifier(12, random_state=0)),
    "extra trees": make_pipeline(StandardScaler(), ExtraTreesClassifier(8, max_depth=8, random_state=0)),
    "gradient boosting": make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=20, random_state=0)),
    "gradient boosting from zero": make_pipeline(GradientBoostingClassifier(n_estimators=5, init="zero")),
    "gradient boosting on histograms": make_pipeline(StandardScaler(), HistGradientBoostingClassifier(**BOOSTING)),
    "lightgbm": make_pipeline(StandardScaler(), LGBMClassifier(n_estimators=25, verbose=-1, n_jobs=1, random_state=0)),
    "lightgbm of 50 leaves": make_pipeline(
        LGBMClassifier(n_estimators=8, num_leaves=50, min_child_samples=2, verbose=-1, n_jobs=1, random_state=0)
    ),
    "lightgbm of many leaves": make_pipeline(
        LGBMClassifier(n_estimators=8, num_leaves=200, min_child_samples=2, verbose=-1, n_jobs=1, random_state=0)
    ),
    "soft vote": make_pipeline(
        StandardScaler(), VotingClassifier([("lr", LINEAR), ("dt", TREE)], voting="soft", weights=[2, 1])
    ),
    "soft vote of pipelines": make_pipeline(
        VotingClassifier([("lr", make_pipeline(StandardScaler(), LINEAR)), ("dt", TREE)], voting="soft")
    ),
    "calibrated hinge": make_pipeline(
        StandardScaler(), CalibratedClassifierCV(SGDClassifier(random_state=0), method="sigmoid", cv=3)
    ),
    "calibrated ridge": make_pipeline(StandardScaler(), CalibratedClassifierCV(RidgeClassifier(), cv=3)),
    "calibrated tree, isotonic": make_pipeline(CalibratedClassifierCV(TREE, method="isotonic", cv=3)),
    "base rate": make_pipeline(DummyClassifier(strategy="prior")),
}
OF_NULLS: dict[str, Pipeline] = {
    "decision tree with nulls": make_pipeline(TREE),
    "random forest with nulls": make_pipeline(RandomForestClassifier(8, random_state=0)),
    "gradient boosting with nulls": make_pipeline(HistGradientBoostingClassifier(**BOOSTING)),
    "lightgbm with nulls": make_pipeline(LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1, random_state=0)),
    "gradient boosting with categories": make_pipeline(
        ordinal(np.nan), HistGradientBoostingClassifier(**BOOSTING, categorical_features=[0, 1])
    ),
    "gradient boosting that encodes": make_pipeline(
        HistGradientBoostingClassifier(**BOOSTING, categorical_features=CATEGORIES)
    ),
    "ordinal codes, gradient boosting": make_pipeline(ordinal(-1), HistGradientBoostingClassifier(**BOOSTING)),
    **{f"{name}, logistic regression": make_pipeline(encoded(encoder), LINEAR) for name, encoder in ENCODERS.items()},
    "one-hot, soft blend": make_pipeline(
        encoded(ENCODERS["one-hot"]),
        VotingClassifier([("lr", LINEAR), ("gb", HistGradientBoostingClassifier(**BOOSTING))], voting="soft"),
    ),
}
PIPELINES = {**OF_NUMBERS, **OF_NULLS}


@pytest.fixture(scope="module")
def fitted(table: tuple[Table, Table], table_with_nulls: tuple[Table, Table]) -> Callable[[str], Pipeline]:
    found: dict[str, Pipeline] = {}

    def fit(name: str) -> Pipeline:
        if name not in found:
            rows, labels = table_with_nulls if name in OF_NULLS else table
            found[name] = clone(PIPELINES[name]).fit(rows, labels)
        return found[name]

    return fit


def columns_of(name: str) -> list[dict[str, object]]:
    return [{**column, "nullable": name in OF_NULLS and column.get("nullable")} for column in COLUMNS]


@pytest.mark.parametrize("name", PIPELINES)
def test_the_compiled_form_has_the_probabilities_of_the_pipeline(fitted: Callable[[str], Pipeline], name: str) -> None:
    compilation = compile_verified(fitted(name), columns_of(name), 3_000)
    assert compilation.tags[COMPILED] == "true", compilation.tags[DETAILS]
    assert "rows" in compilation.tags[DETAILS]
    # Other rows than those of the verification: wide, with values that no training row has.
    stream = np.random.default_rng(8)
    rows = np.column_stack([stream.choice([-1e9, -1.0, 0.0, 0.5, 3.0, 29.0, 33.5, 1e12], 300) for _ in NAMES])
    if name in OF_NULLS:
        rows[stream.random(rows.shape) < 0.2] = np.nan
        rows[:, [*PLACE, *COUNT]] = np.nan_to_num(rows[:, [*PLACE, *COUNT]])
    compiled = CompiledPipeline(fitted(name), NAMES)
    with warnings.catch_warnings():
        # OneHotEncoder(drop=…) warns of unseen categories.
        warnings.simplefilter("ignore")
        expected = fitted(name).predict_proba(rows)[:, 1]
    np.testing.assert_allclose([compiled(row) for row in rows.tolist()], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["decision tree", "random forest", "extra trees", "decision tree with nulls"])
def test_trees_are_compared_at_their_thresholds(fitted: Callable[[str], Pipeline], name: str) -> None:
    pipeline = fitted(name)
    compiled = CompiledPipeline(pipeline, NAMES)
    rows = probe_rows(compiled, columns_of(name), 5_000)
    at_thresholds = np.column_stack([np.isin(rows[:, place], [*compiled.thresholds[place]]) for place in PLACE])
    assert at_thresholds.mean() > 0.05
    np.testing.assert_array_equal([compiled(row) for row in rows.tolist()], pipeline.predict_proba(rows)[:, 1])


def test_a_tree_that_compares_doubles_is_found(fitted: Callable[[str], Pipeline]) -> None:
    """The rows of the verification show the rounding to single precision, which a comparison of doubles lacks."""
    pipeline = fitted("decision tree")
    rows = probe_rows(CompiledPipeline(pipeline, NAMES), columns_of("decision tree"))
    tree, scaled = pipeline[-1].tree_, pipeline[0].transform(rows)

    def leaf(row: Table) -> int:
        node = 0
        while tree.feature[node] >= 0:
            is_left = row[tree.feature[node]] <= tree.threshold[node]
            node = (tree.children_left if is_left else tree.children_right)[node]
        return node

    assert (np.array([leaf(row) for row in scaled]) != tree.apply(scaled.astype(np.float32))).any()


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    {
        "a model": (make_pipeline(StandardScaler(), GaussianNB()), "GaussianNB has no compiled form"),
        "a function": (make_pipeline(FunctionTransformer(np.cbrt), LINEAR), "FunctionTransformer with func="),
        "an option": (
            make_pipeline(SplineTransformer(extrapolation="linear"), LINEAR),
            "SplineTransformer with extrapolation='linear'",
        ),
        "a strategy": (make_pipeline(DummyClassifier(strategy="stratified")), "strategy='stratified'"),
    }.values(),
    ids=str,
)
def test_a_pipeline_without_compiled_form_has_the_reason(
    table: tuple[Table, Table], pipeline: Pipeline, reason: str
) -> None:
    compilation = compile_verified(clone(pipeline).fit(*table), columns_of("decision tree"))
    assert compilation.samples is None
    assert compilation.tags[COMPILED] == "false"
    assert reason in compilation.tags[DETAILS]


class OtherRegression(LogisticRegression):  # type: ignore[misc]
    """Predicts something else than what it inherits from."""

    def predict_proba(self, rows: Table) -> Table:
        """P(1) and P(0)."""
        return np.asarray(super().predict_proba(rows))[:, ::-1]


def test_a_subclass_is_not_taken_for_its_parent(table: tuple[Table, Table]) -> None:
    with pytest.raises(NotCompilableError, match="OtherRegression"):
        CompiledPipeline(make_pipeline(OtherRegression(max_iter=500)).fit(*table), NAMES)


def test_other_labels_than_0_and_1_are_not_compiled(table: tuple[Table, Table]) -> None:
    rows, labels = table
    with pytest.raises(NotCompilableError, match="classes"):
        CompiledPipeline(make_pipeline(TREE).fit(rows, labels + 1), NAMES)


def test_a_category_that_the_pipeline_rejects_has_no_probability(table: tuple[Table, Table]) -> None:
    pipeline = make_pipeline(encoded(OneHotEncoder()), LINEAR).fit(*table)
    compiled = CompiledPipeline(pipeline, NAMES)
    row = table[0][0].tolist()
    assert compiled(row) == pytest.approx(pipeline.predict_proba([row])[0, 1], abs=TOLERANCE)
    row[3] = 99.0
    with pytest.raises(ValueError, match="OneHotEncoder knows no 99"):
        compiled(row)
    assert "could not be verified" in compile_verified(pipeline, columns_of("decision tree")).tags[DETAILS]


def test_a_form_that_differs_is_not_served(monkeypatch: pytest.MonkeyPatch, fitted: Callable[[str], Pipeline]) -> None:
    original = CompiledPipeline.__call__
    monkeypatch.setattr(CompiledPipeline, "__call__", lambda self, row: original(self, row) + 1e-8)
    compilation = compile_verified(fitted("logistic regression"), columns_of("logistic regression"))
    assert compilation.samples is None
    assert "the compiled form differs by 1e-08" in compilation.tags[DETAILS]


def test_too_large_a_boosting_is_not_compiled(
    monkeypatch: pytest.MonkeyPatch, fitted: Callable[[str], Pipeline]
) -> None:
    monkeypatch.setattr("serving.model.compiled_pipeline.boosting.MAX_BYTES", 10_000)
    with pytest.raises(NotCompilableError, match="more than 0 MiB"):
        CompiledPipeline(fitted("gradient boosting on histograms"), NAMES)
