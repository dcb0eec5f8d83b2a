"""Acquisition of the raw tables from a folder, a URL or the simulation, and their validation; not their preparation."""
