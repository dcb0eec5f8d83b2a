"""Generation of ``sbom.json``, a CycloneDX bill of materials, from ``uv.lock``: ``make sbom``."""

import sys

from tools.environment_files import ROOT, export_requirements


def bill_of_materials() -> str:
    """Render all run-time packages with their versions as CycloneDX 1.5 in JSON."""
    return export_requirements("--format", "cyclonedx1.5")


if __name__ == "__main__":
    (ROOT / "sbom.json").write_text(bill_of_materials(), encoding="utf-8")
    sys.stdout.write("wrote sbom.json\n")
