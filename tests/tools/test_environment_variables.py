import re
import subprocess

from data.paths import ROOT
from data.storage.duckdb import DuckDBSettings
from monitor.alerts import AlertSettings
from tools import environment_variables

_INTERNAL = {
    *(
        "KOBE_ALERT_",
        "KOBE_LIMIT_",
        "KOBE_DUCKDB_",
        "MLFLOW_RUN_ID",
        "MLFLOW_RUN_NOTE",
        "MLFLOW_PARENT_RUN_ID",
        "MLFLOW_SOURCE_NAME",
    ),
    *("MLFLOW_COLUMNS", "MLFLOW_PAGES", "MLFLOW_UV_AUTO_DETECT", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"),
}
"""Names of MLflow's tags and internal settings, and prefixes."""


def test_every_variable_of_the_code_is_in_the_page() -> None:
    files = ["data", "serving", "monitor", "steps", "deploy"]
    found = subprocess.run(
        ["git", "grep", "-hoE", r"\b(KOBE|MLFLOW|PG)[A-Z_]*[A-Z_]\b", "--", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    names = {
        name.removesuffix("_FILE") for name in found if re.fullmatch(r"(KOBE|MLFLOW)_[A-Z_]{4,}|PG[A-Z]{4,}", name)
    }
    page = environment_variables.render()
    assert sorted(name for name in names - _INTERNAL if f"`{name}`" not in page) == []


def test_every_setting_of_alerts_is_in_the_page() -> None:
    assert set(environment_variables.ALERTS) == {name.upper() for name in AlertSettings.model_fields}


def test_the_settings_of_duckdb_are_in_the_page_with_their_defaults() -> None:
    settings = DuckDBSettings.model_fields
    assert set(environment_variables.DUCKDB) == {name.upper() for name in settings}
    assert environment_variables.DUCKDB["MEMORY_LIMIT"][0] == f"`{settings['memory_limit'].default}`"


def test_the_page_is_generated() -> None:
    assert environment_variables.PAGE.read_text(encoding="utf-8") == environment_variables.render(), "run: make docs"
