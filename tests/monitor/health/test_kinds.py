"""The checks on a dataset that holds no shots: columns of every kind, nulls, and groups."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from data.datasets import default
from monitor.health import checks
from monitor.health.baseline import ReferenceData
from monitor.health.evaluation import Evaluation
from monitor.health.record import flatten_metrics, to_dict
from monitor.health.status import CheckResult, CheckStatus, HealthStatus, run_checks
from tests.evaluations import NO_CHAMPION
from tests.orders import DATASET, orders


@cache
def reference_data() -> ReferenceData:
    return ReferenceData(
        orders(2_000, seed=1, per_customer=4), orders(1_200, seed=2, per_customer=4), DATASET, name="base_test"
    )


def evaluation(table: pd.DataFrame) -> Evaluation:
    return Evaluation(reference_data(), table, NO_CHAMPION, "orders")


def run(code: str, table: pd.DataFrame) -> CheckResult:
    return next(check for check in checks.ALL_CHECKS if check.code == code).run(evaluation(table))


def batch() -> pd.DataFrame:
    return orders(400, seed=3, per_customer=4)


def test_orders_like_those_of_the_reference_are_healthy_and_every_result_is_computed() -> None:
    evaluated = evaluation(batch())
    health = run_checks(evaluated, checks.checks_of(DATASET))
    assert health.status == HealthStatus.HEALTHY, health.reasons
    record = to_dict(evaluated, health)
    assert None not in (record["metrics"]["current"], record["slices"], record["drift"], record["estimate"])
    assert record["drift"]["groups"] == {"current": 100, "reference": 300}
    assert {row["slice"] for row in record["slices"]} == {"channel", "price", "express"}
    assert "unknown_rate_channel" in flatten_metrics(record)


def test_checks_of_categories_and_nulls_are_run_where_a_feature_has_them() -> None:
    assert {check.code for check in checks.checks_of(DATASET)} == {check.code for check in checks.ALL_CHECKS}
    assert checks.checks_of(default()) == checks.CHECKS


def test_rows_out_of_support_of_a_few_groups_are_an_alarm_and_recommend_no_retraining() -> None:
    table = batch()
    far = np.isin(table["customer"], table["customer"].unique()[:14])
    found = table.assign(price=np.where(far, 1e6, table["price"]))
    # 14% of 400 independent rows are significantly more than 10%; 14 of 100 customers are not.
    assert run("K204", found.assign(customer=[f"alone {row}" for row in range(400)])).status == CheckStatus.FAILED
    assert run("K204", found).status == CheckStatus.WARNING


def test_unknown_categories_are_named_by_the_check() -> None:
    table = batch()
    names = np.where(np.arange(400) < 30, "app", np.where(np.arange(400) < 32, "fax", table["channel"]))
    found = run("K205", table.assign(channel=names))
    assert found.status == CheckStatus.WARNING
    assert found.message == (
        "more unknown categories than on the reference: 32 rows have an unknown category of channel: "
        "'app' (30), 'fax' (2)"
    )
    assert "channel 8.0% of 400 rows (reference 0.0%, null threshold" in found.details


def test_known_categories_pass() -> None:
    assert run("K205", batch()).message == "no row has an unknown category"


@pytest.mark.parametrize(("nulls", "status"), [(60, CheckStatus.PASSED), (200, CheckStatus.WARNING)])
def test_the_null_rate_is_compared_with_that_of_the_reference(nulls: int, status: CheckStatus) -> None:
    table = batch()
    found = run("K206", table.assign(coupon=pd.Series(["none"] * 400).where(np.arange(400) >= nulls, None)))
    assert found.status == status
    assert f"{nulls} rows have a null of coupon" in found.message


def test_a_shift_of_categories_is_described_by_its_distance() -> None:
    table = batch()
    found = run("K201", table.assign(channel=table["channel"].where(np.arange(400) % 2 > 0, "fair")))
    assert found.status == CheckStatus.FAILED
    assert found.message.startswith("1 of 7 features have drifted, channel most: Jensen-Shannon distance 0.")


def test_a_later_date_is_reported_and_is_no_alarm() -> None:
    later = orders(400, seed=3, per_customer=4, since="2026-07-01")
    found = run("K201", later)
    assert found.status == CheckStatus.PASSED
    assert "ordered_on has shifted by 18" in found.message
    assert "days, which is expected of a date and no alarm" in found.message


def test_names_and_limits_are_those_of_the_description() -> None:
    limits = DATASET.monitoring.model_copy(update={"max_unlabeled": 0.001})
    described = DATASET.model_copy(update={"monitoring": limits})
    data = ReferenceData(reference_data().training, reference_data().table, described)
    table = batch()
    table.loc[:1, "returned"] = np.nan
    evaluated = Evaluation(data, table, NO_CHAMPION)
    results = {result.code: result for result in run_checks(evaluated, checks.checks_of(described)).results}
    assert results["K106"].status == CheckStatus.WARNING
    assert results["K202"].message == "P(returned) has not drifted"
    assert "mean P(returned)" in results["K105"].details
    assert "positive rate" in results["K105"].details
