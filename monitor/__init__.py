"""What the numbers say: metrics, pictures, and the Streamlit app."""

import os

# MLflow sends usage data unless it is told not to before it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
