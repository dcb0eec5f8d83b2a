"""What the pages render, loaded once per version, run and window of the log."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import mlflow
import pandas as pd
import streamlit as st
from pydantic import BaseModel, ValidationError

from data.errors import KobeShotError
from monitor.health.baseline import ReferenceData
from monitor.health.baseline import baseline as reference_data
from monitor.health.evaluation import Evaluation, OfVersion, ServingState, judged_version, of_version
from monitor.health.overlap import marked
from monitor.health.record import FORMAT, RECORD_KEYS
from monitor.health.subject import Subject
from monitor.retraining import backtest, decision_log
from monitor.retraining.decision_log import DecisionRecord
from monitor.store import listings, shots, tables
from monitor.store import runs as operation
from monitor.store.candidates import Candidate, candidates
from monitor.store.labels import flag_training_rows
from monitor.store.runs import Champion, RunInfo
from monitor.ui import widgets
from serving import registry
from serving.batch.in_process import predict
from serving.inference_log import reader

MOST_LOGGED_ROWS = 10_000
"""Rows of the log that the pages look at; of more, evenly spread ones are. ``monitoramento`` looks at more."""

CHALLENGE = "challenge.json"
"""Artifact of a training: the result of `monitor.retraining.promotion_test`, challenger against champion."""

MOST_LABELLED_ROWS = 50_000
"""Rows of the log with a label that the pages look at, the newest."""
MOST_TABLE_ROWS = 200_000
"""Rows of a scored table that the pages look at; of more, evenly spread ones are. ``monitoramento`` compares all."""

_SOON, _LATER = 5, 60


@dataclass(frozen=True)
class Shown:
    """A look, and how much of what there is it shows.

    Attributes
    ----------
    look : Look
    rows : int
        Rows of the table, or of the window of the log, that the version scored; about so many, if not all are shown.
    """

    look: Evaluation
    rows: int

    @property
    def subject(self) -> Subject:
        """What the figures are about."""
        return Subject.of(self.look, self.rows)


class _Batch(BaseModel):
    number: int
    since: str
    until: str
    rows: int
    labelled: int
    version: str
    verdict: str
    loop: float | None
    never: float | None
    every: float | None


class _Mark(BaseModel):
    batch: int
    kind: Literal["alarm", "training", "promotion", "refusal"]
    words: str


class _Strategy(BaseModel):
    log_loss: float
    trainings: int
    promotions: int


class _Strategies(BaseModel):
    loop: _Strategy
    never: _Strategy
    every: _Strategy


class _Replay(BaseModel):
    format: Literal[1]
    source: str
    batch_size: int
    label_delay: int
    batches: list[_Batch]
    marks: list[_Mark]
    figures: _Strategies


@st.cache_data(ttl=_SOON, show_spinner=False)
def champion(store: str) -> Champion | None:
    """The champion of a tracking store."""
    del store
    return operation.champion()


@st.cache_data(ttl=_SOON, show_spinner=False)
def alias_problems(store: str) -> list[str]:
    """What is wrong with the registry of a tracking store, in words; that it does not answer is the pages' to say."""
    del store
    try:
        with registry.translate_store_errors():
            return registry.alias_problems()
    except KobeShotError:
        return []


@st.cache_data(ttl=_SOON, show_spinner=False)
def served(address: str) -> listings.EndpointInfo | None:
    """What answers at an address."""
    return listings.served(address)


@st.cache_data(ttl=_SOON, show_spinner=False)
def looks(store: str, source: str) -> list[RunInfo]:
    """The monitorings of a source in a tracking store, newest first, also those that failed."""
    del store
    return operation.monitoring_runs(source)


@st.cache_data(ttl=_SOON, show_spinner=False)
def last_application(store: str) -> RunInfo | None:
    """See `monitor.store.runs.last_application`."""
    del store
    return operation.last_application()


@st.cache_data(ttl=_SOON, show_spinner=False)
def last_runs(store: str) -> pd.DataFrame:
    """The runs of a tracking store, newest first."""
    del store
    return listings.runs_table()


@st.cache_data(max_entries=16, show_spinner=False)
def record(run_id: str) -> dict[str, Any] | None:
    """What a monitoring found, or None where its record is of another format."""
    path = tables.artifact(run_id, operation.RECORD)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            return None
        missing = RECORD_KEYS - set(found)
    except (ValueError, KeyError, TypeError) as error:
        message = f"{operation.RECORD} of run {run_id} cannot be read ({type(error).__name__}). Look again."
        raise tables.TableError(message) from error
    if missing:
        message = f"{operation.RECORD} of run {run_id} lacks {', '.join(sorted(missing))}. Look again."
        raise tables.TableError(message)
    return dict(found)


@st.cache_data(ttl=_SOON, show_spinner=False)
def versions(store: str) -> pd.DataFrame:
    """All versions of the registered model, newest first."""
    del store
    return listings.versions_table()


@st.cache_data(ttl=_SOON, show_spinner=False)
def promotions(store: str) -> pd.DataFrame:
    """Every promotion and roll back, newest first."""
    del store
    return listings.promotions_table()


@st.cache_data(ttl=_SOON, show_spinner=False)
def decided(store: str, of_replay: str = "") -> list[DecisionRecord]:
    """The decisions about the registered model, newest first; those of a replay where its run is given.

    Raises
    ------
    TableError
        If one of them cannot be read.
    """
    del store
    return decision_log.decisions(replay=of_replay)


@st.cache_data(ttl=_SOON, show_spinner=False)
def decision(store: str, run_id: str) -> dict[str, Any]:
    """Every figure behind a decision, and under ``challenge`` what its challenger showed, None where it has none."""
    del store
    with registry.translate_store_errors():
        record = decision_log.record(run_id)
        return {**record, "challenge": record.get("challenge") or _challenge(run_id)}


@st.cache_data(ttl=_SOON, show_spinner=False)
def replays(store: str) -> list[RunInfo]:
    """The finished replays of an operation, newest first."""
    del store
    with registry.translate_store_errors():
        return decision_log.replays()


@st.cache_data(max_entries=8, show_spinner=False)
def replayed(store: str, run_id: str) -> dict[str, Any]:
    """What a replay found, as `monitor.retraining.backtest.Replay.record` made it.

    Raises
    ------
    TableError
        If the run does not hold it, or not whole.
    """
    del store
    path = tables.artifact(run_id, backtest.FILE)
    try:
        return _Replay.model_validate_json(path.read_bytes()).model_dump()
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "all of it"
        message = (
            f"{backtest.FILE} of run {run_id} cannot be read ({where}: {problem['msg']}). "
            "Replay again: mlflow run . -e operacao"
        )
        raise tables.TableError(message) from error


@st.cache_data(ttl=_LATER, show_spinner=False)
def logged(address: str) -> reader.LogSummary:
    """What the whole log holds."""
    return reader.window(reader.open_log(address))


def current() -> Shown:
    """What the sidebar says to look at.

    Raises
    ------
    KobeShotError
        Says what is missing.
    """
    version = registry.number(registry.require_champion())
    store = mlflow.get_tracking_uri()
    if widgets.source() == widgets.LOG:
        table, labels, rows, left_out, key = _log(reader.log_url(), widgets.window(), version)
        judged = of_version(table, version)._replace(left_out=left_out)
        return Shown(_look(f"{store} {version} {key}", "log", judged, labels), rows)
    key = tables.application_run().run_id
    table, rows = _table(store, key)
    judged = of_version(table, version)
    rows = round(rows * len(judged.table) / len(table)) if len(table) else rows
    return Shown(_look(f"{store} {version} {key}", "prod", judged, None), rows)


def baseline() -> ReferenceData:
    """What the champion is compared with."""
    return _baseline(mlflow.get_tracking_uri(), registry.number(registry.require_champion()))


def _challenge(run_id: str) -> dict[str, Any] | None:
    of_decision = f"tags.`mlflow.parentRunId` = '{run_id}'"
    for run in operation.find_runs(operation.TRAINING, of_decision, 1):
        try:
            found = json.loads(tables.artifact(run.run_id, CHALLENGE).read_text(encoding="utf-8"))
        except tables.TableError:
            return None  # It is being trained, or was interrupted.
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {"reason": f"{CHALLENGE} of run {run.run_id} cannot be read"}
    return None


@st.cache_resource(max_entries=2, show_spinner="Loading the candidates")
def all_candidates(store: str, version: str) -> list[Candidate]:
    """The models that a version was chosen from."""
    del store
    return candidates(version)


@st.cache_data(max_entries=2, show_spinner="Scoring all dev shots")
def development(store: str, version: str) -> pd.DataFrame:
    """The labelled dev shots with their season, scored by a version."""
    del store
    return predict(shots.development_shots(), version)


@st.cache_resource(max_entries=4, show_spinner="Scoring the reference")
def _baseline(store: str, version: str) -> ReferenceData:
    del store
    return reference_data(version)


@st.cache_resource(max_entries=4, show_spinner=False)
def _look(key: str, name: str, _judged: OfVersion, _labels: pd.DataFrame | None) -> Evaluation:
    del key
    live = ServingState(datetime.now(UTC), operation.champion())
    baseline = _baseline(mlflow.get_tracking_uri(), _judged.version)
    table = marked(shots.with_season(_judged.table), baseline)
    labels = None if _labels is None else marked(shots.with_season(_judged.of(_labels)), baseline)
    return Evaluation(baseline, table, live, name, left_out=_judged.left_out, labels=labels)


@st.cache_data(max_entries=4, show_spinner=False)
def _table(store: str, run_id: str) -> tuple[pd.DataFrame, int]:
    del store
    found = tables.read_sample(tables.application_table(run_id), MOST_TABLE_ROWS)
    return found.table, found.rows


@st.cache_data(ttl=_LATER, max_entries=4, show_spinner="Reading the inference log")
def _log(address: str, window: Any, champion: str) -> tuple[pd.DataFrame, pd.DataFrame, int, dict[str, int], str]:  # noqa: ANN401 timedelta or None; Streamlit hashes it
    now = reader.now()
    since = now - window if window else None
    engine = reader.open_log(address)
    counted = reader.versions(engine, since)
    if not counted:
        message = "The inference log holds no row in this window. Choose a longer one, or score something."
        raise reader.LogError(message)
    version = judged_version(counted, champion)
    rows = counted.pop(version)
    return (
        flag_training_rows(reader.read(engine, since, max_rows=MOST_LOGGED_ROWS, version=version)),
        flag_training_rows(reader.read_labelled(engine, since, max_rows=MOST_LABELLED_ROWS, version=version)),
        rows,
        counted,
        f"{address} {now.isoformat()}",
    )
