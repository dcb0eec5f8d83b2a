"""The monitor: ``streamlit run monitor/app.py``. Renders what MLflow and the inference log know; computes nothing."""

import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

# Streamlit puts this folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.command import limit_connecting
from data.console import complain
from data.errors import KobeShotError
from data.masking import mask_log_records, mask_tracebacks

# What the pages import takes seconds; here no page waits for it.
from monitor import (  # noqa: F401
    candidates,
    court_charts,
    loop_charts,
    model_charts,
    operation,
    retraining,
    shots,
    simulation,
    tables,
    watch_charts,
)
from monitor.screens import navigation
from serving import reachability, registry
from serving.store import plain_store


@asynccontextmanager
async def ready(_app: st.App) -> AsyncIterator[None]:
    """Open the store and load the champion before the first page is asked for, where there are any."""
    with ExitStack() as stack:
        try:
            stack.enter_context(plain_store())
        except KobeShotError as error:
            # The pages say what is wrong, and go on when it is mended.
            complain("The store:", error)
        with suppress(KobeShotError), registry.store_errors_told():
            reachability.require_answer()
            operation.looks(operation.OF_APPLICATION)
            tables.baseline(registry.number(registry.require_champion()))
        yield


mask_log_records()
mask_tracebacks()
limit_connecting()
# A person waits for a page: what does not answer is told.
reachability.hurry()
app = st.App(Path(str(navigation.__file__)), lifespan=ready)

if get_script_run_ctx(suppress_warning=True) is not None:
    # Run as a plain script, as Streamlit's AppTest does.
    navigation.show()
