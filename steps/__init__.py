"""One module an entry point of MLproject; the only layer that drives the others, and not a library."""

import data  # noqa: F401 the environment variables of the process, before MLflow and scikit-learn
