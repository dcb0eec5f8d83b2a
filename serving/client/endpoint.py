"""Send one chunk of shots to a scoring server, with retries, and parse the predictions."""

import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import requests

from data.acquisition.sources import validate_url
from data.datasets import current, for_dataset
from data.errors import KobeShotError
from data.schema import PROBABILITY
from serving.client.http import session_for
from serving.inference_log.inference_log import ORIGIN_HEADER, TRAFFIC
from serving.shot_tables import Cells

ROWS_PER_REQUEST = 20_000
IN_FLIGHT = 4
RETRY_SECONDS = 60.0
_RETRY_SECONDS_AT_START = 5.0

_JSON_ROWS_PER_REQUEST = 2_000
_TIMEOUT_SECONDS = (5, 60)
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.05, 2.0
_RETRIED_STATUSES = {408, 429, 502, 503, 504}
_REFUSED = {400, 422}
_MESSAGE_LENGTH_SHOWN = 1_000
_PARQUET, _ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"

_EXAMPLE = "http://127.0.0.1:5001"
_HOST_AND_PORT = re.compile(r"[^/:@?#\s]+:\d+(/.*)?|\[[^]]*\]:\d+(/.*)?")
_SHORT = re.compile(rb'\s*\{\s*"predictions"\s*:\s*\[\s*[^\s{\]]')

Item = TypeVar("Item")
Result = TypeVar("Result")


class ScoringError(KobeShotError):
    """The endpoint does not respond, or returns something else than predictions."""


class RejectedRowsError(ScoringError):
    """The endpoint refused rows.

    Attributes
    ----------
    reason : str
        The server's message; rows are counted within the request.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class EndpointURLError(ScoringError, ValueError):
    """What was given is not the URL of a server."""


class Predictions(NamedTuple):
    """Label (int64, shape (n,)), P(made) (float64, shape (n,)) and the version that scored, None if unknown."""

    label: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    version: int | None


class ScoringClient:
    """A scoring server; threads may share it.

    Parameters
    ----------
    url : str
        See `base_url`.
    retry_timeout : float
        Seconds for which a server that does not respond is retried.
    origin : str
        Of `serving.inference_log.inference_log.ORIGINS`: what the rows are in the inference log.
    """

    def __init__(self, url: str, *, retry_timeout: float = RETRY_SECONDS, origin: str = TRAFFIC) -> None:
        self.url, self._origin = base_url(url), origin
        self._invocations_url = f"{self.url}/invocations"
        self._retry_timeout = retry_timeout
        self._thread = threading.local()
        self._takes_parquet = True
        self._stopped = threading.Event()
        self.takes_shot_id = False

    def probe(self) -> None:
        """Probe the server: whether it responds, and which columns it accepts.

        Raises
        ------
        ScoringError
            If nothing does.
        """
        self._stopped.clear()
        retry_timeout = min(self._retry_timeout, _RETRY_SECONDS_AT_START)
        try:
            self._send_with_retries(lambda s: s.get(f"{self.url}/ping", timeout=_TIMEOUT_SECONDS), retry_timeout)
            described = self._send_with_retries(
                lambda s: s.get(f"{self.url}/model", timeout=_TIMEOUT_SECONDS), retry_timeout
            )
        except ScoringError as error:
            message = (
                f"No scoring server responds at {self.url} ({type(error.__cause__ or error).__name__}). Start one: "
                f"{for_dataset('make serve')}, or "
                f"mlflow models serve -m models:/{current().registered_model}/Production"
            )
            raise ScoringError(message) from error
        try:
            self.takes_shot_id = described.json()["identifier"] == current().id.name
        except (requests.JSONDecodeError, KeyError, TypeError):
            self.takes_shot_id = False

    def cancel(self) -> None:
        """Let requests that wait for another attempt give up, until the next `probe`."""
        self._stopped.set()

    def score(
        self, values: Cells, *, shot_id: npt.NDArray[np.int64] | None = None, request_id: str = ""
    ) -> Predictions:
        """Label and probability of each row.

        Parameters
        ----------
        values : ndarray of float64 or object, shape (n, features)
            The features of the dataset of this process, in order; see `serving.shot_tables.features_of`.
        shot_id : ndarray of int64, shape (n,), optional
            For the inference log; sent if `probe` found that the server takes it.
        request_id : str
            For the inference log; the same at every attempt.

        Raises
        ------
        RejectedRowsError
            If the server refuses rows.
        ScoringError
            If it does not respond while retry_timeout lasts, or does not return one prediction per row.
        """
        if self._takes_parquet:
            body = _parquet(values, shot_id if self.takes_shot_id else None)
            response = self._post(body, _PARQUET, request_id, len(values))
            if response is not None and not _is_short(response):
                return self._parse(response, len(values))
            self._takes_parquet = False
        parts = [
            self._score_json(
                values[start : start + _JSON_ROWS_PER_REQUEST], f"{request_id}.{start}" if request_id else ""
            )
            for start in range(0, max(1, len(values)), _JSON_ROWS_PER_REQUEST)
        ]
        return Predictions(
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.probability for part in parts]),
            parts[-1].version,
        )

    def _post(self, body: bytes, content_type: str, request_id: str, rows: int) -> requests.Response | None:
        """The response, or None if the server does not take this content type."""
        headers = {"Content-Type": content_type, "Accept": f"{_ARROW}, application/json"}
        if request_id:
            headers["X-Request-ID"] = request_id
        if self._origin != TRAFFIC:
            headers[ORIGIN_HEADER] = self._origin
        response = self._send_with_retries(
            lambda session: session.post(self._invocations_url, body, headers=headers, timeout=_TIMEOUT_SECONDS),
            self._retry_timeout,
        )
        if response.status_code == requests.codes.unsupported_media_type and content_type == _PARQUET:
            return None
        if response.ok:
            return response
        reason = _message(response)
        message = f"{self._invocations_url}: status {response.status_code} for a request of {rows:,} rows: {reason}"
        if response.status_code in _REFUSED:
            raise RejectedRowsError(message, reason)
        raise ScoringError(message)

    def _send_with_retries(
        self, send: Callable[[requests.Session], requests.Response], retry_timeout: float
    ) -> requests.Response:
        """Send until a response needs no retry; scoring changes nothing, so a request may be repeated."""
        deadline, wait = time.monotonic() + retry_timeout, _FIRST_WAIT_SECONDS
        while True:
            requested = 0.0
            try:
                response = send(self._session())
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                problem: Exception | None = error
                found = type(error).__name__
            else:
                if response.status_code not in _RETRIED_STATUSES:
                    return response
                problem, found = None, f"status {response.status_code}"
                requested = _seconds(response.headers.get("Retry-After", ""))
            if time.monotonic() + max(wait, requested) > deadline:
                message = f"{self._invocations_url} does not respond ({found}), retried for {retry_timeout:.0f} s."
                raise ScoringError(message) from problem
            pause = max(requested, wait * random.uniform(0.5, 1))  # noqa: S311 spreads retries, guards nothing
            if self._stopped.wait(pause):
                message = f"{self._invocations_url} did not respond ({found}) before the run was ended."
                raise ScoringError(message) from problem
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _session(self) -> requests.Session:
        if not hasattr(self._thread, "session"):
            self._thread.session = session_for(self._invocations_url)
        session: requests.Session = self._thread.session
        return session

    def _score_json(self, values: Cells, request_id: str) -> Predictions:
        response = self._post(_json(values), "application/json", request_id, len(values))
        assert response is not None  # noqa: S101 only Parquet can be refused as a type
        return self._parse(response, len(values))

    def _parse(self, response: requests.Response, rows: int) -> Predictions:
        target = current().target.name
        entry = f'{{"{target}": 0 or 1, "{PROBABILITY}": P({current().positive})}}'
        expected = f'expected {{"predictions": [{entry}, …]}}, {rows} entries'
        try:
            if response.headers.get("Content-Type") == _ARROW:
                table = pa.ipc.open_stream(response.content).read_all()
                label, probability = table.column(target).to_numpy(), table.column(PROBABILITY).to_numpy()
            else:
                predictions = orjson.loads(response.content)["predictions"]
                label = np.array([each[target] for each in predictions], dtype=np.float64)
                probability = np.array([each[PROBABILITY] for each in predictions], dtype=np.float64)
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            message = (
                f"{self._invocations_url}: {expected}; found {response.text[:200]!r}. Is another model served there?"
            )
            raise ScoringError(message) from error
        fits = np.isin(label, (0, 1)) & (probability >= 0) & (probability <= 1)
        if len(probability) != rows or not fits.all():
            message = (
                f"{self._invocations_url}: {expected}; found {len(probability)} entries, {fits.sum()} of them possible."
            )
            raise ScoringError(message)
        version = response.headers.get("X-Model-Version", "")
        return Predictions(label.astype(np.int64), probability, int(version) if version.isdigit() else None)


def base_url(endpoint: str) -> str:
    """URL of a server without ``/invocations``; a host with a port is one over HTTP, as for curl.

    Raises
    ------
    EndpointURLError
        If it is not that of a server, or holds credentials or a query; no secret is repeated.

    Examples
    --------
    >>> base_url("http://127.0.0.1:5001/invocations/")
    'http://127.0.0.1:5001'
    >>> base_url("127.0.0.1:5001")
    'http://127.0.0.1:5001'
    """
    url = endpoint.strip()
    if _HOST_AND_PORT.fullmatch(url):
        url = f"http://{url}"
    try:
        validate_url(url, _EXAMPLE)
    except ValueError as error:
        raise EndpointURLError(str(error)) from error
    return url.rstrip("/").removesuffix("/invocations").rstrip("/")


def map_concurrently(
    work: Callable[[Item], Result], items: Iterable[Item], at_once: int, stop: Callable[[], object] = lambda: None
) -> Iterator[tuple[Item, Result]]:
    """Do work on several items at a time and give the results in order; only a few items are held at once.

    A thread of its own takes the items, one ahead of the work.

    `stop` is called when a piece of work, or the consumer of the results, fails: it cancels the others.

    Examples
    --------
    >>> list(map_concurrently(abs, [-1, -2], at_once=2))
    [(-1, 1), (-2, 2)]
    """
    iterator = iter(items)
    with ThreadPoolExecutor(at_once) as pool, ThreadPoolExecutor(1) as reader:
        waiting = []
        following = reader.submit(next, iterator, None)
        try:
            while (item := following.result()) is not None:
                following = reader.submit(next, iterator, None)
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > at_once:
                    first, future = waiting.pop(0)
                    yield first, future.result()
            while waiting:
                first, future = waiting.pop(0)
                yield first, future.result()
        except BaseException:
            stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _parquet(values: Cells, shot_id: npt.NDArray[np.int64] | None) -> bytes:
    dataset = current()
    columns = {
        feature.name: values[:, place]
        if feature.is_numeric
        else pa.array(values[:, place].tolist(), pa.string(), from_pandas=True)
        for place, feature in enumerate(dataset.features)
    }
    if values.dtype == np.object_:
        numeric = {feature.name for feature in dataset.numeric}
        columns |= {name: cells.astype(np.float64) for name, cells in columns.items() if name in numeric}
    table = pa.table(columns if shot_id is None else {**columns, dataset.id.name: shot_id})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False)
    return bytes(sink.getvalue())


def _json(values: Cells) -> bytes:
    is_numeric = values.dtype == np.float64
    cells = np.ascontiguousarray(values) if is_numeric else values.tolist()
    table = {"columns": list(current().feature_names), "data": cells}
    body = {"dataframe_split": table, "params": {"output": "records"}}
    # NaN and infinity become null, which the server refuses by row and column.
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _is_short(response: requests.Response) -> bool:
    """Whether a server returns, for example, labels by default: only a JSON body can request another form."""
    return _SHORT.match(response.content) is not None


def _seconds(text: str) -> float:
    return float(text) if text.isdigit() else 0.0


def _message(response: requests.Response) -> str:
    try:
        text = str(response.json()["message"])
    except (requests.JSONDecodeError, KeyError, TypeError):
        text = response.text
    return text.rpartition("Error: ")[2][:_MESSAGE_LENGTH_SHOWN]
