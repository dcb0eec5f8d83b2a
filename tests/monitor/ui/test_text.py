"""The language of the pages: every message has a translation, and a catalog is read as gettext reads it."""

import ast
import gettext
import shutil
import subprocess
from pathlib import Path

import pytest

from data.paths import ROOT
from monitor import portuguese
from monitor.health.checks import ALL_CHECKS
from monitor.metrics.binary import METRICS
from monitor.metrics.names import KNOWN, metric_name, readable
from monitor.ui import actions, text
from monitor.ui.text import read

CATALOG = ROOT / "monitor" / "ui" / "locale" / "pt_BR" / "LC_MESSAGES" / "monitor.po"
SOURCES = [
    *sorted((ROOT / "monitor" / "ui").glob("*.py")),
    ROOT / "monitor" / "health" / "cause.py",
    ROOT / "monitor" / "health" / "difference.py",
    ROOT / "monitor" / "retraining" / "outlook.py",
]


COMPOSED = (
    "**7** 7 and press",
    "Champion 77",
    "Metrics of the 7",
    "The position is 7",
    "On 7, version 7 is 7",
    "There is no 7",
)
"""Sentences with phrases for values; a test puts numbers there."""


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


def sentences(path: Path) -> set[str]:
    """The sentences of a module, with a number for each value."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "sentence":
            parts = getattr(node.args[0], "values", None)
            if parts and all(isinstance(part, ast.Constant) for part in parts[:1]):
                found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in parts))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.name))
def test_every_sentence_of_a_page_is_translated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "language", lambda: "pt")
    kept = {each for each in sentences(path) if text.sentence(each) == each}
    assert {each for each in kept if not each.startswith(COMPOSED)} == set()


@pytest.mark.parametrize(
    ("english", "portuguese"),
    [
        ("2 of 6 rows", "2 de 6 registros"),
        ("version 3", "versão 3"),
        ("version 3 was promoted 2 days ago", "a versão 3 foi promovida há 2 dias"),
        ("Decision 4, 27 Feb 2026 13:24 UTC: no action.", "Decisão 4, 27 fev 2026 13:24 UTC: nenhuma ação."),
        ("P(made) has not drifted", "P(cesta) não tem drift"),
        ("no row has an unknown category", "nenhum registro tem uma categoria desconhecida"),
        ("the moon is far", "the moon is far"),
    ],
)
def test_a_sentence_with_its_values_is_translated(
    english: str, portuguese: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert text.sentence(english) == english
    monkeypatch.setattr(text, "language", lambda: "pt")
    assert text.sentence(english) == portuguese


def test_checks_statuses_and_metrics_are_translated() -> None:
    catalog = set(read(CATALOG))
    assert {"healthy", "warning", "retraining recommended", "passed", "failed", "skipped", "error"} <= catalog
    assert {metric_name(name).label for name in METRICS} <= catalog


def test_the_ways_to_retrain_are_translated() -> None:
    options = actions.RETRAININGS
    assert {*options, *(option.description for option in options.values())} <= set(read(CATALOG))


@pytest.mark.parametrize(
    ("english", "portuguese"),
    [
        (
            "Training: `steps.retreino` ended with exit code 0 after 41 s, at 2026-11-28 05:36 UTC.",
            "Treinamento: `steps.retreino` terminou com o código de saída 0 após 41 s, em 2026-11-28 05:36 UTC.",
        ),
        (
            "Rollback: `steps.reverter` was killed; it ran since 2026-11-28 05:36:00 UTC, started by me.",
            "Reversão: `steps.reverter` foi encerrado à força; rodava desde 2026-11-28 05:36:00 UTC; quem iniciou: me.",
        ),
        ("The champion is now version 3.", "A versão campeã agora é a 3."),
    ],
)
def test_what_a_job_did_is_translated(english: str, portuguese: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "language", lambda: "pt")
    assert text.sentence(english) == portuguese


def test_the_titles_of_checks_are_those_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "language", lambda: "pt")
    titles = {check.code: check.title for check in ALL_CHECKS}
    assert {code: text._(title) for code, title in titles.items()} == {
        code: portuguese.check_title(code, title) for code, title in titles.items()
    }


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("2 of 6 features have drifted, shot_distance most: shifted by 15 feet", "a maior é distância do arremesso:"),
        ("champion version 1, all rows", "campeão versão 1, todos os registros"),
        ("858 made and 1,848 missed rows; 30 of each are needed", "858 convertidos e 1.848 errados"),
        ("zone Paint: log loss 0.6, champion version 1 0.5 on 9 rows, significantly worse", "significativamente pior"),
    ],
)
def test_what_a_run_holds_is_translated_with_the_names_of_its_columns(
    monkeypatch: pytest.MonkeyPatch, message: str, expected: str
) -> None:
    monkeypatch.setattr(text, "language", lambda: "pt")
    assert expected in text.sentence(readable(message, text._))


def test_the_meaning_of_every_metric_is_translated() -> None:
    assert {metric.meaning for metric in KNOWN.values()} - {""} - set(read(CATALOG)) == set()


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
