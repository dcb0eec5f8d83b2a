"""Tests of the files in `deploy/`, without a container engine."""

import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightgbm import LGBMClassifier
from packaging.requirements import Requirement
from sklearn.pipeline import make_pipeline

from data.paths import ROOT
from deploy import accounts
from deploy.with_secrets import SECRETS
from serving.model.requirements import model_requirements
from steps.schedule import ScheduledConfig, check_schedule
from tests.project import environment, ok

DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT_SERVICES = {"accounts", "first-model"}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
BINARIES = Path(sys.executable).parent


def settings(service: str) -> dict[str, str]:
    return {name: str(value) for name, value in SERVICES[service]["environment"].items()}


def modules() -> Iterator[str]:
    """Every module that a command or a health check names."""
    for service in SERVICES.values():
        for arguments in (service.get("command", []), service.get("healthcheck", {}).get("test", [])):
            yield from (arguments[place + 1] for place, argument in enumerate(arguments) if argument == "-m")


def is_command(module: str) -> bool:
    """Whether ``python -m`` runs the module: a module or a package that ends with a main program."""
    path = ROOT / module.replace(".", "/")
    program = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    return program.is_file() and '__name__ == "__main__"' in program.read_text(encoding="utf-8")


def test_the_compose_file_is_valid() -> None:
    command = [str(BINARIES / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    ok(subprocess.run([*command, str(DEPLOY / "compose.yaml")], capture_output=True, text=True, check=False))


def test_hadolint_accepts_the_dockerfile() -> None:
    ok(
        subprocess.run(
            [str(BINARIES / "hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False
        )
    )


def test_only_model_and_monitor_are_published_and_to_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"model", "monitor"}
    for ports in published.values():
        assert [port["host_ip"] for port in ports] == ["${KOBE_BIND:-127.0.0.1}"]
    assert "network_mode" not in TEXT
    assert {name for name, service in SERVICES.items() if "outside" in service["networks"]} == {
        *published,
        "first-model",
    }
    assert COMPOSE["networks"]["inside"]["internal"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_privileges(name: str) -> None:
    service = SERVICES[name]
    assert int(service["user"].partition(":")[0]) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_every_long_running_service_has_a_health_check() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == ONE_SHOT_SERVICES
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed in ONE_SHOT_SERVICES else "service_healthy"
            assert how["condition"] == expected


def test_no_file_contains_a_secret() -> None:
    named = set()
    for name, service in SERVICES.items():
        for variable, value in settings(name).items():
            assert variable.removesuffix("_FILE") not in SECRETS or variable.endswith("_FILE"), variable
            assert not re.search(r"://[^/]*:[^/]*@", value), variable
            if variable.endswith("_FILE"):
                assert value.startswith("/run/secrets/")
                assert Path(value).name in service["secrets"], (name, variable)
        named |= set(service.get("secrets", []))
    assert named == set(COMPOSE["secrets"])
    for secret, where in COMPOSE["secrets"].items():
        assert where == {"file": f"./secrets/{secret}"}
    assert "password" not in (DEPLOY / ".env.example").read_text().lower()
    assert "admin_password =" not in (DEPLOY / "basic_auth.ini").read_text()
    assert "/secrets*/" in (DEPLOY / ".gitignore").read_text().splitlines()


def in_the_image(file: str) -> bool:
    """Whether Docker copies a file: the last line of .dockerignore that matches it or a folder above it decides."""
    parts, kept = file.split("/"), True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if pattern and not pattern.startswith("#"):
            depth = pattern.count("/") + 1
            starts = range(len(parts)) if "**/" in line else (0,)
            # Unlike fnmatch's, Docker's * ends at a slash.
            if any(
                len(parts) >= first + depth and all(map(fnmatchcase, parts[first : first + depth], pattern.split("/")))
                for first in starts
            ):
                kept = line.startswith("!")
    return kept


def test_the_image_contains_the_files_of_all_packages_and_no_data() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = listed.stdout.splitlines()
    packages = {file for file in files if file.startswith(("data/", "serving/", "monitor/", "steps/"))}
    assert {"data/datasets/kobe.toml", "data/storage/tables.py", "monitor/ui/trust_court.js"} <= packages
    assert {file for file in packages if not in_the_image(file)} == set()
    for file in ("data/raw/source.json", "data/processed/manifest.json", "data/storage/__pycache__/tables.pyc"):
        assert not in_the_image(file), file
    for file in ("mlflow.db", "deploy/secrets/mlflow_secret_key", "deploy/.env", "tests/project.py", ".git/config"):
        assert not in_the_image(file), file


def test_the_tracking_server_requires_a_password() -> None:
    assert "--app-name=basic-auth" in SERVICES["tracking"]["command"]
    assert settings("tracking")["MLFLOW_AUTH_CONFIG_PATH"].endswith("deploy/basic_auth.ini")
    assert "deploy/basic_auth.ini" in (ROOT / ".dockerignore").read_text()
    assert {settings(name)["MLFLOW_TRACKING_USERNAME"] for name in ("first-model", "scheduler", "monitor")} == {
        accounts.WRITER
    }
    assert settings("model")["MLFLOW_TRACKING_USERNAME"] == accounts.READER
    assert {f"{name}_password" for name in (accounts.WRITER, accounts.READER)} < set(COMPOSE["secrets"])


def test_every_setting_is_in_the_example_with_its_default() -> None:
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    example = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / ".env.example").read_text(), flags=re.MULTILINE))
    assert used == example
    assert "$" not in re.sub(r"\$\{\w+:-[^}]*\}", "", TEXT)
    assert check_schedule(example["KOBE_SCHEDULE"]) == ScheduledConfig().schedule


def test_every_command_exists() -> None:
    assert {"serving.server", "steps.schedule", "deploy.accounts", "deploy.first_model"} <= set(modules())
    for module in modules():
        assert is_command(module), module
    for service in ("tracking", "monitor"):
        assert (BINARIES / SERVICES[service]["command"][0]).exists()
    assert SERVICES["monitor"]["command"][2] in {str(path.relative_to(ROOT)) for path in ROOT.glob("monitor/*.py")}


def test_the_image_is_built_from_the_lock_by_the_pinned_uv() -> None:
    assert re.search(
        r"^COPY tools/uv\.txt \./\nRUN pip install .*--require-hashes -r uv\.txt$", DOCKERFILE, flags=re.MULTILINE
    )
    assert "!tools/uv.txt" in (ROOT / ".dockerignore").read_text()
    assert "uv sync --frozen --no-dev" in DOCKERFILE
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, flags=re.MULTILINE)
    # An image contains only the environment of a build stage.
    assert re.findall(r"COPY --from=(\S+) (\S+)", DOCKERFILE) == [
        (f"{target}-environment", "/opt/venv") for target in ("tracking", "model", "project")
    ]


@pytest.mark.parametrize("target", ["model", "tracking"])
def test_a_smaller_image_contains_packages_of_the_lock_only(target: str) -> None:
    def names(path: Path) -> set[str]:
        lines = [line for line in path.read_text().splitlines() if line[:1].isalnum()]
        return {re.sub(r"[-_.]+", "-", Requirement(line.split(" \\")[0]).name).lower() for line in lines}

    own = names(DEPLOY / f"requirements-{target}.txt")
    assert own < names(ROOT / "requirements.txt")
    assert not own & {"pycaret", "streamlit"}
    assert f"-c requirements.txt -r requirements-{target}.txt" in DOCKERFILE


def test_the_image_of_the_model_contains_the_requirements_of_a_served_model() -> None:
    own = (DEPLOY / "requirements-model.txt").read_text()
    for requirement in model_requirements(make_pipeline(LGBMClassifier())):
        assert re.search(rf"^{Requirement(requirement).name}(\[.*)?$", own.replace("[binary]", ""), re.MULTILINE) or (
            "psycopg-binary" in requirement
        ), requirement


def test_secrets_are_created_once_for_their_owner_only(tmp_path: Path) -> None:
    command = [str(DEPLOY / "make-secrets.sh"), str(tmp_path / "secrets")]
    ok(subprocess.run(command, capture_output=True, text=True, check=False))
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == set(COMPOSE["secrets"])
    assert len(set(made.values())) == len(made)
    assert {len(secret) for secret in made.values()} == {48}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "nothing was done" in again.stderr
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made


def test_a_secret_reaches_the_command_and_only_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    show = "import os; print(os.environ['PGPASSWORD'], 'PGPASSWORD_FILE' in os.environ)"
    command = [sys.executable, "-m", "deploy.with_secrets", sys.executable, "-c", show]

    def run(path: Path) -> "subprocess.CompletedProcess[str]":
        changed = environment() | {"PGPASSWORD_FILE": str(path)}
        return subprocess.run(command, cwd=ROOT, env=changed, capture_output=True, text=True, check=False)

    assert ok(run(tmp_path / "password")) == "s3cret False\n"
    missing = run(tmp_path / "nothing")
    assert missing.returncode == 1
    assert "No such file" in missing.stderr
    assert "make-secrets.sh" in missing.stderr
    (tmp_path / "empty").touch()
    assert "it is empty" in run(tmp_path / "empty").stderr


def test_the_deployment_page_names_files_that_exist() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    for name in re.findall(r"\b((?:steps|monitor|serving|data|tests|deploy)/[\w.-]+\.(?:py|sh|yaml|ini))", page):
        assert (ROOT / name).is_file(), name
    for module in re.findall(r"python -m ((?:steps|serving|deploy)\.[\w.]*\w)", page):
        assert is_command(module), module
    for service in SERVICES:
        assert f"| `{service}` |" in page


def test_databases_without_their_secrets_are_not_created(tmp_path: Path) -> None:
    command = [str(DEPLOY / "databases.sh")]
    failed = subprocess.run(command, env={"SECRETS": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "mlflow_database_password" in failed.stderr


def test_every_image_is_built_once_from_its_target() -> None:
    built = {service["image"]: service["build"]["target"] for service in SERVICES.values() if "build" in service}
    images = [service["image"] for name, service in SERVICES.items() if name != "database"]
    assert set(images) == set(built)
    assert len([name for name, service in SERVICES.items() if "build" in service]) == len(built) == 3
    assert set(built.values()) == set(re.findall(r"^FROM runtime AS (\w+)$", DOCKERFILE, flags=re.MULTILINE))
    assert SERVICES["model"]["build"]["target"] == "model"


def test_services_have_a_grace_period() -> None:
    assert {"database", "tracking", "model", "scheduler"} <= {
        name for name, service in SERVICES.items() if "stop_grace_period" in service
    }


def test_a_backup_is_private_and_outside_git() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    assert "mkdir -p -m 700 backup" in page
    assert "/backup*/" in (DEPLOY / ".gitignore").read_text().splitlines()
