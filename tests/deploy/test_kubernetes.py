"""The manifests of Kubernetes fit together: labels, secrets, ports, and the commands of the images."""

import re
from typing import Any

import pytest
import yaml

from data.paths import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
SECRET: dict[str, Any] = yaml.safe_load((FOLDER / "example" / "secret.yaml").read_text())
DOCUMENTS: list[dict[str, Any]] = [
    document for file in sorted(FOLDER.glob("*.yaml")) for document in yaml.safe_load_all(file.read_text())
]
"""What `kubectl apply -f deploy/kubernetes/` applies."""


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in DOCUMENTS if document["kind"] == kind]


def pods() -> list[dict[str, Any]]:
    templates = [document["spec"]["template"] for document in of_kind("Deployment")]
    return templates + [document["spec"]["jobTemplate"]["spec"]["template"] for document in of_kind("CronJob")]


def containers() -> list[dict[str, Any]]:
    return [each for pod in pods() for key in ("initContainers", "containers") for each in pod["spec"].get(key, [])]


def test_every_kind_that_the_page_names_is_there() -> None:
    kinds = {document["kind"] for document in DOCUMENTS}
    assert {"Deployment", "CronJob", "Service", "NetworkPolicy", "PodDisruptionBudget"} <= kinds


def test_applying_the_manifests_does_not_replace_the_secret_that_was_created_from_files() -> None:
    assert of_kind("Secret") == []
    page = (ROOT / "docs" / "many-machines.md").read_text()
    created = set(re.findall(r"--from-file=deploy/secrets/(\w+)", page))
    assert created == set(SECRET["stringData"])
    assert {pod["spec"]["volumes"][0]["secret"]["secretName"] for pod in pods()} == {SECRET["metadata"]["name"]}


def test_every_selector_matches_a_pod() -> None:
    labels = [set(pod["metadata"]["labels"].items()) for pod in pods()]
    selectors = [document["spec"]["selector"] for document in of_kind("Service")]
    selectors += [document["spec"]["selector"]["matchLabels"] for document in of_kind("PodDisruptionBudget")]
    selectors += [document["spec"]["podSelector"].get("matchLabels", {}) for document in of_kind("NetworkPolicy")]
    assert all(any(set(selector.items()) <= of_pod for of_pod in labels) for selector in selectors)


def test_containers_are_unprivileged_and_have_limits() -> None:
    for pod in pods():
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert not pod["spec"]["automountServiceAccountToken"]
    for container in containers():
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def test_secrets_are_files_that_the_secret_has() -> None:
    for pod in pods():
        items = [item["key"] for volume in pod["spec"]["volumes"] for item in volume.get("secret", {}).get("items", [])]
        assert items
        assert set(items) <= set(SECRET["stringData"])
    for container in containers():
        names = {variable["name"] for variable in container["env"]}
        assert not {name for name in names if "PASSWORD" in name and not name.endswith("_FILE")}


@pytest.mark.parametrize("container", containers(), ids=lambda container: container["name"])
def test_the_commands_are_those_of_the_project(container: dict[str, Any]) -> None:
    program, *rest = container["args"]
    if program == "python":
        path = ROOT.joinpath(*rest[1].split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    else:
        assert (ROOT / rest[1]).is_file()
