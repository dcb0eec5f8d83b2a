"""Performance estimation without labels (CBPE); not performance computed from labels."""
