"""Batch scoring as ``aplicacao`` and ``monitoramento`` run it: configuration and run; not the entry point itself."""
