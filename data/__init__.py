"""The data layer: the schema of a shot, its sources, tables and preparation; not the models."""
