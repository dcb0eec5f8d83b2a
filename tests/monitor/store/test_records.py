from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from monitor.store import tags
from monitor.store.records import (
    FAILED,
    MAX_TAG_LENGTH,
    PENDING,
    RETRAIN,
    ModelVersion,
    Promotion,
    RetrainingDecision,
    is_synthetic,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def decision(**fields: object) -> RetrainingDecision:
    given = {"number": 3, "decided_at": NOON, "decision": RETRAIN, "model": "kobe_shot", **fields}
    return RetrainingDecision.model_validate(given)


def test_a_decision_is_read_as_it_was_written() -> None:
    until = datetime(2026, 11, 20, 8, 30)  # noqa: DTZ001 UTC without a zone, as tables have it
    written = decision(
        reasons=("first", "second"), outcome=FAILED, challenger="2", labels=1_500, new_labels=7, labels_until=until
    )
    assert RetrainingDecision.model_validate(written.to_tags()) == written


def test_a_decision_without_labels_or_a_challenger_is_read_as_it_was_written() -> None:
    written = decision()
    assert tags.MODEL_VERSION not in written.to_tags()
    assert RetrainingDecision.model_validate(written.to_tags()) == written
    assert written.outcome == PENDING


def test_a_long_reason_is_shortened_to_what_a_tag_holds() -> None:
    held = decision(reasons=("x" * 9_000,), outcome_reason="y" * 9_000).to_tags()
    assert len(held[tags.REASONS]) == len(held[tags.OUTCOME_REASON]) == MAX_TAG_LENGTH


def test_secrets_in_reasons_are_masked() -> None:
    found = decision(reasons="postgresql://u:secret@h/d failed", outcome_reason="s3://key:secret@bucket")
    assert "secret" not in f"{found.reasons} {found.outcome_reason}"


def test_records_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(decision(), "number", 4)  # noqa: B010 the type check refuses the assignment


def test_a_version_without_a_promotion_has_no_time_of_one() -> None:
    assert ModelVersion(version="1").promoted_at is None
    assert ModelVersion(version="1", promotions=(Promotion(when=NOON),)).promoted_at == NOON


def test_a_version_that_was_trained_on_dev_rows_alone_has_their_sha256_as_that_of_its_training_rows() -> None:
    assert ModelVersion(version="1", tags={"sha256_base_train": "a"}).development_sha256 == "a"
    both = {"sha256_base_train": "a", tags.DEVELOPMENT_SHA256: "b"}
    assert ModelVersion(version="1", tags=both).development_sha256 == "b"


def test_labels_of_a_version_are_none_where_the_tag_cannot_be_read() -> None:
    held = {tags.LABELS_UNTIL: "2026-11-20T00:00:00", tags.TRAINING_LABELS: "700"}
    assert ModelVersion(version="2", tags=held).training_labels == 700
    assert ModelVersion(version="2", tags={**held, tags.TRAINING_LABELS: "many"}).training_labels == 0
    assert ModelVersion(version="1").training_labels == 0


@pytest.mark.parametrize(("value", "synthetic"), [("true", True), ("false", False), ("unknown", False)])
def test_shots_are_synthetic_where_a_tag_is_true(value: str, *, synthetic: bool) -> None:
    assert is_synthetic({tags.SYNTHETIC: value}) is synthetic
