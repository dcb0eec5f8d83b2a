"""Metrics, drift, estimates without labels, health, retraining policy, charts, reports and the app; not a step."""

import os

# MLflow sends usage data unless it is told not to before it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
