"""The same endpoint as a BentoML service, in an environment of its own (the group `bench` of pyproject.toml)."""

import json
import os

import bentoml
import numpy as np
import skops.io

from bench.peers.shot import Answer, Shot


@bentoml.service
class Shots:
    """P(made) of shots."""

    def __init__(self) -> None:
        trusted = json.loads(os.environ["TRUSTED_TYPES"])
        self.pipeline = skops.io.load(os.environ["PIPELINE"], trusted=trusted)

    @bentoml.api
    def predict(self, shots: list[Shot]) -> list[Answer]:
        """Label and probability of each shot."""
        values = np.array([list(shot.model_dump().values()) for shot in shots])
        return [
            Answer(shot_made_flag=int(probability >= 0.5), probability=probability)  # noqa: PLR2004
            for probability in self.pipeline.predict_proba(values)[:, 1]
        ]
