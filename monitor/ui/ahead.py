"""What the pages show first is computed before they are opened: by a thread of the app."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from data.cli import console
from data.errors import KobeShotError
from monitor.store.model_store import current_store
from monitor.ui import cache
from serving import registry

_EVERY_SECONDS, _ENDS_WITHIN_SECONDS = 30.0, 10.0


@contextmanager
def working() -> Iterator[None]:
    """Compute what the pages show first, now and after each promotion and batch-scoring run, until the context ends."""
    ended = threading.Event()
    thread = threading.Thread(target=_work, args=(ended,), daemon=True, name="ahead")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_ENDS_WITHIN_SECONDS)


def _work(ended: threading.Event) -> None:
    known: tuple[str, str] | None = None
    while True:
        try:
            now = _shown()
            if now != known:
                cache.prepare()
                known = now
        except KobeShotError:
            pass  # The pages show it.
        except Exception as error:  # noqa: BLE001 the pages compute it themselves
            console.error("The pages are not prepared before they are opened:", error)
            return
        if ended.wait(_EVERY_SECONDS):
            return


@registry.translate_store_errors()
def _shown() -> tuple[str, str]:
    """What the pages show: the champion, and the batch-scoring run."""
    run = current_store().last_batch_scoring_run()
    return registry.champion_number(), run.run_id if run else ""
