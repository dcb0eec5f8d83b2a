"""Metrics, drift, estimates without labels, health, retraining policy, charts, reports and the app; not a step."""

import data  # noqa: F401 the environment variables of the process, before MLflow and scikit-learn
