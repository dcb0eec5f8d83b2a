"""Paths of the project and its data."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
RAW = DATA / "raw"
PROCESSED = DATA / "processed"
INFERENCE_LOG = ROOT / "inference_log.db"
"""The SQLite file that the production server logs to by default."""
