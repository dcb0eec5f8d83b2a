"""Raw tables from a folder, a URL or the simulation, with checks and provenance; not their preparation."""
