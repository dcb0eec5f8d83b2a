"""What a scoring server reports about itself."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests

from serving.client.endpoint import base_url
from serving.client.http import session_for

_VERSION = re.compile(r"\d+(\.\w+)+")
_TIMEOUT_SECONDS = (1, 3)


@dataclass(frozen=True)
class EndpointInfo:
    """A scoring server that responds.

    Attributes
    ----------
    url : str
        URL of the server, without ``/invocations``.
    version : str or None
        Number of the version that it serves; None where the server does not report it, as MLflow's own.
    since : datetime or None
        When the server loaded that version, in UTC.
    mlflow : str
        Version of MLflow.
    inference_log : bool or None
        Whether scored rows are recorded; None where the server does not report it.
    """

    url: str
    version: str | None
    since: datetime | None
    mlflow: str
    inference_log: bool | None


def endpoint_info(url: str) -> EndpointInfo | None:
    """The scoring server at a URL, or None where none responds within seconds."""
    try:
        base = base_url(url)
        with session_for(base) as session:
            if not session.get(f"{base}/ping", timeout=_TIMEOUT_SECONDS).ok:
                return None
            version = session.get(f"{base}/version", timeout=_TIMEOUT_SECONDS)
            model = _json(session.get(f"{base}/model", timeout=_TIMEOUT_SECONDS))
    except (requests.RequestException, ValueError):
        return None
    if not version.ok or not _VERSION.fullmatch(version.text.strip()):
        # It is another kind of server: every web server may have a page at /ping.
        return None
    logged = model.get("inference_log")
    return EndpointInfo(
        url=base,
        version=str(model["version"]) if "version" in model else None,
        since=_time(model.get("since")),
        mlflow=version.text.strip(),
        inference_log=logged if isinstance(logged, bool) else None,
    )


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        found = response.json() if response.ok else {}
    except requests.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
