"""Alternatives to this project's servers, with the same pipeline, for comparison."""
