import ast
from functools import cache
from pathlib import Path

import pytest

from data.paths import ROOT

LAYERS = ("data", "serving", "monitor", "steps")
MODULES = [path.relative_to(ROOT) for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]

ORDER = """
    data.masking data.errors data.paths data.datasets data.schema data.validation data.rules data.court data.groups
    data.storage data.cli data.datasets.proposal
    data.spark data.engines data.simulation data.acquisition data.preparation data.nba_charts
    data.datasets.check data.datasets.__main__
    serving.server_limits serving.shot_tables
    serving.model.body_parser serving.model serving.registry serving.inference_log
    serving.client.http serving.client.endpoint serving.batch serving.client serving.server
    monitor.scored_tables
    monitor.metrics monitor.store monitor.drift monitor.estimation monitor.health monitor.alerts monitor.retraining
    monitor.portuguese
    monitor.charts monitor.reports.model_card monitor.reports.monitoring monitor.reports monitor.reports.pipeline
    monitor.ui monitor.app
    steps.shared steps.scoring steps.training steps.retraining
"""
"""Packages, and modules outside of them: each imports only those before it."""

PLACE = {name: place for place, name in enumerate(ORDER.split())}


@cache
def imported(path: Path) -> frozenset[str]:
    """Full names of everything that a module imports: of modules, or of what is in them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def package(name: str) -> str:
    """The entry of `ORDER` that a module or a name in it belongs to; empty where it is none's."""
    parts = name.split(".")
    known = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((each for each in known if each in PLACE), "")


def dotted(module: Path) -> str:
    return ".".join(module.with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_layer_imports_only_the_layers_below_it(module: Path) -> None:
    above = LAYERS[LAYERS.index(module.parts[0]) + 1 :]
    assert not {name.partition(".")[0] for name in imported(ROOT / module)} & {*above, "bench", "tools", "tests"}


@pytest.mark.parametrize("module", [module for module in MODULES if package(dotted(module))], ids=str)
def test_a_package_imports_only_the_packages_before_it(module: Path) -> None:
    own = package(dotted(module))
    found = {package(name) for name in imported(ROOT / module) if name.partition(".")[0] in LAYERS}
    assert {name for name in found if name and PLACE[name] > PLACE[own]} == set()


def test_every_package_has_its_place_in_the_order() -> None:
    found = {package(dotted(module)) or dotted(module) for module in MODULES if len(module.parts) > 1}
    assert {name for name in found if name not in PLACE and not name.startswith("steps") and "." in name} == set()


ENTRY_POINTS = {path.stem for path in (ROOT / "steps").glob("[a-z]*.py")}
ORCHESTRATORS = {"main", "operacao"}


@pytest.mark.parametrize("name", sorted(ENTRY_POINTS - ORCHESTRATORS))
def test_an_entry_point_that_is_no_orchestrator_imports_no_entry_point(name: str) -> None:
    found = {each.split(".")[1] for each in imported(ROOT / "steps" / f"{name}.py") if each.startswith("steps.")}
    assert not found & ENTRY_POINTS


@pytest.mark.parametrize(
    "module", [module for module in MODULES if len(module.parts) == 3 and module.parts[0] == "steps"], ids=str
)
def test_a_package_of_steps_imports_no_entry_point_and_only_the_packages_that_it_may_use(
    module: Path,
) -> None:
    allowed = {"shared", module.parts[1]} | ({"training"} if module.parts[1] == "retraining" else set())
    found = {each.split(".")[1] for each in imported(ROOT / module) if each.startswith("steps.")}
    assert found <= allowed


def test_no_import_is_circular() -> None:
    names = {dotted(module): module for module in MODULES}
    uses = {
        name: {
            next((each for each in (it, it.rpartition(".")[0]) if each in names), "") for it in imported(ROOT / path)
        }
        for name, path in names.items()
    }
    finished: set[str] = set()

    def follow(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name in finished:
            return
        for each in uses[name] - {"", name}:
            follow(each, (*way, name))
        finished.add(name)

    for name in names:
        follow(name, ())


@pytest.mark.parametrize(
    "path", [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("__init__.py"))], ids=str
)
def test_a_package_describes_what_is_in_it_and_what_is_not(path: Path) -> None:
    sentence = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert " not " in f" {sentence} ", path
    assert sentence.endswith("."), path


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_loads_pickles(module: Path) -> None:
    found = {name.partition(".")[0] for name in imported(ROOT / module)}
    assert not found & {"pickle", "joblib", "cloudpickle", "dill"}


def test_only_one_module_imports_pycaret() -> None:
    found = [str(module) for module in MODULES if any(name.startswith("pycaret") for name in imported(ROOT / module))]
    assert found == ["steps/training/tuning.py"]
