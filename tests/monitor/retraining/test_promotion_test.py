import json

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from data.datasets import default
from data.groups import groups_of
from data.schema import PROBABILITY, TARGET
from monitor.metrics.binary import log_loss_by_row
from monitor.metrics.intervals import slices
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
from tests.orders import DATASET as ORDERS
from tests.orders import orders

Floats = npt.NDArray[np.float64]

SEEDS, ROWS = 200, 500
NAME = "champion version 3"


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Shots with known true P(made)."""
    return batch(3_000, seed=4)


@pytest.fixture(scope="module")
def alike() -> pd.DataFrame:
    """Shots with equal features, which form no slice."""
    return pd.concat([batch(1)] * ROWS, ignore_index=True)


def true_probability(rows: pd.DataFrame) -> Floats:
    made: Floats = rows[PROBABILITY].to_numpy(dtype=np.float64)
    return made


def blurred(rows: pd.DataFrame) -> Floats:
    """Half of the way from the true P(made) to its mean."""
    return 0.5 * true_probability(rows) + 0.5 * float(true_probability(rows).mean())


def base_rate(rows: pd.DataFrame) -> Floats:
    return np.full(len(rows), rows[TARGET].mean())


def evaluated_challenger(  # noqa: PLR0913 each is a keyword but the rows and the two models
    rows: pd.DataFrame,
    challenger: Floats,
    champion: Floats | None = None,
    *,
    baseline: Floats | None = None,
    held_out: npt.NDArray[np.bool_] | None = None,
    max_log_loss: float = MAX_LOG_LOSS,
    min_improvement: float = MIN_IMPROVEMENT,
) -> PromotionTest:
    return evaluate_challenger(
        rows,
        challenger,
        blurred(rows) if champion is None else champion,
        base_rate(rows) if baseline is None else baseline,
        dataset=default(),
        champion_name=NAME,
        held_out=held_out,
        max_log_loss=max_log_loss,
        min_improvement=min_improvement,
    )


def failed(found: PromotionTest) -> list[str]:
    return [criterion.name for criterion in found.criteria if not criterion.passed]


def test_a_challenger_that_is_better_everywhere_passes_with_the_log_loss_of_both(rows: pd.DataFrame) -> None:
    found = evaluated_challenger(rows, true_probability(rows))
    assert found.result.passed
    assert failed(found) == []
    assert found.result.loss == pytest.approx(log_loss_by_row(rows[TARGET], true_probability(rows)).mean())
    assert found.result.reference_loss == pytest.approx(log_loss_by_row(rows[TARGET], blurred(rows)).mean())
    assert found.result.high < 0
    assert f"of {NAME} on the same 3,000 rows" in found.result.reason
    assert "significantly better" in found.result.reason


def test_a_challenger_with_the_predictions_of_the_champion_does_not_pass(rows: pd.DataFrame) -> None:
    found = evaluated_challenger(rows, true_probability(rows), true_probability(rows))
    assert failed(found) == [f"{NAME}, all rows", "minimum improvement"]
    assert not found.result.passed
    assert "difference +0.0000" in found.result.reason
    assert "not significantly better" in found.result.reason


def test_a_challenger_that_is_not_significantly_better_does_not_pass(rows: pd.DataFrame) -> None:
    few = rows.iloc[600:900]
    found = evaluated_challenger(few, true_probability(few))
    assert found.result.loss < found.result.reference_loss
    assert failed(found) == [f"{NAME}, all rows"]


def test_a_challenger_that_is_worse_does_not_pass(rows: pd.DataFrame) -> None:
    found = evaluated_challenger(rows, blurred(rows), true_probability(rows))
    assert not found.result.passed
    assert found.result.low > 0


def test_a_challenger_that_is_worse_than_the_base_rate_does_not_pass_however_bad_the_champion_is(
    rows: pd.DataFrame,
) -> None:
    wrong, worse = 1 - true_probability(rows), np.clip(1.6 - 2 * true_probability(rows), 0.01, 0.99)
    found = evaluated_challenger(rows, wrong, worse, max_log_loss=5)
    assert failed(found) == ["base-rate baseline, all rows"]
    assert not found.result.passed
    assert found.result.reason.endswith("0.20% is needed")


def test_a_challenger_that_is_as_good_as_the_base_rate_does_not_pass(rows: pd.DataFrame) -> None:
    found = evaluated_challenger(rows, base_rate(rows), 1 - true_probability(rows))
    assert "base-rate baseline, all rows" in failed(found)


def test_a_challenger_above_the_maximum_log_loss_does_not_pass_however_much_better_it_is(rows: pd.DataFrame) -> None:
    loss = float(log_loss_by_row(rows[TARGET], true_probability(rows)).mean())
    assert evaluated_challenger(rows, true_probability(rows), max_log_loss=loss).result.passed
    found = evaluated_challenger(rows, true_probability(rows), max_log_loss=loss - 0.001)
    assert failed(found) == ["maximum log loss"]
    assert found.result.reason == f"log loss {loss:.4f}, maximum {loss - 0.001:.4f}"


def test_a_challenger_at_chance_level_is_never_promoted(rows: pd.DataFrame) -> None:
    found = evaluated_challenger(
        rows, np.full(len(rows), 0.53), 1 - true_probability(rows), baseline=1 - true_probability(rows)
    )
    assert failed(found) == ["maximum log loss", "not constant"]


def test_a_challenger_that_is_almost_constant_does_not_pass_and_the_reason_names_it(rows: pd.DataFrame) -> None:
    nearly = rows[TARGET].mean() + 0.01 * (true_probability(rows) - true_probability(rows).mean())
    found = evaluated_challenger(rows, nearly, 1 - true_probability(rows))
    assert found.criteria[0].passed
    assert failed(found) == ["base-rate baseline, all rows", "not constant"]
    assert "the predictions are almost constant: P(made) is 0.4" in found.result.reason


def test_an_almost_constant_champion_is_only_a_baseline(alike: pd.DataFrame) -> None:
    stream = np.random.default_rng(0)
    informed = stream.uniform(0.1, 0.9, ROWS)
    labels = (stream.random(ROWS) < informed).astype(float)
    # The challenger predicts the opposite for the first hundred rows. Against another champion it would fail there.
    informed[:100] = np.where(labels[:100] == 1, 0.4, 0.6)
    rows = alike.assign(**{TARGET: labels}, playoffs=(np.arange(ROWS) < 100).astype(float))
    constant = np.full(ROWS, 0.5)
    found = evaluated_challenger(rows, informed, constant, baseline=constant)
    assert found.result.passed, found.result.reason
    almost = constant + stream.choice([0.006, -0.006], ROWS)
    assert failed(evaluated_challenger(rows, informed, almost, baseline=constant)) == [f"{NAME}, playoffs playoffs"]


def test_a_negligible_improvement_does_not_pass_however_significant_it_is(rows: pd.DataFrame) -> None:
    certain = np.where(rows[TARGET] == 1, 0.001, -0.001)
    better = np.clip(true_probability(rows) + certain, 0.01, 0.99)
    found = evaluated_challenger(rows, better, true_probability(rows))
    assert found.result.high < 0
    assert failed(found) == ["minimum improvement"]
    assert "the champion's log loss improves by 0.3" in found.result.reason
    assert "0.50% is needed" in found.result.reason
    assert evaluated_challenger(rows, better, true_probability(rows), min_improvement=0.003).result.passed
    assert evaluated_challenger(rows, better, true_probability(rows), min_improvement=0).result.passed


@pytest.mark.parametrize(("made", "enough"), [(MIN_ROWS_PER_CLASS - 1, False), (MIN_ROWS_PER_CLASS, True)])
@pytest.mark.parametrize("result", [1.0, 0.0])
def test_labels_of_one_class_are_not_enough(alike: pd.DataFrame, made: int, result: float, *, enough: bool) -> None:
    table = alike.assign(**{TARGET: np.where(np.arange(ROWS) < made, result, 1 - result)})
    informed = np.where(table[TARGET] == 1, 0.8, 0.2)
    found = evaluated_challenger(table, informed, np.full(ROWS, 0.5), baseline=np.full(ROWS, 0.5))
    assert found.result.passed is enough
    assert failed(found) == ([] if enough else ["both classes"])


def in_playoffs(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The same shots, the first `count` of them in playoffs."""
    return rows.assign(playoffs=np.where(np.arange(len(rows)) < count, 1.0, 0.0))


def wrong_in_playoffs(rows: pd.DataFrame, share: float = 1.0) -> Floats:
    """The true P(made); in playoffs shifted towards its opposite by a share."""
    there = rows["playoffs"].to_numpy() == 1
    return np.where(
        there, (1 - share) * true_probability(rows) + share * (1 - true_probability(rows)), true_probability(rows)
    )


def right_in_playoffs(rows: pd.DataFrame) -> Floats:
    """The true P(made) in playoffs and its opposite elsewhere."""
    there = rows["playoffs"].to_numpy() == 1
    return np.where(there, true_probability(rows), 1 - true_probability(rows))


def test_a_slice_that_is_significantly_worse_by_more_than_the_tolerance_fails_although_all_rows_are_better(
    rows: pd.DataFrame,
) -> None:
    table = in_playoffs(rows, 400)
    found = evaluated_challenger(table, wrong_in_playoffs(table), right_in_playoffs(table))
    by_name = {criterion.name: criterion for criterion in found.criteria}
    assert by_name[f"{NAME}, all rows"].passed
    assert f"{NAME}, playoffs playoffs" in failed(found)
    worse = by_name[f"{NAME}, playoffs playoffs"]
    assert worse.difference.rows == 400
    assert worse.difference.low > 0
    assert worse.difference.value > SLICE_LIMIT * worse.difference.reference_loss
    assert not found.result.passed
    assert "playoffs playoffs: log loss" in found.result.reason
    assert found.result.reason.endswith("significantly worse")


def test_a_slice_that_is_worse_within_the_tolerance_does_not_fail(rows: pd.DataFrame) -> None:
    table = in_playoffs(rows, 1_200)
    playoffs = table["playoffs"].to_numpy() == 1
    challenger = np.where(playoffs, np.clip(true_probability(table) + 0.08, 0.01, 0.99), true_probability(table))
    found = evaluated_challenger(table, challenger, right_in_playoffs(table))
    worse = next(criterion for criterion in found.criteria if criterion.name.endswith("playoffs playoffs"))
    assert worse.difference.low > 0
    assert worse.difference.value < SLICE_LIMIT * worse.difference.reference_loss
    assert found.result.passed


def test_a_slice_that_is_worse_by_more_than_the_tolerance_but_not_significantly_does_not_fail(
    rows: pd.DataFrame,
) -> None:
    table = in_playoffs(rows, 130)
    found = evaluated_challenger(table, wrong_in_playoffs(table, 0.8), right_in_playoffs(table))
    worse = next(criterion for criterion in found.criteria if criterion.name.endswith("playoffs playoffs"))
    assert worse.difference.value > SLICE_LIMIT * worse.difference.reference_loss
    assert worse.difference.low < 0
    assert found.result.passed


def test_many_slices_share_the_false_positive_rate_of_a_single_one(rows: pd.DataFrame) -> None:
    table = in_playoffs(rows, 140)
    challenger, champion = wrong_in_playoffs(table), right_in_playoffs(table)
    losses = [log_loss_by_row(table[TARGET], made)[:140] for made in (challenger, champion)]
    alone = gate.paired_bootstrap(losses[0], losses[1], seed=0)
    assert alone.worse
    assert alone.value > SLICE_LIMIT * alone.reference_loss
    assert evaluated_challenger(table, challenger, champion).result.passed


@pytest.mark.parametrize(("count", "evaluated"), [(MIN_ROWS - 1, False), (MIN_ROWS, True)])
def test_a_slice_of_few_rows_is_not_evaluated(rows: pd.DataFrame, count: int, *, evaluated: bool) -> None:
    table = in_playoffs(rows, count)
    found = evaluated_challenger(table, true_probability(table))
    assert (f"{NAME}, playoffs playoffs" in [criterion.name for criterion in found.criteria]) == evaluated


def test_all_rows_are_no_slice(alike: pd.DataFrame) -> None:
    names = [criterion.name for criterion in evaluated_challenger(alike, true_probability(alike)).criteria]
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
    names = [
        criterion.name.removeprefix(f"{NAME}, ")
        for criterion in evaluated_challenger(rows, true_probability(rows)).criteria[6:]
    ]
    assert {name.split()[0] for name in names} == {"distance", "period", "playoffs", "zone"}
    assert {"period 1", "period 4", "zone Restricted Area", "distance Less Than 8 ft."} <= set(names)


def test_a_challenger_that_is_worse_on_its_own_rows_does_not_pass_however_good_earlier_models_were(
    rows: pd.DataFrame,
) -> None:
    own = np.arange(len(rows)) >= 2_400
    champion = np.where(own, true_probability(rows), 1 - true_probability(rows))
    challenger = np.where(own, base_rate(rows), true_probability(rows))
    assert evaluated_challenger(rows, challenger, champion).result.passed
    found = evaluated_challenger(rows, challenger, champion, held_out=own)
    assert failed(found) == ["not constant", f"{NAME}, temporal hold-out"]
    assert "on 600 rows, significantly worse" in found.result.reason


def test_a_challenger_that_is_not_worse_on_its_own_rows_passes_by_all_rows_together(rows: pd.DataFrame) -> None:
    own = np.arange(len(rows)) >= 2_800
    few = rows[own].reset_index(drop=True)
    made, champion = true_probability(rows), 0.5 * true_probability(rows) + 0.22
    alone = evaluated_challenger(few, made[own], champion[own])
    assert failed(alone) == [f"{NAME}, all rows"]
    found = evaluated_challenger(rows, made, champion, held_out=own)
    assert found.result.passed, found.result.reason
    assert f"{NAME}, temporal hold-out" in [criterion.name for criterion in found.criteria]


def test_a_challenger_whose_own_predictions_are_almost_constant_does_not_pass_with_earlier_models(
    rows: pd.DataFrame,
) -> None:
    own = np.arange(len(rows)) >= 2_700
    challenger = np.where(own, rows[TARGET].mean(), true_probability(rows))
    found = evaluated_challenger(rows, challenger, 1 - true_probability(rows), held_out=own)
    assert failed(found) == ["not constant"]


def test_the_record_is_json_with_every_criterion(rows: pd.DataFrame) -> None:
    table = in_playoffs(rows, 400)
    for found in (
        evaluated_challenger(rows, true_probability(rows)),
        evaluated_challenger(table, wrong_in_playoffs(table)),
    ):
        record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert (record["rows"], record["passed"], record["reason"]) == (3_000, *astuple(found))
        assert len(record["criteria"]) == len(found.criteria) > 6
        for entry, criterion in zip(record["criteria"], found.criteria, strict=True):
            assert entry["result"] == ("passed" if criterion.passed else "failed")
            assert entry["difference"] == pytest.approx(entry["log_loss"] - entry["reference_log_loss"])
            assert entry["low"] <= entry["difference"] <= entry["high"]
            assert (entry["name"], entry["rows"]) == (criterion.name, criterion.difference.rows)
            assert entry["summary"]


def test_every_comparison_is_a_bootstrap_of_the_groups_of_its_rows() -> None:
    table = orders(2_000, seed=1, per_customer=5)
    made, own = true_probability(table), np.arange(2_000) >= 1_200
    models = (made, blurred(table), np.full(2_000, table["returned"].mean()))
    found = evaluate_challenger(table, *models, dataset=ORDERS, champion_name=NAME, held_out=own, seed=3)
    criteria = {criterion.name: criterion for criterion in found.criteria}
    losses = [log_loss_by_row(table["returned"], model) for model in models]
    groups = groups_of(table, ORDERS)
    assert groups is not None

    def compared(mask: npt.NDArray[np.bool_], reference: int = 1, confidence: float = 0.95) -> gate.PairedComparison:
        pair = losses[0][mask], losses[reference][mask]
        return gate.paired_bootstrap(*pair, seed=3, groups=groups[mask], confidence=confidence)

    maximum = criteria["maximum log loss"].difference
    assert (maximum.rows, maximum.reference_loss) == (2_000, MAX_LOG_LOSS)
    assert maximum.low == maximum.high == pytest.approx(losses[0].mean() - MAX_LOG_LOSS)
    assert criteria["base-rate baseline, all rows"].difference == compared(own | True, 2)
    masks = {
        f"{name} {value}": (values == value).to_numpy()
        for name, values in slices(table, ORDERS).items()
        for value in values.cat.categories
    }
    masks = {name: mask for name, mask in masks.items() if mask.sum() >= MIN_ROWS}
    assert list(criteria)[-len(masks) - 1 :] == [f"{NAME}, {name}" for name in ("temporal hold-out", *masks)]
    expected = {"temporal hold-out": compared(own)}
    expected |= {name: compared(mask, confidence=1 - 0.05 / len(masks)) for name, mask in masks.items()}
    for name, difference in expected.items():
        criterion = criteria[f"{NAME}, {name}"]
        tolerance = "" if name == "temporal hold-out" else " by more than the tolerance"
        assert criterion.difference == difference
        assert criterion.summary == (
            f"{name}: log loss {difference.loss:.4f}, {NAME} {difference.reference_loss:.4f} on {difference.rows:,} "
            f"rows, not significantly worse{tolerance}"
        )


def astuple(found: PromotionTest) -> tuple[bool, str]:
    return found.result.passed, found.result.reason


def test_a_promotion_test_depends_on_the_seed_alone(rows: pd.DataFrame) -> None:
    assert evaluated_challenger(rows, true_probability(rows)) == evaluated_challenger(rows, true_probability(rows))


def test_rows_without_a_label_are_an_error(rows: pd.DataFrame) -> None:
    unknown = rows.head(10).assign(**{TARGET: float("nan")})
    with pytest.raises(ValueError, match=r"label|finite|NaN"):
        evaluated_challenger(unknown, true_probability(unknown), baseline=np.full(10, 0.4))


def share_passed(table: pd.DataFrame, *, challenger: float, champion: float, seeds: int = SEEDS) -> float:
    """Share of seeds in which a challenger passes; both predict the true P(made) with noise of a standard deviation."""
    passed = 0
    for seed in range(seeds):
        stream = np.random.default_rng(seed)
        made = stream.uniform(0.05, 0.95, ROWS)
        rows = table.assign(**{TARGET: (stream.random(ROWS) < made).astype(float)})
        first, second = (np.clip(made + stream.normal(0, noise, ROWS), 0.02, 0.98) for noise in (challenger, champion))
        passed += evaluate_challenger(
            rows, first, second, np.full(ROWS, 0.5), dataset=default(), champion_name=NAME, seed=seed
        ).result.passed
    return passed / seeds


def test_an_equal_challenger_passes_at_the_nominal_false_positive_rate(alike: pd.DataFrame) -> None:
    assert share_passed(alike, challenger=0.1, champion=0.1) <= 0.05


def test_a_clearly_better_challenger_passes(alike: pd.DataFrame) -> None:
    table = alike.assign(period=np.arange(ROWS) % 3 + 1.0, playoffs=np.arange(ROWS) % 4 // 3)
    # Six slices make a test slow, and all of them pass.
    assert share_passed(table, challenger=0.05, champion=0.25, seeds=60) >= 0.95


def test_a_worse_challenger_never_passes(alike: pd.DataFrame) -> None:
    assert share_passed(alike, challenger=0.15, champion=0.05) == 0
