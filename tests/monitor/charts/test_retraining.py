"""Charts of decisions and of a policy backtest."""

import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import plotly.graph_objects as go
import pytest

from monitor.charts import retraining
from monitor.charts.palette import STRATEGY
from monitor.charts.retraining import BACKTEST_STYLES, DASHES, DECISION_STYLES, MarkerStyle
from monitor.retraining.backtest import STRATEGIES
from monitor.store import records
from monitor.store.records import RetrainingDecision
from tests.operation_store import backtest_record

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
OUTCOMES = ("pending", "promoted", "rejected", "interrupted", "failed", "nothing to do")


def decision(
    number: int, decided: str = "retrain", outcome: str = "promoted", mode: str = "auto"
) -> RetrainingDecision:
    retrain = decided == "retrain"
    return RetrainingDecision(
        number=number,
        decided_at=NOW - timedelta(days=99 - number),
        decision=decided,
        trigger="reactive" if retrain else "",
        mode=mode,
        reasons=("log loss rose by 21% " * 9, "p < 0.05 & more"),
        outcome=outcome,
        outcome_reason="better on 500 hold-out rows",
        champion="3",
        challenger="4" if retrain else "",
        labels=1_500,
        new_labels=500,
        labels_until=NOW,
        run_id=f"run {number}",
        model="kobe_shot",
    )


def promotions(*kinds: str) -> pd.DataFrame:
    when = [NOW - timedelta(days=9 * place) for place in range(len(kinds))]
    table = pd.DataFrame({"when": when, "version": range(len(kinds), 0, -1), "kind": kinds, "why": "better"})
    return table.assign(when=pd.to_datetime(table["when"], utc=True))


def named(figure: go.Figure) -> dict[str, go.Scatter]:
    """Traces by their names in the legend."""
    return {trace.name: trace for trace in figure.data if trace.name and trace.showlegend is not False}


def texts(figure: go.Figure) -> str:
    return "; ".join(annotation.text for annotation in figure.layout.annotations)


@pytest.mark.parametrize(
    "figure", [retraining.timeline([], promotions()), retraining.policy_backtest({**backtest_record(), "batches": []})]
)
def test_a_chart_without_data_shows_no_rows(figure: go.Figure) -> None:
    assert "no rows" in texts(figure)
    json.loads(figure.to_json())


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_its_own_marker(outcome: str) -> None:
    found = named(retraining.timeline([decision(1, outcome=outcome)], promotions()))
    style = DECISION_STYLES[outcome]
    assert list(found) == [outcome]
    assert (found[outcome].marker.color, found[outcome].marker.symbol) == (style.color, style.symbol)


@pytest.mark.parametrize("styles", [DECISION_STYLES, BACKTEST_STYLES])
def test_markers_are_distinct_without_colors(styles: dict[str, MarkerStyle]) -> None:
    assert len({style.symbol for style in styles.values()}) == len(styles)


def test_strategies_are_distinct_without_colors() -> None:
    assert len(set(DASHES.values())) == len(STRATEGIES)


def test_an_unknown_outcome_is_drawn_as_pending() -> None:
    assert list(named(retraining.timeline([decision(1, outcome="what is this")], promotions()))) == ["pending"]


def test_a_dry_run_is_not_drawn_as_a_retraining() -> None:
    log = [decision(1, outcome=records.NOTHING_TO_DO, mode="dry_run"), decision(2)]
    assert list(named(retraining.timeline(log, promotions()))) == ["dry run", "promoted"]


def test_every_decision_and_the_champion_have_their_own_lanes() -> None:
    figure = retraining.timeline(
        [decision(1, "no action", records.NOTHING_TO_DO), decision(2)], promotions("promotion")
    )
    lanes = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    found = named(figure)
    for name, lane in (("no action", "no action"), ("promoted", "retrain"), ("promotion", "champion")):
        assert list(found[name].y) == [lanes[lane]], name


def test_the_hover_text_of_a_decision_is_escaped_and_wrapped() -> None:
    hover = named(retraining.timeline([decision(7)], promotions()))["promoted"].text[0]
    assert "Decision 7" in hover
    for text in ("log loss rose by 21%", "p &lt; 0.05 &amp; more", "1,500 labeled rows", "500 of them new"):
        assert text in hover
    for text in ("champion version 3", "challenger version 4", "Outcome: better on 500 hold-out rows"):
        assert text in hover
    assert max(map(len, hover.split("<br>"))) <= 80


def test_a_decision_without_action_has_no_outcome() -> None:
    hover = named(retraining.timeline([decision(7, "no action", records.NOTHING_TO_DO)], promotions()))[
        "no action"
    ].text[0]
    assert "Outcome" not in hover


def test_promotions_and_rollbacks_have_their_own_markers() -> None:
    found = named(retraining.timeline([], promotions("roll back", "promotion", "promotion")))
    assert {name: len(trace.x) for name, trace in found.items()} == {"promotion": 2, "rollback": 1}
    assert "Version 3 became champion" in found["rollback"].text[0]


def test_the_line_of_the_last_champion_ends_at_the_last_decision() -> None:
    line = next(
        trace for trace in retraining.timeline([decision(150)], promotions("promotion")).data if trace.mode == "lines"
    )
    assert [time.day for time in line.x] == [22, 12]


def test_every_strategy_is_drawn_with_its_log_loss_and_its_running_mean() -> None:
    record = backtest_record()
    figure = retraining.policy_backtest(record)
    for strategy, name in STRATEGIES.items():
        loss, mean = (trace for trace in figure.data if trace.name == name)
        assert (loss.line.color, mean.line.color) == (STRATEGY[strategy], STRATEGY[strategy])
        assert list(loss.y) == [batch[strategy] for batch in record["batches"]]
        assert mean.y[0] is None
        assert mean.y[-1] == pytest.approx(sum(loss.y[1:]) / 5)
    assert list(named(figure)) == list(STRATEGIES.values())


def test_events_are_between_batches() -> None:
    found = {
        trace.name: trace
        for trace in retraining.policy_backtest(backtest_record()).data
        if trace.name in BACKTEST_STYLES
    }
    assert {name: list(trace.x) for name, trace in found.items()} == {
        "alarm": [2.5],
        "training": [3.5, 5.5],
        "rejection": [5.5],
        "promotion": [3.5],
    }
    assert list(found["rejection"].text) == ["after batch 5<br>version 3 is not better"]


def test_a_backtest_without_events_is_drawn() -> None:
    assert retraining.policy_backtest({**backtest_record(), "events": []}).data


def test_every_chart_follows_the_theme_of_the_page() -> None:
    for figure in (
        retraining.timeline([decision(1)], promotions("promotion")),
        retraining.policy_backtest(backtest_record()),
    ):
        assert figure.layout.paper_bgcolor is None
        assert figure.layout.plot_bgcolor is None
        assert figure.layout.font.color is None
        json.loads(figure.to_json())
