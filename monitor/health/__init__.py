"""Evaluation of scored rows against their reference, the checks and the health status; not actions that follow."""
