"""Write ``requirements.txt``, ``conda.yaml`` and ``tools/uv.txt`` from ``uv.lock``: ``make lock``.

The first two hold the whole closure of what the project needs to run, so that an environment built next year is the
same; ``requirements.txt`` with the SHA-256 of every file, as ``pip install --require-hashes`` wants them. The third
holds uv alone, which installs all else.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_NOTE = "# Generated from uv.lock by `make lock`; do not edit.\n"
_EXPORT = ("export", "--frozen", "--no-dev", "--no-emit-project", "--quiet")
_HASH = " \\\n    --hash="


def exported(*options: str) -> str:
    """The closure of the project's run-time packages in the lock, as uv exports it."""
    command = [sys.executable, "-m", "uv", *_EXPORT, *options, "--project", str(ROOT)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def locked_requirements() -> dict[str, str]:
    """The closure: each requirement, pinned, and the same with the hashes of its files."""
    lines = exported("--no-annotate", "--no-header").rstrip("\n").replace(" \\\n    ", "\0").split("\n")
    return {line.partition("\0")[0]: line.replace("\0", " \\\n    ") for line in lines}


def locked_uv() -> str:
    """The requirement of uv with the hashes of its files."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    (found,) = (package for package in packages if package["name"] == "uv")
    hashes = sorted(file["hash"] for file in [found["sdist"], *found["wheels"]])
    return _HASH.join([f"uv=={found['version']}", *hashes])


def rendered(requirements: dict[str, str]) -> dict[str, str]:
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
    return {
        "requirements.txt": _NOTE + "".join(f"{lines}\n" for lines in requirements.values()),
        "conda.yaml": conda,
        "tools/uv.txt": f"{_NOTE}{locked_uv()}\n",
    }


def main() -> None:
    """Write the files."""
    for name, text in rendered(locked_requirements()).items():
        (ROOT / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()
