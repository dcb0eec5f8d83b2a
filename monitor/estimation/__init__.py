"""Performance estimated without labels (CBPE); not performance measured with labels."""
