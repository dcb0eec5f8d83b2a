"""One module per entry point of MLproject; the only floor that drives the others."""

import os

# MLflow sends usage data unless it is told not to before it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
