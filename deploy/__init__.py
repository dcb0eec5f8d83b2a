"""The project on a server: what `compose.yaml` starts, and what prepares it."""
