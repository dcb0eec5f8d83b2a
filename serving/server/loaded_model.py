"""A version of the registered model, loaded and ready to score."""

from dataclasses import dataclass
from typing import Any

import mlflow.pyfunc
import numpy as np
import numpy.typing as npt
import pandas as pd

from serving import registry
from serving.server.request_parsing import RequestParser


@dataclass(frozen=True)
class ModelSource:
    """Where a version is loaded from.

    Attributes
    ----------
    version : str
        Its number.
    folder : str
        Local folder of the logged model.
    run_id : str
        Run that trained it.
    promoted, loaded_at : str
        When it became champion, or empty, and when this server took it up; ISO 8601.
    """

    version: str
    folder: str
    run_id: str
    promoted: str
    loaded_at: str


class LoadedModel:
    """A loaded version."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        pyfunc = mlflow.pyfunc.load_model(source.folder)
        self._model = pyfunc.unwrap_python_model()
        self._signature = pyfunc.metadata.signature
        self.names: list[str] = list(self._model.names)
        self.parser = RequestParser(pyfunc, dict(zip(self.names, self._model.allowed, strict=True)))
        self._warm_up(pyfunc.input_example)

    def score(
        self, values: npt.NDArray[np.float64], threshold: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Label and probability of each row; see `serving.model.scoring_model.ScoringModel.score`."""
        if hasattr(self._model, "score"):
            made, probability = self._model.score(values, threshold)
            return made, probability
        # A version that an older bundle has logged.
        table = self._model.predict(None, pd.DataFrame(values, columns=self.names), {"threshold": threshold})
        return table.iloc[:, 0].to_numpy(), table.iloc[:, 1].to_numpy()

    def describe(self) -> dict[str, Any]:
        """The response of ``/model``."""
        model = self._model
        features = zip(self.names, model.minimum, model.maximum, model.whole, model.allowed, strict=True)
        return {
            "name": registry.model(),
            "version": self.source.version,
            "since": self.source.loaded_at,
            "promoted": self.source.promoted or None,
            "run_id": self.source.run_id,
            "threshold": self.parser.threshold,
            "output": self.parser.output,
            "signature": self._signature.to_dict(),
            "features": [
                {
                    "name": name,
                    "aliases": [alias for alias, of in self.parser.columns.aliases.items() if of == name],
                    "minimum": float(low),
                    "maximum": float(high),
                    "whole": bool(whole),
                    "allowed": allowed,
                }
                for name, low, high, whole, allowed in features
            ],
        }

    def _warm_up(self, example: object) -> None:
        if isinstance(example, pd.DataFrame) and len(example):
            self.score(example[self.names].to_numpy(dtype=np.float64), self.parser.threshold)
