"""Simulator: score one shot, or a table of shots, over REST."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from data import court
from data.errors import KobeShotError
from data.preparation.manifest import PROD
from data.schema import FEATURES, MODEL_VERSION, PREDICTION, PROBABILITY, Column, feature_column
from monitor.charts.court import pick_on_court
from monitor.metrics.binary import METRICS, THRESHOLD
from monitor.ui import scoring, widgets
from monitor.ui.scoring import Scored, ShotPrediction, UploadedTable
from serving.client.endpoint import RejectedRowsError, ScoringError

_START = {
    "lat": 33.9723,
    "lng": -118.1028,
    "minutes_remaining": 10.0,
    "period": 1,
    "playoffs": 0,
    "shot_distance": 18.0,
}
_DEGREES = "degrees"
_ONE_FOOT = 1 / court.FEET_PER_DEGREE
_ROWS_SHOWN, _METRICS_IN_A_ROW = 200, 6
_CHART = "simulator_court"
_SHOT, _ANSWERS, _PROBLEM, _SCORED = "simulator_shot", "simulator_answers", "simulator_problem", "simulator_scored"


def show() -> None:
    """Draw the page."""
    st.title("Simulator")
    st.caption(
        f"Would this shot go in? Every answer comes over REST from the scoring server at {widgets.endpoint()}. What is "
        "sent from here is no traffic: the inference log keeps it apart, it is neither monitored nor trained on."
    )
    one, table = st.tabs(["One shot", "A table of shots"])
    with one:
        _show_one()
    with table:
        _show_table()


def _show_one() -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        typed = _form()
        problems = scoring.problems_of_shot(typed)
        shot = {name: float(value) for name, value in typed.items() if value is not None and name not in problems}
        pressed = st.button(
            "Score",
            type="primary",
            icon=":material/sports_basketball:",
            width="stretch",
            disabled=bool(problems),
            help="Every value has to be in its range." if problems else None,
        )
        if pressed:
            _score(shot)
        _show_result(shot)
    with right:
        _show_court(shot)
    _show_echo()
    _show_history()


def _form() -> dict[str, float | None]:
    """The values as they are typed, None for an empty field; what is wrong with one is said below it."""
    kept: dict[str, float | None] = st.session_state.setdefault(_SHOT, dict(_START))
    with st.container(border=True):
        for place, name in enumerate(FEATURES):
            if place % 2 == 0:
                columns = st.columns(2)
            with columns[place % 2]:
                # Streamlit forgets a widget while another page is shown; what was typed is kept beside it.
                st.session_state.setdefault(_key(name), kept[name])
                kept[name] = _field(name, feature_column(name))
        _say_where(kept)
    return dict(kept)


def _field(name: str, column: Column) -> float | None:
    label = _label(name, column.unit)
    meaning = f"{column.meaning}; {column.allowed}".capitalize()
    if column.kind == "integer" and (column.minimum, column.maximum) == (0, 1):
        return st.selectbox(label, [0, 1], format_func=("0: no", "1: yes").__getitem__, key=_key(name), help=meaning)
    # A field with limits of its own keeps the value of before where one beyond them is typed, and says nothing.
    step, shown = (_ONE_FOOT, "%.4f") if column.unit == _DEGREES else (1.0, "%.10g")
    value = st.number_input(label, value=None, step=step, format=shown, key=_key(name), help=meaning)
    if problem := scoring.problems_of_shot({name: value}).get(name):
        st.error(f"{label}: {problem}.", icon=":material/error:")
    return value


def _say_where(typed: dict[str, float | None]) -> None:
    shot = {name: value for name, value in typed.items() if value is not None and scoring.is_allowed(name, value)}
    if not {"lat", "lng"} <= shot.keys():
        st.caption("Latitude and longitude are no place on the court.")
        return
    st.caption(_position(shot))
    if "shot_distance" in shot and (wrong := scoring.contradiction(shot)):
        place = scoring.distance_of(shot)
        st.warning(
            f"The place is {place:.1f} feet from the hoop, the distance says {shot['shot_distance']:g}: "
            f"{abs(wrong):.1f} feet too {'many' if wrong > 0 else 'few'}. The model has seen no shot like that.",
            icon=":material/social_distance:",
        )
        fitting = scoring.distance_at(shot["lat"], shot["lng"])
        st.button(f"Set the distance to {fitting:g} feet", on_click=_set_distance, args=(fitting,))


def _set_distance(feet: float) -> None:
    st.session_state[_key("shot_distance")] = feet


def _position(shot: dict[str, float]) -> str:
    x, y = court.to_feet([shot["lat"]], [shot["lng"]])
    across, along = float(x[0]), float(y[0])
    side = "to the right of" if across >= 0 else "to the left of"
    beyond = "in front of" if along >= 0 else "behind"
    points = "three" if court.is_three_pointer(x, y)[0] else "two"
    return (
        f"{abs(across):.1f} feet {side} and {abs(along):.1f} feet {beyond} the hoop, "
        f"{np.hypot(across, along):.1f} feet away: a shot for {points} points from zone {court.zones(x, y).basic[0]}."
    )


def _show_court(shot: dict[str, float]) -> None:
    try:
        history = _history()
    except KobeShotError as error:
        st.error(str(error), icon=":material/error:")
        return
    if history is None:
        widgets.show_prerequisite("The court shows where shots were taken once they are prepared.", "make main")
        history = pd.DataFrame({"lat": [], "lng": []}, dtype=float)
    star = None
    if {"lat", "lng"} <= shot.keys():
        x, y = court.to_feet([shot["lat"]], [shot["lng"]])
        star = float(x[0]), float(y[0])
    figure = pick_on_court(history, star, _scored_points())
    st.plotly_chart(figure, key=_CHART, on_select=_pick, selection_mode="points", config={"displayModeBar": False})
    st.caption(
        "Click on the court to shoot from there. The star is the shot that the form holds; gray is where all prepared "
        "shots were taken; a circle is a shot that was scored before, in the color of its P(made)."
    )


def _pick() -> None:
    points = st.session_state[_CHART]["selection"]["points"]
    if not points:
        return
    for name, value in scoring.features_at(float(points[0]["x"]), float(points[0]["y"])).items():
        st.session_state[_key(name)] = value


def _score(shot: dict[str, float]) -> None:
    st.session_state[_PROBLEM] = None
    asked = (shot, widgets.endpoint())
    try:
        with st.spinner(f"Asking {widgets.endpoint()}"):
            answer = scoring.score_shot(shot, widgets.endpoint())
    except RejectedRowsError as error:
        st.session_state[_PROBLEM] = (f"The server refused this shot. {error.reason}", asked)
    except KobeShotError as error:
        st.session_state[_PROBLEM] = (_how_to_serve(error), asked)
    else:
        st.session_state.setdefault(_ANSWERS, []).insert(0, answer)


def _show_result(shot: dict[str, float]) -> None:
    """What came of the shot that the form holds, from the server that the sidebar names; nothing of another one."""
    problem, answers = st.session_state.get(_PROBLEM), _answers()
    if problem and problem[1] == (shot, widgets.endpoint()):
        st.error(problem[0], icon=":material/cloud_off:")
        return
    with st.container(border=True):
        if not answers:
            st.markdown("**No shot yet.** Set one, or click on the court, and press *Score*.")
            return
        last = answers[0]
        if (last.shot, last.address) != (shot, widgets.endpoint()):
            todo = "Press *Score*." if shot.keys() == last.shot.keys() else "Correct what is marked above."
            st.markdown(f"**This shot is not scored yet.** {todo} The scored ones are in the table below.")
            return
        first, second = st.columns(2)
        first.metric("Prediction", "Made" if last.made else "Missed")
        second.metric("P(made)", f"{last.probability:.1%}")
        st.progress(last.probability)
        with st.container(horizontal=True):
            st.badge(f"version {last.version or 'not said'}", icon=":material/deployed_code:", color="blue")
            st.badge(f"{last.milliseconds:.1f} ms", icon=":material/timer:", color="gray")


def _show_echo() -> None:
    answers = _answers()
    if not answers:
        return
    last = answers[0]
    with st.expander("What was sent last and what came back", icon=":material/data_object:"):
        sent, answered = st.columns(2)
        sent.markdown("Sent (the client sends it as Parquet)")
        sent.json(last.sent)
        answered.markdown("Answered")
        answered.json(last.answered)
        st.markdown("The same from a shell")
        st.code(last.curl, language="sh")


def _show_history() -> None:
    answers = _answers()
    if not answers:
        return
    table = _history_table(answers)
    st.subheader("Simulations of this session")
    st.dataframe(table, hide_index=True, column_config=_history_columns())
    with st.container(horizontal=True):
        st.download_button(
            "Download as CSV",
            table.to_csv(index=False).encode(),
            "simulations.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.button("Clear", icon=":material/delete:", on_click=_clear)


def _history_table(answers: list[ShotPrediction]) -> pd.DataFrame:
    rows = [
        {
            "time": answer.time,
            PREDICTION: "Made" if answer.made else "Missed",
            PROBABILITY: answer.probability,
            MODEL_VERSION: answer.version,
            "milliseconds": answer.milliseconds,
            **answer.shot,
            "address": answer.address,
        }
        for answer in answers
    ]
    return pd.DataFrame(rows)


def _history_columns() -> dict[str, Any]:
    configured: dict[str, Any] = {
        name: st.column_config.NumberColumn(
            _label(name, feature_column(name).unit),
            format="%.4f" if feature_column(name).unit == _DEGREES else "%g",
        )
        for name in FEATURES
    }
    return configured | {
        "time": st.column_config.DatetimeColumn("Time (UTC)", format="HH:mm:ss", timezone="UTC"),
        PREDICTION: "Prediction",
        PROBABILITY: _percent_bar(),
        MODEL_VERSION: "Version",
        "milliseconds": st.column_config.NumberColumn("Answered in", format="%.1f ms"),
        "address": "Server",
    }


def _clear() -> None:
    st.session_state[_ANSWERS], st.session_state[_PROBLEM] = [], None


def _show_table() -> None:
    left, right = st.columns(2, gap="medium")
    with left.container(border=True, height="stretch"):
        st.markdown("**A file of your own**")
        file = st.file_uploader(
            "Parquet or CSV with the six features",
            type=["parquet", "csv"],
            help="Longitude as lng or lon. Other columns of a shot may be there; all others are kept aside.",
            on_change=_forget_table,
        )
        if st.button("Score the file", type="primary", disabled=file is None) and file is not None:
            _score_table(lambda: scoring.read_shots(file.name, file.getvalue()))
    with right.container(border=True, height="stretch"):
        st.markdown("**The production set**")
        st.caption(f"data/processed/{PROD}.parquet, as the last preparation wrote it.")
        if st.button("Score the production set", type="primary"):
            _score_table(scoring.production_set)
    scored = st.session_state.get(_SCORED)
    if isinstance(scored, str):
        st.error(scored, icon=":material/error:")
    elif scored is not None:
        _show_scored(scored)


def _forget_table() -> None:
    st.session_state.pop(_SCORED, None)


def _score_table(read: Callable[[], UploadedTable]) -> None:
    try:
        shots = read()
        rows, done = len(shots.sent), 0
        bar = st.progress(0.0, f"0 of {rows:,} rows")

        def advance(more: int) -> None:
            nonlocal done
            done += more
            bar.progress(done / rows, f"{done:,} of {rows:,} rows")

        st.session_state[_SCORED] = scoring.score_shots(shots, widgets.endpoint(), on_progress=advance)
        bar.empty()
    except RejectedRowsError as error:
        st.session_state[_SCORED] = f"The server refused the table. {error.reason}"
    except ScoringError as error:
        st.session_state[_SCORED] = _how_to_serve(error)
    except KobeShotError as error:
        st.session_state[_SCORED] = str(error)


def _show_scored(scored: Scored) -> None:
    rows = len(scored.table)
    st.subheader(f"{scored.shots.name}: {rows:,} rows scored")
    st.caption(f"By the server at {scored.address}.")
    columns = st.columns(5)
    columns[0].metric("Rows", f"{rows:,}", border=True)
    columns[1].metric("Predicted made", f"{scored.share_predicted_made:.2%}", border=True)
    columns[2].metric("Mean P(made)", f"{scored.mean_probability:.1%}", border=True)
    columns[3].metric("Version", scored.versions, border=True)
    columns[4].metric("Rows per second", f"{rows / scored.seconds:,.0f}", border=True)
    if scored.shots.aside:
        names = ", ".join(f"`{name}`" for name in scored.shots.aside)
        st.info(f"Not sent, but kept in the downloads, as no shot has them: {names}.", icon=":material/inventory_2:")
    _show_metrics(scored)
    st.dataframe(
        scored.table.head(_ROWS_SHOWN),
        hide_index=True,
        column_order=list(dict.fromkeys([PREDICTION, PROBABILITY, MODEL_VERSION, *scored.table.columns])),
        column_config={PROBABILITY: _percent_bar(), **_degree_columns()},
    )
    st.caption(f"The first {min(rows, _ROWS_SHOWN):,} of {rows:,} rows.")
    name = scored.shots.name.rpartition(".")[0]
    with st.container(horizontal=True):
        _download("CSV", lambda: scored.csv, f"{name}_scored.csv", "text/csv")
        _download("Parquet", lambda: scored.parquet, f"{name}_scored.parquet", "application/vnd.apache.parquet")


def _show_metrics(scored: Scored) -> None:
    if not scored.labelled:
        st.info("No row has a label (`shot_made_flag`), so nothing can be said of how right this is.")
        return
    names = list(METRICS)
    for start in range(0, len(names), _METRICS_IN_A_ROW):
        row = names[start : start + _METRICS_IN_A_ROW]
        for column, name in zip(st.columns(_METRICS_IN_A_ROW), row, strict=False):
            value = scored.metrics.get(name)
            column.metric(name.replace("_", " "), "not defined" if value is None else f"{value:.4f}")
    st.caption(
        f"From P(made) of the {scored.labelled:,} labelled rows; labels are predicted from P(made) {THRESHOLD:.2g} on. "
        f"{len(scored.table) - scored.labelled:,} rows have no label and are left out."
    )


def _download(kind: str, content: Callable[[], bytes], name: str, mime: str) -> None:
    st.download_button(f"Download as {kind}", content, name, mime, icon=":material/download:", on_click="ignore")


def _percent_bar() -> Any:  # noqa: ANN401 Streamlit gives its type no public name
    return st.column_config.ProgressColumn("P(made)", format="percent", min_value=0.0, max_value=1.0)


def _degree_columns() -> dict[str, Any]:
    return {name: st.column_config.NumberColumn(format="%.4f") for name in ("lat", "lng", "lon")}


def _scored_points() -> pd.DataFrame | None:
    answers = _answers()
    if not answers:
        return None
    x, y = court.to_feet([answer.shot["lat"] for answer in answers], [answer.shot["lng"] for answer in answers])
    return pd.DataFrame({"x": x, "y": y, PROBABILITY: [answer.probability for answer in answers]})


def _answers() -> list[ShotPrediction]:
    return list(st.session_state.get(_ANSWERS, []))


def _how_to_serve(error: KobeShotError) -> str:
    # The client's message ends with commands of its own.
    found = str(error).partition(" Start one:")[0]
    return (
        f"{found}\n\nStart a server with `make serve`, or with "
        "`mlflow models serve -m models:/kobe_shot/Production --env-manager local`, and set its address in the sidebar."
    )


def _label(name: str, unit: str) -> str:
    words = name.replace("_", " ").capitalize()
    return f"{words} ({unit})" if unit and unit not in name else words


def _key(name: str) -> str:
    return f"simulator_{name}"


@st.cache_data(ttl=60, show_spinner=False)
def _history() -> pd.DataFrame | None:
    return scoring.historical_shots()


if __name__ == "__main__":
    show()
