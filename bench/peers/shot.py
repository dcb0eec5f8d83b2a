"""Request and response models of both endpoints, for the features that the file ``$FEATURES`` lists."""

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, create_model

_FEATURES = json.loads(Path(os.environ["FEATURES"]).read_text(encoding="utf-8"))
_CODES = {
    feature["name"]: {category: float(code) for code, category in enumerate(feature["categories"])}
    for feature in _FEATURES
    if feature.get("categories") is not None
}


def _field(feature: dict[str, Any]) -> tuple[Any, Any]:
    kind = str if feature["name"] in _CODES else float
    ends = {} if kind is str else {"ge": feature["minimum"], "le": feature["maximum"]}
    return (kind | None, Field(None, **ends)) if feature.get("nullable") else (kind, Field(**ends))


_FIELDS: dict[str, Any] = {feature["name"]: _field(feature) for feature in _FEATURES}
Shot: Any = create_model("Shot", **_FIELDS)
"""Features of a shot."""


class Prediction(BaseModel):
    """Prediction of a shot."""

    shot_made_flag: int
    probability: float


def encoded(shot: dict[str, Any]) -> dict[str, Any]:
    """The features of a shot with the codes of its categories; an unseen one has the next code."""
    for name, codes in _CODES.items():
        if shot[name] is not None:
            shot[name] = codes.get(shot[name], float(len(codes)))
    return shot
