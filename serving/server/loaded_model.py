"""A version of the registered model, loaded and ready to score."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlflow.pyfunc
import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

from data.datasets import default, from_json
from data.schema import RAW_COLUMN_NAMES
from serving import registry
from serving.model.compilation import DETAILS
from serving.model.scoring_model import Columns
from serving.server.openapi import description
from serving.server.request_parsing import RequestParser, ScoringRequest


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
        self._compiled_details = str((pyfunc.metadata.metadata or {}).get(DETAILS, ""))
        self.names: list[str] = list(self._model.names)
        encoder: Any = getattr(self._model, "encoder", None)
        # The columns of a version are its own; those of one of 0.1.0 are the project's.
        found = getattr(self._model, "columns", None)
        columns = Columns(
            self.names,
            found.aliases if found else {raw: name for name, raw in RAW_COLUMN_NAMES.items()},
            texts=getattr(found, "texts", frozenset()),
            optional=getattr(found, "optional", frozenset()),
            spellings=getattr(found, "spellings", {}),
        )
        self.texts = columns.texts
        described = getattr(self._model, "dataset", "")
        self.dataset = from_json(described) if described else default()
        self.target = self.dataset.target.name
        self.openapi = orjson.dumps(description(self.dataset))
        allowed = dict(zip(self.names, self._model.allowed, strict=True))
        columns = columns._replace(identifier=self.dataset.id.name)
        self.parser = RequestParser(pyfunc, allowed, columns, encoder and encoder.read)
        self._encode = encoder.encode if columns.texts else None
        self._warm_up(pyfunc.input_example)

    def encode(self, request: ScoringRequest) -> tuple[npt.NDArray[np.float64], Mapping[str, int]]:
        """What `score` takes of a request, and the rows of unknown categories by feature."""
        if self._encode is None:
            return request.values, {}  # noqa: PD011 not those of pandas
        encoded, unseen = self._encode(request.values, request.texts)
        return encoded, unseen

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
        return {
            "name": registry.model(),
            "version": self.source.version,
            "since": self.source.loaded_at,
            "promoted": self.source.promoted or None,
            "run_id": self.source.run_id,
            "threshold": self.parser.threshold,
            "output": self.parser.output,
            "signature": self._signature.to_dict(),
            "features": self.features,
            "identifier": self.dataset.id.name,
            "target": self.target,
            "compiled": getattr(self._model, "compiled", None) is not None,
            "compiled_details": self._compiled_details,
        }

    @property
    def features(self) -> list[dict[str, Any]]:
        """The features: name, aliases, kind, range, categories, and what is allowed."""
        model = self._model
        stored = getattr(model, "features", None) or [{}] * len(self.names)
        ranges = zip(self.names, model.minimum, model.maximum, model.whole, model.allowed, stored, strict=True)
        return [
            {
                "name": name,
                "aliases": [alias for alias, of in self.parser.columns.aliases.items() if of == name],
                "kind": feature.get("kind", "integer" if whole else "float"),
                "minimum": None if feature.get("categories") else feature.get("minimum", float(low)),
                "maximum": None if feature.get("categories") else feature.get("maximum", float(high)),
                "whole": bool(whole),
                "nullable": bool(feature.get("nullable", False)),
                "categories": feature.get("categories"),
                "allowed": allowed,
            }
            for name, low, high, whole, allowed, feature in ranges
        ]

    def _warm_up(self, example: object) -> None:
        if isinstance(example, pd.DataFrame) and len(example):
            if self._encode is None:
                values = example[self.names].to_numpy(dtype=np.float64)
            else:
                values = self._model.encoder.encode(*self._model.encoder.read(example))[0]
            self.score(values, self.parser.threshold)
