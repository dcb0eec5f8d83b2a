"""The endpoint as a BentoML service, in its own environment (the group `bench` of pyproject.toml)."""

import json
import os

import bentoml
import numpy as np
import skops.io

from bench.peers.shot import Prediction, Shot, encoded


@bentoml.service
class Shots:
    """Predicts P(made) of shots."""

    def __init__(self) -> None:
        trusted = json.loads(os.environ["TRUSTED_TYPES"])
        self.pipeline = skops.io.load(os.environ["PIPELINE"], trusted=trusted)

    @bentoml.api
    def predict(self, shots: list[Shot]) -> list[Prediction]:
        """Predict label and probability of each shot."""
        values = np.array([list(encoded(shot.model_dump()).values()) for shot in shots], dtype=float)
        return [
            Prediction(shot_made_flag=int(probability >= 0.5), probability=probability)  # noqa: PLR2004
            for probability in self.pipeline.predict_proba(values)[:, 1]
        ]
