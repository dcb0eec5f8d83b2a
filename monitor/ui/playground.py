"""Playground: score one shot, or a table of shots, over REST."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from data import court
from data.datasets import Column, current, default, worded
from data.errors import KobeShotError
from data.preparation.manifest import PROD
from data.schema import MODEL_VERSION, PREDICTION, PROBABILITY
from monitor.charts.court import pick_on_court
from monitor.charts.layout import DrawnOnce
from monitor.metrics.binary import METRICS, THRESHOLD
from monitor.metrics.names import column_name
from monitor.ui import cache, scoring, widgets
from monitor.ui.scoring import ScoredUpload, ShotPrediction, UploadedTable, Value
from monitor.ui.text import _, sentence
from serving.client.endpoint import RejectedRowsError, ScoringError

_START = {
    "lat": 33.9723,
    "lng": -118.1028,
    "minutes_remaining": 10.0,
    "period": 1,
    "playoffs": 0,
    "shot_distance": 18.0,
}
_FIRST_DAY, _LAST_DAY = date(1900, 1, 1), date(2100, 12, 31)
_MAX_CATEGORIES = 300
_DEGREES = "degrees"
_ONE_FOOT = 1 / court.FEET_PER_DEGREE
_ROWS_SHOWN, _METRICS_IN_A_ROW = 200, 6
_CHART = "playground_court"
_SHOT, _PREDICTIONS, _PROBLEM, _SCORED = (
    "playground_shot",
    "playground_predictions",
    "playground_problem",
    "playground_scored",
)


def show() -> None:
    """Render the playground."""
    st.caption(
        sentence(
            worded("A scoring server scores every shot over REST: ")
            + f"{widgets.endpoint()}. Requests from this page are marked as such in the inference log and excluded "
            "from monitoring and training."
        )
    )
    if cache.served(widgets.endpoint()) is None:
        st.warning(f"{_('The scoring server does not respond.')} {widgets.how_to_serve()}", icon=":material/cloud_off:")
    one, table = st.tabs([_("One shot"), _("A table of shots")])
    with one:
        _show_one()
    with table:
        _show_table()


def _show_one() -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        typed = _form()
        problems = scoring.problems_of_shot(typed)
        shot = {name: value for name, value in typed.items() if name not in problems}
        is_pressed = st.button(
            _("Score"),
            type="primary",
            icon=":material/play_circle:",
            width="stretch",
            disabled=bool(problems),
            help=_("Every value must be in its range.") if problems else None,
        )
        if is_pressed:
            _score(shot)
        _show_result(shot)
    if current().court is not None:
        with right:
            _show_court(shot)
    _show_request()
    _show_history()


def _kept() -> dict[str, Value]:
    """The values of the form; at first those of a test row, or of one shot of the brief's."""
    names = current().feature_names
    kept: dict[str, Value] = st.session_state.get(_SHOT, {})
    if set(kept) != set(names):
        examples = None if names == default().feature_names else _examples()
        first = _START if examples is None else examples.iloc[0].to_dict()
        kept = {name: _plain(first.get(name)) for name in names}
        st.session_state[_SHOT] = kept
    return kept


def _plain(value: object) -> Value:
    if value is None or value is pd.NA or value != value:  # noqa: PLR0124 NaN
        return None
    return value if isinstance(value, str) else float(value)  # type: ignore[arg-type] # a number


def _form() -> dict[str, Value]:
    """The values of the form, None for an empty field; an error is shown below its field."""
    kept = _kept()
    with st.container(border=True):
        for place, column in enumerate(current().features):
            if place % 2 == 0:
                columns = st.columns(2)
            with columns[place % 2]:
                kept[column.name] = _field(column, kept[column.name])
        if current().court is not None:
            _describe_position(kept)
    return dict(kept)


def _field(column: Column, kept: Value) -> Value:
    name, label = column.name, _label(column.name, column.unit)
    description = "; ".join(filter(None, (column.description, column.constraint_text))).capitalize()
    # Streamlit drops the state of a widget that is not rendered, so the page keeps a copy.
    if column.kind == "boolean" or (column.kind == "integer" and (column.minimum, column.maximum) == (0, 1)):
        st.session_state.setdefault(_key(name), None if kept is None else int(float(kept)))
        selected = st.selectbox(
            label, [0, 1], format_func=lambda value: _(("0: no", "1: yes")[value]), key=_key(name), help=description
        )
        return None if selected is None else float(selected)
    if column.kind == "date":
        st.session_state.setdefault(_key(name), kept and date.fromisoformat(str(kept)[:10]))
        day = st.date_input(label, key=_key(name), min_value=_FIRST_DAY, max_value=_LAST_DAY, help=description)
        return day.isoformat() if isinstance(day, date) else None
    if not column.is_numeric:
        st.session_state.setdefault(_key(name), kept)
        options = _categories(column)
        return st.selectbox(label, options, key=_key(name), help=description, accept_new_options=not column.allowed)
    st.session_state.setdefault(_key(name), kept)
    # A field with min_value and max_value silently ignores a typed value outside of them.
    step, shown = (_ONE_FOOT, "%.4f") if column.unit == _DEGREES else (1.0, "%.10g")
    value = st.number_input(label, value=None, step=step, format=shown, key=_key(name), help=description)
    if problem := scoring.problems_of_shot({name: value}).get(name):
        st.error(f"{label}: {problem}.", icon=":material/error:")
    return value


def _categories(column: Column) -> list[str]:
    """Categories of the description, else those of the test rows."""
    if column.categories:
        return list(column.categories)
    examples = _examples()
    if examples is None:
        return []
    return sorted(examples[column.name].dropna().astype(str).value_counts().index[:_MAX_CATEGORIES])


def _describe_position(typed: dict[str, Value]) -> None:
    shot = {name: value for name, value in typed.items() if value is not None and scoring.is_allowed(name, value)}
    if not scoring.has_position(shot):
        st.caption(_("The coordinates are not a position on the court."))
        return
    st.caption(sentence(_position(shot)))
    if error := scoring.contradiction(shot):
        distance = scoring.distance_of(shot)
        st.warning(
            sentence(
                f"The position is {distance:.1f} feet from the hoop, but the distance is {distance + error:g}, which "
                f"is {abs(error):.1f} feet too {'long' if error > 0 else 'short'}. The training set holds no such shot."
            ),
            icon=":material/social_distance:",
        )
        matching = scoring.features_at(*scoring.position_of(shot))[_distance()]
        st.button(sentence(f"Set the distance to {matching:g} feet"), on_click=_set_distance, args=(matching,))


def _distance() -> str:
    place = current().court
    return place.distance if place else ""


def _set_distance(feet: float) -> None:
    st.session_state[_key(_distance())] = feet


def _position(shot: Mapping[str, Value]) -> str:
    across, along = scoring.position_of(shot)
    x, y = np.array([across]), np.array([along])
    side = "to the right of" if across >= 0 else "to the left of"
    depth = "in front of" if along >= 0 else "behind"
    points = "three" if court.is_three_pointer(x, y)[0] else "two"
    return (
        f"{abs(across):.1f} feet {side} and {abs(along):.1f} feet {depth} the hoop, "
        f"{np.hypot(across, along):.1f} feet away: a {points}-point shot from zone {court.zones(x, y).basic[0]}."
    )


def _show_court(shot: dict[str, Value]) -> None:
    try:
        history = _history()
    except KobeShotError as error:
        st.error(str(error), icon=":material/error:")
        return
    if history is None:
        widgets.show_prerequisite(_("The chart shows the locations of prepared shots once there are any."), "make main")
        history = pd.DataFrame({"lat": [], "lng": []}, dtype=float)
    star = None
    if scoring.has_position(shot):
        star = scoring.position_of(shot)
    figure = pick_on_court(history, star, _scored_points())
    widgets.translate_figure(figure)
    st.plotly_chart(
        DrawnOnce(figure), theme=None, key=_CHART, on_select=_pick, selection_mode="points",
        config={"displayModeBar": False},
    )  # fmt: skip
    st.caption(
        _(
            "Click on the court to set the position. The star is the shot in the form, gray is the density of all "
            "prepared shots, and a circle is a scored shot, in the color of its P(made)."
        )
    )


def pick(x: float, y: float) -> None:
    """Put a spot of the court, in feet from the hoop, into the form."""
    kept = _kept()
    for name, value in scoring.features_at(x, y).items():
        kept[name] = value
        st.session_state[_key(name)] = value


def _pick() -> None:
    points = st.session_state[_CHART]["selection"]["points"]
    if not points:
        return
    for name, value in scoring.features_at(float(points[0]["x"]), float(points[0]["y"])).items():
        st.session_state[_key(name)] = value


def _score(shot: dict[str, Value]) -> None:
    st.session_state[_PROBLEM] = None
    request = (shot, widgets.endpoint())
    try:
        with st.spinner(sentence(f"Waiting for {widgets.endpoint()}")):
            prediction = scoring.score_shot(shot, widgets.endpoint())
    except RejectedRowsError as error:
        st.session_state[_PROBLEM] = (f"{worded('The server rejected this shot.')} {error.reason}", request)
    except KobeShotError as error:
        st.session_state[_PROBLEM] = (_how_to_serve(error), request)
    else:
        st.session_state.setdefault(_PREDICTIONS, []).insert(0, prediction)


def _show_result(shot: dict[str, Value]) -> None:
    """Show the prediction or the error of the shot in the form, by the server that is set in the bar."""
    problem, predictions = st.session_state.get(_PROBLEM), _predictions()
    if problem and problem[1] == (shot, widgets.endpoint()):
        st.error(problem[0], icon=":material/cloud_off:")
        return
    with st.container(border=True):
        if not predictions:
            how = "Fill in the form, or click on the court," if current().court else "Fill in the form"
            st.markdown(sentence(f"**{worded('No shot has been scored yet.')}** {how} and press *Score*."))
            return
        last = predictions[0]
        if (last.shot, last.url) != (shot, widgets.endpoint()):
            todo = "Press *Score*." if shot.keys() == last.shot.keys() else "Correct the marked values above."
            st.markdown(
                sentence(
                    worded(f"**This shot has not been scored yet.** {todo} The scored shots are in the table below.")
                )
            )
            return
        first, second = st.columns(2)
        first.metric(_("Prediction"), _outcome(is_made=last.made))
        second.metric(_("P(made)"), f"{last.probability:.1%}")
        st.progress(last.probability)
        with st.container(horizontal=True):
            st.badge(sentence(f"version {last.version or 'unknown'}"), icon=":material/deployed_code:", color="blue")
            st.badge(f"{last.milliseconds:.1f} ms", icon=":material/timer:", color="gray")


def _outcome(*, is_made: bool) -> str:
    word = current().positive if is_made else current().negative
    return word[:1].upper() + word[1:]


def _show_request() -> None:
    predictions = _predictions()
    if not predictions:
        return
    last = predictions[0]
    with st.expander(_("Last request and response"), icon=":material/data_object:"):
        left, right = st.columns(2)
        left.markdown(_("Request (the client sends it as Parquet)"))
        left.json(last.request)
        right.markdown(_("Response"))
        right.json(last.response)
        st.markdown(_("The same request with curl"))
        st.code(last.curl, language="sh")


def _show_history() -> None:
    predictions = _predictions()
    if not predictions:
        return
    table = _history_table(predictions)
    st.subheader(_("Predictions of this session"))
    st.dataframe(table, hide_index=True, column_config=_history_columns())
    with st.container(horizontal=True):
        st.download_button(
            _("Download as CSV"),
            table.to_csv(index=False).encode(),
            "predictions.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.button(_("Clear"), icon=":material/delete:", on_click=_clear)


def _history_table(predictions: list[ShotPrediction]) -> pd.DataFrame:
    rows = [
        {
            "time": prediction.time,
            PREDICTION: _outcome(is_made=prediction.made),
            PROBABILITY: prediction.probability,
            MODEL_VERSION: prediction.version,
            "milliseconds": prediction.milliseconds,
            **prediction.shot,
            "url": prediction.url,
        }
        for prediction in predictions
    ]
    return pd.DataFrame(rows)


def _history_columns() -> dict[str, Any]:
    configured: dict[str, Any] = {
        column.name: st.column_config.NumberColumn(
            _label(column.name, column.unit), format="%.4f" if column.unit == _DEGREES else "%g"
        )
        if column.is_numeric
        else st.column_config.TextColumn(_label(column.name, column.unit))
        for column in current().features
    }
    return configured | {
        "time": st.column_config.DatetimeColumn(_("Time (UTC)"), format="HH:mm:ss", timezone="UTC"),
        PREDICTION: _("Prediction"),
        PROBABILITY: _percent_bar(),
        MODEL_VERSION: _("Version"),
        "milliseconds": st.column_config.NumberColumn(_("Latency"), format="%.1f ms"),
        "url": _("Server"),
    }


def _clear() -> None:
    st.session_state[_PREDICTIONS], st.session_state[_PROBLEM] = [], None


def _show_table() -> None:
    left, right = st.columns(2, gap="medium")
    with left.container(border=True, height="stretch"):
        st.markdown(_("**Upload a file**"))
        file = st.file_uploader(
            sentence(f"A table with the {len(current().features)} features, such as Parquet or CSV"),
            type=scoring.SUFFIXES,
            help=_(
                "Columns by their names or those of raw tables. Other columns are passed through to the downloads. "
                "The content of the file is its format."
            ),
            on_change=_clear_table,
        )
        if st.button(_("Score the file"), type="primary", disabled=file is None) and file is not None:
            _score_table(lambda: scoring.read_shots(file.name, file.getvalue()))
    with right.container(border=True, height="stretch"):
        st.markdown(_("**The production set**"))
        st.caption(sentence(f"{PROD}.parquet, which the last preparation wrote."))
        if st.button(_("Score the production set"), type="primary"):
            _score_table(scoring.production_set)
    scored = st.session_state.get(_SCORED)
    if isinstance(scored, str):
        st.error(scored, icon=":material/error:")
    elif scored is not None:
        _show_scored(scored)


def _clear_table() -> None:
    st.session_state.pop(_SCORED, None)


def _score_table(read: Callable[[], UploadedTable]) -> None:
    try:
        shots = read()
        rows, done = len(shots.sent), 0
        bar = st.progress(0.0, sentence(f"0 of {rows:,} rows"))

        def advance(more: int) -> None:
            nonlocal done
            done += more
            bar.progress(done / rows, sentence(f"{done:,} of {rows:,} rows"))

        st.session_state[_SCORED] = scoring.score_shots(shots, widgets.endpoint(), on_progress=advance)
        bar.empty()
    except RejectedRowsError as error:
        st.session_state[_SCORED] = f"The server rejected the table. {error.reason}"
    except ScoringError as error:
        st.session_state[_SCORED] = _how_to_serve(error)
    except KobeShotError as error:
        st.session_state[_SCORED] = str(error)


def _show_scored(scored: ScoredUpload) -> None:
    rows = len(scored.table)
    st.subheader(sentence(f"{scored.shots.name}: {rows:,} rows scored"))
    st.caption(sentence(f"Scored by the server at {scored.url}."))
    columns = st.columns(5)
    columns[0].metric(_("Rows"), f"{rows:,}", border=True)
    columns[1].metric(_("Predicted made"), f"{scored.share_predicted_made:.2%}", border=True)
    columns[2].metric(_("Mean P(made)"), f"{scored.mean_probability:.1%}", border=True)
    columns[3].metric(_("Version"), scored.versions, border=True)
    columns[4].metric(_("Rows per second"), f"{rows / scored.seconds:,.0f}", border=True)
    if scored.shots.extra_columns:
        names = ", ".join(f"`{name}`" for name in scored.shots.extra_columns)
        st.info(
            sentence(f"Columns passed through to the downloads, but not sent to the server: {names}."),
            icon=":material/inventory_2:",
        )
    if scored.shots.warning:
        st.warning(scored.shots.warning, icon=":material/label_off:")
    _show_metrics(scored)
    st.dataframe(
        scored.table.head(_ROWS_SHOWN),
        hide_index=True,
        column_order=list(dict.fromkeys([PREDICTION, PROBABILITY, MODEL_VERSION, *scored.table.columns])),
        column_config={PROBABILITY: _percent_bar(), **_degree_columns()},
    )
    st.caption(sentence(f"The first {min(rows, _ROWS_SHOWN):,} of {rows:,} rows."))
    name = scored.shots.name.rpartition(".")[0]
    with st.container(horizontal=True):
        _download("CSV", lambda: scored.csv, f"{name}_scored.csv", "text/csv")
        _download("Parquet", lambda: scored.parquet, f"{name}_scored.parquet", "application/vnd.apache.parquet")


def _show_metrics(scored: ScoredUpload) -> None:
    if not scored.labeled:
        st.info(sentence(f"No row has a label (`{current().target.name}`), so there are no metrics."))
        return
    names = list(METRICS)
    for start in range(0, len(names), _METRICS_IN_A_ROW):
        row = names[start : start + _METRICS_IN_A_ROW]
        for column, name in zip(st.columns(_METRICS_IN_A_ROW), row, strict=False):
            value = scored.metrics.get(name)
            column.metric(name.replace("_", " "), _("not defined") if value is None else f"{value:.4f}")
    st.caption(
        sentence(
            f"Metrics of the {scored.labeled:,} labeled rows, with threshold {THRESHOLD:.2g} for {worded('P(made)')}. "
            f"{len(scored.table) - scored.labeled:,} rows without a label are excluded."
        )
    )


def _download(kind: str, content: Callable[[], bytes], name: str, mime: str) -> None:
    st.download_button(
        sentence(f"Download as {kind}"), content, name, mime, icon=":material/download:", on_click="ignore"
    )


def _percent_bar() -> Any:  # noqa: ANN401 Streamlit gives its type no public name
    return st.column_config.ProgressColumn(_("P(made)"), format="percent", min_value=0.0, max_value=1.0)


def _degree_columns() -> dict[str, Any]:
    return {name: st.column_config.NumberColumn(format="%.4f") for name in ("lat", "lng", "lon")}


def _scored_points() -> pd.DataFrame | None:
    scored = [(*scoring.position_of(each.shot), each.probability) for each in _predictions()]
    return pd.DataFrame(scored, columns=["x", "y", PROBABILITY]) if scored else None


def _predictions() -> list[ShotPrediction]:
    return list(st.session_state.get(_PREDICTIONS, []))


def _how_to_serve(error: KobeShotError) -> str:
    # The message of the client ends with its own commands.
    found = str(error).partition(" Start one:")[0]
    return f"{found}\n\n{widgets.how_to_serve()}"


def _label(name: str, unit: str) -> str:
    label = _(column_name(name))
    return f"{label} ({_(unit)})" if unit and unit not in name else label


def _key(name: str) -> str:
    return f"playground_{name}"


@st.cache_data(ttl=60, show_spinner=False)
def _history() -> pd.DataFrame | None:
    return scoring.historical_shots()


@st.cache_data(ttl=60, show_spinner=False)
def _examples() -> pd.DataFrame | None:
    return scoring.example_rows()
