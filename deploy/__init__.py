"""Deployment on a server: services of `compose.yaml` and their preparation."""
