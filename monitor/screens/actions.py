"""What a person can set going: retrain, roll back, apply, look; each asks first, shows its output and says its end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import mlflow
import pandas as pd
import streamlit as st

from monitor import jobs, operation
from monitor.screens import loaded, parts
from serving import registry

_OUTCOME, _ROUND = "actions_outcome", "actions_round"
_LINES_SHOWN = 400
_STAY = "Stay on this page: whatever you click ends it."


@dataclass(frozen=True)
class _Work:
    """A step, what it does in words, and its parameters."""

    step: str
    doing: str
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
    """Draw the buttons, and run what is asked for."""
    work = st.container()
    upper, lower = st.columns(2, gap="medium"), st.columns(2, gap="medium")
    with upper[0].container(border=True, height="stretch"):
        chosen = _retrain()
    with upper[1].container(border=True, height="stretch"):
        chosen = _roll_back() or chosen
    with lower[0].container(border=True, height="stretch"):
        st.markdown("**Apply again**")
        st.caption("Scores the production set over REST with the champion (`python -m steps.aplicacao`).")
        if _button("Apply again", _sure("apply")):
            chosen = _Work("aplicacao", "Applying")
    with lower[1].container(border=True, height="stretch"):
        st.markdown("**Look again**")
        st.caption(f"Compares {_of_what()} with training, and gives a verdict (`python -m steps.monitoramento`).")
        if _button("Look again", _sure("look")):
            chosen = _Work("monitoramento", "Looking", ["--current", _current()])
    if chosen:
        with work:
            _run(chosen)


def show_outcome() -> None:
    """Say what the last work came to, until another one ends or the page is refreshed."""
    if _OUTCOME not in st.session_state:
        return
    text, lines, failed = st.session_state[_OUTCOME]
    if failed:
        st.error(text, icon=":material/error:")
    else:
        st.success(text, icon=":material/check_circle:")
    if lines:
        with st.expander("What it said", icon=":material/terminal:"):
            st.code("\n".join(lines[-_LINES_SHOWN:]), language=None, height=300)


def forget_outcome() -> None:
    """Say no more what the last work came to."""
    st.session_state.pop(_OUTCOME, None)


def _retrain() -> _Work | None:
    st.markdown("**Retrain**")
    chosen = _RETRAININGS[st.radio("How", list(_RETRAININGS), key="actions_retraining", label_visibility="collapsed")]
    step = "retreino" if chosen.mode else "treinamento"
    arguments = ["--mode", chosen.mode, "--current", _current()] if chosen.mode else []
    command = " ".join(["python -m", f"steps.{step}", *arguments])
    st.caption(f"{chosen.meaning.format(source=_of_what())} (`{command}`)")
    sure = chosen.mode == "dry_run" or _sure("retrain")
    if _button("Say what would be done" if chosen.mode == "dry_run" else "Retrain", sure):
        return _Work(step, "Deciding" if chosen.mode in {"auto", "dry_run"} else "Retraining", arguments)
    return None


def _roll_back() -> _Work | None:
    st.markdown("**Roll back**")
    st.caption(
        "Makes an earlier version champion and Production again, byte for byte (`python -m steps.reverter`). What is "
        "served follows within seconds."
    )
    with registry.store_errors_told():
        standing = registry.standing()
    possible = _possible(loaded.versions(mlflow.get_tracking_uri()), standing)
    if not possible:
        st.info("There is nothing to go back to: no other version has passed the gate.", icon=":material/info:")
        return None
    version = st.selectbox(
        "Version", list(possible), format_func=possible.__getitem__, key=f"actions_version_{_round()}"
    )
    reason = st.text_input("Reason", placeholder="why the champion has to go", key=f"actions_reason_{_round()}").strip()
    if _button("Roll back", _sure("roll back") and bool(reason)):
        # One argument: a reason may start with a dash.
        return _Work("reverter", "Rolling back", [f"--reason={reason}", f"--version={version}"])
    return None


def _possible(versions: pd.DataFrame, standing: registry.Standing) -> dict[str, str]:
    """What each version that may come back is called, the previous champion first."""
    passed = versions[(versions["gate"] == "passed") & (versions["version"].astype(str) != standing.champion)]
    named: dict[str, str] = {}
    for number, model, loss in passed[["version", "model", "test_log_loss"]].itertuples(index=False):
        figures = ", ".join(filter(None, [model, f"test log loss {loss:.4f}" if loss == loss else ""]))  # noqa: PLR0124
        which = "the previous champion, " if str(number) == standing.previous_champion else ""
        named[str(number)] = f"{which}version {number}" + (f" ({figures})" if figures else "")
    return dict(sorted(named.items(), key=lambda pair: pair[0] != standing.previous_champion))


def _sure(what: str) -> bool:
    # A new round of keys takes the tick out of the box once the work is done.
    return st.checkbox("I am sure", key=f"actions_sure_{what}_{_round()}")


def _button(label: str, enabled: bool) -> bool:  # noqa: FBT001
    return st.button(label, type="primary", disabled=not enabled)


def _run(work: _Work) -> None:
    before, started = _champion_number(), time.monotonic()
    lines: list[str] = []
    with st.status(f"{work.doing}. {_STAY}", expanded=True) as status:
        shown = st.empty()

        def on_line(line: str) -> None:
            lines.append(line)
            status.update(label=f"{work.doing} for {time.monotonic() - started:.0f} s. {_STAY}", expanded=True)
            shown.code("\n".join(lines[-_LINES_SHOWN:]), language=None, height=300)

        code = jobs.run_step(work.step, work.arguments, on_line=on_line)
    after = _champion_number()
    if after is None:
        champion = "there is no champion"
    else:
        champion = f"the champion is {'still' if after == before else 'now'} version {after}"
    ended = f"`steps.{work.step}` ended with exit code {code} after {time.monotonic() - started:.0f} s; {champion}."
    st.session_state[_OUTCOME] = (ended, lines, code != 0)
    st.session_state[_ROUND] = _round() + 1
    st.cache_data.clear()
    st.rerun()


def _current() -> str:
    return operation.OF_LOG if parts.source() == parts.LOG else operation.OF_APPLICATION


def _of_what() -> str:
    return "the inference log" if parts.source() == parts.LOG else "the table that was last applied"


def _round() -> int:
    return int(st.session_state.get(_ROUND, 0))


def _champion_number() -> str | None:
    with registry.store_errors_told():
        found = registry.champion()
    return registry.number(found) if found else None
