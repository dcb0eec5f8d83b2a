"""Errors above every page."""

import ast
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient
from streamlit.testing.v1 import AppTest

from data.paths import ROOT
from monitor.ui import cache, widgets
from serving import registry
from tests.project import PAGE_SECONDS, free_port
from tests.versions import REJECTED, promote_versions, register_without_files

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No server, and an empty cache."""
    monkeypatch.setenv(widgets.ENDPOINT_VARIABLE, f"http://127.0.0.1:{free_port()}")
    cache.clear()
    yield
    cache.clear()


def errors() -> list[str]:
    app = AppTest.from_file(str(ROOT / "monitor" / "ui" / "navigation.py"), default_timeout=PAGE_SECONDS).run()
    assert not app.exception
    return [error.value for error in app.error]


def test_every_page_warns_if_the_champion_has_not_passed_the_gate() -> None:
    promote_versions(1)
    MlflowClient().set_registered_model_alias(registry.MODEL, registry.CHAMPION, register_without_files(REJECTED))
    assert "names version 2, which has not passed the gate" in errors()[0]


def test_a_consistent_registry_shows_no_error() -> None:
    promote_versions(1)
    assert not any("has not passed the gate" in text or "The stage" in text for text in errors())


def test_the_app_adds_the_project_to_the_path_before_it_imports_from_it() -> None:
    body = ast.parse((ROOT / "monitor" / "app.py").read_text(encoding="utf-8")).body
    first = next(place for place, node in enumerate(body) if "sys.path.insert" in ast.unparse(node))
    imported = [str(node.module) for node in body[:first] if isinstance(node, ast.ImportFrom)]
    assert not [name for name in imported if name.partition(".")[0] in {"data", "serving", "monitor", "steps"}]
