"""The Spark session, its requirements and its tables; not what is computed on it."""
