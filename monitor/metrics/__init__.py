"""Metrics of binary predictions, with intervals, by slice and by court location; not the source of the rows."""
