"""The compiled forms of gradient boosting on histograms: many small trees, walked in plain Python."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from .compiler import Columns, Compiler, NotCompilableError, Predict, Transform, require

MAX_NODES = 500_000
"""How many nodes are compiled; one takes about 200 bytes."""
_ZERO = float(np.float32(1e-35))
"""LightGBM takes what is no farther from 0 for 0."""


class Trees:
    """Trees as nested tuples ``(place, threshold, left, right)``; a leaf is a float.

    A row goes left if its cell is at most the threshold, and so right if it is NaN. A node where NaN goes left
    compares the opposite: the negated cell, whose place is that of the cell + the number of columns. A node of
    categories has the complement ``~place``, and in place of the threshold the set of what goes left.

    Parameters
    ----------
    columns : int
        Number of columns.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._count = 0
        self._has_negated = self._has_sets = False

    def split(self, place: int, threshold: float, left: Any, right: Any, *, nan_left: bool) -> Any:  # noqa: ANN401
        """A node of numbers."""
        self._count_node()
        if not nan_left:
            return place, threshold, left, right
        if threshold == math.inf:
            return left
        self._has_negated = True
        return place + self._columns, -math.nextafter(threshold, math.inf), right, left

    def split_by_set(self, place: int, members: frozenset[float], inside: Any, others: Any) -> Any:  # noqa: ANN401
        """A node of categories."""
        self._count_node()
        self._has_sets = True
        return ~place, members, inside, others

    def _count_node(self) -> None:
        self._count += 1
        if self._count > MAX_NODES:
            message = f"more than {MAX_NODES:,} nodes have no compiled form"
            raise NotCompilableError(message)

    def sum_of(self, trees: Sequence[Any], start: float) -> Callable[[Sequence[float]], float]:
        """The sum of `start` and the leaves of a row, added in the order of the trees."""
        has_negated = self._has_negated

        def total(row: Sequence[float]) -> float:
            cells = [*row, *(-value for value in row)] if has_negated else row
            found = start
            for tree in trees:
                node = tree
                while node.__class__ is tuple:
                    place, threshold, left, right = node
                    node = left if cells[place] <= threshold else right
                found += node
            return found

        def total_with_sets(row: Sequence[float]) -> float:
            cells = [*row, *(-value for value in row)] if has_negated else row
            found = start
            for tree in trees:
                node = tree
                while node.__class__ is tuple:
                    place, threshold, left, right = node
                    is_left = cells[place] <= threshold if place >= 0 else cells[~place] in threshold
                    node = left if is_left else right
                found += node
            return found

        return total_with_sets if self._has_sets else total


def hist_gradient_boosting(compiler: Compiler, model: Any, columns: Columns) -> Predict:  # noqa: ANN401
    """HistGradientBoostingClassifier."""
    require(model, loss="log_loss", n_trees_per_iteration_=1)
    transform: Transform | None = None
    if model._preprocessor is not None:  # noqa: SLF001 scikit-learn has no public one
        transform, columns = _preprocessor(compiler, model._preprocessor, columns)  # noqa: SLF001
    trees, known = Trees(len(columns)), model._bin_mapper.make_known_categories_bitsets()  # noqa: SLF001
    compiler.note_trees(len(model._predictors))  # noqa: SLF001
    grown = [_hist_tree(compiler, trees, predictor, known, columns) for (predictor,) in model._predictors]  # noqa: SLF001
    total = trees.sum_of(grown, float(np.ravel(model._baseline_prediction)[0]))  # noqa: SLF001
    if transform is None:
        return lambda row: float(expit(total(row)))
    return lambda row: float(expit(total(transform(row))))


def _preprocessor(compiler: Compiler, transformer: Any, columns: Columns) -> tuple[Transform, Columns]:  # noqa: ANN401
    """The encoder of HistGradientBoostingClassifier(categorical_features=…), whose other part changes no number."""
    (_, encoder, encoded), (_, _, others) = transformer.transformers_
    first, second = (compiler.positions(selected, transformer, len(columns)) for selected in (encoded, others))
    encode, made = compiler.transformer(encoder, [columns[place] for place in first])
    assert encode is not None  # noqa: S101 an encoder changes its cells

    def transform(row: Sequence[Any]) -> Sequence[Any]:
        return [*encode([row[place] for place in first]), *(row[place] for place in second)]

    return transform, [*made, *(columns[place] for place in second)]


def _hist_tree(compiler: Compiler, trees: Trees, predictor: Any, known: Any, columns: Columns) -> Any:  # noqa: ANN401
    """A tree; ``_predictor.pyx`` of scikit-learn defines what a node does."""
    known_bits, known_places = known
    made: dict[int, Any] = {}
    # A child comes after its parent.
    for number in range(len(predictor.nodes) - 1, -1, -1):
        node = predictor.nodes[number]
        if node["is_leaf"]:
            made[number] = float(node["value"])
            continue
        left, right = made.pop(int(node["left"])), made.pop(int(node["right"]))
        place, threshold = int(node["feature_idx"]), float(node["num_threshold"])
        nan_left = bool(node["missing_go_to_left"])
        if not node["is_categorical"]:
            compiler.note_threshold(columns[place], threshold)
            made[number] = trees.split(place, threshold, left, right, nan_left=nan_left)
            continue
        # A category that was not in the training rows goes where NaN goes.
        to_left = _members(predictor.raw_left_cat_bitsets[node["bitset_idx"]])
        if nan_left:
            to_right = _members(known_bits[known_places[place]]) - to_left
            made[number] = trees.split_by_set(place, to_right, right, left)
        else:
            made[number] = trees.split_by_set(place, to_left, left, right)
    return made[0]


def _members(bits: Any) -> frozenset[float]:  # noqa: ANN401
    """The numbers of a bit set of 256."""
    return frozenset(float(value) for value in range(256) if int(bits[value // 32]) >> (value % 32) & 1)


def lightgbm(compiler: Compiler, model: Any, columns: Columns) -> Predict:  # noqa: ANN401
    """LGBMClassifier."""
    dumped = model.booster_.dump_model()
    name, *options = str(dumped["objective"]).split()
    if name != "binary" or dumped["average_output"] or dumped["num_tree_per_iteration"] != 1:
        message = f"LGBMClassifier with the objective {name}, or boosting_type='rf', has no compiled form"
        raise NotCompilableError(message)
    if dumped["pandas_categorical"]:
        message = "LGBMClassifier with categories of pandas has no compiled form"
        raise NotCompilableError(message)
    slope = float(dict(option.split(":") for option in options if ":" in option).get("sigmoid", 1))
    trees = Trees(len(columns))
    compiler.note_trees(len(dumped["tree_info"]))
    grown = [_lightgbm_tree(compiler, trees, tree["tree_structure"], columns) for tree in dumped["tree_info"]]
    total = trees.sum_of(grown, 0.0)
    return lambda row: 1.0 / (1.0 + math.exp(-slope * total(row)))


def _lightgbm_tree(compiler: Compiler, trees: Trees, node: dict[str, Any], columns: Columns) -> Any:  # noqa: ANN401
    """A tree; ``tree.h`` of LightGBM defines what a node does."""
    if "leaf_value" in node:
        return float(node["leaf_value"])
    left, right = (_lightgbm_tree(compiler, trees, node[side], columns) for side in ("left_child", "right_child"))
    place = int(node["split_feature"])
    if node["decision_type"] == "==":
        members = frozenset(map(float, str(node["threshold"]).split("||")))
        return trees.split_by_set(place, members, left, right)
    if node["missing_type"] == "Zero":
        message = "LGBMClassifier with zero_as_missing has no compiled form"
        raise NotCompilableError(message)
    threshold = float(node["threshold"])
    compiler.note_threshold(columns[place], threshold)
    if -_ZERO <= threshold < _ZERO:
        threshold = _ZERO if threshold >= 0 else math.nextafter(-_ZERO, -math.inf)
    # Where no training row was NaN, it is 0.
    nan_left = bool(node["default_left"]) if node["missing_type"] == "NaN" else threshold >= 0
    return trees.split(place, threshold, left, right, nan_left=nan_left)
