"""The endpoint that most people would write: FastAPI, pydantic, pandas and a scikit-learn pipeline."""

import json
import os

import pandas as pd
import skops.io
from fastapi import FastAPI
from pydantic import BaseModel, Field

app = FastAPI()
pipeline = skops.io.load(os.environ["PIPELINE"], trusted=json.loads(os.environ["TRUSTED_TYPES"]))


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


@app.post("/predict")
def predict(shots: list[Shot]) -> list[Answer]:
    """Label and probability of each shot."""
    table = pd.DataFrame([shot.model_dump() for shot in shots])
    return [
        Answer(shot_made_flag=int(probability >= 0.5), probability=probability)  # noqa: PLR2004
        for probability in pipeline.predict_proba(table.to_numpy())[:, 1]
    ]


@app.get("/ping")
def ping() -> str:
    """Whether it lives."""
    return ""
