"""The compiled forms of gradient boosting on histograms, whose many small trees decide at few different values.

A row is scored in a time that does not grow with the number of decisions: C. Lucchese et al., QuickScorer: a fast
algorithm to rank documents with additive ensembles of regression trees, SIGIR 2015.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .compiler import Columns, Compiler, NotCompilableError, Predict, Transform, require

MAX_BYTES = 64 << 20
"""Memory that the masks of a model may take."""
_ZERO = float(np.float32(1e-35))
"""LightGBM takes what is no farther from 0 for 0."""
_SHORT_WORD = 32
_MANTISSA_BITS, _EXPONENT_OF_1 = 52, 1023
"""Of a double."""


class Split(NamedTuple):
    """A node: a cell of at most the threshold goes left, and NaN where `nan_left` sends it."""

    place: int
    threshold: float
    nan_left: bool
    left: Any
    right: Any


class SplitOfCategories(NamedTuple):
    """A node: a cell goes left or right if it is one of these, and where `others_left` sends it otherwise."""

    place: int
    to_left: frozenset[float]
    to_right: frozenset[float]
    others_left: bool
    left: Any
    right: Any


class Ensemble:
    """The sum of the leaves of a row.

    The leaves of all trees, from left to right, are the bits of one number. What a cell decides clears the leaves that
    it makes impossible: those to the left of each node where it goes right. The exit of a tree is its lowest bit that
    is left. Which bits a column clears depends only on the place of its cell among all thresholds of the column.

    Parameters
    ----------
    trees : sequence
        Each a node, `Split` or `SplitOfCategories`, whose leaves are floats.
    start : float
        What is added to the sum.

    Raises
    ------
    NotCompilableError
        If the masks take too much memory.
    """

    def __init__(self, trees: Sequence[Any], start: float) -> None:
        splits_of: defaultdict[int, list[tuple[Any, int]]] = defaultdict(list)
        leaves = [[*_leaves(tree)] for tree in trees]
        most = max(map(len, leaves))
        self._word: type[np.unsignedinteger[Any]] = np.uint32 if most <= _SHORT_WORD else np.uint64
        bits = 8 * self._word().itemsize
        self._words = -(-most // bits)
        width = self._words * bits
        for number, tree in enumerate(trees):
            _note_splits(tree, number * width, splits_of)
        self._values = np.zeros((len(trees), width))
        self._all = 0
        for number, found in enumerate(leaves):
            self._values[number, : len(found)] = found
            self._all |= (1 << len(found)) - 1 << number * width
        # The sum is that of these alone then, in the same order.
        self._values[0] += start
        # The exponent of 1 is that of the first leaf.
        self._first = np.arange(len(trees)) * width - _EXPONENT_OF_1
        self._size = len(trees) * width // 8
        masks = sum(len(_decisions(splits)) + 2 for splits in splits_of.values())
        if masks * self._size > MAX_BYTES:
            message = f"gradient boosting that takes more than {MAX_BYTES >> 20} MiB has no compiled form"
            raise NotCompilableError(message)
        self._numeric: list[tuple[int, list[float], list[int], int]] = []
        self._categorical: list[tuple[int, dict[float, int], int]] = []
        for place, splits in splits_of.items():
            if isinstance(splits[0][0], Split):
                self._numeric.append((place, *self._masks(splits)))
            else:
                self._categorical.append((place, *self._masks_of_categories(splits)))

    def __call__(self, row: Sequence[float]) -> float:
        """The sum, in the order of the trees."""
        left = self._all
        for place, thresholds, masks, nan_mask in self._numeric:
            cell = row[place]
            left &= masks[bisect_left(thresholds, cell)] if cell == cell else nan_mask  # noqa: PLR0124 only NaN differs
        for place, masks_of, other_mask in self._categorical:
            left &= masks_of.get(row[place], other_mask)
        bits = np.frombuffer(left.to_bytes(self._size, "little"), dtype=self._word)
        first = self._first
        if self._words > 1:
            bits = bits.reshape(-1, self._words)
            word = (bits != 0).argmax(axis=1)
            bits, first = bits[np.arange(len(bits)), word], first + word * 8 * bits.itemsize
        # The lowest bit alone is a power of 2.
        exponents = (bits & np.negative(bits)).astype(np.float64).view(np.int64) >> _MANTISSA_BITS
        # Unlike `sum` of NumPy, in the order of the trees.
        return float(np.add.accumulate(self._values.take(first + exponents))[-1])

    def _masks(self, splits: Sequence[tuple[Split, int]]) -> tuple[list[float], list[int], int]:
        """Thresholds of a column; what is left above the first ones of them, by their number, and for NaN."""
        cleared: defaultdict[float, int] = defaultdict(int)
        of_nan = 0
        for split, bits in splits:
            cleared[split.threshold] |= bits
            of_nan |= 0 if split.nan_left else bits
        thresholds, masks = sorted(cleared), [self._all]
        for threshold in thresholds:
            masks.append(masks[-1] & ~cleared[threshold])
        return thresholds, masks, self._all & ~of_nan

    def _masks_of_categories(self, splits: Sequence[tuple[SplitOfCategories, int]]) -> tuple[dict[float, int], int]:
        """What each category of a column leaves, and any other value."""
        cleared, of_others = dict.fromkeys(_decisions(splits), 0), 0
        for split, bits in splits:
            of_others |= 0 if split.others_left else bits
            for value in cleared:
                is_left = value in split.to_left or (split.others_left and value not in split.to_right)
                cleared[value] |= 0 if is_left else bits
        return {value: self._all & ~bits for value, bits in cleared.items()}, self._all & ~of_others


def _leaves(node: Any) -> Iterator[float]:  # noqa: ANN401 a node or a leaf
    """Leaves of a tree from left to right."""
    if isinstance(node, float):
        yield node
    else:
        yield from _leaves(node.left)
        yield from _leaves(node.right)


def _note_splits(node: Any, first: int, splits: defaultdict[int, list[tuple[Any, int]]]) -> int:  # noqa: ANN401
    """Note each node by its column, with the bits of the leaves to its left; the number of leaves."""
    if isinstance(node, float):
        return 1
    left = _note_splits(node.left, first, splits)
    splits[node.place].append((node, ((1 << left) - 1) << first))
    return left + _note_splits(node.right, first + left, splits)


def _decisions(splits: Sequence[tuple[Any, int]]) -> set[float]:
    """The thresholds of a column, or its categories."""
    if isinstance(splits[0][0], Split):
        return {split.threshold for split, _ in splits}
    return set().union(*(split.to_left | split.to_right for split, _ in splits))


def hist_gradient_boosting(compiler: Compiler, model: Any, columns: Columns) -> Predict:  # noqa: ANN401
    """HistGradientBoostingClassifier."""
    require(model, loss="log_loss", n_trees_per_iteration_=1)
    transform: Transform | None = None
    if model._preprocessor is not None:  # noqa: SLF001 scikit-learn has no public one
        transform, columns = _preprocessor(compiler, model._preprocessor, columns)  # noqa: SLF001
    known = model._bin_mapper.make_known_categories_bitsets()  # noqa: SLF001
    compiler.note_trees(len(model._predictors))  # noqa: SLF001
    grown = [_hist_tree(compiler, predictor, known, columns) for (predictor,) in model._predictors]  # noqa: SLF001
    total = Ensemble(grown, float(np.ravel(model._baseline_prediction)[0]))  # noqa: SLF001
    if transform is None:
        return lambda row: 1.0 / (1.0 + math.exp(-total(row)))
    return lambda row: 1.0 / (1.0 + math.exp(-total(transform(row))))


def _preprocessor(compiler: Compiler, transformer: Any, columns: Columns) -> tuple[Transform, Columns]:  # noqa: ANN401
    """The encoder of HistGradientBoostingClassifier(categorical_features=…), whose other part changes no number."""
    (_, encoder, encoded), (_, _, others) = transformer.transformers_
    first, second = (compiler.positions(selected, transformer, len(columns)) for selected in (encoded, others))
    encode, made = compiler.transformer(encoder, [columns[place] for place in first])
    assert encode is not None  # noqa: S101 an encoder changes its cells

    def transform(row: Sequence[Any]) -> Sequence[Any]:
        return [*encode([row[place] for place in first]), *[row[place] for place in second]]

    return transform, [*made, *(columns[place] for place in second)]


def _hist_tree(compiler: Compiler, predictor: Any, known: Any, columns: Columns) -> Any:  # noqa: ANN401
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
        if node["is_categorical"]:
            to_left = _members(predictor.raw_left_cat_bitsets[node["bitset_idx"]])
            to_right = _members(known_bits[known_places[place]]) - to_left
            # A category that was not in the training rows goes where NaN goes.
            made[number] = SplitOfCategories(place, to_left, to_right, nan_left, left, right)
        else:
            compiler.note_threshold(columns[place], threshold)
            made[number] = Split(place, threshold, nan_left, left, right)
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
    compiler.note_trees(len(dumped["tree_info"]))
    grown = [_lightgbm_tree(compiler, tree["tree_structure"], columns) for tree in dumped["tree_info"]]
    total = Ensemble(grown, 0.0)
    return lambda row: 1.0 / (1.0 + math.exp(-slope * total(row)))


def _lightgbm_tree(compiler: Compiler, node: dict[str, Any], columns: Columns) -> Any:  # noqa: ANN401
    """A tree; ``tree.h`` of LightGBM defines what a node does."""
    if "leaf_value" in node:
        return float(node["leaf_value"])
    left, right = (_lightgbm_tree(compiler, node[side], columns) for side in ("left_child", "right_child"))
    place = int(node["split_feature"])
    if node["decision_type"] == "==":
        members = frozenset(map(float, str(node["threshold"]).split("||")))
        return SplitOfCategories(place, members, frozenset(), False, left, right)
    if node["missing_type"] == "Zero":
        message = "LGBMClassifier with zero_as_missing has no compiled form"
        raise NotCompilableError(message)
    threshold = float(node["threshold"])
    compiler.note_threshold(columns[place], threshold)
    if -_ZERO <= threshold < _ZERO:
        threshold = _ZERO if threshold >= 0 else math.nextafter(-_ZERO, -math.inf)
    # Where no training row was NaN, it is 0.
    nan_left = bool(node["default_left"]) if node["missing_type"] == "NaN" else threshold >= 0
    return Split(place, threshold, nan_left, left, right)
