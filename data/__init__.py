"""The data layer: the schema of a shot, its sources, tables and preparation; not the models."""

import os

# MLflow sends usage data unless this is set before its import.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Read when scikit-learn or LightGBM load OpenMP. Threads that spin while they wait make gradient boosting up to 20
# times slower where other processes, or the CPU quota of a container, hold the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Before MLflow: the import of skops looks for each function of scipy in all loaded modules, oldest first, which takes a
# second where MLflow's modules are older.
import scipy.special  # noqa: F401
