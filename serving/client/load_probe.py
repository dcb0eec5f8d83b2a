"""A client that sends requests to an endpoint continuously, and counts those that fail."""

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import requests

from serving.client.http import session_for

_PAUSE_SECONDS = 0.05
_TIMEOUT_SECONDS = (5, 30)


class LoadProbe:
    """Sends a shot to an endpoint every 50 ms while it is entered; nothing is sent twice.

    Parameters
    ----------
    url : str
        Of the server, without ``/invocations``.
    shot : mapping of str to float
        The features of the shot that is sent.

    Attributes
    ----------
    succeeded, failed : int
        Requests that were succeeded with a score, and those that were not.
    """

    def __init__(self, url: str, shot: Mapping[str, float]) -> None:
        self.succeeded = self.failed = 0
        self._url, self._body = url, {"dataframe_records": [dict(shot)]}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)

    def __enter__(self) -> Self:
        """Start to send requests."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the last response."""
        self._stopped.set()
        self._thread.join()

    def _call(self) -> None:
        with session_for(self._url) as session:
            while not self._stopped.wait(_PAUSE_SECONDS):
                try:
                    response = session.post(f"{self._url}/invocations", json=self._body, timeout=_TIMEOUT_SECONDS)
                    succeeded = response.ok and len(response.json()["predictions"]) == 1
                except (requests.RequestException, KeyError, TypeError):
                    succeeded = False
                self.succeeded += succeeded
                self.failed += not succeeded
