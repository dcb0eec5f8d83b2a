"""Speed and memory, measured on the real commands."""
