"""Training and reference rows of the model are found by their ids or values, and other rows are not."""

import numpy as np
import pandas as pd
import pytest

from data.datasets import default
from data.schema import FEATURES, IN_TRAINING, SHOT_ID, TARGET
from monitor.health.baseline import ReferenceData
from monitor.health.checks import CHECKS
from monitor.health.evaluation import IN_REFERENCE
from monitor.health.overlap import marked
from monitor.health.status import CheckStatus, HealthStatus, run_checks
from tests.evaluations import batch, evaluation, population, reference_data


def reference() -> pd.DataFrame:
    return reference_data().table.reset_index(drop=True)


def own(table: pd.DataFrame, against: ReferenceData | None = None) -> tuple[int, int]:
    """Count the rows that are found in the reference, and in the training rows."""
    found = marked(table, against or reference_data())
    return tuple(int(found[name].sum()) if name in found else 0 for name in (IN_REFERENCE, IN_TRAINING))  # type: ignore[return-value]


def at_the_hoop(rows: int) -> pd.DataFrame:
    """Different shots that mostly share their features with others."""
    table = population()
    return table[table["shot_distance"] == 0].tail(rows).reset_index(drop=True)


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(reference, id="all of it"),
        pytest.param(lambda: reference().sample(300, random_state=0), id="some of it"),
        pytest.param(lambda: reference().assign(**{TARGET: np.nan}), id="without labels"),
        pytest.param(lambda: reference().astype(dict.fromkeys(FEATURES, "float32")), id="as float32"),
        pytest.param(lambda: pd.concat([reference().head(1_500), batch(300)]), id="with new rows"),
    ],
)
def test_reference_rows_are_identified_by_their_values(table: object) -> None:
    rows: pd.DataFrame = table()  # type: ignore[operator]
    found, trained = own(rows.reset_index(drop=True))
    assert found >= 0.8 * len(rows)
    assert trained == 0


def test_training_rows_are_identified_by_their_values() -> None:
    rows = reference_data().training.head(1_000).reset_index(drop=True)
    assert own(rows)[1] == 1_000


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(lambda: batch(2_000), id="of the same population"),
        pytest.param(lambda: at_the_hoop(500), id="at the hoop"),
        pytest.param(lambda: batch(1), id="one row"),
        pytest.param(lambda: reference().head(3), id="too few to identify"),
    ],
)
def test_new_rows_with_equal_values_are_not_taken_for_rows_of_the_model(table: object) -> None:
    assert own(table()) == (0, 0)  # type: ignore[operator]


def test_rows_are_identified_by_their_ids_one_by_one() -> None:
    known = reference().assign(**{SHOT_ID: np.arange(len(reference()))})
    against = ReferenceData(reference_data().training, known, default(), name="base_test")
    rows = pd.concat([known.head(50), batch(200).assign(**{SHOT_ID: np.arange(200) + 10_000})], ignore_index=True)
    found = marked(rows, against)[IN_REFERENCE]
    assert found.tolist() == [True] * 50 + [False] * 200


def test_reference_rows_outside_the_sample_that_is_compared_with_are_identified() -> None:
    known = reference().assign(**{SHOT_ID: np.arange(len(reference()))})
    sample = known.iloc[::4].reset_index(drop=True)
    against = ReferenceData(reference_data().training, sample, default(), name="base_test", known=known)
    assert own(known.iloc[1::4].reset_index(drop=True), against)[0] == len(known.iloc[1::4])


def test_equal_ids_of_another_numbering_are_other_shots() -> None:
    known = reference().assign(**{SHOT_ID: np.arange(len(reference()))})
    against = ReferenceData(reference_data().training, known, default(), name="base_test")
    assert own(batch(200).assign(**{SHOT_ID: np.arange(200)}), against)[0] <= 2


def test_the_reference_as_current_data_is_not_healthy() -> None:
    found = run_checks(evaluation(marked(reference(), reference_data())), CHECKS)
    statuses = {result.code: result.status for result in found.results}
    assert found.status == HealthStatus.WARNING
    assert statuses["K108"] == CheckStatus.WARNING
    assert {statuses[code] for code in ("K101", "K102", "K201", "K203")} == {CheckStatus.SKIPPED}
