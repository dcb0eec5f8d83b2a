"""Request and response models of both endpoints."""

from pydantic import BaseModel, Field


class Shot(BaseModel):
    """Features of a shot."""

    lat: float = Field(ge=33.1568, le=34.0968)
    lng: float = Field(ge=-118.5198, le=-118.0198)
    minutes_remaining: float = Field(ge=0, le=12)
    period: float = Field(ge=1, le=10)
    playoffs: float = Field(ge=0, le=1)
    shot_distance: float = Field(ge=0, le=94)


class Prediction(BaseModel):
    """Prediction of a shot."""

    shot_made_flag: int
    probability: float
