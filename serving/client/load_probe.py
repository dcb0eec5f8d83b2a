"""A caller that asks an endpoint again and again, and counts the answers that do not come."""

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
    address : str
        Of the server, without ``/invocations``.
    shot : mapping of str to float
        The features of the shot that is sent.

    Attributes
    ----------
    answered, lost : int
        Requests that were answered with a score, and those that were not.
    """

    def __init__(self, address: str, shot: Mapping[str, float]) -> None:
        self.answered = self.lost = 0
        self._address, self._body = address, {"dataframe_records": [dict(shot)]}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)

    def __enter__(self) -> Self:
        """Begin to call."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the last answer."""
        self._stopped.set()
        self._thread.join()

    def _call(self) -> None:
        with session_for(self._address) as session:
            while not self._stopped.wait(_PAUSE_SECONDS):
                try:
                    answer = session.post(f"{self._address}/invocations", json=self._body, timeout=_TIMEOUT_SECONDS)
                    answered = answer.ok and len(answer.json()["predictions"]) == 1
                except (requests.RequestException, KeyError, TypeError):
                    answered = False
                self.answered += answered
                self.lost += not answered
