"""Train the first model where there is none: ``python -m deploy.first_model``, parameters as of ``steps.main``."""

import os
import sys

from data.cli.console import complain, say
from data.errors import KobeShotError
from serving import registry
from serving.registry import reachability


def main() -> None:
    """Become ``steps.main``, unless the registry has a champion."""
    try:
        registry.model()
        with registry.store_errors_told():
            reachability.require_answer()
            champion = registry.champion()
    except KobeShotError as error:
        complain("deploy.first_model failed:", error)
        sys.exit(1)
    if champion is not None:
        say("There is a champion:", f"version {registry.number(champion)} of {registry.model()}; nothing is trained")
        return
    os.execv(sys.executable, [sys.executable, "-m", "steps.main", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
