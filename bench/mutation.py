"""Mutation score of the modules that decide: ``python -m bench.mutation`` (``make mutation``).

mutmut changes one operator, number, string, argument or statement of a module at a time. A mutant is killed if a test
fails or does not end. The score is the share of killed mutants; a mutant that no test reaches counts as survived. Each
module has its examples and the quick tests that call it, so what only an end-to-end test notices survives here. Tests
that start another process are excluded: a mutated module does not run outside mutmut's folder. mutmut skips decorated
functions, so the measured copy applies their decorators in a statement after them.
"""

import ast
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import Field
from rich.table import Table

from bench.processes import copy_project
from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.errors import KobeShotError

_DRIFT = tuple(
    f"tests/monitor/drift/test_{name}.py" for name in ("detector", "kinds_and_groups", "sketches", "training_support")
)
_REGISTRY = (
    "tests/serving/registry/test_registry.py",
    "tests/serving/registry/test_approval.py",
    *(
        f"--deselect=tests/serving/registry/test_registry.py::{name}"
        for name in (
            "test_every_change_of_the_registry_waits_for_another_process_and_ends_with_a_message",
            "test_of_processes_that_promote_at_once_in_the_place_of_one_champion_one_does",
        )
    ),
)
MODULES: dict[str, tuple[str, ...]] = {
    "monitor/metrics/*.py": ("tests/monitor/metrics",),
    "serving/registry/gate.py": ("tests/serving/registry/test_gate.py",),
    "monitor/retraining/policy.py": ("tests/monitor/retraining/test_policy.py",),
    "monitor/retraining/promotion_test.py": ("tests/monitor/retraining/test_promotion_test.py",),
    "monitor/drift/statistics.py": _DRIFT,
    "monitor/drift/detector.py": _DRIFT,
    "serving/registry/promotion.py": _REGISTRY,
    "serving/registry/versions.py": _REGISTRY,
    "data/validation.py": ("tests/data/test_validation.py", "tests/data/datasets/test_one_description.py"),
    "serving/server/request_parsing.py": ("tests/serving/server/test_request_parsing.py",),
}
"""Patterns of modules, and the tests that each is measured with, with options of pytest."""

_MUTATED_DECORATORS = {"staticmethod", "classmethod"}
_NO_MUTANT = "none.*"
_KILLED = {1, 3, 36, -24, 24, 152, 255}
_SURVIVED = {0, 5, 33}


class MutationConfig(CommandConfig):
    """Measure the mutation score of the modules that decide."""

    modules: str = Field(default="", description="text that the patterns of the measured modules contain")
    sample: int = Field(default=0, ge=0, description="number of mutants per module, at random; 0 for all")
    seed: int = Field(default=42, ge=0, description="seed of the sample")
    processes: int = Field(default=2, ge=1, description="number of processes")


class MutationError(KobeShotError):
    """The tests of a module fail without a mutant, or mutmut does not run."""


def run(config: MutationConfig) -> None:
    """Measure module by module, and print a table and the mutants that survive."""
    table = Table("module", "mutants", "measured", "killed", "survived", "score", title="Mutation score")
    survivors: list[str] = []
    for pattern, tests in MODULES.items():
        if config.modules not in pattern:
            continue
        info("Measuring", pattern)
        with tempfile.TemporaryDirectory(prefix="kobe-mutation-") as folder:
            total, killed, survived = measure(Path(folder), pattern, tests, config)
        measured = killed + len(survived)
        score = f"{killed / measured:.1%}" if measured else "-"
        table.add_row(pattern, f"{total:,}", f"{measured:,}", f"{killed:,}", f"{len(survived):,}", score)
        survivors += survived
    console.print(table)
    for name in survivors:
        console.print(f"  survived: {name}", highlight=False)


def measure(folder: Path, pattern: str, tests: tuple[str, ...], config: MutationConfig) -> tuple[int, int, list[str]]:
    """Number of mutants of a module, of killed ones among those measured, and the names of those that survive.

    Raises
    ------
    MutationError
        If the tests fail without a mutant, with the errors that mutmut printed.
    """
    copy_project(folder)
    modules = sorted(folder.glob(pattern))
    for path in modules:
        path.write_text(apply_decorators_after(path.read_text(encoding="utf-8")), encoding="utf-8")
    # Each mutant has the examples of its function; those of the function itself are enough.
    examples = [*(str(path.relative_to(folder)) for path in modules), "-k", "not __mutmut_"]
    settings = {
        # Where tests have run, what a function has cached hides its mutants.
        "process_isolation": "forkserver",
        "source_paths": ["data", "serving", "monitor", "steps"],
        "only_mutate": [pattern],
        "pytest_add_cli_args_test_selection": [*tests, *examples],
        "also_copy": sorted(path.name for path in folder.iterdir() if path.name != ".git"),
    }
    # Lists of strings are written alike in JSON and TOML.
    lines = ["", "[tool.mutmut]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items()), ""]
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines))
    _mutmut(folder, [_NO_MUTANT], config)
    names = sorted(_results(folder))
    if not names:
        message = f"{pattern}: expected mutants and tests that pass ({' '.join(tests)}); mutmut made none."
        raise MutationError(message)
    sampled = random.Random(config.seed).sample(names, min(config.sample or len(names), len(names)))  # noqa: S311
    _mutmut(folder, sampled, config)
    results = {name: code for name, code in _results(folder).items() if name in set(sampled)}
    if None in results.values():
        log = (folder / "mutmut.log").read_text(encoding="utf-8", errors="replace")
        errors = "\n".join(
            re.findall(r"^(?:E  |ERROR|failed to |FAILED|\S+(?:Error|Exception):).*", log, re.MULTILINE)[-20:]
        )
        message = f"{pattern}: expected tests that pass without a mutant ({' '.join(tests)}); found:\n{errors}"
        raise MutationError(message)
    killed = sum(code in _KILLED for code in results.values())
    return len(names), killed, sorted(name for name, code in results.items() if code in _SURVIVED)


def apply_decorators_after(source: str) -> str:
    """Source of a module in which ``@decorator`` over a function is ``function = decorator(function)`` below it."""
    lines = source.splitlines()
    module = ast.parse(source)
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    functions = [
        node
        for node in (*module.body, *(member for found in classes for member in found.body))
        if isinstance(node, ast.FunctionDef)
    ]
    for node in sorted(functions, key=lambda function: function.lineno, reverse=True):
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        if decorators and not _MUTATED_DECORATORS.issuperset(decorators):
            applied = node.name
            for decorator in reversed(decorators):
                applied = f"{decorator}({applied})"
            lines.insert(node.end_lineno or node.lineno, f"{' ' * node.col_offset}{node.name} = {applied}")
            del lines[node.decorator_list[0].lineno - 1 : node.lineno - 1]
    return "\n".join(lines) + "\n"


def _mutmut(folder: Path, names: list[str], config: MutationConfig) -> None:
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(config.processes), *names]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / "mutmut.log").open("ab") as log:
        subprocess.run(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT, check=False)


def _results(folder: Path) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for path in (folder / "mutants").rglob("*.meta"):
        found |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


if __name__ == "__main__":
    run_command(MutationConfig, run)
