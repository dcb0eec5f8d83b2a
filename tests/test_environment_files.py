import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from data.files import ROOT
from tools.environment_files import locked_requirements, rendered


@pytest.fixture(scope="module")
def requirements() -> list[str]:
    return locked_requirements()


@pytest.mark.parametrize("name", ["requirements.txt", "conda.yaml"])
def test_the_generated_files_are_those_of_the_lock(requirements: list[str], name: str) -> None:
    assert (ROOT / name).read_text() == rendered(requirements)[name], "run: make lock"


def test_conda_yaml_takes_python_from_conda_forge_and_all_else_from_pip(requirements: list[str]) -> None:
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    assert environment["channels"] == ["conda-forge"]
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": requirements}]


def test_every_requirement_is_pinned(requirements: list[str]) -> None:
    assert all("==" in requirement for requirement in requirements)


def test_the_closure_is_named_not_only_what_the_project_asks_for(requirements: list[str]) -> None:
    names = {requirement.partition("==")[0] for requirement in requirements}
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert names >= {Requirement(dependency).name for dependency in asked}
    assert names >= {"starlette", "sqlalchemy", "numba", "joblib"}


def test_test_tools_stay_out_of_the_environment_that_runs(requirements: list[str]) -> None:
    assert not {"pytest", "ruff", "mypy", "hypothesis"} & {line.partition("==")[0] for line in requirements}
