"""The monitor: ``streamlit run monitor/app.py``. Renders what MLflow knows; computes nothing."""

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from monitor import operation
from monitor.operation import Champion, FinishedRun

_SHOWN = ("log_loss", "brier", "roc_auc", "f1_score", "accuracy", "precision", "recall")
_FIRST_RUN = "make main"


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="kobe_shot", page_icon="🏀", layout="wide")
    st.title("kobe_shot")
    st.caption("Does a Kobe Bryant shot go in? The model that is served, and what it does on prod.")
    champion = operation.champion()
    if champion is None:
        st.info("No version of kobe_shot has passed the gate yet. Train, register and apply one:")
        st.code(_FIRST_RUN, language="sh")
        return
    prepared, applied = operation.last_run(operation.PREPARATION), operation.last_run(operation.APPLICATION)
    if champion.synthetic or any(run and run.synthetic for run in (prepared, applied)):
        st.warning("Shown here are **simulated** shots, not Kobe Bryant's: figures are about invented data.", icon="⚠️")
    _show_champion(champion)
    _show_figures(champion, applied)
    _show_pictures(prepared, applied)


def _show_champion(champion: Champion) -> None:
    since = champion.since.strftime("%Y-%m-%d %H:%M UTC") if champion.since else "unknown"
    columns = st.columns(3)
    columns[0].metric("Champion", f"version {champion.version}")
    columns[1].metric("Model", champion.model_id)
    columns[2].metric("Since", since)
    with st.expander("Why this model, and what the gate said"):
        st.markdown(champion.justification)
        st.markdown(f"Gate: {champion.reason}.")


def _show_figures(champion: Champion, run: FinishedRun | None) -> None:
    st.subheader("Figures, all from P(made)")
    prod = run.metrics if run else {}
    rows = [
        {"metric": name, "test (dev)": champion.test_metrics.get(name), "prod (labelled rows)": prod.get(name)}
        for name in _SHOWN
    ]
    st.dataframe(
        rows,
        hide_index=True,
        column_config={name: st.column_config.NumberColumn(format="%.4f") for name in list(rows[0])[1:]},
    )
    if run is None:
        st.info("The prod table has not been scored yet: `mlflow run . -e aplicacao`")
        return
    scored_by = run.tags.get("model_version")
    if scored_by != champion.version:
        st.warning(
            f"The prod table was scored by version {scored_by}, not by the champion: `mlflow run . -e aplicacao`"
        )
    st.caption(
        f"prod: {prod.get('rows_scored', 0):,.0f} rows scored by version {scored_by}, "
        f"{prod.get('rows_labelled', 0):,.0f} of them labelled. Their own rate, known only "
        f"in hindsight, has log loss {prod['class_prior_log_loss']:.4f}: above that, a constant would have done better."
        if "class_prior_log_loss" in prod
        else f"prod: {prod.get('rows_scored', 0):,.0f} rows scored, none of them labelled."
    )


def _show_pictures(prepared: FinishedRun | None, applied: FinishedRun | None) -> None:
    st.subheader("On the court")
    wanted = ((prepared, "shot_map", "Shots of dev by result"), (applied, "prediction_map", "P(made) on prod"))
    for column, (run, name, caption) in zip(st.columns(2), wanted, strict=True):
        path = operation.picture(run, name) if run else None
        if path:
            column.image(str(path), caption=caption)
        else:
            column.info(f"{caption}: no finished run holds this picture yet.")


if __name__ == "__main__":
    main()
