"""Files, tables, locks and paths that are whole or not there; not what the tables mean."""
