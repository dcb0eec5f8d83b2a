"""The model card of a version and the evaluation on its test set; not the registry that keeps it."""
