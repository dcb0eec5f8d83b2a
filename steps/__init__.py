"""One module per entry point of MLproject; the only floor that drives the others."""
