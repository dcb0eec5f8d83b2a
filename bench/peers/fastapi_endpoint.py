"""The endpoint in common practice: FastAPI, pydantic, pandas and a scikit-learn pipeline."""

import json
import os

import pandas as pd
import skops.io
from fastapi import FastAPI

from bench.peers.shot import Prediction, Shot, encoded

app = FastAPI()
pipeline = skops.io.load(os.environ["PIPELINE"], trusted=json.loads(os.environ["TRUSTED_TYPES"]))


@app.post("/predict")
def predict(shots: list[Shot]) -> list[Prediction]:
    """Predict label and probability of each shot."""
    table = pd.DataFrame([encoded(shot.model_dump()) for shot in shots])
    return [
        Prediction(shot_made_flag=int(probability >= 0.5), probability=probability)  # noqa: PLR2004
        for probability in pipeline.predict_proba(table.to_numpy(dtype=float))[:, 1]
    ]


@app.get("/ping")
def ping() -> str:
    """Respond to health checks."""
    return ""
