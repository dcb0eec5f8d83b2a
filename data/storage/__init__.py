"""Atomic files and tables, locks and paths; not the content of the tables."""
