"""Preparation of filtered, training and test tables, on one machine or on Spark; not acquisition."""
