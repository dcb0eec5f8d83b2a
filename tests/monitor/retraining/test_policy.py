import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from statsmodels.api import OLS, add_constant  # type: ignore[import-untyped]

from data.datasets import default
from data.schema import IN_TRAINING, PROBABILITY, TARGET
from monitor.health.baseline import ReferenceData
from monitor.health.evaluation import Evaluation
from monitor.health.status import Check, CheckResult, CheckStatus, failed, passed, skipped, warning
from monitor.retraining import decision_log
from monitor.retraining import policy as retraining
from monitor.retraining.policy import (
    FORCED,
    MAX_UNFINISHED_PER_DAY,
    MIN_LABELS,
    PREDICTIVE,
    REACTIVE,
    Decision,
    Precondition,
    RetrainingPolicy,
    Trigger,
    decide,
    rolling_origins,
    split_by_time,
)
from monitor.store.records import (
    FAILED,
    INTERRUPTED,
    NO_ACTION,
    NOTHING_TO_DO,
    PENDING,
    PROMOTED,
    REJECTED,
    RETRAIN,
    RetrainingDecision,
)
from tests.evaluations import NOW, batch, evaluation, population, sixty_percent_accurate, with_accuracy

POLICY = RetrainingPolicy(min_new_labels=1, holdout_size=0.5)
PREDICTIVE_ONLY = RetrainingPolicy(windows=12, min_breached_windows=12, min_new_labels=1)
"""Needs more windows than there are: no reactive trigger fires."""
DAY = timedelta(days=1)
GOOD, BAD = 0.6, 0.2
"""Accuracy of the reference, and of a window that breaches every threshold."""


@pytest.fixture
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run no check of the monitor: checks are slow and have tests of their own."""
    monkeypatch.setattr(retraining, "CHECKS", ())


def in_time(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Consecutive tables, a row a minute."""
    table = pd.concat(tables, ignore_index=True)
    return table.assign(time=pd.date_range("2026-11-01", periods=len(table), freq="min"))


def windows(*shares: float, rows: int = 200) -> pd.DataFrame:
    """Windows with these accuracies."""
    return in_time([with_accuracy(rows, share) for share in shares])


def constant(rows: int, *, rate: float, made: float) -> pd.DataFrame:
    """Shots with a positive rate, all with the same P(made)."""
    hits = round(rows * rate)
    return batch(rows).assign(**{TARGET: np.repeat([1.0, 0.0], [hits, rows - hits]), PROBABILITY: made})


def reference(share: float, away: float) -> ReferenceData:
    return ReferenceData(
        population().head(4_000), with_accuracy(4_000, share, distance=away), default(), name="base_test"
    )


def decided(  # noqa: PLR0913 each is a keyword but the rows and the policy
    table: pd.DataFrame,
    policy: RetrainingPolicy = POLICY,
    *,
    against: ReferenceData | None = None,
    log: Sequence[RetrainingDecision] = (),
    now: datetime = NOW,
    forced: bool = False,
) -> Decision:
    seen = evaluation(table, against=against or sixty_percent_accurate())
    return decide(seen, table[table[TARGET].notna()], policy, dataset=default(), log=log, now=now, forced=forced)


def trigger(found: Decision, name: str = "Labeled windows") -> Trigger:
    return next(each for each in found.triggers if each.name == name)


def precondition(found: Decision, name: str) -> Precondition:
    return next(each for each in found.preconditions if each.name == name)


def entry(  # noqa: PLR0913 each is a keyword but the outcome, the age and the labels
    outcome: str,
    age: timedelta = 10 * DAY,
    until: str = "2026-10-01",
    *,
    labels: int = 600,
    champion: str = "1",
    mode: str = "auto",
    source: str = "",
) -> RetrainingDecision:
    """An earlier decision."""
    return RetrainingDecision(
        number=1,
        decided_at=NOW - age,
        decision=NO_ACTION if outcome == NOTHING_TO_DO else RETRAIN,
        trigger="",
        mode=mode,
        reasons=(),
        outcome=outcome,
        outcome_reason="",
        champion=champion,
        challenger="",
        labels=labels,
        new_labels=0,
        labels_until=datetime.fromisoformat(until) if until else None,
        run_id="",
        model="kobe_shot",
        source=source,
    )


# Labeled windows


@pytest.mark.parametrize(
    ("shares", "fired"),
    [
        ([GOOD, GOOD, GOOD], False),
        ([GOOD, GOOD, BAD], False),
        ([GOOD, BAD, BAD], True),
        ([BAD, GOOD, BAD], True),
        ([BAD, BAD, GOOD], False),
        ([BAD, BAD, BAD], True),
        ([BAD, BAD, GOOD, GOOD, BAD], False),
    ],
)
@pytest.mark.usefixtures("no_checks")
def test_the_trigger_fires_if_two_of_the_last_three_windows_breach_and_the_latest_does(
    shares: list[float], *, fired: bool
) -> None:
    found = decided(windows(*shares))
    assert trigger(found).fired is fired
    assert (found.decision, found.trigger) == ((RETRAIN, REACTIVE) if fired else (NO_ACTION, ""))
    assert [bool(window.breaches) for window in found.windows] == [share == BAD for share in shares]


@pytest.mark.usefixtures("no_checks")
def test_the_policy_sets_how_many_windows_must_breach() -> None:
    table = windows(BAD, GOOD, GOOD, BAD)
    assert not decided(table).retrain
    assert decided(table, replace(POLICY, windows=4)).retrain
    assert decided(table, replace(POLICY, min_breached_windows=1)).retrain
    assert not decided(table, replace(POLICY, windows=4, min_breached_windows=3)).retrain


@pytest.mark.usefixtures("no_checks")
def test_the_reasons_name_the_windows_the_thresholds_and_the_changes() -> None:
    found = decided(windows(GOOD, BAD, BAD))
    (reason,) = found.reasons
    assert reason.startswith("Labeled windows: 2 of the latest 3 windows breach a threshold, including the latest: ")
    assert "log loss rose by 24%, from 0.673 to 0.835" in reason
    assert "F1 fell by 67%, from 0.600 to 0.200" in reason
    assert "worse than the base rate: skill score -20" in reason
    calm = decided(windows(BAD, BAD, GOOD))
    assert calm.reasons[0] == "no trigger fires"
    assert "2 of the latest 3 windows breach a threshold, not the latest" in calm.reasons[1]


@pytest.mark.usefixtures("no_checks")
def test_too_few_windows_cannot_be_evaluated() -> None:
    found = decided(windows(BAD))
    assert trigger(found).fired is None
    assert "1 windows of 200 labeled rows are available; 2 are needed" in trigger(found).summary
    assert not found.retrain


@pytest.mark.usefixtures("no_checks")
def test_windows_are_counted_from_the_latest_row_and_are_complete() -> None:
    table = windows(BAD, GOOD, BAD, rows=250)
    found = decided(table)
    assert [window.rows for window in found.windows] == [200, 200, 200]
    assert found.windows[-1].end == table["time"].iloc[-1].isoformat()
    assert found.windows[0].start == table["time"].iloc[150].isoformat()
    assert [window.end < after.start for window, after in zip(found.windows, found.windows[1:], strict=False)] == [
        True,
        True,
    ]


@pytest.mark.parametrize(("rows", "expected"), [(98, []), (100, [100]), (150, [150]), (398, [200])])
@pytest.mark.usefixtures("no_checks")
def test_the_only_window_may_be_short_but_has_at_least_a_hundred_rows(rows: int, expected: list[int]) -> None:
    assert [window.rows for window in decided(windows(BAD, rows=rows)).windows] == expected


@pytest.mark.usefixtures("no_checks")
def test_rows_without_a_label_are_in_no_window() -> None:
    table = windows(GOOD, BAD, BAD)
    blank = table.assign(**{TARGET: float("nan")})
    mixed = pd.concat([table, blank]).sort_values("time", ignore_index=True)
    found = decided(mixed)
    assert (found.retrain, len(found.windows)) == (True, 3)
    assert found.windows == decided(table).windows
    assert decided(blank).windows == ()


@pytest.mark.usefixtures("no_checks")
def test_training_rows_of_the_champion_are_in_no_window() -> None:
    table = windows(GOOD, BAD, BAD)
    with_training_rows = table.assign(**{IN_TRAINING: np.arange(600) >= 200})
    found = decided(with_training_rows)
    assert [window.breaches for window in found.windows] == [()]
    assert not found.retrain


@pytest.mark.usefixtures("no_checks")
def test_a_window_has_the_metrics_of_its_rows() -> None:
    found = decided(windows(GOOD, BAD)).windows[-1]
    assert found.log_loss == pytest.approx(-(0.2 * np.log(0.6) + 0.8 * np.log(0.4)))
    assert found.f1_score == pytest.approx(0.2)
    assert found.skill == pytest.approx(1 - found.log_loss / np.log(2))


# Breaches of a threshold


@pytest.mark.usefixtures("no_checks")
def test_log_loss_alone_can_breach() -> None:
    sharp = reference(0.9, 0.4)
    table = in_time([with_accuracy(200, 0.8, distance=0.3)] * 3)
    found = decided(table, against=sharp)
    assert trigger(found).fired is True
    assert [len(window.breaches) for window in found.windows] == [1, 1, 1]
    assert found.windows[-1].breaches[0].startswith("log loss rose by 54%")


@pytest.mark.usefixtures("no_checks")
def test_f1_alone_can_breach() -> None:
    table = in_time([constant(200, rate=0.3, made=0.3)] * 3)
    found = decided(table)
    assert trigger(found).fired is True
    assert {window.breaches for window in found.windows} == {("F1 fell by 100%, from 0.600 to 0.000",)}


@pytest.mark.usefixtures("no_checks")
def test_f1_of_few_made_shots_is_not_evaluated() -> None:
    assert trigger(decided(in_time([constant(200, rate=0.16, made=0.16)] * 3))).fired is True
    found = decided(in_time([constant(200, rate=0.14, made=0.14)] * 3))
    assert trigger(found).fired is False
    assert {window.breaches for window in found.windows} == {()}


@pytest.mark.usefixtures("no_checks")
def test_a_negative_skill_score_alone_can_breach() -> None:
    found = decided(in_time([constant(200, rate=0.1, made=0.3)] * 3))
    assert trigger(found).fired is True
    assert {len(window.breaches) for window in found.windows} == {1}
    assert all("worse than the base rate: skill score -35.8%" in window.breaches[0] for window in found.windows)


@pytest.mark.usefixtures("no_checks")
def test_a_negative_skill_score_that_is_not_significant_does_not_breach() -> None:
    found = decided(in_time([constant(200, rate=0.1, made=0.12)] * 3))
    assert found.windows[-1].skill is not None
    assert -0.01 < found.windows[-1].skill < 0
    assert trigger(found).fired is False


@pytest.mark.usefixtures("no_checks")
def test_a_rise_above_the_threshold_that_is_not_significant_does_not_breach() -> None:
    strict = replace(POLICY, degradation_threshold=0.01)
    found = decided(windows(0.58, 0.58, 0.58), strict)
    assert found.windows[-1].log_loss > 1.01 * 0.6730
    assert trigger(found).fired is False
    assert trigger(decided(windows(0.4, 0.4, 0.4), strict)).fired is True


@pytest.mark.usefixtures("no_checks")
def test_a_rise_below_the_threshold_does_not_breach_however_significant_it_is() -> None:
    table = windows(0.4, 0.4, 0.4)
    lenient = replace(POLICY, degradation_threshold=0.9)
    assert all("skill" in breach for window in decided(table, lenient).windows for breach in window.breaches)
    assert any(
        "log loss rose" in breach
        for breach in decided(table, replace(POLICY, degradation_threshold=0.1)).windows[-1].breaches
    )


# A trend


RISING = (0.60, 0.56, 0.52, 0.48, 0.44, 0.40)


@pytest.mark.usefixtures("no_checks")
def test_a_trend_that_reaches_the_threshold_within_the_horizon_fires_before_a_window_breaches() -> None:
    found = decided(windows(*RISING), PREDICTIVE_ONLY)
    trend = trigger(found, "Trend of log loss")
    assert (found.decision, found.trigger) == (RETRAIN, PREDICTIVE)
    assert trend.fired is True
    assert "the extrapolated log loss in 3 windows is 0.803" in trend.summary
    assert "the threshold is 0.774" in trend.summary
    assert trend.details == "+0.0162 per window"


@pytest.mark.parametrize(
    ("shares", "policy"),
    [
        pytest.param(RISING, replace(PREDICTIVE_ONLY, trend_horizon=1), id="not within the horizon"),
        pytest.param(RISING, replace(PREDICTIVE_ONLY, degradation_threshold=0.3), id="not up to the threshold"),
        pytest.param([GOOD] * 6, PREDICTIVE_ONLY, id="flat"),
        pytest.param([BAD] * 6, PREDICTIVE_ONLY, id="flat above the threshold"),
        pytest.param(tuple(reversed(RISING)), PREDICTIVE_ONLY, id="falling"),
        pytest.param((0.6, 0.3, 0.6, 0.25, 0.62, 0.2), PREDICTIVE_ONLY, id="rising, but not significantly"),
    ],
)
@pytest.mark.usefixtures("no_checks")
def test_without_a_trend_the_trigger_does_not_fire(shares: tuple[float, ...], policy: RetrainingPolicy) -> None:
    found = decided(windows(*shares), policy)
    assert trigger(found, "Trend of log loss").fired is False
    assert not found.retrain


@pytest.mark.usefixtures("no_checks")
def test_the_lower_bound_of_a_trend_is_that_of_ordinary_least_squares() -> None:
    found = decided(windows(0.6, 0.5, 0.58, 0.44, 0.5, 0.4), PREDICTIVE_ONLY)
    losses = np.array([window.log_loss for window in found.windows])
    fitted = OLS(losses, add_constant(np.arange(6.0))).fit()
    # An interval of 90% has 5% below it.
    ahead = fitted.get_prediction([1.0, 5.0 + PREDICTIVE_ONLY.trend_horizon]).summary_frame(alpha=0.1).iloc[0]
    assert ahead["mean"] - ahead["mean_ci_lower"] > 0.01
    assert f"is {ahead['mean']:.3f}, lower 95% bound {ahead['mean_ci_lower']:.3f};" in (
        trigger(found, "Trend of log loss").summary
    )


@pytest.mark.usefixtures("no_checks")
def test_three_windows_make_no_trend() -> None:
    found = decided(windows(0.7, 0.5, 0.3), PREDICTIVE_ONLY)
    assert trigger(found, "Trend of log loss").fired is None
    assert trigger(found, "Trend of log loss").summary == "3 windows; a trend needs 4"
    assert trigger(decided(windows(0.7, 0.6, 0.5, 0.4), PREDICTIVE_ONLY), "Trend of log loss").fired is True


@pytest.mark.usefixtures("no_checks")
def test_old_windows_are_no_part_of_a_trend() -> None:
    table = windows(*[BAD] * 3, *[GOOD] * 12, rows=100)
    found = decided(table, replace(POLICY, window_size=100))
    assert len(found.windows) == 12
    assert trigger(found, "Trend of log loss").details == "+0.0000 per window"


# Drift, out-of-support rows and estimated performance


def fail(_evaluation: Evaluation) -> CheckResult:
    message = "broken"
    raise RuntimeError(message)


RESULTS = {
    "failed": (lambda _evaluation: failed("far away", "PSI 0.4"), True),
    "warning": (lambda _evaluation: warning("a little", "PSI 0.1"), False),
    "passed": (lambda _evaluation: passed("where it was"), False),
    "skipped": (lambda _evaluation: skipped("too few rows"), None),
    "error": (fail, None),
}


@pytest.mark.parametrize("code", ["K201", "K204", "K301"])
@pytest.mark.parametrize("status", RESULTS)
def test_failed_checks_of_drift_support_and_estimated_performance_are_triggers_that_fire(
    monkeypatch: pytest.MonkeyPatch, code: str, status: str
) -> None:
    run, fired = RESULTS[status]
    monkeypatch.setattr(retraining, "CHECKS", (Check(code, "A check", CheckStatus.FAILED, run),))
    found = decided(windows(GOOD, GOOD, GOOD))
    seen = trigger(found, f"{code} A check")
    assert (seen.kind, seen.fired) == (PREDICTIVE, fired)
    assert (found.decision, found.trigger) == ((RETRAIN, PREDICTIVE) if fired else (NO_ACTION, ""))
    if fired:
        assert found.reasons == (f"{code} A check: far away",)
        assert seen.details == "PSI 0.4"


@pytest.mark.parametrize("code", ["K101", "K104", "K105", "K106", "K202", "K203", "K401", "K404"])
def test_no_other_check_is_a_trigger(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    check = Check(code, "A check", CheckStatus.FAILED, RESULTS["failed"][0])
    monkeypatch.setattr(retraining, "CHECKS", (check,))
    found = decided(windows(GOOD, GOOD, GOOD))
    assert not found.retrain
    assert {seen.name for seen in found.triggers} == {"Labeled windows", "Trend of log loss"}


def test_breached_windows_come_before_predictive_triggers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "CHECKS", (Check("K201", "Drift", CheckStatus.FAILED, RESULTS["failed"][0]),))
    found = decided(windows(GOOD, BAD, BAD))
    assert found.trigger == REACTIVE
    assert len(found.reasons) == 2


def test_shots_from_other_places_fire_a_trigger_without_labels() -> None:
    far = batch(600).assign(shot_distance=85.0, lat=33.2, **{TARGET: float("nan")})
    labels = in_time([with_accuracy(400, GOOD)])
    moved = far.assign(time=pd.date_range("2026-11-01", periods=600, freq="min"))
    found = decide(evaluation(moved), labels, POLICY, dataset=default(), log=(), now=NOW)
    assert (found.decision, found.trigger) == (RETRAIN, PREDICTIVE)
    fired = {seen.name[:4] for seen in found.triggers if seen.fired}
    assert {"K201", "K204"} <= fired
    assert trigger(found).fired is None


def test_shots_like_those_of_the_reference_fire_no_trigger() -> None:
    fresh = batch(600).assign(time=pd.date_range("2026-11-01", periods=600, freq="min"))
    found = decide(evaluation(fresh), fresh, POLICY, dataset=default(), log=(), now=NOW)
    assert [seen.name for seen in found.triggers if seen.fired] == []
    assert (found.decision, found.trigger) == (NO_ACTION, "")
    assert len([seen for seen in found.triggers if seen.name[:4] in {"K201", "K204", "K301"}]) == 3


def test_a_champion_that_has_scored_no_row_is_kept() -> None:
    labels = windows(GOOD, BAD, BAD)
    found = decide(None, labels, POLICY, dataset=default(), log=(), now=NOW)
    assert not found.retrain
    assert {seen.fired for seen in found.triggers} == {None}
    assert found.windows == ()
    assert found.label_counts.labels == 600
    assert "the champion has not scored any row yet" in "; ".join(found.reasons)


def test_drift_is_evaluated_on_the_latest_rows_only() -> None:
    far = batch(400).assign(shot_distance=85.0, lat=33.2)
    times = pd.date_range("2026-11-01", periods=1_000, freq="min")
    back = pd.concat([far, batch(600, seed=2)], ignore_index=True).assign(time=times)
    for rows, fired in ((600, False), (1_000, True)):
        found = decide(evaluation(back), back, replace(POLICY, recent_rows=rows), dataset=default(), log=(), now=NOW)
        assert any(seen.fired for seen in found.triggers if seen.name.startswith("K2")) is fired


# Preconditions


BREACHING = windows(GOOD, BAD, BAD)
LAST = BREACHING["time"].iloc[-1]


def new_since(labels: int) -> str:
    """Time after which ``BREACHING`` has so many labels."""
    return str(BREACHING["time"].iloc[-1 - labels].isoformat())


@pytest.mark.usefixtures("no_checks")
def test_labels_and_new_labels_are_counted() -> None:
    found = decided(BREACHING).label_counts
    assert (found.labels, found.new_labels, found.until) == (600, 600, LAST.to_pydatetime())
    since = decided(BREACHING, log=[entry(PROMOTED, until=new_since(250))]).label_counts
    assert (since.labels, since.new_labels) == (600, 250)
    none = decide(None, BREACHING.head(0), POLICY, dataset=default(), log=(), now=NOW).label_counts
    assert (none.labels, none.new_labels, none.until) == (0, 0, None)


@pytest.mark.usefixtures("no_checks")
def test_delayed_labels_of_old_rows_are_new() -> None:
    log = [entry(PROMOTED, until=LAST.isoformat(), labels=450)]
    assert decided(BREACHING, log=log).label_counts.new_labels == 150
    assert decided(BREACHING, log=[entry(PROMOTED, until=new_since(200), labels=450)]).label_counts.new_labels == 200


@pytest.mark.usefixtures("no_checks")
def test_labels_of_another_source_do_not_count_as_trained_on() -> None:
    log = [entry(PROMOTED, until=LAST.isoformat(), source="log"), entry(PROMOTED, 20 * DAY, new_since(250))]
    assert decided(BREACHING, log=log).label_counts.new_labels == 250
    from_log = decide(
        evaluation(BREACHING, against=sixty_percent_accurate()),
        BREACHING,
        POLICY,
        dataset=default(),
        log=log,
        now=NOW,
        source="log",
    )
    assert from_log.label_counts.new_labels == 0
    # The cooldown is between trainings on labels of any source.
    recent = [entry(REJECTED, timedelta(hours=1), source="log")]
    assert not precondition(decided(BREACHING, log=recent), "Cooldown").met


@pytest.mark.parametrize("outcome", [NOTHING_TO_DO, PENDING, INTERRUPTED, FAILED])
@pytest.mark.usefixtures("no_checks")
def test_labels_are_new_until_a_challenger_has_been_trained_on_them(outcome: str) -> None:
    log = [entry(outcome, until=new_since(5)), entry(PROMOTED, 20 * DAY, until=new_since(250))]
    assert decided(BREACHING, log=log).label_counts.new_labels == 250
    assert decided(BREACHING, log=log[:1]).label_counts.new_labels == 600


@pytest.mark.usefixtures("no_checks")
def test_a_training_needs_enough_new_labels() -> None:
    policy = replace(POLICY, min_new_labels=300)
    for labels, enough in ((300, True), (299, False)):
        found = decided(BREACHING, policy, log=[entry(PROMOTED, until=new_since(labels))])
        assert found.retrain is enough
        assert precondition(found, "New labels").met is enough
    assert found.trigger == ""
    assert found.reasons[0] == "precondition not met: 299 new labeled rows, 300 needed"
    assert found.reasons[1].startswith("Labeled windows: 2 of the latest 3")


def mixed(rows: int, *, rate: float = 0.5) -> pd.DataFrame:
    """Labels a minute apart, with a positive rate that is even over time."""
    places = np.arange(rows)
    made = np.floor((places + 1) * rate) - np.floor(places * rate)
    return in_time([batch(rows).assign(**{TARGET: made, PROBABILITY: 0.5})])


SPLIT = "Training and hold-out labels"


def split_precondition(labels: pd.DataFrame, policy: RetrainingPolicy = POLICY) -> Precondition:
    return precondition(decide(None, labels, policy, dataset=default(), log=(), now=NOW), SPLIT)


@pytest.mark.parametrize(("rows", "enough"), [(199, False), (200, True)])
def test_a_training_needs_a_hundred_training_labels_and_a_hundred_hold_out_labels(rows: int, *, enough: bool) -> None:
    assert MIN_LABELS == 200
    found = split_precondition(mixed(rows))
    assert found.met is enough
    assert "100 training labels" in found.summary
    assert f"{rows - 100} hold-out labels" in found.summary


def test_how_many_labels_a_training_needs_depends_on_the_hold_out_and_the_maximum() -> None:
    assert not split_precondition(mixed(450), replace(POLICY, holdout_size=0.2)).met
    assert split_precondition(mixed(500), replace(POLICY, holdout_size=0.2)).met
    assert not split_precondition(mixed(500), replace(POLICY, holdout_size=0.2, max_labels=450)).met


@pytest.mark.parametrize(("rate", "enough"), [(0.3, True), (0.29, False), (0.7, True), (0.71, False), (0, False)])
def test_a_training_needs_labels_of_both_classes(rate: float, *, enough: bool) -> None:
    assert split_precondition(mixed(200, rate=rate)).met is enough


def test_training_rows_of_the_champion_are_not_in_the_hold_out() -> None:
    labels = mixed(400)
    assert split_precondition(labels.assign(**{IN_TRAINING: np.arange(400) < 300})).met
    assert not split_precondition(labels.assign(**{IN_TRAINING: np.arange(400) < 301})).met
    assert not split_precondition(labels.assign(**{IN_TRAINING: True})).met


def test_labels_of_one_time_cannot_be_split() -> None:
    labels = mixed(400)
    assert not split_precondition(labels.assign(time=labels["time"].iloc[0])).met


def test_there_is_no_training_without_enough_labels_on_both_sides_of_the_split() -> None:
    table = windows(BAD, rows=200)
    policy = RetrainingPolicy(window_size=100, min_new_labels=1)
    found = decided(table, replace(policy, holdout_size=0.4))
    assert trigger(found).fired is True
    assert not found.retrain
    assert found.reasons[0].startswith("precondition not met: 120 training labels and 80 hold-out labels")


@pytest.mark.parametrize(
    ("outcomes", "needed"),
    [
        ([], 100),
        ([PROMOTED], 100),
        ([REJECTED], 200),
        ([REJECTED, REJECTED], 400),
        ([REJECTED, NOTHING_TO_DO, REJECTED, FAILED, INTERRUPTED, REJECTED], 800),
        ([REJECTED] * 4, 800),
        ([REJECTED] * 9, 800),
        ([PROMOTED, REJECTED, REJECTED], 100),
        ([REJECTED, PROMOTED, REJECTED, REJECTED], 200),
        ([NOTHING_TO_DO, REJECTED, REJECTED, PROMOTED, REJECTED], 400),
    ],
)
@pytest.mark.usefixtures("no_checks")
def test_each_consecutive_rejection_doubles_the_labels_that_are_needed_up_to_eight_times(
    outcomes: list[str], needed: int
) -> None:
    log = [entry(outcome, (10 + place) * DAY, labels=0) for place, outcome in enumerate(outcomes)]
    found = precondition(decided(BREACHING, replace(POLICY, min_new_labels=100), log=log), "New labels")
    assert f"{needed:,} needed" in found.summary
    assert found.met is (needed <= 600)
    rejected = (
        outcomes[: outcomes.index(PROMOTED)].count(REJECTED) if PROMOTED in outcomes else outcomes.count(REJECTED)
    )
    assert (f"({rejected} in a row)" in found.summary) is bool(rejected)


@pytest.mark.usefixtures("no_checks")
def test_only_rejections_against_this_champion_that_were_not_forced_count() -> None:
    policy = replace(POLICY, min_new_labels=100)
    of_another = [entry(REJECTED, champion="2"), entry(REJECTED, champion="1"), entry(REJECTED, champion="1")]
    assert "200 needed" in precondition(decided(BREACHING, policy, log=of_another), "New labels").summary
    forced = [entry(REJECTED, mode="force"), entry(REJECTED), entry(REJECTED, mode="force")]
    assert "200 needed" in precondition(decided(BREACHING, policy, log=forced), "New labels").summary


@pytest.mark.parametrize("outcome", [PROMOTED, REJECTED])
@pytest.mark.usefixtures("no_checks")
def test_two_trainings_are_a_cooldown_apart(outcome: str) -> None:
    policy = replace(POLICY, cooldown=timedelta(hours=12))
    for age, over in ((timedelta(hours=12), True), (timedelta(hours=11.9), False)):
        found = decided(BREACHING, policy, log=[entry(outcome, age, until=new_since(600 - 1))])
        assert precondition(found, "Cooldown").met is over
        assert found.retrain is over
    assert (
        found.reasons[0] == "precondition not met: the latest training was 11.9 hours ago, the cooldown is 12.0 hours"
    )


@pytest.mark.usefixtures("no_checks")
def test_a_decision_with_a_time_in_the_future_starts_no_cooldown() -> None:
    found = decided(BREACHING, log=[entry(REJECTED, -3 * DAY, until=new_since(599))])
    assert precondition(found, "Cooldown").met


@pytest.mark.parametrize("outcome", [NOTHING_TO_DO, PENDING, INTERRUPTED, FAILED])
@pytest.mark.usefixtures("no_checks")
def test_only_a_challenger_that_was_trained_starts_the_cooldown(outcome: str) -> None:
    found = decided(BREACHING, replace(POLICY, max_trainings_per_day=9), log=[entry(outcome, timedelta(minutes=1))])
    assert precondition(found, "Cooldown").met
    assert precondition(found, "Cooldown").summary == "no training yet"


@pytest.mark.usefixtures("no_checks")
def test_trainings_per_day_have_a_maximum() -> None:
    policy = replace(POLICY, cooldown=timedelta(0), max_trainings_per_day=2)
    since = new_since(599)
    twice = [entry(REJECTED, timedelta(hours=1), since), entry(PROMOTED, timedelta(hours=23), since)]
    found = decided(BREACHING, policy, log=twice)
    assert not precondition(found, "Trainings per day").met
    assert found.reasons[0] == "precondition not met: 2 trainings within 24 hours, at most 2"
    assert decided(BREACHING, policy, log=twice, now=NOW + timedelta(hours=1)).retrain
    assert decided(BREACHING, policy, log=[*twice[:1], entry(NOTHING_TO_DO, timedelta(hours=1))]).retrain


@pytest.mark.parametrize("outcome", [FAILED, INTERRUPTED])
@pytest.mark.usefixtures("no_checks")
def test_trainings_that_fail_or_are_killed_have_a_maximum_too(outcome: str) -> None:
    tried = [entry(outcome, timedelta(hours=hours)) for hours in range(1, 1 + MAX_UNFINISHED_PER_DAY)]
    found = decided(BREACHING, replace(POLICY, max_trainings_per_day=2), log=tried)
    assert not found.retrain
    assert not precondition(found, "Trainings per day").met
    assert found.reasons[0].endswith("5 failed or interrupted, at most 5")


@pytest.mark.parametrize("outcome", [FAILED, INTERRUPTED])
@pytest.mark.usefixtures("no_checks")
def test_a_training_that_was_interrupted_or_failed_is_not_counted_as_one_of_the_day(outcome: str) -> None:
    policy = replace(POLICY, cooldown=timedelta(0), max_trainings_per_day=2)
    log = [entry(outcome, timedelta(hours=1)), entry(outcome, timedelta(hours=2)), entry(REJECTED, timedelta(hours=3))]
    found = decided(BREACHING, policy, log=log)
    assert precondition(found, "Trainings per day").met
    assert precondition(found, "Trainings per day").summary.startswith(
        "1 trainings within 24 hours, at most 2; 2 failed"
    )


@pytest.mark.usefixtures("no_checks")
def test_the_reasons_name_every_precondition_that_is_not_met() -> None:
    policy = RetrainingPolicy(min_new_labels=900, max_trainings_per_day=1)
    found = decided(BREACHING, policy, log=[entry(REJECTED, timedelta(hours=1), LAST.isoformat())])
    assert [held.met for held in found.preconditions] == [True, False, False, False]
    assert sum(reason.startswith("precondition not met: ") for reason in found.reasons) == 3


# Forced


@pytest.mark.usefixtures("no_checks")
def test_a_forced_training_needs_nothing_but_labels() -> None:
    log = [entry(REJECTED, timedelta(minutes=1), LAST.isoformat())] * 5
    found = decided(windows(GOOD, GOOD, GOOD), RetrainingPolicy(), log=log, forced=True)
    assert (found.decision, found.trigger, found.reasons) == (RETRAIN, FORCED, ("retraining is forced (mode=force)",))
    assert not any(seen.fired for seen in found.triggers)
    assert [held.name for held in found.preconditions if held.met] == [SPLIT]
    assert decide(None, BREACHING, RetrainingPolicy(), dataset=default(), log=log, now=NOW, forced=True).retrain


@pytest.mark.usefixtures("no_checks")
def test_a_forced_training_needs_training_and_hold_out_labels() -> None:
    assert decided(mixed(MIN_LABELS), forced=True).retrain
    found = decided(mixed(MIN_LABELS - 1), forced=True)
    assert (found.decision, found.trigger) == (NO_ACTION, "")
    assert "retraining is forced, but 100 training labels and 99 hold-out labels" in found.reasons[0]


# The record


@pytest.mark.usefixtures("no_checks")
def test_the_record_is_json_with_all_details_of_the_decision() -> None:
    found = decided(in_time([constant(200, rate=0.0, made=0.02)] * 3), log=[entry(PROMOTED)])
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record.pop("format_version") == decision_log.FORMAT
    assert set(record) == {"decision", "trigger", "reasons", "label_counts", "triggers", "preconditions", "windows"}
    assert record["label_counts"] == {"labels": 600, "new_labels": 600, "until": "2026-11-01T09:59:00"}
    assert [held["name"] for held in record["preconditions"]] == [SPLIT, "New labels", "Cooldown", "Trainings per day"]
    assert [seen["fired"] for seen in record["triggers"]] == [seen.fired for seen in found.triggers]
    assert [window["rows"] for window in record["windows"]] == [200, 200, 200]
    nothing = decide(
        None, BREACHING.head(0), POLICY, dataset=default(), log=(), now=datetime(2026, 11, 22, tzinfo=UTC)
    ).to_dict()
    assert json.loads(json.dumps(nothing, allow_nan=False))["label_counts"]["until"] is None


# Training and hold-out labels


@pytest.mark.parametrize(("test_size", "older"), [(0.5, 200), (0.25, 300), (0.999, 1), (0.001, 400)])
def test_the_hold_out_is_a_share_of_the_labels(test_size: float, older: int) -> None:
    labels = mixed(400)
    before, after = split_by_time(labels, test_size)
    pd.testing.assert_frame_equal(before, labels.iloc[:older])
    pd.testing.assert_frame_equal(after, labels.iloc[older:])


def test_labels_of_one_time_stay_together() -> None:
    labels = mixed(100)
    days = labels["time"].iloc[0] + pd.to_timedelta(np.repeat([0, 1, 2], [30, 40, 30]), unit="D")
    before, after = split_by_time(labels.assign(time=days), 0.5)
    assert (len(before), len(after)) == (70, 30)
    assert before["time"].max() < after["time"].min()


def test_training_rows_of_the_champion_are_trained_on_again_and_not_tested_on() -> None:
    labels = mixed(100).assign(**{IN_TRAINING: np.arange(100) % 2 == 0})
    before, after = split_by_time(labels, 0.5)
    assert (len(before), len(after)) == (50, 25)
    assert not after[IN_TRAINING].any()


def test_an_empty_table_of_labels_is_split_into_two_empty_ones() -> None:
    before, after = split_by_time(mixed(4).head(0), 0.5)
    assert before.empty
    assert after.empty


# Rolling origins


def test_every_label_after_the_first_part_is_compared_on_once_by_a_model_of_all_labels_before_it() -> None:
    labels = mixed(800)
    found = rolling_origins(labels, 0.5, 4, TARGET)
    assert [len(origin.train) for origin in found] == [100, 200, 300, 400]
    assert [len(origin.test) for origin in found] == [100, 100, 100, 400]
    pd.testing.assert_frame_equal(pd.concat([origin.test for origin in found]), labels.iloc[100:])
    for origin in found:
        assert origin.train["time"].max() < origin.test["time"].min()
        pd.testing.assert_frame_equal(origin.train, labels.head(len(origin.train)))


def test_the_last_origin_is_the_split_by_time_and_with_one_origin_it_is_the_only_one() -> None:
    labels = mixed(1_000)
    for number in (1, 4):
        last = rolling_origins(labels, 0.3, number, TARGET)[-1]
        for found, expected in zip(last, split_by_time(labels, 0.3), strict=True):
            pd.testing.assert_frame_equal(found, expected)
    assert len(rolling_origins(labels, 0.3, 1, TARGET)) == 1


@pytest.mark.parametrize(("rows", "blocks"), [(298, []), (300, [50]), (400, [50, 50]), (500, [50, 50, 50])])
def test_few_labels_have_fewer_origins_none_with_less_than_a_hundred_training_labels(
    rows: int, blocks: list[int]
) -> None:
    *earlier, _ = rolling_origins(mixed(rows), 0.5, 4, TARGET)
    assert [len(origin.test) for origin in earlier] == blocks
    assert all(len(origin.train) >= 100 for origin in earlier)


def test_training_rows_of_the_champion_are_in_no_comparison_and_train_every_later_model() -> None:
    labels = mixed(800).assign(**{IN_TRAINING: np.arange(800) < 250})
    *earlier, last = rolling_origins(labels, 0.5, 4, TARGET)
    assert [(len(origin.train), len(origin.test)) for origin in earlier] == [(250, 50), (300, 50), (350, 50)]
    assert not any(origin.test[IN_TRAINING].any() for origin in (*earlier, last))


def test_no_model_is_trained_on_labels_of_the_time_of_those_that_it_scores() -> None:
    days = pd.Timestamp("2026-11-01") + pd.to_timedelta(np.arange(800) // 30, unit="D")
    found = rolling_origins(mixed(800).assign(time=days), 0.5, 4, TARGET)
    assert len(found) == 4
    for origin in found:
        assert origin.train["time"].max() < origin.test["time"].min()


def test_an_origin_whose_labels_are_of_one_class_is_skipped() -> None:
    labels = mixed(800).assign(**{TARGET: np.where(np.arange(800) < 170, 1.0, np.arange(800) % 2)})
    assert [len(origin.train) for origin in rolling_origins(labels, 0.5, 4, TARGET)] == [300, 400]
