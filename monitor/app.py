"""The monitor: ``streamlit run monitor/app.py``. Renders what MLflow and the inference log know; computes nothing."""

import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

# Streamlit puts this folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.cli import console
from data.cli.config import limit_connecting
from data.errors import KobeShotError
from data.masking import mask_log_records, mask_tracebacks

# What the pages import takes seconds; here no page waits for it.
from monitor.health.baseline import baseline as reference_data
from monitor.store import runs
from monitor.ui import navigation
from serving import registry
from serving.registry import reachability
from serving.registry.store import plain_store


@asynccontextmanager
async def ready(_app: st.App) -> AsyncIterator[None]:
    """Open the store and load the champion before the first page is asked for, where there are any."""
    with ExitStack() as stack:
        try:
            stack.enter_context(plain_store())
        except KobeShotError as error:
            # The pages say what is wrong, and go on when it is mended.
            console.error("The store:", error)
        with suppress(KobeShotError), registry.translate_store_errors():
            reachability.require_answer()
            runs.monitoring_runs(runs.OF_APPLICATION)
            reference_data(registry.number(registry.require_champion()))
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
