"""Score a table over REST."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from data.errors import KobeShotError
from data.schema import FEATURES, PROBABILITY, TARGET
from serving.http import session_for

ROWS_PER_REQUEST = 2_000

_TIMEOUT_SECONDS = (5, 60)
# Scoring changes nothing on the server, so a POST may be sent again.
RETRIES = Retry(total=4, backoff_factor=0.25, status_forcelist=(502, 503, 504), allowed_methods=None)
_MESSAGE_LENGTH_SHOWN = 1_000


class ScoringError(KobeShotError):
    """The endpoint refused rows, does not answer, or answers something else than scores."""


def score(
    table: pd.DataFrame, endpoint: str, *, on_progress: Callable[[int], None] = lambda _rows: None
) -> pd.DataFrame:
    """Label and probability of each row from a scoring server.

    Parameters
    ----------
    table : pandas.DataFrame
        Holds the features; other columns are not sent.
    endpoint : str
        Address of the server, with or without ``/invocations``.
    on_progress : callable
        Called with the number of rows after each answer.

    Returns
    -------
    pandas.DataFrame
        ``shot_made_flag`` (int64) and ``probability`` (float64), with the index of `table`.

    Raises
    ------
    ScoringError
        If the server does not answer after retries, refuses rows, or does not answer once per row.
    """
    url = base_address(endpoint) + "/invocations"
    features = table[list(FEATURES)].astype("float64")
    answers = [pd.DataFrame({TARGET: np.empty(0, dtype=np.int64), PROBABILITY: np.empty(0)})]
    with session_for(url) as session:
        session.mount(url, HTTPAdapter(max_retries=RETRIES))
        for start, chunk in _chunks(features):
            answers.append(_score_chunk(session, url, chunk, start))
            on_progress(len(chunk))
    return pd.concat(answers, ignore_index=True).set_index(table.index)


def base_address(endpoint: str) -> str:
    """Address of a server without ``/invocations``.

    Examples
    --------
    >>> base_address("http://127.0.0.1:5001/invocations/")
    'http://127.0.0.1:5001'
    """
    return endpoint.rstrip("/").removesuffix("/invocations").rstrip("/")


def _chunks(features: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    for start in range(0, len(features), ROWS_PER_REQUEST):
        yield start, features.iloc[start : start + ROWS_PER_REQUEST]


def _score_chunk(session: requests.Session, url: str, chunk: pd.DataFrame, start: int) -> pd.DataFrame:
    body = {"columns": list(FEATURES), "data": chunk.to_numpy().tolist()}
    try:
        response = session.post(url, json={"dataframe_split": body}, timeout=_TIMEOUT_SECONDS)
    except requests.exceptions.InvalidJSONError as error:
        message = f"Rows {start} to {start + len(chunk) - 1} hold a null or infinite feature; it cannot be scored."
        raise ScoringError(message) from error
    except requests.RequestException as error:
        message = f"{url} does not answer ({type(error).__name__}); {start:,} rows were scored before."
        raise ScoringError(message) from error
    if not response.ok:
        message = (
            f"{url} refused rows {start} to {start + len(chunk) - 1} with status {response.status_code} "
            f"(rows are counted from {start}): {_message(response)}"
        )
        raise ScoringError(message)
    return _parse(response, url, len(chunk))


def _message(response: requests.Response) -> str:
    try:
        text = str(response.json()["message"])
    except (requests.JSONDecodeError, KeyError, TypeError):
        text = response.text
    return text.rpartition("Error: ")[2][:_MESSAGE_LENGTH_SHOWN]


def _parse(response: requests.Response, url: str, rows: int) -> pd.DataFrame:
    expected = f'expected {{"predictions": [{{"{TARGET}": 0 or 1, "{PROBABILITY}": P(made)}}, …]}} with {rows} entries'
    try:
        predictions = response.json()["predictions"]
        labels = np.array([answer[TARGET] for answer in predictions], dtype=np.float64)
        probability = np.array([answer[PROBABILITY] for answer in predictions], dtype=np.float64)
    except (requests.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        message = f"{url}: {expected}; found {response.text[:200]!r}. Is another model served there?"
        raise ScoringError(message) from error
    fits = np.isin(labels, (0, 1)) & (probability >= 0) & (probability <= 1)
    if len(probability) != rows or not fits.all():
        message = f"{url}: {expected}; found {len(probability)} entries."
        raise ScoringError(message)
    return pd.DataFrame({TARGET: labels.astype(np.int64), PROBABILITY: probability})
