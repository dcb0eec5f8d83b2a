"""One sentence of cause from the record of a monitoring run."""

from typing import Any

import pytest

from data.paths import ROOT
from monitor.health.cause import cause, expected_and_actual, section_of
from monitor.ui.text import read


def record(*alarms: tuple[str, str], labeled: int = 1_000, rate: float = 0.33, drifted: bool = True) -> dict[str, Any]:
    """A record with alarms, as code and status."""
    checks = [
        {"code": code, "title": f"title of {code}", "status": status, "message": "roc_auc is worse by 18%"}
        for code, status in (*alarms, ("K107", "passed"))
    ]
    statistic = {
        "feature": "shot_distance",
        "statistic": "wasserstein",
        "value": 15.2,
        "threshold": 0.1,
        "unit": "feet",
    }
    side = {"metrics": {"log_loss": {"value": 0.65}}}
    return {
        "status": "warning",
        "checks": checks,
        "version": "1",
        "champion": "1",
        "current": {"name": "prod", "rows": 2_000, "labeled": labeled, "own": 900},
        "metrics": {"reference": {"metrics": {"log_loss": {"value": 0.67}}}, "current": side if labeled else None},
        "slices": [{"slice": "playoffs", "value": "all", "rows": labeled, "mean_probability": 0.4, "rate": rate}]
        if labeled
        else None,
        "drift": {
            "out_of_support_rate": 0.971,
            "drifted": ["shot_distance"] if drifted else [],
            "statistics": [statistic],
        },
    }


EVERYTHING = [(code, "failed") for code in ("K101", "K102", "K103", "K104", "K201", "K204")] + [("K105", "warning")]


def test_nine_alarms_with_one_cause_are_one_sentence() -> None:
    found = cause(record(*EVERYTHING))
    expected = (
        "97% of these shots lie outside anything that version 1 was trained on; it expects 40%, but only 33% go in."
    )
    assert found.sentence.text() == expected
    assert found.code == "K204"
    assert len(found.follows) == len(EVERYTHING) - 1


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (record(), "Version 1 predicts these shots as well as its test set: log loss 0.6500, test set 0.6700"),
        (record(labeled=0), "These shots look like the training shots of version 1; no label is there yet."),
        (record(("K204", "failed"), labeled=0), "and no label shows yet how well it predicts there"),
        (record(("K204", "failed"), rate=0.4), "so far it is right there"),
        (record(("K101", "failed")), "The shots have changed: version 1 expects 40%, but 33% go in."),
        (record(("K101", "failed"), drifted=False), "The shots are like those of the training, but version 1 expects"),
        (record(("K103", "failed"), rate=0.4), "Version 1 predicts worse than on its test set: log loss 0.6500, was"),
        (record(("K201", "failed")), "1 features have drifted, shot distance most: by 15.2 feet. On the labels so far"),
        (record(("K201", "failed"), labeled=0), "No label shows yet whether version 1 still predicts well."),
        (record(("K105", "warning")), "Version 1 expects 40%, but 33% go in."),
        (record(("K108", "warning"), *EVERYTHING), "900 of these 2,000 rows are not new"),
        (record(("K204", "error"), ("K101", "failed")), "The check title of K204 could not be computed"),
        (record(("K402", "warning")), "title of K402: ROC AUC is worse by 18%."),
        (record(("K204", "warning"), ("K101", "failed")), "The shots have changed"),
    ],
)
def test_the_most_fundamental_cause_is_reported(found: dict[str, Any], expected: str) -> None:
    assert expected in cause(found).sentence.text()


def test_every_sentence_is_translated() -> None:
    catalog = read(ROOT / "monitor" / "ui" / "locale" / "pt_BR" / "LC_MESSAGES" / "monitor.po")
    for alarms in ([("K204", "failed")], [("K101", "failed")], [("K201", "failed")], [("K105", "warning")], []):
        for labeled in (0, 1_000):
            sentence = cause(record(*alarms, labeled=labeled)).sentence
            assert catalog[sentence.template] != sentence.template or sentence.template == "{title}: {message}."


def test_expected_and_actual_need_labels() -> None:
    assert expected_and_actual(record()) == pytest.approx((0.4, 0.33))
    assert expected_and_actual(record(labeled=0)) is None


def test_the_evidence_of_a_check_has_a_section() -> None:
    assert [section_of(code) for code in ("K101", "K201", "K301", "K401")] == [
        "labels",
        "inputs",
        "estimate",
        "serving",
    ]
