"""The language of the pages: every message has a translation, and a catalog is read as gettext reads it."""

import ast
import gettext
import shutil
import subprocess
from pathlib import Path

import pytest

from data.paths import ROOT
from monitor.health.checks import CHECKS
from monitor.metrics.binary import METRICS
from monitor.metrics.names import metric_name
from monitor.ui.text import read

CATALOG = ROOT / "monitor" / "ui" / "locale" / "pt_BR" / "LC_MESSAGES" / "monitor.po"
SOURCES = [
    *sorted((ROOT / "monitor" / "ui").glob("*.py")),
    ROOT / "monitor" / "health" / "cause.py",
    ROOT / "monitor" / "retraining" / "outlook.py",
]


def messages(path: Path) -> set[str]:
    """The literal messages of a module."""
    return {
        str(node.args[0].value)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"_", "Sentence"}
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.name))
def test_every_message_of_a_page_is_translated(path: Path) -> None:
    assert messages(path) - set(read(CATALOG)) == set()


def test_checks_statuses_and_metrics_are_translated() -> None:
    catalog = set(read(CATALOG))
    assert {check.title for check in CHECKS} <= catalog
    assert {"healthy", "warning", "retraining recommended", "passed", "failed", "skipped", "error"} <= catalog
    assert {metric_name(name).label for name in METRICS} <= catalog


def test_a_translation_keeps_the_fields_of_its_message() -> None:
    for message, translated in read(CATALOG).items():
        assert fields(message) == fields(translated), message


def fields(text: str) -> set[str]:
    return {part.partition("}")[0] for part in text.split("{")[1:]}


@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="needs msgfmt, of Debian's package gettext")
def test_gettext_reads_the_same_messages(tmp_path: Path) -> None:
    subprocess.run(["msgfmt", "-o", str(tmp_path / "monitor.mo"), str(CATALOG)], check=True, capture_output=True)
    with (tmp_path / "monitor.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for message, translated in read(CATALOG).items():
        assert compiled.gettext(message) == translated
