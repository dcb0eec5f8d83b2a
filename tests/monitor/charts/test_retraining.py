"""Charts of decisions, of a month and of a replayed operation."""

import json
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import plotly.graph_objects as go
import pytest

from monitor.charts import retraining
from monitor.charts.palette import STRATEGY
from monitor.charts.retraining import DASHES, DECISION_MARKS, ENTRY_MARKS, EVENT_MARKS, Mark
from monitor.retraining import decision_log
from monitor.retraining.backtest import STRATEGIES
from monitor.retraining.calendar import DECISION, DUE, KINDS, LOOK, CalendarEvent
from monitor.retraining.decision_log import DecisionRecord
from tests.operation_store import replay_record

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
OUTCOMES = ("pending", "promoted", "refused", "interrupted", "failed", "nothing to do")


def decision(number: int, decided: str = "retrain", outcome: str = "promoted", mode: str = "auto") -> DecisionRecord:
    return DecisionRecord(
        number, NOW - timedelta(days=99 - number), decided, "reactive" if decided == "retrain" else "", mode,
        ("log loss rose by 21% " * 9, "p < 0.05 & more"), outcome, "better on 500 later rows", "3",
        "4" if decided == "retrain" else "", 1_500, 500, NOW, f"run {number}", "kobe_shot",
    )  # fmt: skip


def promotions(*kinds: str) -> pd.DataFrame:
    when = [NOW - timedelta(days=9 * place) for place in range(len(kinds))]
    table = pd.DataFrame({"when": when, "version": range(len(kinds), 0, -1), "kind": kinds, "why": "better"})
    return table.assign(when=pd.to_datetime(table["when"], utc=True))


def named(figure: go.Figure) -> dict[str, go.Scatter]:
    """Traces by the names in the legend."""
    return {trace.name: trace for trace in figure.data if trace.name and trace.showlegend is not False}


def texts(figure: go.Figure) -> str:
    return "; ".join(annotation.text for annotation in figure.layout.annotations)


@pytest.mark.parametrize(
    "figure", [retraining.timeline([], promotions()), retraining.replayed({**replay_record(), "batches": []})]
)
def test_a_chart_of_nothing_says_that_there_are_no_rows(figure: go.Figure) -> None:
    assert "no rows" in texts(figure)
    json.loads(figure.to_json())


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_a_mark_of_its_own(outcome: str) -> None:
    found = named(retraining.timeline([decision(1, outcome=outcome)], promotions()))
    mark = DECISION_MARKS[outcome]
    assert list(found) == [outcome]
    assert (found[outcome].marker.color, found[outcome].marker.symbol) == (mark.colour, mark.symbol)


@pytest.mark.parametrize("marks", [DECISION_MARKS, ENTRY_MARKS, EVENT_MARKS])
def test_marks_can_be_told_apart_without_colours(marks: dict[str, Mark]) -> None:
    assert len({mark.symbol for mark in marks.values()}) == len(marks)


def test_ways_to_run_an_operation_can_be_told_apart_without_colours() -> None:
    assert len(set(DASHES.values())) == len(STRATEGIES)


def test_an_outcome_that_is_not_known_is_drawn_as_one_that_has_not_ended() -> None:
    assert list(named(retraining.timeline([decision(1, outcome="what is this")], promotions()))) == ["pending"]


def test_a_dry_run_is_not_taken_for_a_retraining() -> None:
    log = [decision(1, outcome=decision_log.NOTHING, mode="dry_run"), decision(2)]
    assert list(named(retraining.timeline(log, promotions()))) == ["only said", "promoted"]


def test_waiting_and_retraining_are_on_lanes_of_their_own() -> None:
    figure = retraining.timeline([decision(1, "wait", decision_log.NOTHING), decision(2)], promotions("promotion"))
    lanes = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    found = named(figure)
    for name, lane in (("wait", "wait"), ("promoted", "retrain"), ("became champion", "champion")):
        assert list(found[name].y) == [lanes[lane]], name


def test_the_hover_of_a_decision_tells_why_on_short_lines_and_shows_signs_as_they_are() -> None:
    hover = named(retraining.timeline([decision(7)], promotions()))["promoted"].text[0]
    assert "Decision 7" in hover
    for words in ("log loss rose by 21%", "p &lt; 0.05 &amp; more", "1,500 labelled rows", "500 of them new"):
        assert words in hover
    for words in ("champion version 3", "challenger version 4", "What came of it: better on 500 later rows"):
        assert words in hover
    assert max(map(len, hover.split("<br>"))) <= 80


def test_what_came_of_a_decision_that_waits_is_not_told() -> None:
    hover = named(retraining.timeline([decision(7, "wait", decision_log.NOTHING)], promotions()))["wait"].text[0]
    assert "What came of it" not in hover


def test_promotions_and_roll_backs_are_marks_of_their_own() -> None:
    found = named(retraining.timeline([], promotions("roll back", "promotion", "promotion")))
    assert {name: len(trace.x) for name, trace in found.items()} == {"became champion": 2, "rolled back": 1}
    assert "Version 3 is champion" in found["rolled back"].text[0]


def test_the_last_champion_reigns_until_the_last_decision() -> None:
    line = next(
        trace for trace in retraining.timeline([decision(150)], promotions("promotion")).data if trace.mode == "lines"
    )
    assert [moment.day for moment in line.x] == [22, 12]


def test_every_kind_of_entry_has_a_mark() -> None:
    assert set(ENTRY_MARKS) == set(KINDS)


def test_entries_of_a_day_are_in_its_cell_and_none_hides_another() -> None:
    day = date(2026, 11, 10)
    figure = retraining.month(
        date(2026, 11, 1), [CalendarEvent(day, kind, "words") for kind in KINDS], date(2026, 11, 22)
    )
    found = named(figure)
    places = [(trace.x[0], trace.y[0]) for trace in found.values()]
    assert list(found) == list(KINDS)
    assert len(set(places)) == len(KINDS)
    for x, y in places:
        assert abs(x - 1) < 0.48
        assert abs(y - 2) < 0.46


def test_several_entries_of_a_kind_are_one_mark_that_counts_and_tells_them_all() -> None:
    day = date(2026, 11, 10)
    entries = [
        CalendarEvent(day, LOOK, "in the morning"),
        CalendarEvent(day, LOOK, "in the evening"),
        CalendarEvent(day, DECISION, "wait"),
    ]
    found = named(retraining.month(day, entries, day))
    assert (list(found[LOOK].text), list(found[DECISION].text)) == (["2"], [""])
    assert found[LOOK].customdata[0] == ["Tuesday 10 November 2026", "in the morning<br>in the evening"]


def test_entries_of_other_months_are_drawn_in_the_weeks_that_are_shown_only() -> None:
    entries = [CalendarEvent(date(2026, 12, day), DUE, "due") for day in (4, 11)]
    found = named(retraining.month(date(2026, 11, 1), entries, date(2026, 11, 22)))
    assert (list(found[DUE].x), len(found[DUE].y)) == ([pytest.approx(4, abs=0.48)], 1)


def test_today_has_a_frame_and_an_empty_month_is_a_sheet_all_the_same() -> None:
    for today, frames in ((date(2026, 11, 22), 1), (date(2026, 1, 1), 0)):
        figure = retraining.month(date(2026, 11, 1), [], today)
        assert sum(shape.line.width == 3 for shape in figure.layout.shapes) == frames
        assert len(figure.layout.shapes) == 42
        assert not named(figure)


def test_every_strategy_is_drawn_with_its_loss_and_its_mean_so_far() -> None:
    record = replay_record()
    figure = retraining.replayed(record)
    for strategy, name in STRATEGIES.items():
        loss, mean = (trace for trace in figure.data if trace.name == name)
        assert (loss.line.color, mean.line.color) == (STRATEGY[strategy], STRATEGY[strategy])
        assert list(loss.y) == [batch[strategy] for batch in record["batches"]]
        assert mean.y[0] is None
        assert mean.y[-1] == pytest.approx(sum(loss.y[1:]) / 5)
    assert list(named(figure)) == list(STRATEGIES.values())


def test_what_the_loop_did_is_marked_between_the_batches() -> None:
    found = {trace.name: trace for trace in retraining.replayed(replay_record()).data if trace.name in EVENT_MARKS}
    assert {name: list(trace.x) for name, trace in found.items()} == {
        "alarm": [2.5],
        "training": [3.5, 5.5],
        "refusal": [5.5],
        "promotion": [3.5],
    }
    assert list(found["refusal"].text) == ["after batch 5<br>version 3 is not better"]


def test_a_replay_in_which_nothing_happened_is_drawn() -> None:
    assert retraining.replayed({**replay_record(), "marks": []}).data


def test_no_chart_decides_for_a_light_or_a_dark_page() -> None:
    today = NOW.date()
    for figure in (
        retraining.timeline([decision(1)], promotions("promotion")),
        retraining.month(today, [CalendarEvent(today, LOOK, "look")], today),
        retraining.replayed(replay_record()),
    ):
        assert figure.layout.paper_bgcolor is None
        assert figure.layout.plot_bgcolor is None
        assert figure.layout.font.color is None
        json.loads(figure.to_json())
