"""Metrics, drift, estimates without labels, health, retraining policy, charts, reports and the app; not a step."""

import os

# MLflow sends usage data unless this is set before its import.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
