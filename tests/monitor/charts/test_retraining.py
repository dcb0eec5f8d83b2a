"""Charts of decisions and of a policy backtest."""

import json
from collections.abc import Sequence
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


VERSIONS = pd.DataFrame(
    {
        "version": [1, 2, 3, 4],
        "created": [NOW - timedelta(days=120 - place) for place in range(4)],
        "gate": ["passed", "passed", "passed", "failed"],
    }
)


def swimlanes(log: Sequence[RetrainingDecision], *kinds: str) -> go.Figure:
    return retraining.swimlanes(log, promotions(*kinds), VERSIONS)


def named(figure: go.Figure) -> dict[str, go.Scatter]:
    """Traces by their names in the legend."""
    return {trace.name: trace for trace in figure.data if trace.name and trace.showlegend is not False}


def texts(figure: go.Figure) -> str:
    return "; ".join(annotation.text for annotation in figure.layout.annotations)


@pytest.mark.parametrize(
    "figure",
    [
        retraining.swimlanes([], promotions(), VERSIONS.head(0)),
        retraining.policy_backtest({**backtest_record(), "batches": []}),
    ],
)
def test_a_chart_without_data_shows_no_rows(figure: go.Figure) -> None:
    assert "no rows" in texts(figure)
    json.loads(figure.to_json())


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_its_own_marker(outcome: str) -> None:
    found = named(swimlanes([decision(1, outcome=outcome)]))
    style = DECISION_STYLES[outcome]
    assert list(found) == [outcome]
    assert (found[outcome].marker.color, found[outcome].marker.symbol) == (style.color, style.symbol)


@pytest.mark.parametrize("styles", [DECISION_STYLES, BACKTEST_STYLES])
def test_markers_are_distinct_without_colors(styles: dict[str, MarkerStyle]) -> None:
    assert len({style.symbol for style in styles.values()}) == len(styles)


def test_strategies_are_distinct_without_colors() -> None:
    assert len(set(DASHES.values())) == len(STRATEGIES)


def test_an_unknown_outcome_is_drawn_as_pending() -> None:
    assert list(named(swimlanes([decision(1, outcome="what is this")]))) == ["pending"]


def test_a_dry_run_is_not_drawn_as_a_retraining() -> None:
    log = [decision(1, outcome=records.NOTHING_TO_DO, mode="dry_run"), decision(2)]
    assert list(named(swimlanes(log))) == ["dry run", "promoted"]


def test_a_decision_is_in_the_lane_of_its_challenger_else_of_its_champion() -> None:
    figure = swimlanes([decision(1, "no action", records.NOTHING_TO_DO), decision(2)], "promotion")
    lanes = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    found = named(figure)
    for name, lane in (("no action", "v3"), ("promoted", "v4"), ("promotion", "v1")):
        assert list(found[name].y) == [lanes[lane]], name


def test_a_decision_about_an_unknown_version_is_not_drawn() -> None:
    assert named(retraining.swimlanes([decision(1)], promotions(), VERSIONS.head(2))) == {}


def test_the_hover_text_of_a_decision_is_escaped_and_wrapped() -> None:
    hover = named(swimlanes([decision(7)]))["promoted"].text[0]
    assert "Decision 7" in hover
    for text in ("log loss rose by 21%", "p &lt; 0.05 &amp; more", "1,500 labeled rows", "500 of them new"):
        assert text in hover
    for text in ("champion version 3", "challenger version 4", "Outcome: better on 500 hold-out rows"):
        assert text in hover
    assert max(map(len, hover.split("<br>"))) <= 80


def test_a_decision_without_action_has_no_outcome() -> None:
    hover = named(swimlanes([decision(7, "no action", records.NOTHING_TO_DO)]))["no action"].text[0]
    assert "Outcome" not in hover


def test_promotions_and_rollbacks_have_their_own_markers() -> None:
    found = named(swimlanes([], "roll back", "promotion", "promotion"))
    assert {name: len(found[name].x) for name in ("promotion", "rollback")} == {"promotion": 2, "rollback": 1}
    assert list(found["rollback"].text) == ["Version 3: rollback<br>better"]


def test_a_version_has_a_thick_line_until_the_next_champion() -> None:
    figure = swimlanes([], "roll back", "promotion")
    lines = [trace for trace in figure.data if trace.name == "champion"]
    assert [list(line.y) for line in lines] == [[0, 0], [1, 1]]
    assert list(lines[0].x) == [NOW - timedelta(days=9), NOW]
    assert "Version 1 became champion" in lines[0].text[0]
    assert lines[1].x[1] > lines[1].x[0]


def test_the_line_of_a_version_that_did_not_pass_the_gate_is_dotted() -> None:
    lines = [trace for trace in swimlanes([]).data if trace.mode == "lines"]
    assert [line.line.dash for line in lines] == ["solid", "solid", "solid", "dot"]


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
        swimlanes([decision(1)], "promotion"),
        retraining.policy_backtest(backtest_record()),
    ):
        assert figure.layout.paper_bgcolor is None
        assert figure.layout.plot_bgcolor is None
        assert figure.layout.font.color is None
        json.loads(figure.to_json())
