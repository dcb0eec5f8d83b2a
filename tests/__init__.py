import scipy.special  # noqa: F401 before MLflow, for the reason that `data` gives
