"""The served model, the registry, the servers, the inference log, the client and batch scoring; not monitoring."""

import data  # noqa: F401 the environment variables of the process, before MLflow and scikit-learn
