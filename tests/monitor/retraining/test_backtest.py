import io
import json
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from monitor.charts import static
from monitor.retraining.backtest import (
    ALARM,
    EVERY,
    LOOP,
    NEVER,
    PROMOTION,
    REFUSAL,
    STRATEGIES,
    TRAINING,
    Batch,
    Event,
    Replay,
    StrategyResult,
    prequential,
    running_mean,
)

LABELLED = (0, 4, 2, 6)
"""Labelled rows of each batch; the first has none."""


def a_batch(number: int, labelled: int) -> Batch:
    stream = np.random.default_rng(number)
    losses = {name: stream.uniform(0.5, 0.9, labelled) for name in STRATEGIES}
    day = f"200{number}-01"
    return Batch(number, f"{day}-01", f"{day}-28", 8, labelled, str(number), "healthy", losses)


@pytest.fixture
def played() -> Replay:
    """A short replay with marks of every kind."""
    batches = tuple(a_batch(number, labelled) for number, labelled in enumerate(LABELLED, 1))
    marks = (
        Event(2, ALARM, "verdict retrain"),
        Event(2, TRAINING, "two windows violate"),
        Event(2, PROMOTION, "better"),
        Event(3, TRAINING, "drift"),
        Event(3, REFUSAL, "not better"),
    )
    counted = {LOOP: (2, 1), NEVER: (0, 0), EVERY: (4, 4)}
    strategies = {name: StrategyResult(prequential(batches, name), *counted[name]) for name in STRATEGIES}
    return Replay("prod", 8, 1, batches, marks, strategies)


def as_json(played: Replay) -> dict[str, Any]:
    return dict(json.loads(json.dumps(played.record(), allow_nan=False)))


def test_the_loss_of_a_replay_counts_every_labelled_row_once(played: Replay) -> None:
    rows = np.concatenate([batch.losses[LOOP] for batch in played.batches])
    assert len(rows) == sum(LABELLED)
    assert prequential(played.batches, LOOP) == pytest.approx(rows.mean())
    assert prequential(played.batches, LOOP) != pytest.approx(
        np.mean([batch.losses[LOOP].mean() for batch in played.batches[1:]])
    )


def test_a_batch_has_the_mean_loss_of_its_labelled_rows_and_none_without_labels(played: Replay) -> None:
    assert played.batches[0].mean(LOOP) is None
    assert played.batches[1].mean(NEVER) == pytest.approx(played.batches[1].losses[NEVER].mean())


def test_the_record_is_json_and_holds_the_loss_of_every_batch_by_every_strategy(played: Replay) -> None:
    record = as_json(played)
    assert (record["format"], record["source"], record["batch_size"], record["label_delay"]) == (1, "prod", 8, 1)
    assert [batch["number"] for batch in record["batches"]] == [1, 2, 3, 4]
    assert [batch["labelled"] for batch in record["batches"]] == list(LABELLED)
    assert {name: record["batches"][0][name] for name in STRATEGIES} == dict.fromkeys(STRATEGIES)
    for batch, found in zip(played.batches[1:], record["batches"][1:], strict=True):
        assert {name: found[name] for name in STRATEGIES} == {name: batch.mean(name) for name in STRATEGIES}
        described = (batch.since, batch.until, batch.rows, batch.version, batch.verdict)
        assert tuple(found[name] for name in ("since", "until", "rows", "version", "verdict")) == described
    assert record["marks"][0] == {"batch": 2, "kind": "alarm", "words": "verdict retrain"}
    assert [mark["kind"] for mark in record["marks"]] == [ALARM, TRAINING, PROMOTION, TRAINING, REFUSAL]
    assert record["figures"]["loop"] == {
        "log_loss": prequential(played.batches, LOOP),
        "trainings": 2,
        "promotions": 1,
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_running_mean_ends_at_the_loss_of_the_replay(played: Replay, strategy: str) -> None:
    means = running_mean(as_json(played)["batches"], strategy)
    assert means[0] is None
    assert means[1] == pytest.approx(played.batches[1].losses[strategy].mean())
    assert means[2] == pytest.approx(prequential(played.batches[:3], strategy))
    assert means[3] == pytest.approx(prequential(played.batches, strategy))


def test_a_batch_without_labels_leaves_the_running_mean_where_it_was() -> None:
    losses: list[tuple[int, Any]] = [(4, 0.6), (0, None), (4, 0.7)]
    batches = [{"labelled": labelled, "loop": loss} for labelled, loss in losses]
    assert running_mean(batches, "loop") == pytest.approx([0.6, 0.6, 0.65])


def drawn(figure: Figure) -> int:
    file = io.BytesIO()
    figure.savefig(file)
    return len(file.getvalue())


def test_a_replay_can_be_drawn_with_the_losses_of_every_strategy(played: Replay) -> None:
    record = as_json(played)
    figure = static.policy_backtest(record)
    assert drawn(figure) > 20_000
    single, running = figure.axes
    for place, name in enumerate(STRATEGIES):
        expected = [np.nan if batch[name] is None else batch[name] for batch in record["batches"]]
        np.testing.assert_allclose(single.lines[place].get_ydata(), expected)
        assert f"{STRATEGIES[name]}: {record['figures'][name]['log_loss']:.4f}" in single.lines[place].get_label()
        assert running.lines[place].get_ydata()[-1] == pytest.approx(record["figures"][name]["log_loss"])
    assert [label.get_text() for label in running.get_xticklabels()] == [
        "1\n2001-01",
        "2\n2002-01",
        "3\n2003-01",
        "4\n2004-01",
    ]


def test_every_mark_of_a_replay_is_drawn_at_its_batch(played: Replay) -> None:
    single, running = static.policy_backtest(as_json(played)).axes
    marks = {points.get_label(): [int(place) for place, _ in points.get_offsets()] for points in single.collections}
    assert marks == {ALARM: [2], TRAINING: [2, 3], PROMOTION: [2], REFUSAL: [3]}
    assert [list(line.get_xdata()) for line in running.lines[len(STRATEGIES) :]] == [[2.5, 2.5]]


def test_a_replay_in_which_nothing_happened_can_be_drawn(played: Replay) -> None:
    record = as_json(played) | {"marks": []}
    assert drawn(static.policy_backtest(record)) > 20_000
