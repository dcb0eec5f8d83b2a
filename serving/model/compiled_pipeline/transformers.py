"""The compiled forms of transformers."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .compiler import Columns, Compiler, CompileTransformer, NotCompilableError, Transform, is_nan, require

_MAX_CATEGORIES = 100_000


def chained(transforms: Sequence[Transform | None]) -> Transform | None:
    """One transformer after the other; None if none of them changes anything."""
    kept = [transform for transform in transforms if transform is not None]
    if len(kept) <= 1:
        return kept[0] if kept else None

    def transform_all(row: Sequence[float]) -> Sequence[float]:
        for transform in kept:
            row = transform(row)
        return row

    return transform_all


def _pipeline(compiler: Compiler, pipeline: Any, columns: Columns) -> tuple[Transform | None, Columns]:  # noqa: ANN401
    transforms = []
    for _, part in pipeline.steps:
        transform, columns = compiler.transformer(part, columns)
        transforms.append(transform)
    return chained(transforms), columns


def _column_transformer(compiler: Compiler, transformer: Any, columns: Columns) -> tuple[Transform | None, Columns]:  # noqa: ANN401
    require(transformer, transformer_weights=None)
    parts: list[tuple[tuple[int, ...], Transform | None]] = []
    made: Columns = []
    for _, part, selected in transformer.transformers_:
        places = compiler.positions(selected, transformer, len(columns))
        if places and not (isinstance(part, str) and part == "drop"):
            transform, cells = compiler.transformer(part, [columns[place] for place in places])
            parts.append((tuple(places), transform))
            made += cells

    def transform_parts(row: Sequence[float]) -> Sequence[float]:
        cells: list[float] = []
        for places, transform in parts:
            selected = [row[place] for place in places]
            cells += selected if transform is None else transform(selected)
        return cells

    return transform_parts, made


def _function_transformer(_: Compiler, transformer: Any, columns: Columns) -> tuple[Transform | None, Columns]:  # noqa: ANN401
    require(transformer, func=None)
    return None, columns


def _standard_scaler(_: Compiler, scaler: Any, columns: Columns) -> tuple[Transform | None, Columns]:  # noqa: ANN401
    shifts = scaler.mean_.tolist() if scaler.with_mean else [0.0] * len(columns)
    scales = scaler.scale_.tolist() if scaler.with_std else [1.0] * len(columns)
    pairs = [*zip(shifts, scales, strict=True)]

    def transform(row: Sequence[float]) -> Sequence[float]:
        return [(value - shift) / scale for value, (shift, scale) in zip(row, pairs, strict=True)]

    return transform, [column and column.scaled(*pair) for column, pair in zip(columns, pairs, strict=True)]


def _min_max_scaler(_: Compiler, scaler: Any, columns: Columns) -> tuple[Transform | None, Columns]:  # noqa: ANN401
    require(scaler, clip=False)
    pairs = [*zip(scaler.scale_.tolist(), scaler.min_.tolist(), strict=True)]

    def transform(row: Sequence[float]) -> Sequence[float]:
        return [value * scale + least for value, (scale, least) in zip(row, pairs, strict=True)]

    made = [
        column and column.scaled(-least / scale, 1 / scale)
        for column, (scale, least) in zip(columns, pairs, strict=True)
    ]
    return transform, made


def _simple_imputer(_: Compiler, imputer: Any, columns: Columns) -> tuple[Transform | None, Columns]:  # noqa: ANN401
    fills = imputer.statistics_.tolist()
    if any(is_nan(fill) for fill in fills):
        message = "SimpleImputer that drops a column has no compiled form"
        raise NotCompilableError(message)
    if not is_nan(imputer.missing_values):
        message = f"SimpleImputer with missing_values={imputer.missing_values!r} has no compiled form"
        raise NotCompilableError(message)
    indicated = imputer.indicator_.features_.tolist() if imputer.indicator_ else []

    def transform(row: Sequence[float]) -> Sequence[float]:
        # Only NaN differs from itself.
        cells = [fill if value != value else value for value, fill in zip(row, fills, strict=True)]  # noqa: PLR0124
        return cells + [float(row[place] != row[place]) for place in indicated]

    return transform, [*columns, *[None] * len(indicated)]


def _encoder(_: Compiler, encoder: Any, columns: Columns) -> tuple[Transform | None, Columns]:  # noqa: ANN401
    if sum(map(len, encoder.categories_)) > _MAX_CATEGORIES:
        message = f"{type(encoder).__name__} of more than {_MAX_CATEGORIES:,} categories has no compiled form"
        raise NotCompilableError(message)
    # Only OneHotEncoder has more than one cell for a column.
    widths = getattr(encoder, "_n_features_outs", [1] * len(columns))
    lookups = []
    start = 0
    for place, width in enumerate(widths):
        lookups.append(_Lookup(encoder, place, slice(start, start + int(width))))
        start += int(width)

    def transform(row: Sequence[float]) -> Sequence[float]:
        cells: list[float] = []
        for value, lookup in zip(row, lookups, strict=True):
            cells += lookup[value]
        return cells

    return transform, [None] * start


class _Lookup(dict[float, tuple[float, ...]]):
    """The cells that an encoder gives for each value of one column of numbers: of its categories, and of any other.

    Parameters
    ----------
    encoder : OneHotEncoder, OrdinalEncoder or TargetEncoder
    place : int
        Position of the column.
    cells : slice
        Which cells of its result are those of this column.

    Raises
    ------
    NotCompilableError
        If a category is no number.
    """

    def __init__(self, encoder: Any, place: int, cells: slice) -> None:  # noqa: ANN401
        if any(categories.dtype.kind not in "fiu" for categories in encoder.categories_):
            message = f"{type(encoder).__name__} of strings has no compiled form"
            raise NotCompilableError(message)
        self._encoder, self._place, self._slice = encoder, place, cells
        known = [one for one in encoder.categories_[place].tolist() if not is_nan(one)]
        super().__init__(zip(known, self._encoded(known) if known else (), strict=True))
        self._unseen, self._nan = (
            self._encoded_if_allowed(max(known, default=0) + 1.5),
            self._encoded_if_allowed(math.nan),
        )

    def __missing__(self, value: float) -> tuple[float, ...]:
        found = self._nan if is_nan(value) else self._unseen
        if found is None:
            message = f"{type(self._encoder).__name__} knows no {value}"
            raise ValueError(message)
        return found

    def _encoded_if_allowed(self, value: float) -> tuple[float, ...] | None:
        """The cells of a value; None if the encoder rejects it."""
        try:
            (found,) = self._encoded([value])
        except ValueError:
            return None
        return found

    def _encoded(self, values: Sequence[float]) -> list[tuple[float, ...]]:
        table = np.empty((len(values), len(self._encoder.categories_)))
        table[:] = [categories[0] for categories in self._encoder.categories_]
        table[:, self._place] = values
        with warnings.catch_warnings():
            # An encoder may warn of the unseen value.
            warnings.simplefilter("ignore")
            found = self._encoder.transform(table)
        found = found.toarray() if hasattr(found, "toarray") else found
        return [tuple(row) for row in found[:, self._slice].astype(np.float64).tolist()]


def _spline_transformer(_: Compiler, transformer: Any, columns: Columns) -> tuple[Transform | None, Columns]:  # noqa: ANN401
    require(transformer, extrapolation="constant")
    splines = [_splines(one.t.tolist(), transformer.degree) for one in transformer.bsplines_]
    width = len(transformer.bsplines_[0].t) - transformer.degree - 1 - (not transformer.include_bias)

    def transform(row: Sequence[float]) -> Sequence[float]:
        cells: list[float] = []
        for value, spline in zip(row, splines, strict=True):
            cells += spline(value)[:width]
        return cells

    return transform, [None] * (width * len(columns))


def _splines(knots: list[float], degree: int) -> Callable[[float], list[float]]:
    """All B-splines of one column, constant outside of the knots.

    Computed by de Boor's recursion (A Practical Guide to Splines, chapter X, BSPLVB), whose terms are all positive.
    """
    count = len(knots) - degree - 1
    first, last = knots[degree], knots[count]

    def values(value: float) -> list[float]:
        inside = min(max(value, first), last)
        place = degree
        while place < count - 1 and inside >= knots[place + 1]:
            place += 1
        bases = [1.0]
        for order in range(1, degree + 1):
            saved, following = 0.0, []
            for index, base in enumerate(bases):
                right, left = knots[place + index + 1], knots[place + index + 1 - order]
                share = base / (right - left)
                following.append(saved + (right - inside) * share)
                saved = (inside - left) * share
            bases = [*following, saved]
        cells = [0.0] * count
        cells[place - degree : place + 1] = bases
        return cells

    return values


TRANSFORMERS: Mapping[str, CompileTransformer] = {
    "ColumnTransformer": _column_transformer,
    "FunctionTransformer": _function_transformer,
    "MinMaxScaler": _min_max_scaler,
    "OneHotEncoder": _encoder,
    "OrdinalEncoder": _encoder,
    "Pipeline": _pipeline,
    "SimpleImputer": _simple_imputer,
    "SplineTransformer": _spline_transformer,
    "StandardScaler": _standard_scaler,
    "TargetEncoder": _encoder,
}
"""How to compile each class of transformers, by its name."""
