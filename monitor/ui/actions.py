"""What a person can start: a retraining, a rollback, a batch scoring, a monitoring run; each asks first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import mlflow
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from monitor.store import runs
from monitor.ui import cache, jobs, running_jobs, widgets
from monitor.ui.jobs import Job
from serving import registry

_ROUND = "actions_round"


@dataclass(frozen=True)
class _Work:
    """A step and its parameters."""

    step: str
    arguments: Sequence[str] = ()


@dataclass(frozen=True)
class _Retraining:
    """A way to retrain: what it means, and the mode of ``retreino``, or none to train from scratch."""

    meaning: str
    mode: Literal["auto", "dry_run", "force", ""]


_RETRAININGS = {
    "Decide, and retrain if it is time": _Retraining(
        "Weighs the signals of {source}. Where they ask for it, a challenger is trained with the labels that have "
        "arrived, and takes the champion's place if it is better on later shots.",
        "auto",
    ),
    "Only say what would be done": _Retraining(
        "Weighs the signals of {source} and writes the decision down. Nothing is trained, nothing is promoted.",
        "dry_run",
    ),
    "Retrain now": _Retraining(
        "Trains a challenger with the labels of {source} whatever the signals say. It still has to be better than the "
        "champion on later shots to take its place.",
        "force",
    ),
    "Train anew on the prepared tables": _Retraining(
        "Trains on the prepared tables alone, as the first champion was trained, and promotes what passes the gate.",
        "",
    ),
}


def show() -> None:
    """Draw the buttons, and start what is asked for."""
    problem = st.empty()
    busy = running_jobs.running()
    upper, lower = st.columns(2, gap="medium"), st.columns(2, gap="medium")
    with upper[0].container(border=True, height="stretch"):
        chosen = _retrain(busy)
    with upper[1].container(border=True, height="stretch"):
        chosen = _roll_back(busy) or chosen
    with lower[0].container(border=True, height="stretch"):
        st.markdown("**Apply again**")
        st.caption("Scores the production set over REST with the champion (`python -m steps.aplicacao`).")
        if _button("Apply again", "aplicacao", busy, enabled=_sure("apply")):
            chosen = _Work("aplicacao")
    with lower[1].container(border=True, height="stretch"):
        st.markdown("**Look again**")
        st.caption(
            f"Compares {_of_what()} with training, asks {widgets.plain(widgets.configured_endpoint())} whether "
            f"it serves "
            "the champion, and gives a verdict (`python -m steps.monitoramento`)."
        )
        if _button("Look again", "monitoramento", busy, enabled=_sure("look")):
            chosen = _Work("monitoramento", running_jobs.monitoring())
    if chosen:
        _start(chosen, problem)


def offer_replay() -> None:
    """Draw the button that replays the operation, and start it."""
    problem = st.empty()
    with st.container(border=True):
        st.caption(
            "Replays the production set in the order of its games: what the loop, never retraining, and retraining "
            "after every batch would have come to (`python -m steps.operacao`). It takes minutes."
        )
        asked = _button("Replay an operation", "operacao", running_jobs.running(), enabled=_sure("replay"))
    if asked:
        _start(_Work("operacao"), problem)


def _start(chosen: _Work, problem: DeltaGenerator) -> None:
    if running_jobs.start(chosen.step, chosen.arguments, problem):
        # A new round of keys takes the tick out of the boxes.
        st.session_state[_ROUND] = _round() + 1
        st.rerun()


def _retrain(busy: Mapping[str, Job]) -> _Work | None:
    st.markdown("**Retrain**")
    chosen = _RETRAININGS[st.radio("How", list(_RETRAININGS), key="actions_retraining", label_visibility="collapsed")]
    step = "retreino" if chosen.mode else "treinamento"
    arguments = ["--mode", chosen.mode, "--current", _current()] if chosen.mode else []
    command = " ".join(["python -m", f"steps.{step}", *arguments])
    st.caption(f"{chosen.meaning.format(source=_of_what())} (`{command}`)")
    sure = chosen.mode == "dry_run" or _sure("retrain")
    label = "Say what would be done" if chosen.mode == "dry_run" else "Retrain"
    if _button(label, step, busy, enabled=sure):
        return _Work(step, arguments)
    return None


def _roll_back(busy: Mapping[str, Job]) -> _Work | None:
    st.markdown("**Roll back**")
    st.caption(
        "Makes an earlier version champion and Production again, byte for byte (`python -m steps.reverter`). What is "
        "served follows within seconds."
    )
    with registry.translate_store_errors():
        standing = registry.standing()
    possible = _possible(cache.versions(mlflow.get_tracking_uri()), standing)
    if not possible:
        st.info("There is nothing to go back to: no other version has passed the gate.", icon=":material/info:")
        return None
    version = st.selectbox(
        "Version", list(possible), format_func=possible.__getitem__, key=f"actions_version_{_round()}"
    )
    reason = st.text_input("Reason", placeholder="why the champion has to go", key=f"actions_reason_{_round()}").strip()
    if _button("Roll back", "reverter", busy, enabled=_sure("roll back") and bool(reason)):
        # One argument: a reason may start with a dash.
        return _Work("reverter", [f"--reason={reason}", f"--version={version}"])
    return None


def _possible(versions: pd.DataFrame, standing: registry.AliasState) -> dict[str, str]:
    """What each version that may come back is called, the previous champion first."""
    passed = versions[(versions["gate"] == "passed") & (versions["version"].astype(str) != standing.champion)]
    named: dict[str, str] = {}
    for number, model, loss in passed[["version", "model", "test_log_loss"]].itertuples(index=False):
        figures = ", ".join(filter(None, [model, f"test log loss {loss:.4f}" if loss == loss else ""]))  # noqa: PLR0124
        which = "the previous champion, " if str(number) == standing.previous_champion else ""
        named[str(number)] = f"{which}version {number}" + (f" ({figures})" if figures else "")
    return dict(sorted(named.items(), key=lambda pair: pair[0] != standing.previous_champion))


def _sure(what: str) -> bool:
    return st.checkbox("I am sure", key=f"actions_sure_{what}_{_round()}")


def _button(label: str, step: str, busy: Mapping[str, Job], *, enabled: bool) -> bool:
    job = busy.get(jobs.KINDS[step])
    if job:
        st.caption(f":material/hourglass: Already running {job.words}.")
    return st.button(label, type="primary", disabled=not enabled or job is not None)


def _current() -> str:
    return runs.OF_LOG if widgets.source() == widgets.LOG else runs.OF_APPLICATION


def _of_what() -> str:
    return "the inference log" if widgets.source() == widgets.LOG else "the table that was last applied"


def _round() -> int:
    return int(st.session_state.get(_ROUND, 0))
