"""P(made) of single rows, from the fitted parts of a scikit-learn pipeline in plain Python.

scikit-learn validates its input at every step and builds a table of each row: with columns of categories, that is
nearly all of what one row costs. This package reads what `fit` has found (coefficients, trees, categories) and
computes the same from it, for one row at a time. For long tables scikit-learn itself is the fastest. A row is numbers,
as the pipelines of this project take them: a category is its code, and a null is NaN.

What an estimator does with a value is not written a second time where scikit-learn can be called: an encoder is called
once for each category, an unseen one and NaN, and trees of scikit-learn are walked by scikit-learn's own code.
``serving/model/compilation.py`` compares both forms before a version is stored.

MLflow runs a copy of this package with the served model, so it imports nothing of this project.
"""

from collections.abc import Sequence
from typing import Any

from .compiler import Compiler, Numeric
from .compiler import NotCompilableError as NotCompilableError
from .models import MODELS
from .transformers import TRANSFORMERS


class CompiledPipeline:
    """The compiled form of a fitted pipeline.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Fitted; its classes are 0 and 1.
    names : sequence of str
        Columns of the tables that the pipeline takes, in order.

    Attributes
    ----------
    parts : list of str
        Classes of the compiled transformers and models.
    thresholds : dict of int to set of float
        Values at which a tree decides, by position of a column, where they are known in its own unit.
    trees : int
        Number of trees, which most of the time of a row is in proportion to.

    Raises
    ------
    NotCompilableError
        If a part of the pipeline, or one of its options, has no compiled form.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit([[1.0], [2.0], [4.0]], [0, 1, 1])
    >>> bool(abs(CompiledPipeline(pipeline, ["x"])([3.0]) - pipeline.predict_proba([[3.0]])[0, 1]) < 1e-12)
    True
    """

    def __init__(self, pipeline: Any, names: Sequence[str]) -> None:  # noqa: ANN401 scikit-learn publishes no types
        compiler = Compiler(list(names), TRANSFORMERS, MODELS)
        self.parts = compiler.parts
        self._model = compiler.model(pipeline, [Numeric(place) for place in range(len(names))])
        self.thresholds, self.trees = compiler.thresholds, compiler.trees

    def __call__(self, row: Sequence[float]) -> float:
        """P(made) of a row.

        Raises
        ------
        ValueError, OverflowError
            If the pipeline rejects a value, or has a way of its own for it.
        """
        return self._model(row)
