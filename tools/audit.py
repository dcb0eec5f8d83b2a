"""What is known against the packages of ``requirements.txt``, by pip-audit: ``make audit``.

Exit code 1 if something is known, or nothing could be asked: what was not asked is not healthy.
"""

import json
import subprocess
import sys
from pathlib import Path

from tools.environment_files import ROOT

_AUDIT = ("tool", "run", "--from", "pip-audit==2.9.0", "pip-audit")
_OPTIONS = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json")
_MOST_SHOWN = 15


def judged(report: str) -> tuple[list[str], int, int]:
    """What pip-audit found: known vulnerabilities in words, and how many packages were audited and how many not."""
    packages = json.loads(report)["dependencies"]
    known = [package for package in packages if "skip_reason" not in package]
    found = [
        f"{package['name']} {package['version']}: {each['id']}, "
        f"fixed in {', '.join(each['fix_versions']) or 'no version'}"
        for package in known
        for each in package["vulns"]
    ]
    return found, len(known), len(packages) - len(known)


def audit(requirements: Path = ROOT / "requirements.txt") -> str:
    """What is wrong, in words; empty where every package was audited and nothing is known against any."""
    command = [sys.executable, "-m", "uv", *_AUDIT, *_OPTIONS, "-r", str(requirements)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found, audited, skipped = judged(run.stdout)
    except (ValueError, KeyError):
        end = "\n".join(run.stderr.splitlines()[-_MOST_SHOWN:])
        return f"pip-audit could not be installed, or reached no advisory service; nothing was audited:\n{end}"
    if found:
        return "\n".join(["Known vulnerabilities:", *found])
    if skipped:
        return (
            f"{audited} packages were audited, {skipped} were not: the registry in use answers no questions about "
            "them. Run this where https://pypi.org can be reached."
        )
    sys.stdout.write(f"{audited} packages audited; nothing is known against them\n")
    return ""


if __name__ == "__main__":
    sys.exit(audit() or 0)
