"""The parts of ``retreino``: configuration, inputs, training set, interrupted decisions; not the entry point itself."""
