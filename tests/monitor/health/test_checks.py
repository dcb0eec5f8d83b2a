from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from data.datasets import default
from data.schema import IN_TRAINING, MODEL_VERSION, PREDICTION, PROBABILITY, TARGET
from monitor.charts.drift_rows import drift_rows
from monitor.health.baseline import ReferenceData
from monitor.health.checks import CHECKS, null_calibration_errors
from monitor.health.evaluation import IN_REFERENCE, Evaluation, ServingState, rows_of_version
from monitor.health.status import CheckResult, CheckStatus, HealthStatus, run_checks
from monitor.metrics.intervals import relative_degradation
from monitor.store.records import Promotion
from serving.client.probe import EndpointInfo
from tests.evaluations import (
    CHAMPION,
    NOW,
    batch,
    evaluation,
    population,
    reference_data,
    sixty_percent_accurate,
    with_accuracy,
)

WARNING, RETRAIN = CheckStatus.WARNING, CheckStatus.FAILED
URL = "http://127.0.0.1:5001"


def run(code: str, evaluated: Evaluation) -> CheckResult:
    """Run one check."""
    return next(check for check in CHECKS if check.code == code).run(evaluated)


def graded(rows: int, share: float, *, away: float = 0.1, against: ReferenceData | None = None) -> Evaluation:
    """An evaluation with a given accuracy; the reference has 60%."""
    return evaluation(with_accuracy(rows, share, distance=away), against=against or sixty_percent_accurate())


def unlabeled(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{TARGET: np.nan})


def assert_skipped(result: CheckResult, reason: str) -> None:
    assert result.status == CheckStatus.SKIPPED
    assert reason in result.message


def assert_passed(result: CheckResult, message: str) -> None:
    assert result.status == CheckStatus.PASSED
    assert message in result.message


def assert_alarm(result: CheckResult, status: CheckStatus, message: str) -> None:
    assert result.status == status
    assert message in result.message


def test_every_check_has_a_code_and_a_title_of_its_own_in_the_order_of_the_codes() -> None:
    codes = [check.code for check in CHECKS]
    assert codes == sorted(set(codes))
    assert len({check.title for check in CHECKS}) == len(CHECKS) == 17


# K101 Performance degradation


def test_k101_a_significant_degradation_above_10_percent_is_a_warning() -> None:
    found = run("K101", graded(4_000, 0.53))
    assert_alarm(found, WARNING, "roc_auc is worse by 12%, f1_score is worse by 12%, accuracy is worse by 12%")
    assert "log_loss" not in found.message
    assert "accuracy 0.600 to 0.530 (95% CI: 0.51" in found.details
    assert found.details.startswith("4,000 labeled rows, compared with 4,000")


def test_k101_a_degradation_above_15_percent_fails() -> None:
    assert_alarm(run("K101", graded(4_000, 0.5)), RETRAIN, "accuracy is worse by 17%")


def test_k101_a_small_or_insignificant_degradation_passes() -> None:
    assert_passed(run("K101", graded(4_000, 0.56)), "none of 5 metrics is significantly worse, by more than 10%")
    assert_passed(run("K101", graded(240, 0.53)), "none of 5")
    assert_passed(run("K101", graded(4_000, 0.7)), "none of 5")


def test_k101_significance_holds_for_all_metrics_jointly() -> None:
    reference = ReferenceData(batch(50), with_accuracy(1_000, 0.6), default())
    evaluated = graded(500, 0.536, against=reference)
    alone = relative_degradation(evaluated.performance, reference.performance, "accuracy")
    assert alone.value > default().monitoring.warning_degradation
    assert alone.low > 0
    assert_passed(run("K101", evaluated), "none of 5")


def test_k101_needs_a_hundred_labels() -> None:
    assert_skipped(run("K101", graded(28, 0.1)), "fewer than 100 rows have a label")
    assert run("K101", graded(400, 0.1)).status == CheckStatus.FAILED


def test_k101_uses_labeled_rows_only() -> None:
    rows = pd.concat([with_accuracy(4_000, 0.6), unlabeled(with_accuracy(4_000, 0.1))], ignore_index=True)
    found = run("K101", evaluation(rows, against=sixty_percent_accurate()))
    assert_passed(found, "none of 5")
    assert "4,000 labeled rows, compared with 4,000" in found.details


def test_all_labels_of_a_sampled_batch_count_for_performance_and_add_no_weight_to_drift() -> None:
    sample, labels = unlabeled(batch(400)), with_accuracy(300, 0.2)
    without = evaluation(sample, against=sixty_percent_accurate())
    found = replace(without, labels=labels)
    assert_skipped(run("K101", without), "fewer than 100 rows")
    assert_alarm(run("K101", found), RETRAIN, "worse by")
    assert found.performance.rows == 300
    assert found.drift.rows == without.drift.rows == 400
    assert found.drift.mean_difference == without.drift.mean_difference
    few = replace(without, labels=labels.head(99))
    for code in ("K101", "K102", "K103", "K104", "K105"):
        assert run(code, few).status == CheckStatus.SKIPPED


def test_k104_is_skipped_where_no_metric_can_be_compared() -> None:
    never = ReferenceData(batch(50), with_accuracy(100, 0.6).assign(**{PROBABILITY: 0.9, TARGET: 0.0}), default())
    assert_skipped(run("K104", graded(100, 0.6, against=never)), "none of these metrics covers 100 rows")


# K102 Skill-score degradation


def test_k102_fails_without_skill_and_reports_both_skill_scores() -> None:
    found = run("K102", graded(4_000, 0.5))
    assert_alarm(found, RETRAIN, "log_loss_skill fell from 2.9% to -2.9%")
    assert "brier_skill fell from 4.0% to -4.0%" in found.message


def test_k102_passes_while_the_skill_score_holds() -> None:
    assert_passed(run("K102", graded(4_000, 0.6)), "none of 2")
    assert_passed(run("K102", graded(120, 0.55)), "none of 2")


def test_k102_is_skipped_where_the_reference_has_no_skill() -> None:
    unskilled = ReferenceData(batch(50), with_accuracy(4_000, 0.5), default())
    assert_skipped(
        run("K102", graded(4_000, 0.4, against=unskilled)), "the skill score on the reference is not positive either"
    )


def test_k102_needs_a_hundred_labels_of_both_kinds() -> None:
    assert_skipped(run("K102", graded(28, 0.1)), "fewer than 100 rows")
    alike = evaluation(with_accuracy(100, 0.6).assign(**{TARGET: 1.0}), against=sixty_percent_accurate())
    assert_skipped(run("K102", alike), "none of these metrics covers 100 rows")


# K103 Better than base rate


def test_k103_a_model_that_is_worse_than_the_base_rate_fails() -> None:
    found = run("K103", graded(4_000, 0.5))
    assert_alarm(found, RETRAIN, "the model is worse than the base rate: skill score -2.9%")
    assert found.details == "log loss 0.7136; base-rate baseline (0.500) on the same rows 0.6931"


@pytest.mark.parametrize("share", [0.52, 0.55, 0.57])
def test_k103_a_skill_score_whose_interval_contains_zero_is_not_distinguishable(share: float) -> None:
    found = run("K103", graded(100, share))
    assert_passed(found, "the model is not distinguishable from the base rate: skill score")
    assert "better" not in found.message + found.details


def test_k103_a_better_model_passes() -> None:
    assert_passed(run("K103", graded(4_000, 0.6)), "better than the base rate: skill score +2.9%")
    assert_passed(run("K103", evaluation(batch(1_000))), "better than the base rate")


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_k103_needs_a_hundred_labels_of_both_kinds(label: float) -> None:
    assert_skipped(run("K103", graded(28, 0.5)), "fewer than 100 rows")
    assert_skipped(run("K103", evaluation(batch(140).assign(**{TARGET: label}))), "all labels are the same")


# K104 Recall, specificity and precision


def test_k104_a_drop_of_recall_specificity_or_precision_is_an_alarm() -> None:
    found = run("K104", graded(4_000, 0.53))
    assert_alarm(found, WARNING, "recall is worse by 12%, specificity is worse by 12%, precision is worse by 12%")
    assert "recall 0.600 to 0.530" in found.details
    assert_alarm(run("K104", graded(4_000, 0.45)), RETRAIN, "recall is worse by 25%")


def test_k104_names_only_the_metric_that_is_worse() -> None:
    rows = with_accuracy(4_000, 0.6)
    hidden = rows.assign(**{PROBABILITY: rows[PROBABILITY].where(rows[TARGET] == 0, 0.4)})
    found = run("K104", evaluation(hidden, against=sixty_percent_accurate()))
    assert_alarm(found, RETRAIN, "recall is worse by 100%")
    assert "specificity" not in found.message


def test_k104_ignores_proportions_of_few_rows() -> None:
    rows = with_accuracy(4_000, 0.6)
    once = rows.assign(**{PROBABILITY: rows[PROBABILITY].where(rows.index == 0, 0.45)})
    found = run("K104", evaluation(once, against=sixty_percent_accurate()))
    assert "precision" not in found.message
    made = evaluation(with_accuracy(400, 0.6).assign(**{TARGET: 1.0}), against=sixty_percent_accurate())
    assert "specificity" not in run("K104", made).message


def test_k104_passes_without_a_drop_and_needs_a_hundred_labels() -> None:
    assert_passed(run("K104", graded(4_000, 0.59)), "none of 3")
    assert_skipped(run("K104", graded(28, 0.1)), "fewer than 100 rows")


# K105 Calibration


def test_k105_miscalibrated_probabilities_are_a_warning() -> None:
    found = run("K105", graded(4_000, 0.53))
    assert_alarm(found, WARNING, "calibration error 0.070")
    assert "mean P(made) 0.500, FG% 0.500" in found.details
    assert run("K105", graded(4_000, 0.1)).status == WARNING


def test_k105_an_insignificant_or_negligible_calibration_error_passes() -> None:
    assert_passed(run("K105", evaluation(batch(1_000))), "not above the null threshold")
    assert_passed(run("K105", graded(120, 0.53)), "not above the null threshold")
    small = run("K105", graded(30_000, 0.59))
    assert_passed(small, "calibration error 0.010")
    assert "threshold" not in small.message


def test_k105_compares_with_the_noise_of_the_batch_and_not_with_that_of_the_reference_too() -> None:
    def labeled(seed: int) -> pd.DataFrame:
        stream = np.random.default_rng(seed)
        made = stream.choice(np.arange(0.25, 0.8, 0.1), 1_000)
        return batch(1_000).assign(**{PROBABILITY: made, TARGET: (stream.random(1_000) < made).astype(float)})

    shares = []
    for seed in range(60):
        evaluated = evaluation(labeled(seed), against=ReferenceData(batch(50), labeled(1_000 + seed), default()))
        error = evaluated.performance.metrics["calibration_error"]
        shares.append(np.mean(null_calibration_errors(evaluated) >= error))
    # As a p-value is, where nothing has changed.
    assert 0.4 < np.mean(shares) < 0.6
    assert 0.15 < np.mean(np.array(shares) < 0.25) < 0.4


def test_k105_needs_a_hundred_labels() -> None:
    assert_skipped(run("K105", graded(28, 0.1)), "fewer than 100 rows")


def test_k105_passes_where_the_reference_is_miscalibrated_alike() -> None:
    miscalibrated = ReferenceData(batch(50), with_accuracy(4_000, 0.53), default())
    assert_passed(run("K105", graded(4_000, 0.53, against=miscalibrated)), "calibration error 0.070, not above")


# K106 Label coverage


def logged(table: pd.DataFrame, days_ago: float) -> pd.DataFrame:
    return table.assign(time=(NOW - timedelta(days=days_ago)).replace(tzinfo=None))


def test_k106_more_than_half_without_a_label_is_a_warning() -> None:
    rows = batch(100)
    rows.loc[:50, TARGET] = np.nan
    assert_alarm(run("K106", evaluation(rows)), WARNING, "51 of 100 rows have no label (51.0%)")
    assert_alarm(run("K106", evaluation(unlabeled(rows))), WARNING, "100 of 100 rows")


def test_k106_half_passes() -> None:
    rows = batch(100)
    rows.loc[:49, TARGET] = np.nan
    assert_passed(run("K106", evaluation(rows)), "50 of 100 rows have no label (50.0%)")


def test_k106_counts_only_logged_rows_whose_label_is_expected() -> None:
    old, young = logged(batch(100), 8), logged(unlabeled(batch(900)), 6.9)
    both = pd.concat([old, young], ignore_index=True)
    assert_passed(run("K106", evaluation(both)), "0 of 100 rows older than 7 days have no label")
    late = pd.concat([logged(unlabeled(batch(100)), 7.1), logged(batch(900), 1)], ignore_index=True)
    assert_alarm(run("K106", evaluation(late)), WARNING, "100 of 100 rows older than 7 days")
    assert_skipped(run("K106", evaluation(young)), "no row is older than 7 days")


# K107 Sample size


def test_k107_few_rows_are_a_warning_and_never_healthy() -> None:
    assert_alarm(run("K107", evaluation(batch(29))), WARNING, "29 rows are too few")
    assert run_checks(evaluation(batch(1)), CHECKS).status == HealthStatus.WARNING
    assert_passed(run("K107", evaluation(batch(30))), "30 rows")


# K201 Feature drift


def test_k201_large_drift_fails_and_names_the_most_drifted_feature_first() -> None:
    rows = batch(500)
    far = rows.assign(shot_distance=rows["shot_distance"] + 12, minutes_remaining=rows["minutes_remaining"] * 0.7)
    found = run("K201", evaluation(far))
    assert_alarm(found, RETRAIN, "2 of 6 features have drifted, shot_distance most: shifted by 1")
    assert found.message.endswith(" feet")
    assert found.details.startswith("shot_distance PSI ")
    assert "; minutes_remaining PSI " in found.details


def test_k201_names_the_feature_first_that_is_first_among_the_rows_of_drifted_features() -> None:
    rows = batch(1_000)
    far = evaluation(rows.assign(playoffs=np.where(np.arange(1_000) < 900, 1.0, 0.0), period=rows["period"].clip(2, 3)))
    statistics = {name: far.drift.statistic(name, "psi").value for name in ("playoffs", "period")}
    most = drift_rows(far)[0].column
    assert most != max(statistics, key=lambda name: statistics[name])
    assert f", {most} most: " in run("K201", far).message


def test_k201_small_drift_is_a_warning() -> None:
    rows = batch(2_000)
    near = rows.assign(playoffs=np.where(np.arange(2_000) < 200, 1.0, rows["playoffs"]))
    found = run("K201", evaluation(near))
    assert_alarm(found, WARNING, "1 of 6 features have drifted, playoffs most: shifted by 0.0")
    assert not found.message.endswith(" ")


def test_k201_the_psi_of_a_few_rows_does_not_fail() -> None:
    moved = batch(5).assign(shot_distance=40.0, lat=33.6)
    assert run("K201", evaluation(moved)).status == WARNING


def test_k201_shots_of_the_same_population_pass_with_labels_and_without() -> None:
    for rows in (batch(500), unlabeled(batch(500))):
        assert_passed(run("K201", evaluation(rows)), "none of 6 features has drifted")


# K202 Prediction drift


def test_k202_drifted_probabilities_are_a_warning() -> None:
    rows = batch(500)
    found = run("K202", evaluation(rows.assign(**{PROBABILITY: rows[PROBABILITY] - 0.15})))
    assert_alarm(found, WARNING, "P(made) has drifted: shifted by -0.1")
    assert found.details.startswith("probability PSI ")


def test_k202_probabilities_without_drift_pass() -> None:
    assert_passed(run("K202", evaluation(batch(500))), "P(made) has not drifted")


# K203 Domain classifier


def test_k203_a_changed_correlation_is_a_warning_though_no_feature_has_drifted() -> None:
    rows = batch(1_000)
    shuffled = rows.assign(shot_distance=rows["shot_distance"].sample(frac=1, random_state=0).to_numpy())
    assert_passed(run("K201", evaluation(shuffled)), "none of 6")
    assert_alarm(
        run("K203", evaluation(shuffled)), WARNING, "a classifier discriminates current rows from reference rows"
    )


def test_k203_shots_of_the_same_population_pass() -> None:
    found = run("K203", evaluation(batch(1_000)))
    assert_passed(found, "does not discriminate")
    assert "null threshold 0.5" in found.details


def test_k203_needs_fifty_rows() -> None:
    assert_skipped(run("K203", evaluation(batch(49))), "needs 50 rows on each side")
    assert run("K203", evaluation(batch(50))).status == CheckStatus.PASSED


# K204 Out-of-support rate


@pytest.mark.parametrize(("n_outside", "status"), [(30, WARNING), (150, RETRAIN)])
def test_k204_out_of_support_rows_are_an_alarm(n_outside: int, status: CheckStatus) -> None:
    rows = batch(1_000)
    assert_alarm(
        run("K204", evaluation(rows.assign(period=np.where(np.arange(1_000) < n_outside, 10.0, rows["period"])))),
        status,
        "% of the rows are out of support",
    )


def test_k204_rows_like_the_training_rows_pass() -> None:
    assert_passed(run("K204", evaluation(batch(1_000))), "of the rows are out of support")


# K301 Estimated performance


@pytest.mark.parametrize(("away", "status"), [(0.03, WARNING), (0.002, RETRAIN)])
def test_k301_a_worse_estimate_is_an_alarm_without_a_label(away: float, status: CheckStatus) -> None:
    found = run(
        "K301", evaluation(unlabeled(with_accuracy(4_000, 0.5, distance=away)), against=sixty_percent_accurate())
    )
    assert_alarm(found, status, "estimated without labels: ")
    assert "accuracy is worse by 1" in found.message
    assert "accuracy 0.600 to 0.5" in found.details


def test_k301_an_equal_estimate_passes() -> None:
    found = run("K301", evaluation(unlabeled(batch(1_000))))
    assert_passed(found, "no estimated metric is worse than on the reference")
    assert found.details.startswith("log_loss 0.6")


def test_k301_is_skipped_for_few_rows_and_for_out_of_support_rows() -> None:
    rows = batch(1_000)
    assert_skipped(run("K301", evaluation(rows.assign(period=10.0))), "an estimate needs 30")
    assert_skipped(run("K301", evaluation(rows.head(29))), "an estimate needs 30")
    partly = rows.assign(period=np.where(np.arange(1_000) < 100, 10.0, rows["period"]))
    assert_skipped(run("K301", evaluation(partly)), "their performance cannot be estimated without labels")


@pytest.mark.parametrize(("predicted", "status"), [(2, CheckStatus.PASSED), (400, RETRAIN)])
def test_k301_an_f1_that_may_be_zero_on_the_reference_is_no_alarm(predicted: int, status: CheckStatus) -> None:
    reference, random = batch(3_000), np.random.default_rng(0)
    probability = np.where(np.arange(3_000) < predicted, 0.6, 0.4)
    labels = (random.random(3_000) < probability).astype(float)
    labels[:2] = 1.0
    table = reference.assign(**{PROBABILITY: probability, PREDICTION: (probability >= 0.5).astype(int), TARGET: labels})
    data = ReferenceData(population().head(4_000), table, default(), name="base_test")
    rows = batch(1_000, seed=2).assign(**{PROBABILITY: 0.4, PREDICTION: 0, TARGET: np.nan})
    found = run("K301", evaluation(rows, against=data))
    assert data.performance.metrics["f1_score"] > 0
    assert found.status == status
    assert ("f1_score is worse by 100%" in found.message) == found.status.is_alarm


# K401 Model age


@pytest.mark.parametrize(
    ("days", "status"), [(0, CheckStatus.PASSED), (90, CheckStatus.PASSED), (91, CheckStatus.WARNING)]
)
def test_k401_a_champion_older_than_ninety_days_is_a_warning(days: int, status: CheckStatus) -> None:
    champion = CHAMPION.model_copy(update={"promotions": (Promotion(when=NOW - timedelta(days=days)),)})
    found = run("K401", evaluation(batch(2), ServingState(NOW, champion)))
    assert found.status == status
    assert f"version 7 was promoted {days} days ago" in found.message


def test_k401_needs_a_champion_and_its_promotion_date() -> None:
    assert_skipped(run("K401", evaluation(batch(2))), "there is no champion")
    assert_skipped(
        run("K401", evaluation(batch(2), ServingState(NOW, CHAMPION.model_copy(update={"promotions": ()})))),
        "the promotion date of version 7 is unknown",
    )


# K402 Endpoint health, K403 Served version


def served(version: str | None) -> ServingState:
    return ServingState(NOW, CHAMPION, URL, EndpointInfo(URL, version, None, "3.17.2", inference_log=True))


def test_k402_an_endpoint_that_does_not_respond_is_a_warning() -> None:
    found = run("K402", evaluation(batch(2), ServingState(NOW, CHAMPION, URL, None)))
    assert_alarm(found, WARNING, f"no response from {URL}; start the server: make serve")
    assert_passed(run("K402", evaluation(batch(2), served("7"))), f"{URL} responds")
    for code in ("K402", "K403"):
        assert_skipped(run(code, evaluation(batch(2))), "no endpoint was given")


def test_k403_a_served_version_other_than_the_champion_is_a_warning() -> None:
    assert_alarm(
        run("K403", evaluation(batch(2), served("6"))), WARNING, "version 6 is served; the champion is version 7"
    )
    without = replace(served("6"), champion=None)
    assert_alarm(run("K403", evaluation(batch(2), without)), WARNING, "version 6 is served; the champion is none")


def test_k403_the_champion_passes_and_an_unknown_version_is_skipped() -> None:
    assert_passed(run("K403", evaluation(batch(2), served("7"))), "version 7 is served and is the champion")
    assert_skipped(run("K403", evaluation(batch(2), served(None))), "does not report its version")
    assert_skipped(run("K403", evaluation(batch(2), ServingState(NOW, CHAMPION, URL, None))), "no endpoint responded")


# K404 Scoring version


def by(*versions: int | None) -> pd.DataFrame:
    return batch(len(versions)).assign(**{MODEL_VERSION: pd.array(versions, dtype="Int64")})


def scored_by_versions(*versions: int | None) -> Evaluation:
    """The evaluation of rows that these versions scored, one version of them selected."""
    found = rows_of_version(by(*versions), CHAMPION.version)
    return replace(evaluation(found.table, ServingState(NOW, CHAMPION)), excluded=found.excluded)


def test_k404_rows_of_a_version_other_than_the_champion_are_a_warning() -> None:
    found = run("K404", scored_by_versions(5, 6, 5, None))
    assert_alarm(found, WARNING, "version 5 scored these rows, and all results are about it; the champion is version 7")
    assert "Excluded: 1 rows by version 6, 1 rows by an unknown version" in found.message


def test_k404_rows_of_other_versions_are_excluded_and_counted() -> None:
    found = run("K404", scored_by_versions(7, 5, 6, 5, None))
    assert_passed(found, "the rows were scored by the champion, version 7")
    assert found.details == "excluded: 2 rows by version 5, 1 rows by version 6, 1 rows by an unknown version"


def test_k404_rows_of_the_champion_pass() -> None:
    assert_passed(run("K404", scored_by_versions(7, 7)), "all rows were scored by the champion")


# K108 New rows


@pytest.mark.parametrize("column", [IN_REFERENCE, IN_TRAINING])
def test_k108_training_and_reference_rows_are_a_warning_and_other_checks_are_skipped(column: str) -> None:
    found = run_checks(evaluation(batch(500).assign(**{column: np.arange(500) < 450})), CHECKS)
    results = {result.code: result for result in found.results}
    assert results["K108"].status == CheckStatus.WARNING
    assert "450 of 500 rows are not new to the model" in results["K108"].message
    skipping = ("K101", "K102", "K103", "K104", "K105", "K201", "K202", "K203", "K204", "K301")
    assert {results[code].status for code in skipping} == {CheckStatus.SKIPPED}
    assert found.status == HealthStatus.WARNING


def test_k108_a_few_reference_rows_are_excluded_and_the_others_are_evaluated() -> None:
    evaluated = evaluation(batch(500).assign(**{IN_REFERENCE: np.arange(500) < 40}))
    assert_passed(run("K108", evaluated), "40 of 500 rows are training or reference rows")
    assert len(evaluated.labeled) == 460
    assert "460 labeled rows" in run("K101", evaluated).details


def test_k108_new_rows_pass() -> None:
    assert_passed(run("K108", evaluation(batch(100))), "all rows are new")


def test_k404_needs_a_champion_and_a_known_version() -> None:
    assert_skipped(run("K404", evaluation(by(7, 7))), "there is no champion")
    for rows in (batch(2), by(None, None)):
        assert_skipped(
            run("K404", evaluation(rows, ServingState(NOW, CHAMPION))), "the version that scored the rows is unknown"
        )


# All of them


def test_a_batch_of_the_same_population_is_healthy() -> None:
    found = run_checks(evaluation(batch(1_000), served("7")), CHECKS)
    assert found.status == HealthStatus.HEALTHY, found.reasons
    assert {result.status for result in found.results} == {CheckStatus.PASSED, CheckStatus.SKIPPED}
    assert [result.code for result in found.results if result.status == CheckStatus.SKIPPED] == ["K404"]


def test_concept_drift_fails_though_nothing_else_has_drifted() -> None:
    rows = batch(1_000)
    found = run_checks(evaluation(rows.assign(**{TARGET: 1.0 - rows[PREDICTION]})), CHECKS)
    assert found.status == HealthStatus.RETRAIN
    assert {result.code for result in found.alarms} == {"K101", "K102", "K103", "K104", "K105"}


def test_shots_from_another_location_fail_without_labels() -> None:
    rows = unlabeled(batch(1_000))
    found = run_checks(evaluation(rows.assign(lat=rows["lat"] - 0.4, shot_distance=rows["shot_distance"] + 40)), CHECKS)
    assert found.status == HealthStatus.RETRAIN
    assert {result.code for result in found.alarms} >= {"K106", "K201", "K203", "K204"}


def out_of_support(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(period=10.0)


UNUSUAL: dict[str, Callable[[], pd.DataFrame]] = {
    "one row": lambda: batch(1),
    "one unlabeled row": lambda: unlabeled(batch(1)),
    "two rows": lambda: batch(2),
    "thirty rows": lambda: batch(30),
    "no label": lambda: unlabeled(batch(300)),
    "one label": lambda: batch(300).assign(shot_made_flag=lambda t: t[TARGET].where(t.index == 0)),
    "all made": lambda: batch(300).assign(shot_made_flag=1.0),
    "all missed": lambda: batch(300).assign(shot_made_flag=0.0),
    "a constant P(made)": lambda: batch(300).assign(probability=0.45),
    "a certain model": lambda: batch(300).assign(probability=lambda t: t[TARGET]),
    "a certain model that is wrong": lambda: batch(300).assign(probability=lambda t: 1 - t[TARGET]),
    "one shot repeated": lambda: pd.concat([batch(1)] * 200, ignore_index=True),
    "all out of support": lambda: out_of_support(batch(300)),
    "all but one out of support": lambda: pd.concat([out_of_support(batch(300)), batch(1)], ignore_index=True),
    "rows with an index of their own": lambda: batch(300).set_index(np.arange(300) // 2 + 9),
    "columns of another writer": lambda: logged(batch(300), 9).assign(model_version=7, shot_id=1, season="2000-01"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_no_valid_batch_makes_a_check_raise(name: str) -> None:
    table = UNUSUAL[name]()
    found = run_checks(evaluation(table, served("7")), CHECKS)
    assert [result.message for result in found.results if result.status == CheckStatus.ERROR] == []
    for check, result in zip(CHECKS, found.results, strict=True):
        assert result.message
        assert "nan" not in result.message + result.details
        if result.status == RETRAIN:
            assert check.worst == RETRAIN, f"{check.code} returns more than its worst status"


def test_features_that_are_not_finite_are_an_alarm_and_not_healthy() -> None:
    found = run_checks(evaluation(batch(100).assign(lat=np.inf)), CHECKS)
    assert {result.code for result in found.results if result.status == CheckStatus.ERROR} >= {"K201", "K204", "K301"}
    assert found.status != HealthStatus.HEALTHY


@pytest.mark.parametrize(
    ("versions", "expected", "rows", "excluded"),
    [
        ([4, 3, 3], "3", 2, {"4": 1}),
        ([4, 7, 4, 4], "7", 1, {"4": 3}),
        ([None, 4, None], "4", 1, {"": 2}),
        ([None, None], "7", 2, {}),
        ([], "7", 0, {}),
    ],
)
def test_rows_of_one_version_are_selected_the_champions_where_there_are_any(
    versions: list[int | None], expected: str, rows: int, excluded: dict[str, int]
) -> None:
    found = rows_of_version(pd.DataFrame({MODEL_VERSION: pd.array(versions, dtype="Int64")}), "7")
    assert (found.version, len(found.table), found.excluded) == (expected, rows, excluded)
    assert rows_of_version(batch(3), "7").version == "7"


def test_an_evaluation_computes_only_what_is_accessed() -> None:
    evaluated = evaluation(
        unlabeled(batch(5)), against=ReferenceData(population().head(1), population().head(1), default())
    )
    assert_alarm(run("K106", evaluated), WARNING, "5 of 5")
    with pytest.raises(ValueError, match="two or more training rows"):
        run("K204", evaluated)
    assert evaluation(unlabeled(batch(5))).actual_performance is None


def test_actual_performance_covers_the_supported_labeled_rows() -> None:
    rows = with_accuracy(1_000, 0.6)
    mixed = pd.concat(
        [rows, out_of_support(with_accuracy(1_000, 0.2)), unlabeled(with_accuracy(500, 0.1))], ignore_index=True
    )
    found = evaluation(mixed, against=sixty_percent_accurate()).actual_performance
    assert found is not None
    supported = len(rows) - evaluation(rows, against=sixty_percent_accurate()).out_of_support.sum()
    assert found.rows == supported
    assert found.metrics["accuracy"] == pytest.approx(0.6, abs=0.01)


def test_labels_are_measured_at_the_threshold_of_the_version() -> None:
    rows = with_accuracy(100, 0.6)
    strict = ReferenceData(population().head(100), rows, default(), threshold=0.7)
    assert strict.performance.metrics["recall"] == evaluation(rows, against=strict).performance.metrics["recall"] == 0
    assert evaluation(rows, against=sixty_percent_accurate()).performance.metrics["recall"] == 0.6


def test_of_the_labels_of_a_sampled_batch_those_of_the_selected_version_count() -> None:
    selected = rows_of_version(batch(3).assign(**{MODEL_VERSION: pd.array([7, 7, 8], dtype="Int64")}), "7")
    labels = batch(4).assign(**{MODEL_VERSION: pd.array([7, 8, None, 7], dtype="Int64")})
    assert selected.of(labels)[MODEL_VERSION].tolist() == [7, 7]
    assert len(selected.of(batch(4))) == 4


# Limits of a description


def described(against: ReferenceData, **limits: float) -> ReferenceData:
    """A reference whose description has other limits."""
    monitoring = default().monitoring.model_copy(update=limits)
    dataset = default().model_copy(update={"monitoring": monitoring})
    return ReferenceData(against.training, against.table, dataset, name=against.name)


def unlabeled_third(rows: int = 900) -> pd.DataFrame:
    table = batch(rows)
    return table.assign(**{TARGET: table[TARGET].where(np.arange(rows) % 3 > 0)})


@pytest.mark.parametrize(
    ("code", "limits", "before", "after"),
    [
        ("K106", {"max_unlabeled": 0.2}, CheckStatus.PASSED, WARNING),
        ("K106", {"label_delay_days": 30.0}, CheckStatus.PASSED, CheckStatus.SKIPPED),
        ("K204", {"max_out_of_support": 0.01}, WARNING, RETRAIN),
        ("K401", {"stale_after_days": 20.0}, CheckStatus.PASSED, WARNING),
    ],
)
def test_a_limit_of_the_description_is_that_of_its_check(
    code: str, limits: dict[str, float], before: CheckStatus, after: CheckStatus
) -> None:
    rows = unlabeled_third()
    rows = rows.assign(time=(NOW - timedelta(days=10)).replace(tzinfo=None))
    rows = rows.assign(period=np.where(np.arange(len(rows)) < 30, 10.0, rows["period"]))
    against = reference_data()
    found = [
        run(code, evaluation(rows, against=each, live=ServingState(NOW, CHAMPION))).status
        for each in (against, described(against, **limits))
    ]
    assert found == [before, after]


@pytest.mark.parametrize(
    ("share", "limits", "before", "after"),
    [
        (0.52, {"max_degradation": 0.11}, WARNING, RETRAIN),
        (0.55, {"warning_degradation": 0.03}, CheckStatus.PASSED, WARNING),
    ],
)
def test_a_degradation_is_an_alarm_above_the_limits_of_the_description(
    share: float, limits: dict[str, float], before: CheckStatus, after: CheckStatus
) -> None:
    found = [
        run("K101", graded(6_000, share, against=each)).status
        for each in (sixty_percent_accurate(), described(sixty_percent_accurate(), **limits))
    ]
    assert found == [before, after]
