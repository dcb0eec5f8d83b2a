"""The monitor: ``streamlit run monitor/app.py``. It renders what MLflow and the inference log hold."""

import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from streamlit.runtime.scriptrunner import get_script_run_ctx

# Streamlit adds this folder to the path, not the root of the project.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.cli import console
from data.cli.config import freeze_imports, set_connect_timeout
from data.errors import KobeShotError
from data.masking import mask_log_records, mask_tracebacks

# These imports take seconds. Imported here, they do not delay the first page.
from monitor.health.baseline import baseline as reference_data
from monitor.store.model_store import OF_BATCH_SCORING, current_store
from monitor.ui import ahead, navigation
from monitor.ui.front_end import FrontEnd
from monitor.ui.styled_index import StyledIndex
from serving import registry
from serving.registry import reachability
from serving.registry.store import plain_store


@asynccontextmanager
async def ready(_app: st.App) -> AsyncIterator[None]:
    """Open the store and load the champion, if there are any, before the first page is requested."""
    with ExitStack() as stack:
        try:
            stack.enter_context(plain_store())
        except KobeShotError as error:
            # The pages show the error, and recover once it is fixed.
            console.error("The store:", error)
        with suppress(KobeShotError), registry.translate_store_errors():
            reachability.require_reachable()
            current_store().monitoring_runs(OF_BATCH_SCORING)
            reference_data(current_store(), registry.champion_number())
        stack.enter_context(ahead.working())
        # Streamlit collects garbage after each run of a page. The imported libraries take 0.3 s of that, and are none.
        freeze_imports()
        yield


mask_log_records()
mask_tracebacks()
set_connect_timeout()
# A page fails fast: it shows an error when a server does not respond within seconds.
reachability.hurry()
app = st.App(Path(str(navigation.__file__)), lifespan=ready, middleware=[Middleware(FrontEnd), Middleware(StyledIndex)])

if get_script_run_ctx(suppress_warning=True) is not None:
    # Streamlit's AppTest runs this file as a plain script.
    navigation.show()
