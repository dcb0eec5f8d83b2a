"""The served model, the registry, the servers, the inference log, the client and batch scoring; not monitoring."""
