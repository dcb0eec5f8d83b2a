"""The parts of ``retreino``: configuration and training set; not the entry point itself."""
