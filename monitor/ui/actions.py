"""Actions of a visitor: retraining, rollback, batch scoring, monitoring run. Each requires a confirmation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from monitor.store.model_store import OF_BATCH_SCORING, OF_LOG, current_store
from monitor.ui import cache, jobs, running_jobs, widgets
from monitor.ui.jobs import Job
from monitor.ui.text import _, sentence
from serving import registry

_ROUND = "actions_round"


@dataclass(frozen=True)
class _Action:
    """A step and its parameters."""

    step: str
    arguments: Sequence[str] = ()


@dataclass(frozen=True)
class _RetrainingOption:
    """A description, and the mode of ``retreino``; an empty mode trains from scratch."""

    description: str
    mode: Literal["auto", "dry_run", "force", ""]


RETRAININGS = {
    "Apply the retraining policy": _RetrainingOption(
        "Evaluates the retraining triggers on {source}. If a trigger fires and all preconditions are met, it trains a "
        "challenger with the available labels and promotes it if it is significantly better on labels that were not "
        "trained on.",
        "auto",
    ),
    "Dry run": _RetrainingOption(
        "Evaluates the retraining triggers on {source} and logs the decision. It trains and promotes nothing.",
        "dry_run",
    ),
    "Force retraining": _RetrainingOption(
        "Trains a challenger with the labels of {source}, whether or not a trigger fires. It is promoted only if it is "
        "significantly better than the champion on labels that were not trained on.",
        "force",
    ),
    "Train from scratch on the prepared tables": _RetrainingOption(
        "Trains on the prepared tables only, like the first training run, and promotes the model if it passes the "
        "quality gate.",
        "",
    ),
}
"""Ways to retrain, by the label of each."""


def show() -> None:
    """Render the actions, and start the one that is requested."""
    problem = st.empty()
    busy = running_jobs.running()
    upper, lower = st.columns(2, gap="medium"), st.columns(2, gap="medium")
    with upper[0].container(border=True, height="stretch"):
        selected = _retrain(busy)
    with upper[1].container(border=True, height="stretch"):
        selected = _roll_back(busy) or selected
    with lower[0].container(border=True, height="stretch"):
        st.markdown(_("**Batch scoring**"))
        st.caption(_("Scores the production set over REST with the champion (`python -m steps.aplicacao`)."))
        if _button("Run batch scoring", "aplicacao", busy, enabled=_confirmed("apply")):
            selected = _Action("aplicacao")
    with lower[1].container(border=True, height="stretch"):
        st.markdown(_("**Monitoring**"))
        st.caption(
            sentence(
                f"Evaluates {_source_name()} against the reference data, checks whether "
                f"{widgets.plain(widgets.configured_endpoint())} serves the champion, and logs the status "
                "(`python -m steps.monitoramento`)."
            )
        )
        if _button("Re-run monitoring", "monitoramento", busy, enabled=_confirmed("monitor")):
            selected = _Action("monitoramento", running_jobs.monitoring())
    if selected:
        _start(selected, problem)


def offer_backtest() -> None:
    """Offer a policy backtest, and start it."""
    problem = st.empty()
    with st.container(border=True):
        st.caption(
            _(
                "Runs the retraining policy on the production set in the order of time, and compares it with "
                "never retraining and with retraining after every batch (`python -m steps.operacao`). It takes minutes."
            )
        )
        requested = _button("Run a policy backtest", "operacao", running_jobs.running(), enabled=_confirmed("backtest"))
    if requested:
        _start(_Action("operacao"), problem)


def _start(selected: _Action, problem: DeltaGenerator) -> None:
    if running_jobs.start(selected.step, selected.arguments, problem):
        # New widget keys clear the confirmations.
        st.session_state[_ROUND] = _round() + 1
        st.rerun()


def _retrain(busy: Mapping[str, Job]) -> _Action | None:
    st.markdown(_("**Retrain**"))
    selected = RETRAININGS[
        st.radio(_("Mode"), list(RETRAININGS), key="actions_retraining", format_func=_, label_visibility="collapsed")
    ]
    step = "retreino" if selected.mode else "treinamento"
    arguments = ["--mode", selected.mode, "--current", _current()] if selected.mode else []
    command = " ".join(["python -m", f"steps.{step}", *arguments])
    st.caption(f"{_(selected.description).format(source=_(_source_name()))} (`{command}`)")
    confirmed = selected.mode == "dry_run" or _confirmed("retrain")
    label = "Start the dry run" if selected.mode == "dry_run" else "Retrain"
    if _button(label, step, busy, enabled=confirmed):
        return _Action(step, arguments)
    return None


def _roll_back(busy: Mapping[str, Job]) -> _Action | None:
    st.markdown(_("**Roll back**"))
    st.caption(
        _(
            "Restores an earlier version as champion and Production (`python -m steps.reverter`). Its predictions are "
            "bit-identical to before. The production server reloads within seconds."
        )
    )
    with registry.translate_store_errors():
        aliases = registry.alias_state()
    possible = _possible(cache.versions(current_store()), aliases)
    if not possible:
        st.info(_("No rollback is possible: no other version has passed the quality gate."), icon=":material/info:")
        return None
    version = st.selectbox(
        _("Version"), list(possible), format_func=possible.__getitem__, key=f"actions_version_{_round()}"
    )
    reason = st.text_input(
        _("Reason"), placeholder=_("why the champion is rolled back"), key=f"actions_reason_{_round()}"
    ).strip()
    if _button("Roll back", "reverter", busy, enabled=_confirmed("roll_back") and bool(reason)):
        # One argument each, because a reason may start with a dash.
        return _Action("reverter", [f"--reason={reason}", f"--version={version}"])
    return None


def _possible(versions: pd.DataFrame, aliases: registry.AliasState) -> dict[str, str]:
    """Versions that can be restored, with their labels; the previous champion first."""
    passed = versions[(versions["gate"] == "passed") & (versions["version"].astype(str) != aliases.champion)]
    named: dict[str, str] = {}
    for number, model, loss in passed[["version", "model", "test_log_loss"]].itertuples(index=False):
        details = ", ".join(filter(None, [model, sentence(f"test log loss {loss:.4f}") if loss == loss else ""]))  # noqa: PLR0124
        which = _("the previous champion") + ", " if str(number) == aliases.previous_champion else ""
        named[str(number)] = which + sentence(f"version {number}") + (f" ({details})" if details else "")
    return dict(sorted(named.items(), key=lambda pair: pair[0] != aliases.previous_champion))


def _confirmed(what: str) -> bool:
    return st.checkbox(_("Confirm"), key=f"actions_confirm_{what}_{_round()}")


def _button(label: str, step: str, busy: Mapping[str, Job], *, enabled: bool) -> bool:
    job = busy.get(jobs.KINDS[step])
    if job:
        st.caption(":material/hourglass: " + sentence(f"Already running {job.origin}."))
    return st.button(_(label), type="primary", disabled=not enabled or job is not None)


def _current() -> str:
    return OF_LOG if widgets.source() == widgets.LOG else OF_BATCH_SCORING


def _source_name() -> str:
    return "the inference log" if widgets.source() == widgets.LOG else "the latest batch-scoring run"


def _round() -> int:
    return int(st.session_state.get(_ROUND, 0))
