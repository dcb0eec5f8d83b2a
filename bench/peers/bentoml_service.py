"""The same endpoint as a BentoML service, in an environment of its own (the group `bench` of pyproject.toml)."""

import json
import os

import bentoml
import numpy as np
import skops.io
from pydantic import BaseModel, Field


class Shot(BaseModel):
    """A shot."""

    lat: float = Field(ge=33.1568, le=34.0968)
    lng: float = Field(ge=-118.5198, le=-118.0198)
    minutes_remaining: float = Field(ge=0, le=12)
    period: float = Field(ge=1, le=10)
    playoffs: float = Field(ge=0, le=1)
    shot_distance: float = Field(ge=0, le=94)


class Answer(BaseModel):
    """What is answered to a shot."""

    shot_made_flag: int
    probability: float


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
