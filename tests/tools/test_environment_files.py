import json
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from data.paths import ROOT
from tools.audit import parse_report
from tools.environment_files import locked_requirements, locked_uv, render
from tools.sbom import bill_of_materials


@pytest.fixture(scope="module")
def requirements() -> dict[str, str]:
    return locked_requirements()


@pytest.mark.parametrize("name", ["requirements.txt", "conda.yaml", "tools/uv.txt"])
def test_the_generated_files_match_the_lock(requirements: dict[str, str], name: str) -> None:
    assert (ROOT / name).read_text() == render(requirements)[name], "run: make lock"


def test_conda_yaml_installs_python_from_conda_forge_and_the_rest_from_pip(requirements: dict[str, str]) -> None:
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    assert environment["channels"] == ["conda-forge"]
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": list(requirements)}]


def test_every_requirement_is_pinned(requirements: dict[str, str]) -> None:
    assert all("==" in requirement for requirement in requirements)


def test_every_requirement_has_the_hashes_of_its_files(requirements: dict[str, str]) -> None:
    assert all(re.search(r"(?: \\\n    --hash=sha256:[0-9a-f]{64})+$", lines) for lines in requirements.values())


def test_uv_is_installed_by_its_hash_with_the_version_of_the_developers() -> None:
    developer = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    name, *hashes = locked_uv().split(" \\\n    --hash=sha256:")
    assert name in developer
    assert hashes
    assert "--require-hashes -r tools/uv.txt" in (ROOT / "Makefile").read_text()


def test_the_bill_of_materials_lists_all_dependencies_with_their_versions(requirements: dict[str, str]) -> None:
    bill = json.loads(bill_of_materials())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    named = {f"{each['name']}=={each['version']}" for each in bill["components"]}
    assert {line.partition(" ;")[0] for line in requirements} <= named


def package(name: str, *vulnerabilities: dict[str, object], **more: str) -> dict[str, object]:
    return {"name": name, "version": "1.0", "vulns": list(vulnerabilities), **more}


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        ([package("a")], ([], 1, 0)),
        ([package("a"), {"name": "b", "skip_reason": "not found on PyPI"}], ([], 1, 1)),
        ([package("a", {"id": "CVE-1", "fix_versions": ["1.1"]})], (["a 1.0: CVE-1, fixed in 1.1"], 1, 0)),
        ([package("a", {"id": "CVE-2", "fix_versions": []})], (["a 1.0: CVE-2, fixed in no version"], 1, 0)),
    ],
)
def test_an_audit_reports_vulnerabilities_and_skipped_packages(
    packages: list[dict[str, object]], expected: tuple[list[str], int, int]
) -> None:
    assert parse_report(json.dumps({"dependencies": packages})) == expected


def test_indirect_dependencies_are_listed(requirements: dict[str, str]) -> None:
    names = {requirement.partition("==")[0] for requirement in requirements}
    direct = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert names >= {Requirement(dependency).name for dependency in direct}
    assert names >= {"starlette", "sqlalchemy", "numba", "joblib"}


def test_test_tools_are_not_in_the_run_time_environment(requirements: dict[str, str]) -> None:
    assert not {"pytest", "ruff", "mypy", "hypothesis"} & {line.partition("==")[0] for line in requirements}
