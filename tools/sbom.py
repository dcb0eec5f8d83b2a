"""Write ``sbom.json``, what the environment consists of: ``make sbom``; CycloneDX, as uv writes it of ``uv.lock``."""

import sys

from tools.environment_files import ROOT, exported


def bill_of_materials() -> str:
    """Every package of the run-time closure with its version: CycloneDX 1.5 as JSON."""
    return exported("--format", "cyclonedx1.5")


if __name__ == "__main__":
    (ROOT / "sbom.json").write_text(bill_of_materials(), encoding="utf-8")
    sys.stdout.write("wrote sbom.json\n")
