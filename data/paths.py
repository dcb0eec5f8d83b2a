"""Paths of the project and its data."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RAW = ROOT / "data" / "raw"
PROCESSED = ROOT / "data" / "processed"
INFERENCE_LOG = ROOT / "inference_log.db"
"""The SQLite file that the production server logs to by default."""
