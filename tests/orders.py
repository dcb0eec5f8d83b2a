"""A synthetic dataset that holds no shots: orders of customers, with columns of every kind, nulls and groups."""

import numpy as np
import pandas as pd

from data.datasets import Dataset
from data.schema import PREDICTION, PROBABILITY

CHANNELS = ("web", "shop", "phone", "fair")
COUPONS = ("none", "spring", "summer", "vip")

DATASET = Dataset.model_validate(
    {
        "name": "orders",
        "positive": "returned",
        "negative": "kept",
        "columns": (
            {"name": "price", "role": "feature", "kind": "float", "minimum": 0.0, "unit": "euros"},
            {"name": "items", "role": "feature", "kind": "integer", "minimum": 1.0, "maximum": 9.0},
            {"name": "express", "role": "feature", "kind": "boolean"},
            {"name": "channel", "role": "feature", "kind": "category"},
            {"name": "coupon", "role": "feature", "kind": "category", "nullable": True},
            {"name": "rating", "role": "feature", "kind": "float", "nullable": True},
            {"name": "ordered_on", "role": "feature", "kind": "date"},
            {"name": "returned", "role": "target", "kind": "boolean"},
            {"name": "order_id", "role": "id", "kind": "integer"},
            {"name": "customer", "role": "group", "kind": "string"},
        ),
        "slices": ({"column": "channel"}, {"column": "price", "edges": (20.0, 40.0)}, {"column": "express"}),
    }
)


def orders(rows: int, seed: int = 0, *, per_customer: int = 1, since: str = "2026-01-01") -> pd.DataFrame:
    """Scored and labeled orders; those of a customer share their channel and a part of their price."""
    stream = np.random.default_rng(seed)
    customer = np.arange(rows) // per_customer
    number = customer.max(initial=0) + 1
    price = 30 * np.exp(0.5 * stream.normal(size=number)[customer] + 0.3 * stream.normal(size=rows))
    channel = np.array(CHANNELS)[stream.choice(4, number, p=(0.5, 0.3, 0.15, 0.05))][customer]
    coupon = np.array(COUPONS, dtype=object)[stream.choice(4, rows, p=(0.6, 0.2, 0.15, 0.05))]
    rating = stream.normal(4, 0.5, rows)
    probability = 1 / (1 + np.exp(-(0.02 * price - 1 + (channel == "fair"))))
    labels = (stream.random(rows) < probability).astype(float)
    return pd.DataFrame(
        {
            "price": price.round(2),
            "items": stream.integers(1, 6, rows).astype(float),
            "express": (stream.random(rows) < 0.2).astype(float),
            "channel": channel,
            "coupon": pd.Series(coupon).where(stream.random(rows) >= 0.1, None),
            "rating": np.where(stream.random(rows) < 0.2, np.nan, rating),
            "ordered_on": (pd.Timestamp(since) + pd.to_timedelta(stream.integers(0, 90, rows), "D")).strftime(
                "%Y-%m-%d"
            ),
            "returned": labels,
            "order_id": np.arange(rows) + 1_000_000 * seed,
            "customer": [f"customer {seed}-{number}" for number in customer],
            PREDICTION: (probability >= 0.5).astype(np.int64),
            PROBABILITY: probability,
        }
    )
