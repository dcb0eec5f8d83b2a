"""The parts of ``treinamento``: tuning, training set, promotion and reproduction; not the entry point itself."""
