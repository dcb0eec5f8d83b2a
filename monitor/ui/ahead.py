"""What the pages show first is computed before they are opened."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from streamlit.logger import get_logger
from streamlit.runtime.scriptrunner import StopException

from data.cli import console
from data.errors import KobeShotError
from monitor.store.model_store import current_store
from monitor.ui import cache, today
from serving import registry

_AT_FIRST_SECONDS, _EVERY_SECONDS, _ENDS_WITHIN_SECONDS = 15.0, 30.0, 10.0


@contextmanager
def working() -> Iterator[None]:
    """Compute what the pages show first, until the context ends.

    The first page is computed at once. A thread computes the inference log some seconds later, which does not delay
    the first visitor, and the first page again after each promotion and batch-scoring run.
    """
    known = _prepared(None)
    _render_first_page()
    ended = threading.Event()
    thread = threading.Thread(target=_work, args=(ended, known), daemon=True, name="ahead")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_ENDS_WITHIN_SECONDS)


def _work(ended: threading.Event, known: tuple[str, str] | None) -> None:
    if ended.wait(_AT_FIRST_SECONDS):
        return
    for prepare in (cache.prepare_log, cache.prepare_evidence):
        with _left_to_the_pages():
            prepare()
    while not ended.wait(_EVERY_SECONDS):
        known = _prepared(known)


def _prepared(known: tuple[str, str] | None) -> tuple[str, str] | None:
    """Compute the first page, unless it shows what is known; what it shows."""
    now = known
    with _left_to_the_pages():
        now = _shown()
        if now != known:
            cache.prepare_batch()
            if known is not None:
                cache.prepare_evidence()
    return now


def _render_first_page() -> None:
    """Render the first page without a visitor: libraries do at their first use what later uses are spared."""
    # Streamlit warns of every element that no browser is sent.
    logger = get_logger("streamlit.runtime.scriptrunner_utils.script_run_context")
    level = logger.level
    logger.setLevel("ERROR")
    try:
        with _left_to_the_pages():
            today.show()
    except StopException:
        pass
    finally:
        logger.setLevel(level)


@contextmanager
def _left_to_the_pages() -> Iterator[None]:
    """The pages compute what failed themselves, and show what is wrong."""
    try:
        yield
    except KobeShotError:
        pass
    except Exception as error:  # noqa: BLE001 anything else would end the thread
        console.error("The pages are not prepared before they are opened:", error)


@registry.translate_store_errors()
def _shown() -> tuple[str, str]:
    """What the pages show: the champion, and the batch-scoring run."""
    store = current_store()
    run = cache.last_batch_scoring(store)
    return cache.champion_number(store), run.run_id if run else ""
