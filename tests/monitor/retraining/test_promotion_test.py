import json

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from data.schema import PROBABILITY, TARGET
from monitor.metrics.binary import log_loss_by_row
from monitor.retraining.promotion_test import (
    MAX_LOG_LOSS,
    MIN_IMPROVEMENT,
    MIN_ROWS,
    MIN_ROWS_PER_CLASS,
    SLICE_LIMIT,
    PromotionTest,
    evaluate_challenger,
)
from serving.registry import gate
from tests.evaluations import batch

Floats = npt.NDArray[np.float64]

SEEDS, ROWS = 200, 500
NAME = "champion version 3"


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Shots of which the true P(made) is known."""
    return batch(3_000, seed=4)


@pytest.fixture(scope="module")
def alike() -> pd.DataFrame:
    """Shots that are the same in every feature, and so in no slice."""
    return pd.concat([batch(1)] * ROWS, ignore_index=True)


def truth(rows: pd.DataFrame) -> Floats:
    made: Floats = rows[PROBABILITY].to_numpy(dtype=np.float64)
    return made


def blurred(rows: pd.DataFrame) -> Floats:
    """The truth, and half of what it knows forgotten."""
    return 0.5 * truth(rows) + 0.5 * float(truth(rows).mean())


def prior(rows: pd.DataFrame) -> Floats:
    return np.full(len(rows), rows[TARGET].mean())


def judged(  # noqa: PLR0913 each is a keyword but the rows and the two models
    rows: pd.DataFrame,
    challenger: Floats,
    champion: Floats | None = None,
    *,
    of_prior: Floats | None = None,
    max_log_loss: float = MAX_LOG_LOSS,
    min_improvement: float = MIN_IMPROVEMENT,
) -> PromotionTest:
    return evaluate_challenger(
        rows,
        challenger,
        blurred(rows) if champion is None else champion,
        prior(rows) if of_prior is None else of_prior,
        champion_name=NAME,
        max_log_loss=max_log_loss,
        min_improvement=min_improvement,
    )


def failed(found: PromotionTest) -> list[str]:
    return [comparison.name for comparison in found.comparisons if not comparison.passed]


def test_a_challenger_that_is_better_everywhere_passes_with_the_figures_of_both(rows: pd.DataFrame) -> None:
    found = judged(rows, truth(rows))
    assert found.result.passed
    assert failed(found) == []
    assert found.result.loss == pytest.approx(log_loss_by_row(rows[TARGET], truth(rows)).mean())
    assert found.result.reference_loss == pytest.approx(log_loss_by_row(rows[TARGET], blurred(rows)).mean())
    assert found.result.high < 0
    assert f"of {NAME} on the same 3,000 rows" in found.result.reason
    assert "significantly better" in found.result.reason


def test_a_challenger_that_answers_the_same_does_not_pass(rows: pd.DataFrame) -> None:
    found = judged(rows, truth(rows), truth(rows))
    assert failed(found) == [f"{NAME}, all rows", "minimum improvement"]
    assert not found.result.passed
    assert "difference +0.0000" in found.result.reason
    assert "not significantly better" in found.result.reason


def test_a_challenger_that_is_better_only_by_chance_does_not_pass(rows: pd.DataFrame) -> None:
    few = rows.iloc[600:900]
    found = judged(few, truth(few))
    assert found.result.loss < found.result.reference_loss
    assert failed(found) == [f"{NAME}, all rows"]


def test_a_challenger_that_is_worse_does_not_pass(rows: pd.DataFrame) -> None:
    found = judged(rows, blurred(rows), truth(rows))
    assert not found.result.passed
    assert found.result.low > 0


def test_a_challenger_that_is_worse_than_the_class_prior_does_not_pass_however_bad_the_champion_is(
    rows: pd.DataFrame,
) -> None:
    wrong, worse = 1 - truth(rows), np.clip(1.6 - 2 * truth(rows), 0.01, 0.99)
    found = judged(rows, wrong, worse, max_log_loss=5)
    assert failed(found) == ["base-rate baseline, all rows"]
    assert not found.result.passed
    assert found.result.reason.endswith("0.20% is needed")


def test_a_challenger_that_is_as_good_as_the_class_prior_does_not_pass(rows: pd.DataFrame) -> None:
    found = judged(rows, prior(rows), 1 - truth(rows))
    assert "base-rate baseline, all rows" in failed(found)


def test_a_challenger_over_the_limit_does_not_pass_however_much_better_it_is(rows: pd.DataFrame) -> None:
    loss = float(log_loss_by_row(rows[TARGET], truth(rows)).mean())
    assert judged(rows, truth(rows), max_log_loss=loss).result.passed
    found = judged(rows, truth(rows), max_log_loss=loss - 0.001)
    assert failed(found) == ["maximum log loss"]
    assert found.result.reason == f"log loss {loss:.4f}, maximum {loss - 0.001:.4f}"


def test_a_coin_is_never_promoted(rows: pd.DataFrame) -> None:
    found = judged(rows, np.full(len(rows), 0.53), 1 - truth(rows), of_prior=1 - truth(rows))
    assert failed(found) == ["maximum log loss", "not constant"]


def test_a_challenger_that_is_almost_constant_does_not_pass_and_is_said_to_be_so(rows: pd.DataFrame) -> None:
    nearly = rows[TARGET].mean() + 0.01 * (truth(rows) - truth(rows).mean())
    found = judged(rows, nearly, 1 - truth(rows))
    assert found.comparisons[0].passed
    assert failed(found) == ["base-rate baseline, all rows", "not constant"]
    assert "the predictions are almost constant: P(made) is 0.4" in found.result.reason


def test_a_champion_that_is_almost_constant_is_no_more_than_a_baseline(alike: pd.DataFrame) -> None:
    stream = np.random.default_rng(0)
    knows = stream.uniform(0.1, 0.9, ROWS)
    labels = (stream.random(ROWS) < knows).astype(float)
    # Of the first hundred the challenger knows the opposite, which would speak against it beside a real champion.
    knows[:100] = np.where(labels[:100] == 1, 0.4, 0.6)
    rows = alike.assign(**{TARGET: labels}, playoffs=(np.arange(ROWS) < 100).astype(float))
    constant = np.full(ROWS, 0.5)
    found = judged(rows, knows, constant, of_prior=constant)
    assert found.result.passed, found.result.reason
    almost = constant + stream.choice([0.006, -0.006], ROWS)
    assert failed(judged(rows, knows, almost, of_prior=constant)) == [f"{NAME}, playoffs playoffs"]


def test_a_gain_that_nobody_would_notice_is_no_reason_to_change_however_certain_it_is(rows: pd.DataFrame) -> None:
    certain = np.where(rows[TARGET] == 1, 0.001, -0.001)
    better = np.clip(truth(rows) + certain, 0.01, 0.99)
    found = judged(rows, better, truth(rows))
    assert found.result.high < 0
    assert failed(found) == ["minimum improvement"]
    assert "the champion's log loss improves by 0.3" in found.result.reason
    assert "0.50% is needed" in found.result.reason
    assert judged(rows, better, truth(rows), min_improvement=0.003).result.passed
    assert judged(rows, better, truth(rows), min_improvement=0).result.passed


@pytest.mark.parametrize(("made", "enough"), [(MIN_ROWS_PER_CLASS - 1, False), (MIN_ROWS_PER_CLASS, True)])
@pytest.mark.parametrize("result", [1.0, 0.0])
def test_one_result_alone_proves_nothing(alike: pd.DataFrame, made: int, result: float, *, enough: bool) -> None:
    table = alike.assign(**{TARGET: np.where(np.arange(ROWS) < made, result, 1 - result)})
    knows = np.where(table[TARGET] == 1, 0.8, 0.2)
    found = judged(table, knows, np.full(ROWS, 0.5), of_prior=np.full(ROWS, 0.5))
    assert found.result.passed is enough
    assert failed(found) == ([] if enough else ["both classes"])


def in_playoffs(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The same shots, the first so many in playoffs and the others not."""
    return rows.assign(playoffs=np.where(np.arange(len(rows)) < count, 1.0, 0.0))


def wrong_in_playoffs(rows: pd.DataFrame, share: float = 1.0) -> Floats:
    """The truth, but in playoffs moved by a share of the way to its opposite."""
    there = rows["playoffs"].to_numpy() == 1
    return np.where(there, (1 - share) * truth(rows) + share * (1 - truth(rows)), truth(rows))


def right_in_playoffs(rows: pd.DataFrame) -> Floats:
    """The opposite of the truth, but in playoffs the truth: whoever knows more elsewhere is better on all rows."""
    there = rows["playoffs"].to_numpy() == 1
    return np.where(there, truth(rows), 1 - truth(rows))


def test_a_slice_that_is_worse_beyond_chance_and_the_limit_is_enough_to_fail_where_all_rows_are_better(
    rows: pd.DataFrame,
) -> None:
    table = in_playoffs(rows, 400)
    found = judged(table, wrong_in_playoffs(table), right_in_playoffs(table))
    by_name = {comparison.name: comparison for comparison in found.comparisons}
    assert by_name[f"{NAME}, all rows"].passed
    assert f"{NAME}, playoffs playoffs" in failed(found)
    worse = by_name[f"{NAME}, playoffs playoffs"]
    assert worse.difference.rows == 400
    assert worse.difference.low > 0
    assert worse.difference.value > SLICE_LIMIT * worse.difference.reference_loss
    assert not found.result.passed
    assert "playoffs playoffs: log loss" in found.result.reason
    assert found.result.reason.endswith("significantly worse")


def test_a_slice_that_is_worse_within_the_limit_does_not_stop_a_challenger(rows: pd.DataFrame) -> None:
    table = in_playoffs(rows, 1_200)
    playoffs = table["playoffs"].to_numpy() == 1
    challenger = np.where(playoffs, np.clip(truth(table) + 0.08, 0.01, 0.99), truth(table))
    found = judged(table, challenger, right_in_playoffs(table))
    worse = next(comparison for comparison in found.comparisons if comparison.name.endswith("playoffs playoffs"))
    assert worse.difference.low > 0
    assert worse.difference.value < SLICE_LIMIT * worse.difference.reference_loss
    assert found.result.passed


def test_a_slice_that_is_worse_over_the_limit_but_not_beyond_chance_does_not_stop_a_challenger(
    rows: pd.DataFrame,
) -> None:
    table = in_playoffs(rows, 130)
    found = judged(table, wrong_in_playoffs(table, 0.8), right_in_playoffs(table))
    worse = next(comparison for comparison in found.comparisons if comparison.name.endswith("playoffs playoffs"))
    assert worse.difference.value > SLICE_LIMIT * worse.difference.reference_loss
    assert worse.difference.low < 0
    assert found.result.passed


def test_of_many_slices_one_may_be_worse_by_the_chance_that_a_single_one_has(rows: pd.DataFrame) -> None:
    table = in_playoffs(rows, 140)
    challenger, champion = wrong_in_playoffs(table), right_in_playoffs(table)
    losses = [log_loss_by_row(table[TARGET], made)[:140] for made in (challenger, champion)]
    alone = gate.paired_bootstrap(losses[0], losses[1], seed=0)
    assert alone.worse
    assert alone.value > SLICE_LIMIT * alone.reference_loss
    assert judged(table, challenger, champion).result.passed


@pytest.mark.parametrize(("count", "looked_at"), [(MIN_ROWS - 1, False), (MIN_ROWS, True)])
def test_a_slice_of_few_rows_is_not_looked_at(rows: pd.DataFrame, count: int, *, looked_at: bool) -> None:
    table = in_playoffs(rows, count)
    found = judged(table, truth(table))
    assert (f"{NAME}, playoffs playoffs" in [comparison.name for comparison in found.comparisons]) == looked_at


def test_what_is_all_rows_is_no_slice(alike: pd.DataFrame) -> None:
    names = [comparison.name for comparison in judged(alike, truth(alike)).comparisons]
    prior = "base-rate baseline, all rows"
    assert names == [
        f"{NAME}, all rows",
        "minimum improvement",
        "both classes",
        "maximum log loss",
        prior,
        "not constant",
    ]


def test_slices_are_of_distance_period_playoffs_and_zone(rows: pd.DataFrame) -> None:
    names = [comparison.name.removeprefix(f"{NAME}, ") for comparison in judged(rows, truth(rows)).comparisons[6:]]
    assert {name.split()[0] for name in names} == {"distance", "period", "playoffs", "zone"}
    assert {"period 1", "period 4", "zone Restricted Area", "distance Less Than 8 ft."} <= set(names)


def test_the_record_is_json_with_every_comparison(rows: pd.DataFrame) -> None:
    table = in_playoffs(rows, 400)
    for found in (judged(rows, truth(rows)), judged(table, wrong_in_playoffs(table))):
        record = json.loads(json.dumps(found.record(), allow_nan=False))
        assert (record["rows"], record["passed"], record["reason"]) == (3_000, *astuple(found))
        assert len(record["comparisons"]) == len(found.comparisons) > 6
        for entry, comparison in zip(record["comparisons"], found.comparisons, strict=True):
            assert entry["verdict"] == ("passed" if comparison.passed else "failed")
            assert entry["difference"] == pytest.approx(entry["log_loss"] - entry["reference_log_loss"])
            assert entry["low"] <= entry["difference"] <= entry["high"]
            assert (entry["name"], entry["rows"]) == (comparison.name, comparison.difference.rows)
            assert entry["words"]


def astuple(found: PromotionTest) -> tuple[bool, str]:
    return found.result.passed, found.result.reason


def test_a_challenge_depends_on_the_seed_alone(rows: pd.DataFrame) -> None:
    assert judged(rows, truth(rows)) == judged(rows, truth(rows))


def test_rows_without_a_label_are_refused(rows: pd.DataFrame) -> None:
    unknown = rows.head(10).assign(**{TARGET: float("nan")})
    with pytest.raises(ValueError, match=r"label|finite|NaN"):
        judged(unknown, truth(unknown), of_prior=np.full(10, 0.4))


def share_passed(table: pd.DataFrame, *, challenger: float, champion: float) -> float:
    """Share of seeds in which a challenger passes; both see the truth through noise of a standard deviation."""
    passed = 0
    for seed in range(SEEDS):
        stream = np.random.default_rng(seed)
        made = stream.uniform(0.05, 0.95, ROWS)
        rows = table.assign(**{TARGET: (stream.random(ROWS) < made).astype(float)})
        first, second = (np.clip(made + stream.normal(0, noise, ROWS), 0.02, 0.98) for noise in (challenger, champion))
        passed += evaluate_challenger(
            rows, first, second, np.full(ROWS, 0.5), champion_name=NAME, seed=seed
        ).result.passed
    return passed / SEEDS


def test_an_equal_challenger_passes_by_chance_only(alike: pd.DataFrame) -> None:
    assert share_passed(alike, challenger=0.1, champion=0.1) <= 0.05


def test_a_clearly_better_challenger_passes(alike: pd.DataFrame) -> None:
    table = alike.assign(period=np.arange(ROWS) % 3 + 1.0, playoffs=np.arange(ROWS) % 4 // 3)
    assert share_passed(table, challenger=0.05, champion=0.25) >= 0.95


def test_a_worse_challenger_never_passes(alike: pd.DataFrame) -> None:
    assert share_passed(alike, challenger=0.15, champion=0.05) == 0
