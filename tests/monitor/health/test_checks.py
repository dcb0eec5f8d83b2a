from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from data.schema import IN_TRAINING, MODEL_VERSION, PREDICTION, PROBABILITY, TARGET
from monitor.health.baseline import ReferenceData
from monitor.health.checks import CHECKS, WARNING_LOSS
from monitor.health.evaluation import IN_REFERENCE, Evaluation, ServingState, of_version
from monitor.health.verdict import CheckResult, Severity, Status, Verdict, run_checks
from monitor.metrics.intervals import relative_degradation
from monitor.store.records import Promotion
from serving.client.probe import EndpointInfo
from tests.evaluations import CHAMPION, NOW, batch, evaluation, population, sixty_percent_accurate, with_accuracy

WARNING, RETRAIN = Severity.WARNING, Severity.RETRAIN
ADDRESS = "http://127.0.0.1:5001"


def ask(code: str, seen: Evaluation) -> CheckResult:
    """What one check says."""
    return next(check for check in CHECKS if check.code == code).ask(seen)


def graded(rows: int, share: float, *, away: float = 0.1, against: ReferenceData | None = None) -> Evaluation:
    """A look at shots of which a share was predicted right, where it was six in ten before."""
    return evaluation(with_accuracy(rows, share, away=away), against=against or sixty_percent_accurate())


def unlabelled(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{TARGET: np.nan})


def assert_idle(answer: CheckResult, reason: str) -> None:
    assert (answer.status, answer.severity) == (Status.NOT_APPLICABLE, None)
    assert reason in answer.words


def assert_fine(answer: CheckResult, words: str) -> None:
    assert (answer.status, answer.severity) == (Status.FINE, None)
    assert words in answer.words


def assert_found(answer: CheckResult, severity: Severity, words: str) -> None:
    assert (answer.status, answer.severity) == (Status.FINDING, severity)
    assert words in answer.words


def test_every_check_has_a_code_and_a_title_of_its_own_and_stands_in_the_order_of_the_codes() -> None:
    codes = [check.code for check in CHECKS]
    assert codes == sorted(set(codes))
    assert len({check.title for check in CHECKS}) == len(CHECKS) == 17


# K101 Label metrics


def test_k101_a_loss_of_more_than_a_tenth_beyond_chance_is_a_warning() -> None:
    found = ask("K101", graded(4_000, 0.53))
    assert_found(found, WARNING, "roc_auc is worse by 12%, f1_score is worse by 12%, accuracy is worse by 12%")
    assert "log_loss" not in found.words
    assert "accuracy 0.600 → 0.530 (95%: 0.51" in found.figures
    assert found.figures.startswith("4,000 labelled rows against 4,000")


def test_k101_a_loss_of_more_than_fifteen_percent_asks_for_a_new_model() -> None:
    assert_found(ask("K101", graded(4_000, 0.5)), RETRAIN, "accuracy is worse by 17%")


def test_k101_a_small_loss_and_one_that_may_be_chance_are_fine() -> None:
    assert_fine(ask("K101", graded(4_000, 0.56)), "none of 5 is worse by more than 10% and beyond chance")
    assert_fine(ask("K101", graded(240, 0.53)), "none of 5")
    assert_fine(ask("K101", graded(4_000, 0.7)), "none of 5")


def test_k101_a_loss_is_beyond_chance_only_if_that_holds_for_five_metrics_at_once() -> None:
    reference = ReferenceData(batch(50), with_accuracy(1_000, 0.6))
    seen = graded(500, 0.536, against=reference)
    alone = relative_degradation(seen.performance, reference.performance, "accuracy")
    assert alone.value > WARNING_LOSS
    assert alone.low > 0
    assert_fine(ask("K101", seen), "none of 5")


def test_k101_needs_a_hundred_labels() -> None:
    assert_idle(ask("K101", graded(28, 0.1)), "fewer than 100 rows have a label")
    assert ask("K101", graded(400, 0.1)).status == Status.FINDING


def test_k101_is_about_the_labelled_rows_alone() -> None:
    rows = pd.concat([with_accuracy(4_000, 0.6), unlabelled(with_accuracy(4_000, 0.1))], ignore_index=True)
    found = ask("K101", evaluation(rows, against=sixty_percent_accurate()))
    assert_fine(found, "none of 5")
    assert "4,000 labelled rows against 4,000" in found.figures


def test_labels_of_a_batch_of_which_a_sample_is_looked_at_are_all_judged_and_weigh_nothing_in_drift() -> None:
    sample, labels = unlabelled(batch(400)), with_accuracy(300, 0.2)
    without = evaluation(sample, against=sixty_percent_accurate())
    found = replace(without, labels=labels)
    assert_idle(ask("K101", without), "fewer than 100 rows")
    assert_found(ask("K101", found), RETRAIN, "worse by")
    assert found.performance.rows == 300
    assert found.drift.rows == without.drift.rows == 400
    assert found.drift.mean_difference == without.drift.mean_difference
    few = replace(without, labels=labels.head(99))
    for code in ("K101", "K102", "K103", "K104", "K105"):
        assert ask(code, few).status == Status.NOT_APPLICABLE


def test_k101_says_so_where_no_metric_can_be_compared() -> None:
    never = ReferenceData(batch(50), with_accuracy(100, 0.6).assign(**{PROBABILITY: 0.9, TARGET: 0.0}))
    assert_idle(ask("K104", graded(100, 0.6, against=never)), "none of these metrics is about 100 rows")


# K102 Skill


def test_k102_skill_that_is_gone_asks_for_a_new_model_and_says_from_where_to_where() -> None:
    found = ask("K102", graded(4_000, 0.5))
    assert_found(found, RETRAIN, "log_loss_skill fell from 2.9% to -2.9%")
    assert "brier_skill fell from 4.0% to -4.0%" in found.words


def test_k102_skill_that_is_kept_is_fine_though_others_fall() -> None:
    assert_fine(ask("K102", graded(4_000, 0.6)), "none of 2")
    assert_fine(ask("K102", graded(120, 0.55)), "none of 2")


def test_k102_has_nothing_to_lose_where_the_reference_shows_no_skill() -> None:
    unskilled = ReferenceData(batch(50), with_accuracy(4_000, 0.5))
    assert_idle(ask("K102", graded(4_000, 0.4, against=unskilled)), "no skill on the reference either")


def test_k102_needs_a_hundred_labels_of_both_kinds() -> None:
    assert_idle(ask("K102", graded(28, 0.1)), "fewer than 100 rows")
    alike = evaluation(with_accuracy(100, 0.6).assign(**{TARGET: 1.0}), against=sixty_percent_accurate())
    assert_idle(ask("K102", alike), "none of these metrics is about 100 rows")


# K103 Compared with the base rate


def test_k103_a_model_that_is_worse_than_the_base_rate_asks_for_a_new_one() -> None:
    found = ask("K103", graded(4_000, 0.5))
    assert_found(found, RETRAIN, "the model is worse than the base rate: skill -2.9%")
    assert found.figures == "log loss 0.7136; of the base rate 0.500 on the same rows 0.6931"


@pytest.mark.parametrize("share", [0.52, 0.55, 0.57])
def test_k103_a_skill_whose_interval_holds_zero_is_called_neither_better_nor_worse(share: float) -> None:
    found = ask("K103", graded(100, share))
    assert_fine(found, "the model is not distinguishable from the base rate: skill")
    assert "better" not in found.words + found.figures


def test_k103_a_model_that_is_better_is_fine() -> None:
    assert_fine(ask("K103", graded(4_000, 0.6)), "better than the base rate: skill +2.9%")
    assert_fine(ask("K103", evaluation(batch(1_000))), "better than the base rate")


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_k103_needs_a_hundred_labels_of_both_kinds(label: float) -> None:
    assert_idle(ask("K103", graded(28, 0.5)), "fewer than 100 rows")
    assert_idle(ask("K103", evaluation(batch(140).assign(**{TARGET: label}))), "all labels are the same")


# K104 Control sample


def test_k104_sensitivity_specificity_or_precision_that_fell_is_found() -> None:
    found = ask("K104", graded(4_000, 0.53))
    assert_found(found, WARNING, "sensitivity is worse by 12%, specificity is worse by 12%, precision is worse by 12%")
    assert "sensitivity 0.600 → 0.530" in found.figures
    assert_found(ask("K104", graded(4_000, 0.45)), RETRAIN, "sensitivity is worse by 25%")


def test_k104_one_of_them_alone_is_named_alone() -> None:
    rows = with_accuracy(4_000, 0.6)
    hidden = rows.assign(**{PROBABILITY: rows[PROBABILITY].where(rows[TARGET] == 0, 0.4)})
    found = ask("K104", evaluation(hidden, against=sixty_percent_accurate()))
    assert_found(found, RETRAIN, "sensitivity is worse by 100%")
    assert "specificity" not in found.words


def test_k104_a_share_of_few_rows_is_not_judged() -> None:
    rows = with_accuracy(4_000, 0.6)
    once = rows.assign(**{PROBABILITY: rows[PROBABILITY].where(rows.index == 0, 0.45)})
    found = ask("K104", evaluation(once, against=sixty_percent_accurate()))
    assert "precision" not in found.words
    made = evaluation(with_accuracy(400, 0.6).assign(**{TARGET: 1.0}), against=sixty_percent_accurate())
    assert "specificity" not in ask("K104", made).words


def test_k104_is_fine_where_they_held_and_needs_a_hundred_labels() -> None:
    assert_fine(ask("K104", graded(4_000, 0.59)), "none of 3")
    assert_idle(ask("K104", graded(28, 0.1)), "fewer than 100 rows")


# K105 Calibration


def test_k105_probabilities_that_are_not_the_rate_are_found() -> None:
    found = ask("K105", graded(4_000, 0.53))
    assert_found(found, WARNING, "P(made) is off by 0.070 on average")
    assert "mean P(made) 0.500, rate 0.500" in found.figures
    assert ask("K105", graded(4_000, 0.1)).severity == WARNING


def test_k105_what_chance_explains_and_what_is_too_small_to_matter_is_fine() -> None:
    assert_fine(ask("K105", evaluation(batch(1_000))), "no more than on the reference")
    assert_fine(ask("K105", graded(120, 0.53)), "no more than on the reference")
    small = ask("K105", graded(30_000, 0.59))
    assert_fine(small, "P(made) is off by 0.010 on average")
    assert "reference" not in small.words


def test_k105_needs_a_hundred_labels() -> None:
    assert_idle(ask("K105", graded(28, 0.1)), "fewer than 100 rows")


def test_k105_what_the_reference_is_off_too_is_not_found() -> None:
    crooked = ReferenceData(batch(50), with_accuracy(4_000, 0.53))
    assert_fine(ask("K105", graded(4_000, 0.53, against=crooked)), "P(made) is off by 0.070 on average, no more than")


# K106 Labels arrive


def logged(table: pd.DataFrame, days_ago: float) -> pd.DataFrame:
    return table.assign(time=(NOW - timedelta(days=days_ago)).replace(tzinfo=None))


def test_k106_more_than_half_without_a_label_is_found() -> None:
    rows = batch(100)
    rows.loc[:50, TARGET] = np.nan
    assert_found(ask("K106", evaluation(rows)), WARNING, "51 of 100 rows have no label (51.0%)")
    assert_found(ask("K106", evaluation(unlabelled(rows))), WARNING, "100 of 100 rows")


def test_k106_half_is_fine() -> None:
    rows = batch(100)
    rows.loc[:49, TARGET] = np.nan
    assert_fine(ask("K106", evaluation(rows)), "50 of 100 rows have no label (50.0%)")


def test_k106_of_logged_rows_only_those_count_whose_label_is_due() -> None:
    old, young = logged(batch(100), 8), logged(unlabelled(batch(900)), 6.9)
    both = pd.concat([old, young], ignore_index=True)
    assert_fine(ask("K106", evaluation(both)), "0 of 100 rows older than 7 days have no label")
    late = pd.concat([logged(unlabelled(batch(100)), 7.1), logged(batch(900), 1)], ignore_index=True)
    assert_found(ask("K106", evaluation(late)), WARNING, "100 of 100 rows older than 7 days")
    assert_idle(ask("K106", evaluation(young)), "no row is older than 7 days")


# K107 Enough rows


def test_k107_few_rows_are_said_to_be_too_few_so_that_they_are_never_called_healthy() -> None:
    assert_found(ask("K107", evaluation(batch(29))), WARNING, "29 rows are too few to judge")
    assert run_checks(evaluation(batch(1)), CHECKS).verdict == Verdict.WATCH
    assert_fine(ask("K107", evaluation(batch(30))), "30 rows")


# K201 Feature drift


def test_k201_features_that_moved_far_ask_for_a_new_model_and_the_farthest_is_named_first() -> None:
    rows = batch(500)
    far = rows.assign(shot_distance=rows["shot_distance"] + 12, minutes_remaining=rows["minutes_remaining"] * 0.7)
    found = ask("K201", evaluation(far))
    assert_found(found, RETRAIN, "2 of 6 features have moved, shot_distance most, by 1")
    assert found.words.endswith(" feet")
    assert found.figures.startswith("shot_distance PSI ")
    assert "; minutes_remaining PSI " in found.figures


def test_k201_a_feature_that_moved_a_little_is_a_warning() -> None:
    rows = batch(2_000)
    near = rows.assign(playoffs=np.where(np.arange(2_000) < 200, 1.0, rows["playoffs"]))
    found = ask("K201", evaluation(near))
    assert_found(found, WARNING, "1 of 6 features have moved, playoffs most, by 0.0")
    assert not found.words.endswith(" ")


def test_k201_the_psi_of_a_few_rows_does_not_ask_for_a_new_model() -> None:
    moved = batch(5).assign(shot_distance=40.0, lat=33.6)
    assert ask("K201", evaluation(moved)).severity == WARNING


def test_k201_shots_of_the_same_kind_are_fine_with_labels_and_without() -> None:
    for rows in (batch(500), unlabelled(batch(500))):
        assert_fine(ask("K201", evaluation(rows)), "none of 6 features is farther away than chance explains")


# K202 Prediction drift


def test_k202_probabilities_that_moved_are_a_warning() -> None:
    rows = batch(500)
    found = ask("K202", evaluation(rows.assign(**{PROBABILITY: rows[PROBABILITY] - 0.15})))
    assert_found(found, WARNING, "P(made) has moved by -0.1")
    assert found.figures.startswith("probability PSI ")


def test_k202_probabilities_as_before_are_fine() -> None:
    assert_fine(ask("K202", evaluation(batch(500))), "distributed as in the reference")


# K203 Domain classifier


def test_k203_columns_that_go_together_otherwise_are_found_though_none_has_moved() -> None:
    rows = batch(1_000)
    shuffled = rows.assign(shot_distance=rows["shot_distance"].sample(frac=1, random_state=0).to_numpy())
    assert_fine(ask("K201", evaluation(shuffled)), "none of 6")
    assert_found(ask("K203", evaluation(shuffled)), WARNING, "a classifier can tell current rows from reference rows")


def test_k203_shots_of_the_same_kind_are_fine() -> None:
    found = ask("K203", evaluation(batch(1_000)))
    assert_fine(found, "cannot tell")
    assert "by chance up to 0.5" in found.figures


def test_k203_needs_fifty_rows() -> None:
    assert_idle(ask("K203", evaluation(batch(49))), "takes 50 rows on either side")
    assert ask("K203", evaluation(batch(50))).status == Status.FINE


# K204 Training support


@pytest.mark.parametrize(("strange", "severity"), [(30, WARNING), (150, RETRAIN)])
def test_k204_rows_where_nothing_was_learned_are_found(strange: int, severity: Severity) -> None:
    rows = batch(1_000)
    assert_found(
        ask("K204", evaluation(rows.assign(period=np.where(np.arange(1_000) < strange, 10.0, rows["period"])))),
        severity,
        "% of the rows lie outside the training support",
    )


def test_k204_rows_like_the_training_rows_are_fine() -> None:
    assert_fine(ask("K204", evaluation(batch(1_000))), "of the rows lie outside the training support")


# K301 Estimate without labels


@pytest.mark.parametrize(("away", "severity"), [(0.03, WARNING), (0.002, RETRAIN)])
def test_k301_probabilities_that_promise_less_are_found_without_a_label(away: float, severity: Severity) -> None:
    found = ask("K301", evaluation(unlabelled(with_accuracy(4_000, 0.5, away=away)), against=sixty_percent_accurate()))
    assert_found(found, severity, "expected without labels: ")
    assert "accuracy is worse by 1" in found.words
    assert "accuracy 0.600 → 0.5" in found.figures


def test_k301_probabilities_that_promise_as_much_are_fine() -> None:
    found = ask("K301", evaluation(unlabelled(batch(1_000))))
    assert_fine(found, "about those of the reference")
    assert found.figures.startswith("log_loss 0.6")


def test_k301_promises_nothing_of_rows_outside_the_support_or_of_a_few() -> None:
    rows = batch(1_000)
    assert_idle(ask("K301", evaluation(rows.assign(period=10.0))), "an estimate needs 30")
    assert_idle(ask("K301", evaluation(rows.head(29))), "an estimate needs 30")
    partly = rows.assign(period=np.where(np.arange(1_000) < 100, 10.0, rows["period"]))
    assert_idle(ask("K301", evaluation(partly)), "nothing can be promised of them without labels")


# K401 Age of the model


@pytest.mark.parametrize(("days", "status"), [(0, Status.FINE), (90, Status.FINE), (91, Status.FINDING)])
def test_k401_a_champion_of_more_than_ninety_days_is_old(days: int, status: Status) -> None:
    champion = CHAMPION.model_copy(update={"promotions": (Promotion(when=NOW - timedelta(days=days)),)})
    found = ask("K401", evaluation(batch(2), ServingState(NOW, champion)))
    assert found.status == status
    assert f"version 7 was promoted {days} days ago" in found.words


def test_k401_needs_a_champion_and_the_day_of_its_promotion() -> None:
    assert_idle(ask("K401", evaluation(batch(2))), "there is no champion")
    assert_idle(
        ask("K401", evaluation(batch(2), ServingState(NOW, CHAMPION.model_copy(update={"promotions": ()})))),
        "nobody wrote down",
    )


# K402 Endpoint, K403 Version served


def served(version: str | None) -> ServingState:
    return ServingState(NOW, CHAMPION, ADDRESS, EndpointInfo(ADDRESS, version, None, "3.17.2", inference_log=True))


def test_k402_a_server_that_does_not_answer_is_found() -> None:
    found = ask("K402", evaluation(batch(2), ServingState(NOW, CHAMPION, ADDRESS, None)))
    assert_found(found, WARNING, f"nothing answers at {ADDRESS}; start it: make serve")
    assert_fine(ask("K402", evaluation(batch(2), served("7"))), f"{ADDRESS} answers")
    assert_idle(ask("K402", evaluation(batch(2))), "no endpoint was given")


def test_k403_a_server_of_another_version_than_the_champion_is_found() -> None:
    assert_found(
        ask("K403", evaluation(batch(2), served("6"))), WARNING, "version 6 is served, the champion is version 7"
    )
    nobody = replace(served("6"), champion=None)
    assert_found(ask("K403", evaluation(batch(2), nobody)), WARNING, "version 6 is served, the champion is none")


def test_k403_the_champion_is_fine_and_a_server_may_be_silent() -> None:
    assert_fine(ask("K403", evaluation(batch(2), served("7"))), "version 7 is served and is the champion")
    assert_idle(ask("K403", evaluation(batch(2), served(None))), "does not say which version")
    assert_idle(
        ask("K403", evaluation(batch(2), ServingState(NOW, CHAMPION, ADDRESS, None))), "nothing is known of a server"
    )


# K404 Version that scored


def by(*versions: int | None) -> pd.DataFrame:
    return batch(len(versions)).assign(**{MODEL_VERSION: pd.array(versions, dtype="Int64")})


def judged(*versions: int | None) -> Evaluation:
    """A look at what can be judged together of rows that these versions scored."""
    found = of_version(by(*versions), CHAMPION.version)
    return replace(evaluation(found.table, ServingState(NOW, CHAMPION)), left_out=found.left_out)


def test_k404_rows_of_another_version_than_the_champion_are_found() -> None:
    found = ask("K404", judged(5, 6, 5, None))
    assert_found(found, WARNING, "version 5 scored these rows, and every figure is about it; the champion is version 7")
    assert "Left out: 1 rows by version 6, 1 rows by an unknown version" in found.words


def test_k404_rows_of_others_beside_the_champions_are_left_out_and_counted() -> None:
    found = ask("K404", judged(7, 5, 6, 5, None))
    assert_fine(found, "the rows were scored by the champion, version 7")
    assert found.figures == "left out: 2 rows by version 5, 1 rows by version 6, 1 rows by an unknown version"


def test_k404_rows_of_the_champion_are_fine() -> None:
    assert_fine(ask("K404", judged(7, 7)), "all rows were scored by the champion")


# K108 New rows


@pytest.mark.parametrize("column", [IN_REFERENCE, IN_TRAINING])
def test_k108_rows_that_are_the_models_own_are_found_and_nothing_is_judged_by_them(column: str) -> None:
    found = run_checks(evaluation(batch(500).assign(**{column: np.arange(500) < 450})), CHECKS)
    told = {outcome.code: outcome for outcome in found.outcomes}
    assert told["K108"].status == Status.FINDING
    assert "the model knows 450 of 500 rows already" in told["K108"].words
    judging = ("K101", "K102", "K103", "K104", "K105", "K201", "K202", "K203", "K204", "K301")
    assert {told[code].status for code in judging} == {Status.NOT_APPLICABLE}
    assert found.verdict == Verdict.WATCH


def test_k108_a_few_own_rows_do_not_count_and_the_others_are_judged() -> None:
    seen = evaluation(batch(500).assign(**{IN_REFERENCE: np.arange(500) < 40}))
    assert_fine(ask("K108", seen), "the model knows 40 of 500 rows already")
    assert len(seen.labelled) == 460
    assert "460 labelled rows" in ask("K101", seen).figures


def test_k108_new_rows_are_fine() -> None:
    assert_fine(ask("K108", evaluation(batch(100))), "all rows are new")


def test_k404_needs_a_champion_and_rows_that_say_who_scored_them() -> None:
    assert_idle(ask("K404", evaluation(by(7, 7))), "there is no champion")
    for rows in (batch(2), by(None, None)):
        assert_idle(
            ask("K404", evaluation(rows, ServingState(NOW, CHAMPION))), "which version scored the rows is not known"
        )


# All of them


def test_a_batch_of_the_same_population_is_healthy() -> None:
    found = run_checks(evaluation(batch(1_000), served("7")), CHECKS)
    assert found.verdict == Verdict.HEALTHY, found.reasons
    assert {outcome.status for outcome in found.outcomes} == {Status.FINE, Status.NOT_APPLICABLE}
    assert [outcome.code for outcome in found.outcomes if outcome.status == Status.NOT_APPLICABLE] == ["K404"]


def test_labels_of_another_truth_ask_for_a_new_model_though_nothing_else_moved() -> None:
    rows = batch(1_000)
    found = run_checks(evaluation(rows.assign(**{TARGET: 1.0 - rows[PREDICTION]})), CHECKS)
    assert found.verdict == Verdict.RETRAIN
    assert {outcome.code for outcome in found.alarms} == {"K101", "K102", "K103", "K104", "K105"}


def test_shots_from_elsewhere_ask_for_a_new_model_without_a_label() -> None:
    rows = unlabelled(batch(1_000))
    found = run_checks(evaluation(rows.assign(lat=rows["lat"] - 0.4, shot_distance=rows["shot_distance"] + 40)), CHECKS)
    assert found.verdict == Verdict.RETRAIN
    assert {outcome.code for outcome in found.alarms} >= {"K106", "K201", "K203", "K204"}


def outside(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(period=10.0)


STRANGE: dict[str, Callable[[], pd.DataFrame]] = {
    "one row": lambda: batch(1),
    "one unlabelled row": lambda: unlabelled(batch(1)),
    "two rows": lambda: batch(2),
    "thirty rows": lambda: batch(30),
    "no label": lambda: unlabelled(batch(300)),
    "one label": lambda: batch(300).assign(shot_made_flag=lambda t: t[TARGET].where(t.index == 0)),
    "all made": lambda: batch(300).assign(shot_made_flag=1.0),
    "all missed": lambda: batch(300).assign(shot_made_flag=0.0),
    "a constant P(made)": lambda: batch(300).assign(probability=0.45),
    "a certain model": lambda: batch(300).assign(probability=lambda t: t[TARGET]),
    "a certain model that is wrong": lambda: batch(300).assign(probability=lambda t: 1 - t[TARGET]),
    "the same shot again and again": lambda: pd.concat([batch(1)] * 200, ignore_index=True),
    "all outside": lambda: outside(batch(300)),
    "all but one outside": lambda: pd.concat([outside(batch(300)), batch(1)], ignore_index=True),
    "rows with an index of their own": lambda: batch(300).set_index(np.arange(300) // 2 + 9),
    "every column another wrote": lambda: logged(batch(300), 9).assign(model_version=7, shot_id=1, season="2000-01"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_no_batch_that_can_be_read_makes_a_check_raise(name: str) -> None:
    table = STRANGE[name]()
    found = run_checks(evaluation(table, served("7")), CHECKS)
    assert [outcome.words for outcome in found.outcomes if outcome.status == Status.ERROR] == []
    for check, outcome in zip(CHECKS, found.outcomes, strict=True):
        assert outcome.words
        assert "nan" not in outcome.words + outcome.figures
        if outcome.severity == RETRAIN:
            assert check.severity == RETRAIN, f"{check.code} asks for more than it may"


def test_features_that_are_not_finite_are_an_alarm_and_not_healthy() -> None:
    found = run_checks(evaluation(batch(100).assign(lat=np.inf)), CHECKS)
    assert {outcome.code for outcome in found.outcomes if outcome.status == Status.ERROR} >= {"K201", "K204", "K301"}
    assert found.verdict != Verdict.HEALTHY


@pytest.mark.parametrize(
    ("versions", "expected", "rows", "left_out"),
    [
        ([4, 3, 3], "3", 2, {"4": 1}),
        ([4, 7, 4, 4], "7", 1, {"4": 3}),
        ([None, 4, None], "4", 1, {"": 2}),
        ([None, None], "7", 2, {}),
        ([], "7", 0, {}),
    ],
)
def test_rows_of_one_version_are_judged_the_champions_where_there_are_any(
    versions: list[int | None], expected: str, rows: int, left_out: dict[str, int]
) -> None:
    found = of_version(pd.DataFrame({MODEL_VERSION: pd.array(versions, dtype="Int64")}), "7")
    assert (found.version, len(found.table), found.left_out) == (expected, rows, left_out)
    assert of_version(batch(3), "7").version == "7"


def test_a_look_computes_only_what_it_is_asked_for() -> None:
    seen = evaluation(unlabelled(batch(5)), against=ReferenceData(population().head(1), population().head(1)))
    assert_found(ask("K106", seen), WARNING, "5 of 5")
    with pytest.raises(ValueError, match="two or more training rows"):
        ask("K204", seen)
    assert evaluation(unlabelled(batch(5))).realised is None


def test_realised_metrics_are_those_of_the_labelled_rows_inside_the_support() -> None:
    rows = with_accuracy(1_000, 0.6)
    mixed = pd.concat(
        [rows, outside(with_accuracy(1_000, 0.2)), unlabelled(with_accuracy(500, 0.1))], ignore_index=True
    )
    found = evaluation(mixed, against=sixty_percent_accurate()).realised
    assert found is not None
    inside = len(rows) - evaluation(rows, against=sixty_percent_accurate()).outside.sum()
    assert found.rows == inside
    assert found.figures["accuracy"] == pytest.approx(0.6, abs=0.01)


def test_labels_are_measured_at_the_threshold_of_the_version() -> None:
    rows = with_accuracy(100, 0.6)
    strict = ReferenceData(population().head(100), rows, threshold=0.7)
    assert strict.performance.figures["recall"] == evaluation(rows, against=strict).performance.figures["recall"] == 0
    assert evaluation(rows, against=sixty_percent_accurate()).performance.figures["recall"] == 0.6


def test_of_labels_that_were_read_beside_a_sample_those_of_the_judged_version_count() -> None:
    judged = of_version(batch(3).assign(**{MODEL_VERSION: pd.array([7, 7, 8], dtype="Int64")}), "7")
    labels = batch(4).assign(**{MODEL_VERSION: pd.array([7, 8, None, 7], dtype="Int64")})
    assert judged.of(labels)[MODEL_VERSION].tolist() == [7, 7]
    assert len(judged.of(batch(4))) == 4
