"""Drift of features and predictions: statistics, sketches and domain classifier; not decisions about drift."""
