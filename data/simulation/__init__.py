"""Simulation of synthetic shots and players for machines without the real files; not a model of the game."""
