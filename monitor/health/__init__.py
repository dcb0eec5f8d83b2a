"""A batch of scored rows evaluated beside its reference, the checks and their status; not what to do about it."""
