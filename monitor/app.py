"""The monitor: ``streamlit run monitor/app.py``. Renders what MLflow knows; computes nothing."""

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from monitor import operation
from monitor.operation import Champion

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
    if champion.synthetic:
        st.warning("These shots are **simulated**, not Kobe Bryant's: every figure is about invented data.", icon="⚠️")
    _show_champion(champion)
    _show_figures(champion)
    _show_pictures()


def _show_champion(champion: Champion) -> None:
    since = champion.since.strftime("%Y-%m-%d %H:%M UTC") if champion.since else "unknown"
    columns = st.columns(3)
    columns[0].metric("Champion", f"version {champion.version}")
    columns[1].metric("Model", champion.model_id)
    columns[2].metric("Since", since)
    with st.expander("Why this model, and what the gate said"):
        st.markdown(champion.justification)
        st.markdown(f"Gate: {champion.reason}.")


def _show_figures(champion: Champion) -> None:
    st.subheader("Figures, all from P(made)")
    run = operation.last_run(operation.APPLICATION)
    prod = run.data.metrics if run else {}
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
    st.caption(
        f"prod: {prod['rows_scored']:,.0f} rows scored by version {run.data.tags.get('model_version')}, "
        f"{prod['rows_labelled']:,.0f} of them labelled. Its class prior has log loss "
        f"{prod['class_prior_log_loss']:.4f}: a model above that is worth less than a constant."
        if "class_prior_log_loss" in prod
        else f"prod: {prod['rows_scored']:,.0f} rows scored, none of them labelled."
    )


def _show_pictures() -> None:
    st.subheader("On the court")
    wanted = (
        (operation.PREPARATION, "shot_map", "Shots of dev by result"),
        (operation.APPLICATION, "prediction_map", "P(made) on prod"),
    )
    for column, (run_name, name, caption) in zip(st.columns(2), wanted, strict=True):
        run = operation.last_run(run_name)
        path = operation.picture(run, name) if run else None
        if path:
            column.image(str(path), caption=caption)
        else:
            column.info(f"{caption}: no run {run_name} holds this picture yet.")


main()
