"""The model that is served, as MLflow "models from code".

MLflow copies this file into the logged model and runs it there, so it imports nothing of this project: what it must
know of the schema (names, ranges) travels as the model's configuration, written by ``serving/packaging.py``.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import skops.io
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

_MOST_CASES_SHOWN = 10


class ScoringModel(PythonModel):
    """Checks every row by the schema, then scores all of them in NumPy.

    The model's configuration holds ``features``, a list in the order of the signature of ``{"name", "minimum",
    "maximum", "whole", "allowed"}``, and ``trusted_types``, the types that skops may load.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the pipeline and the ranges."""
        features = context.model_config["features"]
        self.names = [feature["name"] for feature in features]
        self.allowed = [feature["allowed"] for feature in features]
        self.minimum = np.array([feature["minimum"] for feature in features])
        self.maximum = np.array([feature["maximum"] for feature in features])
        self.whole = np.array([feature["whole"] for feature in features])
        self.pipeline = skops.io.load(context.artifacts["pipeline"], trusted=context.model_config["trusted_types"])

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 MLflow passes it
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Label and probability of each row, in order.

        Parameters
        ----------
        context : PythonModelContext
            Not used after loading.
        model_input : pandas.DataFrame
            The features as doubles; other columns are ignored.
        params : dict, optional
            ``threshold``, the P(made) from which a shot is predicted to be made, from 0 to 1.

        Returns
        -------
        pandas.DataFrame
            ``shot_made_flag`` (int64, 0 or 1) and ``probability`` (float64, P(made)).

        Raises
        ------
        mlflow.exceptions.MlflowException
            INVALID_PARAMETER_VALUE (HTTP 400) if any row is outside the schema; none is scored then.
        """
        threshold = self._threshold(params)
        values = self._checked(model_input)
        probability = self.pipeline.predict_proba(values)[:, 1] if len(values) else np.empty(0)
        made = (probability >= threshold).astype(np.int64)
        return pd.DataFrame({"shot_made_flag": made, "probability": probability})

    def _threshold(self, params: dict[str, Any] | None) -> float:
        threshold = float((params or {}).get("threshold", 0.5))
        if not 0 <= threshold <= 1:
            message = f"threshold: expected a number from 0 to 1, found {threshold:g}"
            raise MlflowException.invalid_parameter_value(message)
        return threshold

    def _checked(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        missing = [name for name in self.names if name not in table]
        if missing:
            message = f"missing columns {missing}: expected {self.names}, found {list(table.columns)}"
            raise MlflowException.invalid_parameter_value(message)
        try:
            values = table[self.names].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            message = f"expected numbers in the columns {self.names}: {error}"
            raise MlflowException.invalid_parameter_value(message) from error
        inside = (values >= self.minimum) & (values <= self.maximum)
        if not inside.all() or (values[:, self.whole] % 1).any():
            fits = inside & (~self.whole | (np.where(inside, values, 0) % 1 == 0))
            raise MlflowException.invalid_parameter_value(self._describe(values, ~fits))
        return values

    def _describe(self, values: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_]) -> str:
        cases = np.argwhere(wrong)
        shown = [
            f"row {row}, column {self.names[column]}: found "
            f"{'null' if np.isnan(values[row, column]) else format(values[row, column], '.10g')}, "
            f"expected {self.allowed[column]}"
            for row, column in cases[:_MOST_CASES_SHOWN]
        ]
        if len(cases) > _MOST_CASES_SHOWN:
            shown.append(f"and {len(cases) - _MOST_CASES_SHOWN:,} more")
        return "No row was scored. " + "; ".join(shown)


set_model(ScoringModel())
