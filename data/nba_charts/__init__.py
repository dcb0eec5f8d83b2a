"""Conversion of shot charts of the NBA's API to raw tables; not their download."""
