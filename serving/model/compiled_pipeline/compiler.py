"""Walks a pipeline and compiles each of its parts; knows which columns the cells of each part come from."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Transform = Callable[[Sequence[float]], Sequence[float]]
"""Maps the cells of a row to other cells."""
Predict = Callable[[Sequence[float]], float]
"""Maps the cells of a row to P(made), or to another score."""
_LIBRARIES = {"sklearn", "lightgbm"}
_UNNAMED = {"Pipeline", "_CalibratedClassifier"}


class NotCompilableError(Exception):
    """A pipeline has no compiled form; the message is the reason."""


class Numeric(NamedTuple):
    """A column of numbers that is ``(feature - shift) / scale`` of a column of the table.

    Attributes
    ----------
    feature : int
        Position of that column.
    shift, scale : float
    """

    feature: int
    shift: float = 0.0
    scale: float = 1.0

    def scaled(self, shift: float, scale: float) -> "Numeric":
        """The column minus `shift`, divided by `scale`.

        Examples
        --------
        >>> Numeric(0, 1.0, 2.0).scaled(3.0, 4.0)
        Numeric(feature=0, shift=7.0, scale=8.0)
        """
        return Numeric(self.feature, self.shift + shift * self.scale, self.scale * scale)


Columns = list[Numeric | None]
"""What the cells of a row are; None for one that is computed in another way."""
CompileTransformer = Callable[["Compiler", Any, Columns], tuple[Transform | None, Columns]]
"""Gives a transformer, None if it changes nothing, and what the cells of its result are."""
CompileModel = Callable[["Compiler", Any, Columns], Predict]


class Compiler:
    """Compiles the parts of one pipeline.

    Parameters
    ----------
    names : list of str
        Columns of the table.
    transformers, models : mapping of str to callable
        How to compile each class of scikit-learn and LightGBM, by its name.

    Attributes
    ----------
    parts, thresholds, trees
        See `CompiledPipeline`.
    """

    def __init__(
        self, names: list[str], transformers: Mapping[str, CompileTransformer], models: Mapping[str, CompileModel]
    ) -> None:
        self._names, self._transformers, self._models = names, transformers, models
        self.parts: list[str] = []
        self.thresholds: dict[int, set[float]] = {}
        self.trees = 0

    def model(self, model: Any, columns: Columns) -> Predict:  # noqa: ANN401
        """P(made) by a model.

        Raises
        ------
        NotCompilableError
            If it, or one of its options, has no compiled form.
        """
        compile_it = self._models.get(class_name(model))
        if compile_it is None:
            raise unsupported(model)
        self._check_width(model, columns)
        if hasattr(model, "classes_") and [float(label) for label in model.classes_] != [0.0, 1.0]:
            message = f"{type(model).__name__} has the classes {list(model.classes_)}"
            raise NotCompilableError(message)
        self.note_part(model)
        return compile_it(self, model, columns)

    def transformer(self, transformer: Any, columns: Columns) -> tuple[Transform | None, Columns]:  # noqa: ANN401
        """A transformer, None if it changes nothing, and what the cells of its result are.

        Raises
        ------
        NotCompilableError
            If it, or one of its options, has no compiled form.
        """
        if transformer is None or (isinstance(transformer, str) and transformer == "passthrough"):
            return None, columns
        compile_it = self._transformers.get(class_name(transformer))
        if compile_it is None:
            raise unsupported(transformer)
        self._check_width(transformer, columns)
        self.note_part(transformer)
        return compile_it(self, transformer, columns)

    def positions(self, selected: Any, transformer: Any, count: int) -> list[int]:  # noqa: ANN401
        """Positions of the columns that a ColumnTransformer has selected by position, by name or by a mask.

        Raises
        ------
        NotCompilableError
            If they are selected in another way.
        """
        names = list(getattr(transformer, "feature_names_in_", self._names if count == len(self._names) else []))
        try:
            if isinstance(selected, slice):
                return [*range(count)[selected]]
            listed = [selected] if isinstance(selected, str | int) else list(selected)
            if listed and all(isinstance(one, bool | np.bool_) for one in listed):
                return [place for place, is_selected in enumerate(listed) if is_selected]
            return [names.index(one) if isinstance(one, str) else range(count)[one] for one in listed]
        except (ValueError, IndexError, TypeError) as error:
            message = f"a ColumnTransformer selects columns in a way that has no compiled form: {selected!r}"
            raise NotCompilableError(message) from error

    def note_part(self, part: object) -> None:
        """Note the name of a part."""
        name = type(part).__name__
        if name not in self.parts and name not in _UNNAMED:
            self.parts.append(name)

    def note_threshold(self, column: Numeric | None, value: float) -> None:
        """Note a value of a column at which a tree decides."""
        if column is not None and math.isfinite(value):
            self.thresholds.setdefault(column.feature, set()).add(value * column.scale + column.shift)

    def note_trees(self, count: int) -> None:
        """Note that a model has so many trees."""
        self.trees += count

    def _check_width(self, part: Any, columns: Columns) -> None:  # noqa: ANN401
        expected = getattr(part, "n_features_in_", len(columns))
        if expected != len(columns):
            message = f"{type(part).__name__} expects {expected} columns and gets {len(columns)}"
            raise NotCompilableError(message)


def class_name(part: object) -> str:
    """The class of a part; another text for one of another library, whose methods may do anything."""
    kind = type(part)
    return kind.__name__ if kind.__module__.partition(".")[0] in _LIBRARIES else repr(kind)


def unsupported(part: object) -> NotCompilableError:
    """The error for a part without a compiled form."""
    return NotCompilableError(f"{type(part).__name__} has no compiled form")


def require(part: object, **options: object) -> None:
    """Require values of options of a part.

    Raises
    ------
    NotCompilableError
        If one has another value.
    """
    for name, expected in options.items():
        found = getattr(part, name, expected)
        if found != expected:
            message = f"{type(part).__name__} with {name}={found!r} has no compiled form"
            raise NotCompilableError(message)


def is_nan(value: object) -> bool:
    """Whether a value is the float NaN."""
    return isinstance(value, float) and math.isnan(value)
