"""Write ``requirements.txt`` and ``conda.yaml`` from ``uv.lock``: ``make lock``.

Both hold the whole closure of what the project needs to run, so that an environment built next year is the same.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_NOTE = "# Generated from uv.lock by `make lock`; do not edit.\n"
_EXPORT = (
    "export",
    "--frozen",
    "--no-dev",
    "--no-hashes",
    "--no-emit-project",
    "--no-annotate",
    "--no-header",
    "--quiet",
)


def locked_requirements() -> list[str]:
    """The closure of the project's run-time packages in the lock, one requirement each."""
    command = [sys.executable, "-m", "uv", *_EXPORT, "--project", str(ROOT)]
    exported = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return exported.split("\n")[:-1]


def rendered(requirements: list[str]) -> dict[str, str]:
    """Contents of the generated files by name."""
    pip = "".join(f'      - "{requirement}"\n' for requirement in requirements)
    conda = f"""{_NOTE}name: kobe_shot
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
{pip}"""
    return {"requirements.txt": _NOTE + "".join(f"{line}\n" for line in requirements), "conda.yaml": conda}


def main() -> None:
    """Write the files."""
    for name, text in rendered(locked_requirements()).items():
        (ROOT / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()
