"""The parts of ``treinamento``: configuration, tuning, selection, promotion, model card; not the entry point itself."""
