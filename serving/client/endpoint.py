"""One chunk of shots → the answer of a scoring server, over whatever the network and the server do in between."""

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
from data.errors import KobeShotError
from data.schema import FEATURES, PROBABILITY, SHOT_ID, TARGET
from serving.client.http import session_for
from serving.inference_log.inference_log import ORIGIN_HEADER, TRAFFIC

ROWS_PER_REQUEST = 20_000
IN_FLIGHT = 4
PATIENCE_SECONDS = 60.0
_PATIENCE_AT_START_SECONDS = 5.0

_JSON_ROWS_PER_REQUEST = 2_000
_TIMEOUT_SECONDS = (5, 60)
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.05, 2.0
_WORTH_RETRYING = {408, 429, 502, 503, 504}
_REFUSED = {400, 422}
_MESSAGE_LENGTH_SHOWN = 1_000
_PARQUET, _ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"

_EXAMPLE = "http://127.0.0.1:5001"
_HOST_AND_PORT = re.compile(r"[^/:@?#\s]+:\d+(/.*)?|\[[^]]*\]:\d+(/.*)?")
_SHORT = re.compile(rb'\s*\{\s*"predictions"\s*:\s*\[\s*[^\s{\]]')

Item = TypeVar("Item")
Result = TypeVar("Result")


class ScoringError(KobeShotError):
    """The endpoint does not answer, or answers something else than scores."""


class RejectedRowsError(ScoringError):
    """The endpoint refused rows.

    Attributes
    ----------
    reason : str
        What it said of them; rows are counted within the request.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class EndpointAddressError(ScoringError, ValueError):
    """What was given is not the address of a server."""


class Predictions(NamedTuple):
    """Label (int64, shape (n,)), P(made) (float64, shape (n,)) and the version that answered, None if unknown."""

    label: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    version: int | None


class ScoringClient:
    """A scoring server; threads may share it.

    Parameters
    ----------
    address : str
        See `base_url`.
    patience : float
        Seconds for which a server that does not answer is asked again.
    origin : str
        Of `serving.inference_log.inference_log.ORIGINS`: what the rows are in the inference log.
    """

    def __init__(self, address: str, *, patience: float = PATIENCE_SECONDS, origin: str = TRAFFIC) -> None:
        self.address, self._origin = base_url(address), origin
        self._url = f"{self.address}/invocations"
        self._patience = patience
        self._thread = threading.local()
        self._takes_parquet = True
        self._stopped = threading.Event()
        self.takes_shot_id = False

    def check(self) -> None:
        """Learn what answers there.

        Raises
        ------
        ScoringError
            If nothing does.
        """
        self._stopped.clear()
        patience = min(self._patience, _PATIENCE_AT_START_SECONDS)
        try:
            self._persistently(lambda s: s.get(f"{self.address}/ping", timeout=_TIMEOUT_SECONDS), patience)
            described = self._persistently(lambda s: s.get(f"{self.address}/model", timeout=_TIMEOUT_SECONDS), patience)
        except ScoringError as error:
            message = (
                f"No scoring server answers at {self.address} ({type(error.__cause__ or error).__name__}). Start one: "
                "make serve, or mlflow models serve -m models:/kobe_shot/Production"
            )
            raise ScoringError(message) from error
        try:
            self.takes_shot_id = described.json()["identifier"] == SHOT_ID
        except (requests.JSONDecodeError, KeyError, TypeError):
            self.takes_shot_id = False

    def stop(self) -> None:
        """Let requests that wait for another attempt give up, until the next `check`."""
        self._stopped.set()

    def score(
        self, values: npt.NDArray[np.float64], *, shot_id: npt.NDArray[np.int64] | None = None, request_id: str = ""
    ) -> Predictions:
        """Label and probability of each row.

        Parameters
        ----------
        values : ndarray of float64, shape (n, 6)
            The features in the order of ``FEATURES``.
        shot_id : ndarray of int64, shape (n,), optional
            For the inference log; sent if `check` found that the server takes it.
        request_id : str
            For the inference log; the same at every attempt.

        Raises
        ------
        RefusedError
            If the server refuses rows.
        ScoringError
            If it does not answer while patience lasts, or does not answer once per row.
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
        """The answer, or None if the server does not take this content type."""
        headers = {"Content-Type": content_type, "Accept": f"{_ARROW}, application/json"}
        if request_id:
            headers["X-Request-ID"] = request_id
        if self._origin != TRAFFIC:
            headers[ORIGIN_HEADER] = self._origin
        response = self._persistently(
            lambda session: session.post(self._url, body, headers=headers, timeout=_TIMEOUT_SECONDS), self._patience
        )
        if response.status_code == requests.codes.unsupported_media_type and content_type == _PARQUET:
            return None
        if response.ok:
            return response
        reason = _message(response)
        message = f"{self._url} answered a request of {rows:,} rows with status {response.status_code}: {reason}"
        if response.status_code in _REFUSED:
            raise RejectedRowsError(message, reason)
        raise ScoringError(message)

    def _persistently(
        self, send: Callable[[requests.Session], requests.Response], patience: float
    ) -> requests.Response:
        """Send until there is an answer worth having; scoring changes nothing, so a request may be sent again."""
        deadline, wait = time.monotonic() + patience, _FIRST_WAIT_SECONDS
        while True:
            asked = 0.0
            try:
                response = send(self._session())
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                problem: Exception | None = error
                found = type(error).__name__
            else:
                if response.status_code not in _WORTH_RETRYING:
                    return response
                problem, found = None, f"status {response.status_code}"
                asked = _seconds(response.headers.get("Retry-After", ""))
            if time.monotonic() + max(wait, asked) > deadline:
                message = f"{self._url} does not answer ({found}), asked again for {patience:.0f} s."
                raise ScoringError(message) from problem
            pause = max(asked, wait * random.uniform(0.5, 1))  # noqa: S311 spreads retries, guards nothing
            if self._stopped.wait(pause):
                message = f"{self._url} did not answer ({found}) before the run was ended."
                raise ScoringError(message) from problem
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _session(self) -> requests.Session:
        if not hasattr(self._thread, "session"):
            self._thread.session = session_for(self._url)
        session: requests.Session = self._thread.session
        return session

    def _score_json(self, values: npt.NDArray[np.float64], request_id: str) -> Predictions:
        response = self._post(_json(values), "application/json", request_id, len(values))
        assert response is not None  # noqa: S101 only Parquet can be refused as a type
        return self._parse(response, len(values))

    def _parse(self, response: requests.Response, rows: int) -> Predictions:
        expected = f'expected {{"predictions": [{{"{TARGET}": 0 or 1, "{PROBABILITY}": P(made)}}, …]}}, {rows} entries'
        try:
            if response.headers.get("Content-Type") == _ARROW:
                table = pa.ipc.open_stream(response.content).read_all()
                label, probability = table.column(TARGET).to_numpy(), table.column(PROBABILITY).to_numpy()
            else:
                predictions = orjson.loads(response.content)["predictions"]
                label = np.array([answer[TARGET] for answer in predictions], dtype=np.float64)
                probability = np.array([answer[PROBABILITY] for answer in predictions], dtype=np.float64)
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            message = f"{self._url}: {expected}; found {response.text[:200]!r}. Is another model served there?"
            raise ScoringError(message) from error
        fits = np.isin(label, (0, 1)) & (probability >= 0) & (probability <= 1)
        if len(probability) != rows or not fits.all():
            message = f"{self._url}: {expected}; found {len(probability)} entries, {fits.sum()} of them possible."
            raise ScoringError(message)
        version = response.headers.get("X-Model-Version", "")
        return Predictions(label.astype(np.int64), probability, int(version) if version.isdigit() else None)


def base_url(endpoint: str) -> str:
    """Address of a server without ``/invocations``; a host with a port is one over HTTP, as for curl.

    Raises
    ------
    EndpointAddressError
        If it is not that of a server, or holds credentials or a query; no secret is repeated.

    Examples
    --------
    >>> base_url("http://127.0.0.1:5001/invocations/")
    'http://127.0.0.1:5001'
    >>> base_url("127.0.0.1:5001")
    'http://127.0.0.1:5001'
    """
    address = endpoint.strip()
    if _HOST_AND_PORT.fullmatch(address):
        address = f"http://{address}"
    try:
        validate_url(address, _EXAMPLE)
    except ValueError as error:
        raise EndpointAddressError(str(error)) from error
    return address.rstrip("/").removesuffix("/invocations").rstrip("/")


def map_concurrently(
    work: Callable[[Item], Result], items: Iterable[Item], at_once: int, stop: Callable[[], object] = lambda: None
) -> Iterator[tuple[Item, Result]]:
    """Do work on several items at a time and give the results in order; only a few items are held at once.

    `stop` is called when a piece of work, or whoever asks for the results, fails: it lets the others give up.

    Examples
    --------
    >>> list(map_concurrently(abs, [-1, -2], at_once=2))
    [(-1, 1), (-2, 2)]
    """
    with ThreadPoolExecutor(at_once) as pool:
        waiting = []
        try:
            for item in items:
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


def _parquet(values: npt.NDArray[np.float64], shot_id: npt.NDArray[np.int64] | None) -> bytes:
    columns = {name: values[:, place] for place, name in enumerate(FEATURES)}
    table = pa.table(columns if shot_id is None else {**columns, SHOT_ID: shot_id})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False)
    return bytes(sink.getvalue())


def _json(values: npt.NDArray[np.float64]) -> bytes:
    table = {"columns": list(FEATURES), "data": np.ascontiguousarray(values)}
    body = {"dataframe_split": table, "params": {"output": "records"}}
    # NaN and infinity become null, which the server refuses by row and column.
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _is_short(response: requests.Response) -> bool:
    """Whether a server answers with labels, say, by default: only a JSON body can ask it for another form."""
    return _SHORT.match(response.content) is not None


def _seconds(text: str) -> float:
    return float(text) if text.isdigit() else 0.0


def _message(response: requests.Response) -> str:
    try:
        text = str(response.json()["message"])
    except (requests.JSONDecodeError, KeyError, TypeError):
        text = response.text
    return text.rpartition("Error: ")[2][:_MESSAGE_LENGTH_SHOWN]
