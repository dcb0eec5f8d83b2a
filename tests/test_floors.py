import ast
from pathlib import Path

import pytest

from data.files import ROOT

FLOORS = ("data", "serving", "monitor", "steps")
MODULES = [path.relative_to(ROOT) for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_floor_imports_only_the_floors_below_it(module: Path) -> None:
    above = FLOORS[FLOORS.index(module.parts[0]) + 1 :]
    assert not imported(ROOT / module) & {*above, "bench", "tools", "tests"}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_loads_pickles(module: Path) -> None:
    assert not imported(ROOT / module) & {"pickle", "joblib", "cloudpickle", "dill"}


def test_only_one_module_imports_pycaret() -> None:
    assert [str(module) for module in MODULES if "pycaret" in imported(ROOT / module)] == ["steps/candidates.py"]
