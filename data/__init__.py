"""What a shot is and where shots come from: schema, sources, tables and preparation; not models."""
