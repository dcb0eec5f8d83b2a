"""Generation of ``requirements.txt``, ``conda.yaml`` and ``tools/uv.txt`` from ``uv.lock``: ``make lock``.

The first two pin all run-time dependencies, including indirect ones, so environments are reproducible;
``requirements.txt`` has the SHA-256 of every file, for ``pip install --require-hashes``. The third pins uv, which
installs the others.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_NOTE = "# Generated from uv.lock by `make lock`; do not edit.\n"
_EXPORT = ("export", "--frozen", "--no-dev", "--no-emit-project", "--quiet")
_HASH = " \\\n    --hash="


def export_requirements(*options: str) -> str:
    """Export all run-time dependencies from the lock file with uv."""
    command = [sys.executable, "-m", "uv", *_EXPORT, *options, "--project", str(ROOT)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def locked_requirements() -> dict[str, str]:
    """Map each pinned requirement to its lines with the hashes of its files."""
    lines = export_requirements("--no-annotate", "--no-header").rstrip("\n").replace(" \\\n    ", "\0").split("\n")
    return {line.partition("\0")[0]: line.replace("\0", " \\\n    ") for line in lines}


def locked_uv() -> str:
    """Return the requirement of uv with the hashes of its files."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    (found,) = (package for package in packages if package["name"] == "uv")
    hashes = sorted(file["hash"] for file in [found["sdist"], *found["wheels"]])
    return _HASH.join([f"uv=={found['version']}", *hashes])


def render(requirements: dict[str, str]) -> dict[str, str]:
    """Render the generated files by name."""
    pip = "".join(f'      - "{requirement}"\n' for requirement in requirements)
    conda = f"""{_NOTE}name: kobe_shot
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
{pip}"""
    return {
        "requirements.txt": _NOTE + "".join(f"{lines}\n" for lines in requirements.values()),
        "conda.yaml": conda,
        "tools/uv.txt": f"{_NOTE}{locked_uv()}\n",
    }


def main() -> None:
    """Write the generated files."""
    for name, text in render(locked_requirements()).items():
        (ROOT / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()
