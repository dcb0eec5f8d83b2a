"""Metrics of binary predictions, their intervals and rates by place; not where the rows come from."""
