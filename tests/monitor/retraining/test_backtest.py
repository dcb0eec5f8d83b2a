import io
import json
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from monitor.charts import static
from monitor.retraining.backtest import (
    ALARM,
    ALWAYS,
    NEVER,
    POLICY,
    PROMOTION,
    REJECTION,
    STRATEGIES,
    TRAINING,
    Batch,
    Event,
    PolicyBacktest,
    prequential,
    running_mean,
    upgrade,
)
from monitor.store import tags

LABELED = (0, 4, 2, 6)
"""Labeled rows of each batch; the first has none."""


LOSSES = {
    name: [np.random.default_rng([number, place]).uniform(0.5, 0.9, labeled) for number, labeled in enumerate(LABELED)]
    for place, name in enumerate(STRATEGIES)
}
"""Log loss of the labeled rows of each batch by strategy."""


def a_batch(place: int, labeled: int) -> Batch:
    return Batch(
        number=place + 1,
        since=f"200{place + 1}-01-01",
        until=f"200{place + 1}-01-28",
        rows=8,
        labeled=labeled,
        version=str(place),
        status="healthy",
        **{name: float(losses[place].mean()) if labeled else None for name, losses in LOSSES.items()},
    )


@pytest.fixture
def result() -> PolicyBacktest:
    """A short backtest with events of every kind."""
    batches = tuple(a_batch(place, labeled) for place, labeled in enumerate(LABELED))
    events = (
        Event(batch=2, kind=ALARM, summary="status retraining recommended"),
        Event(batch=2, kind=TRAINING, summary="two windows breach"),
        Event(batch=2, kind=PROMOTION, summary="better"),
        Event(batch=3, kind=TRAINING, summary="drift"),
        Event(batch=3, kind=REJECTION, summary="not better"),
    )
    counted = {POLICY: (2, 1), NEVER: (0, 0), ALWAYS: (4, 4)}
    strategies = {
        name: {"log_loss": prequential(batches, name), "trainings": trainings, "promotions": promotions}
        for name, (trainings, promotions) in counted.items()
    }
    held = {"batches": batches, "events": events, "strategies": strategies}
    return PolicyBacktest.model_validate({"format": 2, "source": "prod", "batch_size": 8, "label_delay": 1, **held})


def as_json(result: PolicyBacktest) -> dict[str, Any]:
    return dict(json.loads(result.model_dump_json()))


def test_the_prequential_log_loss_counts_every_labeled_row_once(result: PolicyBacktest) -> None:
    rows = np.concatenate(LOSSES[POLICY])
    assert len(rows) == sum(LABELED)
    assert prequential(result.batches, POLICY) == pytest.approx(rows.mean())
    assert prequential(result.batches, POLICY) != pytest.approx(
        np.mean([losses.mean() for losses in LOSSES[POLICY][1:]])
    )


def test_the_record_is_json_and_holds_the_loss_of_every_batch_by_every_strategy(result: PolicyBacktest) -> None:
    record = as_json(result)
    assert (record["format"], record["source"], record["batch_size"], record["label_delay"]) == (2, "prod", 8, 1)
    assert [batch["number"] for batch in record["batches"]] == [1, 2, 3, 4]
    assert [batch["labeled"] for batch in record["batches"]] == list(LABELED)
    assert {name: record["batches"][0][name] for name in STRATEGIES} == dict.fromkeys(STRATEGIES)
    for batch, found in zip(result.batches[1:], record["batches"][1:], strict=True):
        assert {name: found[name] for name in STRATEGIES} == {name: getattr(batch, name) for name in STRATEGIES}
        described = (batch.since, batch.until, batch.rows, batch.version, batch.status)
        assert tuple(found[name] for name in ("since", "until", "rows", "version", "status")) == described
    assert record["events"][0] == {"batch": 2, "kind": "alarm", "summary": "status retraining recommended"}
    assert [event["kind"] for event in record["events"]] == [ALARM, TRAINING, PROMOTION, TRAINING, REJECTION]
    assert record["strategies"]["policy"] == {
        "log_loss": prequential(result.batches, POLICY),
        "trainings": 2,
        "promotions": 1,
    }


def test_a_record_of_0_1_0_is_upgraded(result: PolicyBacktest) -> None:
    keys = {today: former for former, today in tags.FORMER_BACKTEST_KEYS.items()}
    values = {
        keys.get(key, key): {today: former for former, today in known.items()}
        for key, known in tags.FORMER_BACKTEST_VALUES.items()
    }
    record = as_json(result)
    former = {**tags.current_record(record, keys, values), "format": 1}
    assert not {"events", "strategies"} & set(former)
    assert upgrade(former) == upgrade(record) == record


@pytest.mark.parametrize("record", [{}, {"format": 3}, {"format": 1}])
def test_a_record_of_another_format_is_not_changed_and_an_empty_one_is_upgraded(record: dict[str, int]) -> None:
    assert upgrade(record) == ({"format": 2} if record.get("format") == 1 else record)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_running_mean_ends_at_the_prequential_log_loss(result: PolicyBacktest, strategy: str) -> None:
    means = running_mean(as_json(result)["batches"], strategy)
    assert means[0] is None
    assert means[1] == pytest.approx(LOSSES[strategy][1].mean())
    assert means[2] == pytest.approx(prequential(result.batches[:3], strategy))
    assert means[3] == pytest.approx(prequential(result.batches, strategy))


def test_a_batch_without_labels_does_not_change_the_running_mean() -> None:
    losses: list[tuple[int, Any]] = [(4, 0.6), (0, None), (4, 0.7)]
    batches = [{"labeled": labeled, "policy": loss} for labeled, loss in losses]
    assert running_mean(batches, "policy") == pytest.approx([0.6, 0.6, 0.65])


def drawn(figure: Figure) -> int:
    file = io.BytesIO()
    figure.savefig(file)
    return len(file.getvalue())


def test_a_backtest_is_drawn_with_the_log_loss_of_every_strategy(result: PolicyBacktest) -> None:
    record = as_json(result)
    figure = static.policy_backtest(record)
    assert drawn(figure) > 20_000
    single, running = figure.axes
    for place, name in enumerate(STRATEGIES):
        expected = [np.nan if batch[name] is None else batch[name] for batch in record["batches"]]
        np.testing.assert_allclose(single.lines[place].get_ydata(), expected)
        assert f"{STRATEGIES[name]}: {record['strategies'][name]['log_loss']:.4f}" in single.lines[place].get_label()
        assert running.lines[place].get_ydata()[-1] == pytest.approx(record["strategies"][name]["log_loss"])
    assert [label.get_text() for label in running.get_xticklabels()] == [
        "1\n2001-01",
        "2\n2002-01",
        "3\n2003-01",
        "4\n2004-01",
    ]


def test_every_event_is_drawn_at_its_batch(result: PolicyBacktest) -> None:
    single, running = static.policy_backtest(as_json(result)).axes
    drawn_at = {points.get_label(): [int(place) for place, _ in points.get_offsets()] for points in single.collections}
    assert drawn_at == {ALARM: [2], TRAINING: [2, 3], PROMOTION: [2], REJECTION: [3]}
    assert [list(line.get_xdata()) for line in running.lines[len(STRATEGIES) :]] == [[2.5, 2.5]]


def test_a_backtest_without_events_is_drawn(result: PolicyBacktest) -> None:
    record = as_json(result) | {"events": []}
    assert drawn(static.policy_backtest(record)) > 20_000
