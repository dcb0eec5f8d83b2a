import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data import court
from data.datasets import Dataset, Slice, default
from data.simulation import synthetic
from monitor.metrics.binary import METRICS, evaluate
from monitor.metrics.intervals import (
    evaluate_with_intervals,
    metrics_by_slice,
    percentile_interval,
    relative_degradation,
    slices,
)
from tests.orders import DATASET, orders

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def scored(shots: pd.DataFrame) -> pd.DataFrame:
    return shots.rename(columns={"lon": "lng"}).assign(probability=synthetic.true_probability(shots))


def draw(rows: int, stream: np.random.Generator) -> tuple[Floats, Floats]:
    probability = stream.uniform(0.1, 0.9, rows)
    return (stream.random(rows) < probability).astype(float), probability


def test_values_are_those_of_all_rows() -> None:
    labels, probability = draw(300, np.random.default_rng(0))
    found = evaluate_with_intervals(labels, probability, threshold=0.4, samples=10)
    assert found.metrics == evaluate(labels, probability, threshold=0.4)
    assert (found.rows, found.rate) == (300, labels.mean())


def test_intervals_are_roughly_those_of_scipy() -> None:
    labels, probability = draw(400, np.random.default_rng(1))
    found = evaluate_with_intervals(labels, probability).intervals()
    for name in ("log_loss", "accuracy", "f1_score", "roc_auc"):
        expected = stats.bootstrap(
            (labels, probability),
            METRICS[name].compute,
            paired=True,
            vectorized=False,
            n_resamples=500,
            method="percentile",
            random_state=np.random.default_rng(1),
        ).confidence_interval
        assert (found[name].low, found[name].high) == pytest.approx(
            tuple(expected), abs=0.15 * (expected.high - expected.low)
        )


def test_intervals_cover_the_true_values() -> None:
    probability = np.linspace(0.1, 0.9, 10_001)
    chance = np.maximum(probability, 1 - probability)
    true_values = {
        "log_loss": -np.mean(probability * np.log(probability) + (1 - probability) * np.log(1 - probability)),
        "brier": np.mean(probability * (1 - probability)),
        "accuracy": chance.mean(),
        "recall": probability[probability >= 0.5].sum() / probability.sum(),
    }
    stream = np.random.default_rng(2)
    covered = dict.fromkeys(true_values, 0)
    for trial in range(300):
        found = evaluate_with_intervals(*draw(200, stream), samples=200, seed=trial)
        for name, value in true_values.items():
            interval = found.interval(name)
            covered[name] += interval.low <= value <= interval.high
    assert all(0.91 <= count / 300 <= 0.98 for count in covered.values()), covered


def test_less_confidence_is_a_narrower_interval() -> None:
    found = evaluate_with_intervals(*draw(200, np.random.default_rng(3)))
    narrow, wide = found.interval("log_loss", 0.5), found.interval("log_loss", 0.95)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_the_same_seed_gives_the_same_interval() -> None:
    rows = draw(200, np.random.default_rng(3))
    assert (
        evaluate_with_intervals(*rows, samples=150, seed=4).intervals()
        == evaluate_with_intervals(*rows, samples=150, seed=4).intervals()
    )
    assert (
        evaluate_with_intervals(*rows, samples=150, seed=5).intervals()
        != evaluate_with_intervals(*rows, samples=150, seed=4).intervals()
    )


def test_one_row_has_values_and_no_interval() -> None:
    found = evaluate_with_intervals([1], [0.6]).interval("brier")
    assert found.value == pytest.approx(0.16)
    assert np.isnan([found.low, found.high]).all()


def test_a_metric_that_the_sample_does_not_define_has_no_interval() -> None:
    assert "roc_auc" not in evaluate_with_intervals([1, 1, 1], [0.4, 0.6, 0.7]).intervals()


def test_a_metric_that_some_bootstrap_samples_do_not_define_has_an_interval() -> None:
    found = evaluate_with_intervals([1, 0, 0, 0], [0.4, 0.6, 0.3, 0.2])
    assert np.isnan(found.samples["roc_auc"]).any()
    assert np.isfinite(found.interval("roc_auc").low)


@pytest.mark.parametrize("metric", ["log_loss", "brier", "roc_auc", "accuracy", "log_loss_skill"])
def test_relative_degradation_is_positive_where_the_current_rows_are_worse(metric: str) -> None:
    labels, probability = draw(2_000, np.random.default_rng(4))
    good, bad = (
        evaluate_with_intervals(labels, probability),
        evaluate_with_intervals(labels, 0.5 + 0.2 * (0.5 - probability)),
    )
    worse, better = relative_degradation(bad, good, metric), relative_degradation(good, bad, metric)
    assert 0 < worse.low < worse.value < worse.high
    assert better.low < better.value < better.high < 0
    before, after = good.metrics[metric], bad.metrics[metric]
    assert worse.value == pytest.approx(abs(after - before) / abs(before))


def test_samples_of_the_same_kind_are_not_worse_than_each_other() -> None:
    stream = np.random.default_rng(5)
    found = relative_degradation(
        evaluate_with_intervals(*draw(500, stream), seed=1),
        evaluate_with_intervals(*draw(500, stream), seed=2),
        "log_loss",
    )
    assert found.low < 0 < found.high


@pytest.mark.parametrize("probability", [[0.4, 0.3], [0.6, 0.3]])
def test_there_is_no_relative_degradation_from_a_reference_of_zero(probability: list[float]) -> None:
    never = evaluate_with_intervals([1, 0] * 50, [0.4, 0.3] * 50)
    found = relative_degradation(evaluate_with_intervals([1, 0] * 50, probability * 50), never, "f1_score")
    assert np.isnan([found.value, found.low, found.high]).all()


def test_every_labeled_row_is_counted_once_in_each_kind_of_slice(scored: pd.DataFrame) -> None:
    found = metrics_by_slice(scored, default(), samples=5)
    labeled = scored["shot_made_flag"].notna()
    assert 0 < labeled.sum() < len(scored)
    assert found.groupby("slice")["rows"].sum().to_dict() == dict.fromkeys(
        ("distance", "period", "playoffs", "zone"), labeled.sum()
    )
    made = (found["rows"] * found["rate"]).groupby(found["slice"]).sum()
    assert made.to_numpy() == pytest.approx(np.full(4, scored["shot_made_flag"].sum()))


def test_the_metrics_of_a_slice_are_those_of_its_rows(scored: pd.DataFrame) -> None:
    found = metrics_by_slice(scored, default(), threshold=0.4, samples=50).set_index("value")
    rows = scored[scored["shot_made_flag"].notna() & (scored["playoffs"] == 1)]
    expected = evaluate_with_intervals(rows["shot_made_flag"], rows["probability"], threshold=0.4, samples=50)
    assert found["rows"]["playoffs"] == len(rows)
    assert found["mean_probability"]["playoffs"] == pytest.approx(rows["probability"].mean())
    for metric, interval in expected.intervals().items():
        ends = [found[f"{metric}{end}"]["playoffs"] for end in ("", "_low", "_high")]
        assert ends == [interval.value, interval.low, interval.high]


def test_small_slices_have_counts_and_no_metrics(scored: pd.DataFrame) -> None:
    found = metrics_by_slice(scored, default(), samples=5, fewest=30)
    small = found["rows"] < 30
    assert small.any()
    assert found.loc[small, "log_loss"].isna().all()
    assert found.loc[small, ["rate", "mean_probability"]].notna().all(axis=None)
    assert found.loc[~small, ["log_loss", "log_loss_low", "log_loss_high"]].notna().all(axis=None)


def test_slices_are_ordered_from_the_hoop_outwards_and_periods_by_number(scored: pd.DataFrame) -> None:
    found = metrics_by_slice(scored, default(), samples=5).groupby("slice")["value"].agg(list)
    assert found["distance"] == list(court.RANGES)
    assert found["zone"] == list(court.BASIC_ZONES)
    assert found["period"] == [str(number) for number in sorted(scored["period"].unique())]
    assert found["playoffs"] == ["regular season", "playoffs"]


def test_the_distances_of_the_slices_grow_from_one_to_the_next(scored: pd.DataFrame) -> None:
    median = scored["shot_distance"].groupby(slices(scored, default())["distance"], observed=True).median()
    assert median.is_monotonic_increasing


def test_without_labels_there_is_an_empty_table_of_slices(scored: pd.DataFrame) -> None:
    found = metrics_by_slice(scored.assign(shot_made_flag=np.nan), default())
    assert found.empty
    assert found.columns.tolist() == ["slice", "value", "rows", "rate", "mean_probability"]


def test_rows_that_share_an_index_are_counted_separately(scored: pd.DataFrame) -> None:
    duplicated = pd.concat([scored, scored])
    once, twice = metrics_by_slice(scored, default(), samples=5), metrics_by_slice(duplicated, default(), samples=5)
    assert (twice["rows"] == 2 * once["rows"]).all()


def test_the_interval_of_a_share_of_zero_is_that_of_wilson() -> None:
    found = evaluate_with_intervals([0, 0, 1, 0], [0.9, 0.1, 0.1, 0.1])
    assert found.metrics["precision"] == 0
    assert found.counts["precision"] == 1
    interval = found.interval("precision")
    assert interval.low == 0
    assert interval.high > 0.7


@given(st.integers(0, 2**31), st.integers(2, 400))
@settings(max_examples=30, deadline=None)
def test_the_interval_of_the_calibration_error_contains_its_value(seed: int, rows: int) -> None:
    stream = np.random.default_rng(seed)
    made = stream.choice([0.2, 0.4, 0.7], rows)
    interval = evaluate_with_intervals(stream.random(rows) < made, made, samples=100).interval("calibration_error")
    assert 0 <= interval.low <= interval.value <= interval.high


@pytest.mark.parametrize(("overconfident", "rows"), [(0.0, 150), (0.0, 1_000), (0.1, 1_000)])
def test_the_interval_of_the_calibration_error_covers_the_true_one(overconfident: float, rows: int) -> None:
    covered = 0
    for seed in range(100):
        stream = np.random.default_rng(seed)
        made = stream.choice(np.arange(0.25, 0.8, 0.1), rows)
        labels = stream.random(rows) < made - overconfident * np.sign(made - 0.5)
        found = evaluate_with_intervals(labels, made, samples=200).interval("calibration_error")
        covered += found.low <= overconfident + 1e-9 and found.high >= overconfident
    assert covered >= 88


def test_intervals_of_few_games_are_wider_than_the_percentiles_of_their_samples() -> None:
    few, many = (
        evaluate_with_intervals(labels, made, groups=game, samples=4_000)
        for labels, made, game in (games(8, 1, 0.5), games(2_000, 2, 0.5))
    )
    drawn = few.samples["log_loss"]
    found = {
        "the metric": (few.interval("log_loss"), drawn),
        "its degradation": (
            relative_degradation(few, many, "log_loss"),
            (drawn - many.samples["log_loss"]) / many.samples["log_loss"],
        ),
    }
    for name, (wide, samples) in found.items():
        low, high = percentile_interval(samples, 0.95)
        # 2.36 standard errors of Student's distribution instead of 1.96.
        assert 1.1 < (wide.high - wide.low) / (high - low) < 1.3, name


def test_the_interval_of_an_f1_of_zero_is_not_certain() -> None:
    found = evaluate_with_intervals([1, 1, 1, 0, 0], [0.1, 0.1, 0.1, 0.1, 0.1])
    interval = found.interval("f1_score")
    assert (interval.value, interval.low) == (0, 0)
    # Of 0 hits among 3 rows that are made, Wilson's interval ends at 0.56, and F1 is 2 x / (1 + x).
    assert interval.high == pytest.approx(2 * 0.5615 / 1.5615, abs=1e-3)


def test_each_metric_has_the_number_of_its_rows() -> None:
    counts = evaluate_with_intervals([1, 1, 0, 0, 0], [0.9, 0.1, 0.8, 0.7, 0.1]).counts
    expected = {"precision": 3, "recall": 2, "specificity": 3, "f1_score": 4, "log_loss": 5}
    assert {name: counts[name] for name in expected} == expected


def games(count: int, seed: int, effect: float) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Labels whose log-odds have a random effect of their game, the P(made) without it, and the games."""
    stream = np.random.default_rng(seed)
    game = np.repeat(np.arange(count), 20)
    probability = stream.choice([0.1, 0.2, 0.3, 0.4, 0.6], len(game))
    odds = np.log(probability / (1 - probability)) + effect * stream.normal(size=count)[game]
    return (stream.random(len(game)) < 1 / (1 + np.exp(-odds))).astype(float), probability, game


def test_intervals_by_game_cover_where_games_differ_and_intervals_by_row_do_not() -> None:
    true_value = evaluate(*games(40_000, 1, 1.2)[:2])["log_loss"]
    covered = {"rows": 0, "games": 0}
    for trial in range(150):
        labels, probability, game = games(60, 100 + trial, 1.2)
        for by, groups in (("rows", None), ("games", game)):
            found = evaluate_with_intervals(labels, probability, groups=groups, samples=200).interval("log_loss")
            covered[by] += found.low <= true_value <= found.high
    assert covered["games"] / 150 >= 0.9
    assert covered["rows"] / 150 <= 0.8


def test_intervals_of_games_of_one_row_are_those_of_rows() -> None:
    labels, probability = draw(400, np.random.default_rng(2))
    by_row = evaluate_with_intervals(labels, probability).interval("log_loss")
    by_game = evaluate_with_intervals(labels, probability, groups=np.arange(400)).interval("log_loss")
    assert by_game.value == by_row.value
    assert by_game.high - by_game.low == pytest.approx(by_row.high - by_row.low, rel=0.1)


def test_where_all_rows_agree_a_game_counts_as_one_row() -> None:
    agreeing = evaluate_with_intervals(np.ones(200), np.full(200, 0.9), groups=np.arange(200) // 20)
    alone = evaluate_with_intervals(np.ones(10), np.full(10, 0.9))
    assert agreeing.groups == 10
    assert agreeing.interval("accuracy") == alone.interval("accuracy")


def test_one_game_has_no_interval() -> None:
    labels, probability = draw(100, np.random.default_rng(3))
    found = evaluate_with_intervals(labels, probability, groups=np.zeros(100)).interval("log_loss")
    assert np.isnan([found.low, found.high]).all()


# Slices of any dataset


def test_slices_are_those_of_the_description_and_need_no_court() -> None:
    found = slices(orders(400), DATASET)
    assert list(found) == ["channel", "price", "express"]
    assert found["channel"].cat.categories.tolist() == ["web", "shop", "phone", "fair"]
    assert found["price"].cat.categories.tolist() == ["less than 20", "20 to 40", "40 or more"]
    assert found["express"].cat.categories.tolist() == ["0", "1"]


def test_rare_categories_and_nulls_are_slices_of_their_own() -> None:
    names = pd.Series([f"c{number:02}" for number in range(30)] * 2 + ["c00"] * 5 + [None])
    described = DATASET.model_copy(update={"slices": (Slice(column="channel"),)})
    found = slices(pd.DataFrame({"channel": names}), described)["channel"]
    assert found.cat.categories.tolist() == [f"c{number:02}" for number in range(20)] + ["other", "null"]
    assert (found == "other").sum() == 20
    assert found.iloc[-1] == "null"


@pytest.mark.parametrize(
    ("labels", "shown"), [((), ["fair", "shop", "web"]), (("At a fair", "By phone"), ["At a fair", "shop", "web"])]
)
def test_described_categories_are_slices_in_their_order_with_the_labels_that_are_given(
    labels: tuple[str, ...], shown: list[str]
) -> None:
    # A copy would have the columns that the original has cached.
    written = DATASET.model_dump()
    next(each for each in written["columns"] if each["name"] == "channel")["categories"] = (
        "fair",
        "phone",
        "shop",
        "web",
    )
    described = Dataset.model_validate(written | {"slices": ({"column": "channel", "labels": labels},)})
    found = slices(pd.DataFrame({"channel": ["web", "web", "shop", "fair"]}), described)["channel"]
    assert found.cat.categories.tolist() == shown


def test_a_number_of_many_values_is_sliced_by_quartiles_and_a_date_by_year() -> None:
    ratings = np.r_[np.arange(100.0), np.nan, np.nan]
    table = pd.DataFrame({"rating": ratings, "ordered_on": ["2025-12-31", "2026-01-01"] * 51})
    described = DATASET.model_copy(update={"slices": (Slice(column="rating"), Slice(column="ordered_on"))})
    found = slices(table, described)
    assert found["rating"].value_counts(sort=False).tolist() == [25, 25, 25, 25, 2]
    assert found["rating"].cat.ordered
    assert found["rating"].iloc[-1] == "null"
    assert found["ordered_on"].cat.categories.tolist() == ["2025", "2026"]


def test_metrics_by_slice_draw_the_groups_of_the_description() -> None:
    table = orders(2_000, per_customer=20)
    by_group, by_row = metrics_by_slice(table, DATASET), metrics_by_slice(table.drop(columns="customer"), DATASET)
    assert by_group["log_loss"].tolist() == by_row["log_loss"].tolist()
    widths = [found["log_loss_high"] - found["log_loss_low"] for found in (by_group, by_row)]
    assert (widths[0] != widths[1]).all()


def test_a_metric_that_some_samples_of_the_reference_have_as_zero_has_not_certainly_degraded() -> None:
    random = np.random.default_rng(0)
    labels = (random.random(480) < 0.17).astype(float)
    probability = np.full(480, 0.2)
    probability[np.flatnonzero(labels)[0]] = 0.6
    reference = evaluate_with_intervals(labels, probability)
    current = evaluate_with_intervals(labels[1:], np.full(479, 0.2))
    found = relative_degradation(current, reference, "f1_score")
    assert found.value == 1
    assert found.low <= 0
