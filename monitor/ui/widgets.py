"""Widgets that all pages share: the bar on top, cards, tabs, and the messages for what is missing."""

import html
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from data.datasets import current, for_dataset
from data.errors import KobeShotError
from monitor.charts import palette
from monitor.charts.layout import DrawnOnce
from monitor.metrics.names import MODEL_NAMES, MetricName, metric_name
from monitor.store.model_store import current_store
from monitor.ui import text, url_state
from monitor.ui.text import _, sentence
from serving.client.endpoint import EndpointURLError, base_url
from serving.registry import RegistryError, reachability, translate_store_errors

Content = TypeVar("Content")

ENDPOINT_VARIABLE = "KOBE_ENDPOINT"
"""Environment variable with the URL of the monitored scoring server, which the pages use by default."""

BATCH, LOG = "batch", "log"
"""The data sources of the pages."""
SOURCES = {BATCH: "Latest batch-scoring run", LOG: "Inference log"}
"""How they are shown."""
WINDOWS = {
    "all": None,
    "30 days": timedelta(days=30),
    "7 days": timedelta(days=7),
    "24 hours": timedelta(days=1),
    "1 hour": timedelta(hours=1),
}
"""The time windows of the inference log."""
STATUS_ICONS = {"healthy": "✓", "warning": "!", "retraining recommended": "↻", "unknown": "?"}
"""A status is shown by a sign too, not only by its color."""

PAGES = "pages"
"""Key of the session with the pages of the app by name."""

_CACHED_SECONDS = 3.0
_MAX_FIGURES = 100
_TITLE_PIXELS, _NO_TITLE_PIXELS = 30, 8
_DEFAULT_ENDPOINT = "http://127.0.0.1:5001"
_ENDPOINT, _TYPED, _SOURCE, _WINDOW = "endpoint", "endpoint_typed", "source", "window"
_DAY = 86_400_000
_WITHOUT_NAMES = [
    {"dtickrange": [None, _DAY - 1], "value": "%H:%M:%S\n%Y-%m-%d"},
    {"dtickrange": [_DAY, 27 * _DAY], "value": "%Y-%m-%d"},
    {"dtickrange": ["M1", "M11"], "value": "%m/%Y"},
    {"dtickrange": ["M12", None], "value": "%Y"},
]
"""Formats of the ticks of dates, by the milliseconds or months between them."""
_ON_YELLOW = "#1F2937"


def bar() -> None:
    """Let this visitor select the data source, its time window, the language, and the scoring server of the pages."""
    # A browser that switches pages quickly may send an empty field.
    st.session_state[_TYPED] = st.session_state.get(_TYPED) or endpoint()
    url_state.restore(text.LANGUAGE, text.LANGUAGES, text.ENGLISH)
    url_state.restore(_SOURCE, SOURCES, BATCH)
    url_state.restore(_WINDOW, WINDOWS, "all")
    with st.container(horizontal=True, vertical_alignment="center", key="bar"):
        st.segmented_control(
            _("Data source"), list(SOURCES), format_func=lambda name: _(SOURCES[name]), key=_SOURCE, required=True,
            label_visibility="collapsed",
        )  # fmt: skip
        if source() == LOG:
            st.selectbox(
                _("Time window"), list(WINDOWS), format_func=_, key=_WINDOW, label_visibility="collapsed", width=150
            )
        st.space("stretch")
        with st.popover(_("Scoring server"), icon=":material/dns:"):
            _set_endpoint()
        st.segmented_control(
            "Language / Idioma", list(text.LANGUAGES), format_func=str.upper, key=text.LANGUAGE, required=True,
            label_visibility="collapsed",
        )  # fmt: skip
    for key, default in ((text.LANGUAGE, text.ENGLISH), (_SOURCE, BATCH), (_WINDOW, "all")):
        url_state.remember(key, default)
    problem = st.session_state.get(_PROBLEM)
    if problem:
        st.error(problem, icon=":material/link_off:")


_PROBLEM = "endpoint_problem"


def _set_endpoint() -> None:
    st.text_input(
        _("Scoring server"),
        key=_TYPED,
        help=_(
            "URL of the scoring server that the pages use in this browser. Start one with `make serve`. Monitoring "
            "runs always check the configured server."
        ),
    )
    st.caption(f"{_('Configured server')}: {plain(configured_endpoint())}")
    st.session_state[_PROBLEM] = ""
    try:
        st.session_state[_ENDPOINT] = base_url(str(st.session_state[_TYPED]))
    except EndpointURLError as error:
        st.session_state[_PROBLEM] = (
            f"{_('This is not the URL of a scoring server')}: {plain(str(error))}.  \n"
            f"{_('The pages keep using')} {plain(endpoint())}."
        )


def source() -> str:
    """The selected data source: `BATCH` or `LOG`."""
    return str(st.session_state.get(_SOURCE, BATCH))


def window() -> timedelta | None:
    """The selected time window of the inference log, or None for the whole log."""
    return WINDOWS[str(st.session_state.get(_WINDOW, "all"))]


def endpoint() -> str:
    """URL of the scoring server that the pages use in this browser: the last valid one that was typed."""
    return str(st.session_state.get(_ENDPOINT) or configured_endpoint())


def configured_endpoint() -> str:
    """URL of the scoring server that the app was started with, whatever a visitor types."""
    try:
        return base_url(os.environ.get(ENDPOINT_VARIABLE) or _DEFAULT_ENDPOINT)
    except EndpointURLError as error:
        st.error(
            sentence(f"{ENDPOINT_VARIABLE} is not the URL of a scoring server: {plain(str(error))}"),
            icon=":material/link_off:",
        )
        return _DEFAULT_ENDPOINT


def show_prerequisite(what: str, command: str) -> None:
    """Show what a page requires, and the command that creates it for the dataset of the app."""
    st.info(sentence(what), icon=":material/info:")
    st.code(for_dataset(command), language="sh")


def card(column: DeltaGenerator, label: str, value: str, note: str = "", *, meaning: str = "") -> None:
    """A value with its label, and a note below it."""
    column.metric(
        label, sentence(value), sentence(note) or None, delta_color="off", delta_arrow="off", border=True,
        height="stretch", help=meaning or None,
    )  # fmt: skip


def metric_card(  # noqa: PLR0913 what a metric is compared with
    column: DeltaGenerator,
    name: str,
    value: float | None,
    reference: float | None = None,
    *,
    label: str = "",
    compared_with: str = "",
    shown: str = "",
    changed: str = "",
    worse: bool | None = None,
) -> None:
    """A metric in its unit, with its change against a reference: an arrow, and red for the worse.

    Parameters
    ----------
    column : DeltaGenerator
    name : str
        Of the metric; see `monitor.metrics.names`.
    value, reference : float or None
    label : str
        Instead of the label of the metric.
    compared_with : str
        What the reference is, after the change.
    shown, changed : str
        Instead of the value, and of its change.
    worse : bool, optional
        Whether the change is for the worse, where the direction of the metric does not decide it.
    """
    metric = metric_name(name)
    change = None if value is None or reference is None else value - reference
    known = change is not None and change == change  # noqa: PLR0124 NaN
    if worse is None and known and change is not None:
        worse = metric.is_worse(change)
    colors: dict[bool | None, Literal["off", "red", "green"]] = {None: "off", True: "red", False: "green"}
    column.metric(
        label or _(metric.label),
        sentence(shown or metric.format(value)) if value is not None else _("not defined"),
        sentence(changed or f"{format_change(metric, change or 0.0)} {compared_with}".strip()) if known else None,
        delta_color=colors[worse],
        delta_arrow="up" if (change or 0) > 0 else "down",
        border=True,
        height="stretch",
        help=_(metric.meaning) or None,
    )


def format_change(metric: MetricName, change: float) -> str:
    """A change in the unit of a metric: of percentages, in points."""
    return f"{change * 100:+.1f} {_('points')}" if metric.unit == "%" else metric.format(change, signed=True)


def chip(status: str, label: str = "") -> str:
    """A status as a colored chip with a sign, in HTML."""
    color = palette.STATUS.get(status, "#6B7280")
    ink = _ON_YELLOW if status == "warning" else "#FFFFFF"
    # White on these colors has a contrast of 4.5 only on darker shades of them.
    shade = {"healthy": "#00704F", "retraining recommended": "#B34700"}.get(status, color)
    sign = STATUS_ICONS.get(status, "?")
    shown = label or _(status).capitalize()
    return f'<span class="chip" style="background:{shade};color:{ink}"><i aria-hidden="true">{sign}</i>{shown}</span>'


def link(page: str, label: str, *, icon: str = "", **selected: str) -> None:
    """A link to another page of the app, with what is selected there; nothing where only one page is run."""
    pages = st.session_state.get(PAGES, {})
    if page in pages:
        st.page_link(pages[page], label=label, icon=icon or None, query_params=selected or None)


def model_label(model_id: str) -> str:
    """The name of a model for people."""
    return _(MODEL_NAMES.get(model_id, model_id))


def artifact(run_id: str, path: str) -> Callable[[], bytes]:
    """Read an artifact of a run when a person downloads it."""
    return lambda: current_store().download(run_id, path)


def text_table(rows: Sequence[Mapping[str, str]], key: str, widths: Sequence[int] = ()) -> None:
    """A table of text that wraps; unlike Streamlit's it has its size at once, so that nothing below it moves.

    On a phone each row is a block, with the names of the columns before its cells.

    Parameters
    ----------
    rows : sequence of mapping
        Cells by column. What follows a line break within a cell is shown below the rest, in small print.
    key : str
        Unique on the page.
    widths : sequence of int, optional
        Widths of the columns in percent, so that the columns of several tables are aligned.
    """
    if not rows:
        return
    names = list(rows[0])
    columns = "".join(f'<col style="width:{width}%"/>' for width in widths)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_cell(name, row[name]) for name in names)}</tr>" for row in rows)
    table = f"<table><colgroup>{columns}</colgroup><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    st.container(key=f"text_table_{key}").markdown(table, unsafe_allow_html=True)


def _cell(name: str, value: str) -> str:
    first, *more = (html.escape(" ".join(sentence(line).split())) for line in value.split("\n"))
    small = "".join(f'<div class="small">{line}</div>' for line in more if line)
    return f'<td data-label="{html.escape(name)}">{first}{small}</td>'


def download_table(table: Any, name: str, key: str) -> None:  # noqa: ANN401 a data frame
    """Offer what is shown as a CSV file."""
    st.download_button(
        _("Download as CSV"), lambda: table.to_csv(index=False).encode(), f"{name}.csv", "text/csv",
        icon=":material/download:", on_click="ignore", key=key,
    )  # fmt: skip


def how_to_serve() -> str:
    """The commands that start a scoring server, and where its URL is set."""
    return sentence(
        f"Start a server with `make serve`, or with `mlflow models serve -m models:/{current().registered_model}"
        "/Production --env-manager local`, and set its URL under *Scoring server* at the top of this page."
    )


def court_figure(
    draw: Callable[[], go.Figure], key: str, where: DeltaGenerator | None = None, *, of: Hashable = None
) -> None:
    """A chart of a court, as high as the width of its column allows; see `base_figure`."""
    base_figure(draw, key, (where or st).container(key=f"half_court_{key}"), of=of, height="stretch")


def base_figure(
    draw: Callable[[], go.Figure],
    key: str,
    where: DeltaGenerator | None = None,
    *,
    of: Hashable = None,
    height: Literal["content", "stretch"] = "content",
) -> None:
    """A chart without the toolbar of plotly; its title is text above it, which no legend overlaps on a narrow page.

    Parameters
    ----------
    draw : callable
        Returns the chart.
    key : str
        Unique on the page.
    where : DeltaGenerator, optional
    of : hashable, optional
        All that the chart depends on, except the language. With it the latest charts are kept, because plotly takes
        longer to make one than to show it.
    height : {"content", "stretch"}
        That of the chart, or that of its container.
    """
    language, is_stretched = text.language(), height == "stretch"
    shown = _kept(of, key, language, is_stretched, draw) if of else _titled(draw(), is_stretched=is_stretched)
    place = where or st
    if shown.is_title_above:
        place.markdown(f"**{plain(shown.title)}**")
    place.plotly_chart(
        shown.figure, theme=None, key=key, height=height, config={"displayModeBar": False},
        alt=shown.title or key.replace("_", " "),
    )  # fmt: skip


class _Titled(NamedTuple):
    title: str
    is_title_above: bool
    figure: DrawnOnce


@st.cache_resource(max_entries=_MAX_FIGURES, show_spinner=False)
def _kept(
    of: Hashable,
    key: str,
    language: str,
    is_stretched: bool,  # noqa: FBT001 part of the key
    _draw: Callable[[], go.Figure],
) -> _Titled:
    del of, key, language
    return _titled(_draw(), is_stretched=is_stretched)


def forget_figures() -> None:
    """Make all charts again when they are shown again."""
    _kept.clear()


def _titled(figure: go.Figure, *, is_stretched: bool) -> _Titled:
    translate_figure(figure)
    title = sentence(str(figure.layout.title.text or ""))
    is_above = bool(title and not figure.layout.title.subtitle.text)
    if is_above:
        figure.update_layout(
            title_text="", margin_t=max((figure.layout.margin.t or 0) - _TITLE_PIXELS, _NO_TITLE_PIXELS)
        )
    if is_stretched:
        figure.update_layout(height=None)
    return _Titled(title, is_above, DrawnOnce(figure))


def translate_figure(figure: go.Figure) -> None:
    """Put the names and numbers of a chart in the language of this visitor."""
    if text.language() != text.ENGLISH:
        figure.update_layout(separators=",.")
        # The names of months in a browser without the locale of plotly are English ones.
        if any(_is_dated(trace) for trace in figure.data):
            figure.update_xaxes(tickformatstops=_WITHOUT_NAMES)
    figure.for_each_trace(_translate_trace)
    figure.for_each_xaxis(_translate_title)
    figure.for_each_yaxis(_translate_title)


def _is_dated(trace: Any) -> bool:  # noqa: ANN401 a trace of plotly
    x = getattr(trace, "x", None)
    return x is not None and len(x) > 0 and isinstance(x[0], datetime | np.datetime64)


def _translate_trace(trace: Any) -> None:  # noqa: ANN401 a trace of plotly
    if trace.name:
        trace.name = sentence(trace.name)
    bar = getattr(getattr(trace, "marker", None), "colorbar", None)
    if bar is not None:
        _translate_title(bar)


def _translate_title(axis: Any) -> None:  # noqa: ANN401 an axis of plotly
    if axis.title.text:
        axis.title.text = sentence(axis.title.text)


def tabs(draw: Mapping[str, Callable[[Content], None]], content: Content, key: str) -> None:
    """Tabs by name; only the open tab is rendered."""
    all_tabs = st.tabs([_(name) for name in draw], key=key, on_change="rerun")
    name, tab = next(
        (pair for pair in zip(draw, all_tabs, strict=True) if pair[1].open), (next(iter(draw)), all_tabs[0])
    )
    with tab, errors_shown():
        draw[name](content)


def plain(text: str) -> str:
    """Escape the characters that Markdown interprets."""
    return text.translate({ord(sign): f"\\{sign}" for sign in "\\`*_{}[]<>#$|~"})


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show an error message, and stop the page, if what the page requires is missing or damaged."""
    try:
        with translate_store_errors():
            require_store()
            yield
    except RegistryError as error:
        show_prerequisite(f"There is nothing to show yet. {error}", "make main")
        st.stop()
    except KobeShotError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()


def require_store() -> None:
    """Return if the tracking store responds; the result is cached for seconds.

    Raises
    ------
    StoreError
        If the store does not respond within seconds.
    """
    reachability.require_reachable(remembered=_CACHED_SECONDS)


def synthetic_warning() -> None:
    """Warn that the shots are synthetic."""
    st.warning(_("These shots are **synthetic**, not Kobe Bryant's: no result describes real shots."), icon="⚠️")
