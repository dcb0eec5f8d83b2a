"""Generation of ``docs/openapi.json`` from ``serving/server/openapi.py``: ``python -m tools.openapi``."""

import json
import sys

from data.paths import ROOT
from serving.server.openapi import description

PUBLISHED = ROOT / "docs" / "openapi.json"


def render() -> str:
    """Render the file."""
    return json.dumps(description(), indent=2) + "\n"


def main() -> None:
    """Write the file."""
    PUBLISHED.write_text(render(), encoding="utf-8")
    sys.stdout.write(f"wrote {PUBLISHED.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
