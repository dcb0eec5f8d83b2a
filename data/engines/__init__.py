"""Engines that compute Ibis expressions on tables: DuckDB, Spark or another Ibis backend; not the expressions."""
