"""The compiled forms of models, except gradient boosting on histograms."""

from collections.abc import Mapping, Sequence
from operator import mul
from typing import Any

import numpy as np
from scipy.special import expit, logit

from .boosting import hist_gradient_boosting, lightgbm
from .compiler import Columns, CompileModel, Compiler, NotCompilableError, Predict, class_name, require, unsupported
from .transformers import chained

_LINEAR = {"LinearDiscriminantAnalysis", "LogisticRegression", "RidgeClassifier", "SGDClassifier"}


def _pipeline(compiler: Compiler, pipeline: Any, columns: Columns) -> Predict:  # noqa: ANN401
    transforms = []
    for _, part in pipeline.steps[:-1]:
        transform, columns = compiler.transformer(part, columns)
        transforms.append(transform)
    model, transform_all = compiler.model(pipeline.steps[-1][1], columns), chained(transforms)
    return model if transform_all is None else lambda row: model(transform_all(row))


def _linear(model: Any) -> Predict:  # noqa: ANN401
    """The decision function of a linear model."""
    coefficients, intercept = np.ravel(model.coef_).tolist(), float(np.ravel(model.intercept_)[0])
    return lambda row: sum(map(mul, row, coefficients)) + intercept


def _logistic(_: Compiler, model: Any, _columns: Columns) -> Predict:  # noqa: ANN401
    decide = _linear(model)
    # Of a multinomial model of two classes scikit-learn takes the softmax of -x and x.
    factor = 2.0 if getattr(model, "multi_class", "auto") == "multinomial" else 1.0
    return lambda row: float(expit(factor * decide(row)))


def _dummy(_: Compiler, model: Any, _columns: Columns) -> Predict:  # noqa: ANN401
    require(model, strategy="prior")
    probability = float(model.class_prior_[1])
    return lambda _: probability


def _tree(compiler: Compiler, model: Any, columns: Columns) -> Predict:  # noqa: ANN401
    _note_trees(compiler, [model.tree_], columns)
    leaf_of, value_of = model.tree_.apply, np.ascontiguousarray(model.tree_.value[:, 0, 1]).item
    return lambda row: value_of(leaf_of(np.array([row], dtype=np.float32))[0])


def _forest(compiler: Compiler, model: Any, columns: Columns) -> Predict:  # noqa: ANN401
    trees = [one.tree_ for one in model.estimators_]
    _note_trees(compiler, trees, columns)
    leaves = [(tree.apply, np.ascontiguousarray(tree.value[:, 0, 1]).item) for tree in trees]
    count = len(leaves)

    def predict(row: Sequence[float]) -> float:
        cells = np.array([row], dtype=np.float32)
        total = 0.0
        for leaf_of, value_of in leaves:
            total += value_of(leaf_of(cells)[0])
        return total / count

    return predict


def _note_trees(compiler: Compiler, trees: Sequence[Any], columns: Columns) -> None:
    compiler.note_trees(len(trees))
    for tree in trees:
        is_split = tree.feature >= 0
        thresholds = tree.threshold[is_split]
        # Cells are rounded to single precision before they are compared: where those up to the threshold end.
        below = thresholds.astype(np.float32)
        below = np.where(below > thresholds, np.nextafter(below, np.float32(-np.inf)), below)
        ends = (below.astype(np.float64) + np.nextafter(below, np.float32(np.inf))) / 2
        for place, threshold, end in zip(
            tree.feature[is_split].tolist(), thresholds.tolist(), ends.tolist(), strict=True
        ):
            compiler.note_threshold(columns[place], threshold)
            compiler.note_threshold(columns[place], end)


def _gradient_boosting(compiler: Compiler, model: Any, columns: Columns) -> Predict:  # noqa: ANN401
    from sklearn.ensemble._gradient_boosting import predict_stages  # noqa: PLC0415 what scikit-learn itself calls

    require(model, loss="log_loss")
    if isinstance(model.init_, str):
        start = 0.0
    elif class_name(model.init_) == "DummyClassifier":
        require(model.init_, strategy="prior")
        # As `_init_raw_predictions` of scikit-learn has it.
        least = float(np.finfo(np.float32).eps)
        start = float(logit(np.clip(model.init_.class_prior_[1], least, 1 - least)))
    else:
        raise unsupported(model.init_)
    trees, rate = model.estimators_, model.learning_rate
    _note_trees(compiler, [tree.tree_ for tree in trees.ravel()], columns)

    def predict(row: Sequence[float]) -> float:
        raw = np.array([[start]])
        predict_stages(trees, np.array([row], dtype=np.float32), rate, raw)
        return float(expit(raw[0, 0]))

    return predict


def _voting(compiler: Compiler, model: Any, columns: Columns) -> Predict:  # noqa: ANN401
    require(model, voting="soft")
    models = [compiler.model(one, columns) for one in model.estimators_]
    # Those of the models that are not dropped.
    weights = [1.0] * len(models) if model.weights is None else [float(one) for one in model._weights_not_none]  # noqa: SLF001
    pairs, whole = [*zip(models, weights, strict=True)], sum(weights)
    return lambda row: sum(predict(row) * weight for predict, weight in pairs) / whole


def _calibrated(compiler: Compiler, model: Any, columns: Columns) -> Predict:  # noqa: ANN401
    models = [_calibrated_one(compiler, one, columns) for one in model.calibrated_classifiers_]
    count = len(models)
    return lambda row: sum(predict(row) for predict in models) / count


def _calibrated_one(compiler: Compiler, model: Any, columns: Columns) -> Predict:  # noqa: ANN401
    (calibrator,) = model.calibrators
    decide = _score(compiler, model.estimator, columns)
    if type(calibrator).__name__ == "_SigmoidCalibration":
        slope, shift = float(calibrator.a_), float(calibrator.b_)
        return lambda row: float(expit(-(slope * decide(row) + shift)))
    if class_name(calibrator) == "IsotonicRegression":
        require(calibrator, out_of_bounds="clip")
        scores, values = calibrator.X_thresholds_, calibrator.y_thresholds_
        return lambda row: float(np.interp(decide(row), scores, values))
    raise unsupported(calibrator)


def _score(compiler: Compiler, model: Any, columns: Columns) -> Predict:  # noqa: ANN401
    """What a calibrator takes: the decision function of a model, or P(made) of one that has none."""
    if class_name(model) in _LINEAR:
        compiler.note_part(model)
        return _linear(model)
    if hasattr(model, "decision_function"):
        message = f"CalibratedClassifierCV of {type(model).__name__} has no compiled form"
        raise NotCompilableError(message)
    return compiler.model(model, columns)


MODELS: Mapping[str, CompileModel] = {
    "CalibratedClassifierCV": _calibrated,
    "DecisionTreeClassifier": _tree,
    "DummyClassifier": _dummy,
    "ExtraTreeClassifier": _tree,
    "ExtraTreesClassifier": _forest,
    "GradientBoostingClassifier": _gradient_boosting,
    "HistGradientBoostingClassifier": hist_gradient_boosting,
    "LGBMClassifier": lightgbm,
    "LinearDiscriminantAnalysis": _logistic,
    "LogisticRegression": _logistic,
    "Pipeline": _pipeline,
    "RandomForestClassifier": _forest,
    "VotingClassifier": _voting,
}
"""How to compile each class of models, by its name."""
