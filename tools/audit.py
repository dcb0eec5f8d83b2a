"""Audit of the packages of ``requirements.txt`` by pip-audit: ``make audit``.

The exit code is 1 if a vulnerability is known, or if a package could not be audited.
"""

import json
import subprocess
import sys
from pathlib import Path

from tools.environment_files import ROOT

_AUDIT = ("tool", "run", "--from", "pip-audit==2.9.0", "pip-audit")
_OPTIONS = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json")
_MAX_SHOWN = 15


def parse_report(report: str) -> tuple[list[str], int, int]:
    """Parse the report of pip-audit: vulnerabilities, number of audited and number of skipped packages."""
    packages = json.loads(report)["dependencies"]
    audited_packages = [package for package in packages if "skip_reason" not in package]
    found = [
        f"{package['name']} {package['version']}: {each['id']}, "
        f"fixed in {', '.join(each['fix_versions']) or 'no version'}"
        for package in audited_packages
        for each in package["vulns"]
    ]
    return found, len(audited_packages), len(packages) - len(audited_packages)


def audit(requirements: Path = ROOT / "requirements.txt") -> str:
    """Run pip-audit and describe the problem; empty if every package was audited and none has a known vulnerability."""
    command = [sys.executable, "-m", "uv", *_AUDIT, *_OPTIONS, "-r", str(requirements)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found, audited, skipped = parse_report(run.stdout)
    except (ValueError, KeyError):
        end = "\n".join(run.stderr.splitlines()[-_MAX_SHOWN:])
        return f"pip-audit could not be installed, or reached no advisory service; no package was audited:\n{end}"
    if found:
        return "\n".join(["Known vulnerabilities:", *found])
    if skipped:
        return (
            f"{audited} packages were audited, {skipped} were not: the registry in use has no advisories for them. "
            "Run the audit where https://pypi.org can be reached."
        )
    sys.stdout.write(f"{audited} packages audited; no known vulnerabilities\n")
    return ""


if __name__ == "__main__":
    sys.exit(audit() or 0)
