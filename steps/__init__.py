"""One module an entry point of MLproject; the only layer that drives the others, and not a library."""

import os

# MLflow sends usage data unless this is set before it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
