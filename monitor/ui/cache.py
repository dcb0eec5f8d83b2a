"""Cached data of the pages, by version, run and time window of the inference log."""

import json
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pandas as pd
import streamlit as st
from pydantic import ValidationError
from streamlit.logger import get_logger

from data.datasets import worded
from data.errors import TableError
from data.groups import groups_of
from data.schema import PROBABILITY, TARGET
from monitor import scored_tables
from monitor.charts.court_rows import has_place, on_court, with_label
from monitor.charts.trust_court import trust_court
from monitor.health.baseline import ReferenceData
from monitor.health.baseline import baseline as reference_data
from monitor.health.evaluation import Evaluation, ServingState, VersionRows, rows_of_version, version_to_evaluate
from monitor.health.overlap import marked
from monitor.health.record import FORMAT, RECORD_KEYS, upgrade
from monitor.health.subject import Subject
from monitor.metrics.binary import log_loss_by_row
from monitor.metrics.rolling import mean_interval
from monitor.metrics.rolling import rolling_loss as rolling_loss_of
from monitor.retraining import backtest, decision_log, promotion_test
from monitor.retraining.outlook import Runner
from monitor.store import listings, records, run_names, shots, tables
from monitor.store.candidates import StoredCandidate, candidates
from monitor.store.labels import flag_training_rows
from monitor.store.model_store import ModelStore, current_store
from monitor.store.records import BatchScoringRun, ModelVersion, MonitoringRun, RetrainingDecision, RunInfo
from monitor.store.revision import revision
from monitor.store.shots import SEASON, UNKNOWN
from monitor.ui import widgets
from monitor.ui.kept import Kept
from monitor.ui.text import _
from monitor.ui.trust_court import Frames, Mark, encode
from serving import registry
from serving.batch.in_process import dataset_of, predict
from serving.client.probe import EndpointInfo, endpoint_info
from serving.inference_log import reader

# The app imports its pages before there is a runtime, which Streamlit reports once a cache.
get_logger("streamlit.runtime.caching.cache_data_api").setLevel("ERROR")

MAX_LOGGED_ROWS = 10_000
"""Rows of the inference log that a page loads; of a longer log, a systematic sample."""

MAX_LABELED_ROWS = 50_000
"""Labeled rows of the inference log that a page loads, the newest."""
MAX_TABLE_ROWS = 200_000
"""Rows of a scored table that a page loads; of a longer table, a systematic sample. ``monitoramento`` compares all."""

_SOON, _LATER = 5, 60
_READINGS = 16
"""Results that are kept of each function that reads a store."""
_QUICK, _OLDEST = 0.5, 900
_LOGS: "Kept[ShownEvaluation]" = Kept(fresh=_LATER, quick=_QUICK, oldest=_OLDEST, size=4)
"""Evaluations of the inference log by time window. A long log takes seconds to read."""
_FIRST_MONTH = 8
"""Month from which a date belongs to the season that starts in its year."""
Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True)
class ShownEvaluation:
    """An evaluation, and the number of rows in its source.

    Attributes
    ----------
    evaluation : Evaluation
    rows : int
        Rows of the table, or of the time window of the log, that the version scored. Estimated if the evaluation is
        of a sample.
    key : str
        What is cached about the evaluation has this key.
    """

    evaluation: Evaluation
    rows: int
    key: str = ""

    @property
    def subject(self) -> Subject:
        """The rows and the version that the evaluation describes."""
        return Subject.of(self.evaluation, self.rows)


def identity(store: ModelStore) -> Hashable:
    """What distinguishes a store: versions of several stores have the same numbers."""
    return store.uri, store.model_name


def _as_written(store: ModelStore) -> Hashable:
    return identity(store), revision(store)


def cached(
    cache: Any,  # noqa: ANN401 a decorator of Streamlit
    *,
    by: Callable[[ModelStore], Hashable] = identity,
    show_spinner: bool | str = False,
    **options: int,
) -> Callable[[Function], Function]:
    """Cache a function of a store: what one store holds is not shown for another."""
    decorate: Callable[[Function], Function] = cache(hash_funcs={ModelStore: by}, show_spinner=show_spinner, **options)
    return decorate


def until_written(function: Function) -> Function:
    """Cache what a function reads from a store, until the store is written to."""
    return cached(st.cache_data, by=_as_written, max_entries=_READINGS)(function)


@until_written
def champion_number(store: ModelStore) -> str:
    """Number of the champion; see `serving.registry.champion_number`."""
    del store
    return registry.champion_number()


@until_written
def champion(store: ModelStore) -> ModelVersion | None:
    """The champion of a tracking store."""
    return store.champion()


@until_written
def alias_problems(store: ModelStore) -> list[str]:
    """Inconsistencies of the registry of a store, one sentence each."""
    del store
    return registry.alias_problems()


@cached(st.cache_data, ttl=_SOON)
def served(url: str) -> EndpointInfo | None:
    """The server at a URL, or None if none responds."""
    return endpoint_info(url)


@until_written
def monitoring_runs(store: ModelStore, source: str) -> list[MonitoringRun]:
    """Monitoring runs of a data source, newest first, including those that failed."""
    return store.monitoring_runs(source)


@until_written
def last_batch_scoring(store: ModelStore) -> BatchScoringRun | None:
    """The last finished batch-scoring run of the production set, or None."""
    return store.last_batch_scoring_run()


@until_written
def last_runs(store: ModelStore) -> pd.DataFrame:
    """The runs of a tracking store, newest first."""
    return listings.runs_table(store)


@cached(st.cache_data, max_entries=16)
def record(run_id: str) -> dict[str, Any] | None:
    """The record of a monitoring run, or None if its format is not known."""
    path = current_store().artifact(run_id, records.MONITORING_RECORD)
    try:
        found = upgrade(json.loads(path.read_text(encoding="utf-8")))
        if found["format"] != FORMAT:
            return None
        missing = RECORD_KEYS - set(found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = (
            f"{records.MONITORING_RECORD} of run {run_id} cannot be read ({type(error).__name__}). Re-run monitoring."
        )
        raise TableError(message) from error
    if missing:
        message = f"{records.MONITORING_RECORD} of run {run_id} lacks {', '.join(sorted(missing))}. Re-run monitoring."
        raise TableError(message)
    return dict(found)


@until_written
def alias_state(store: ModelStore) -> registry.AliasState:
    """The versions that the aliases name and those in Production."""
    del store
    return registry.alias_state()


@until_written
def versions(store: ModelStore) -> pd.DataFrame:
    """All versions of the registered model, newest first."""
    return listings.versions_table(store)


@until_written
def promotions(store: ModelStore) -> pd.DataFrame:
    """Promotions and rollbacks, newest first."""
    return listings.promotions_table(store)


@until_written
def decisions(store: ModelStore, of_backtest: str = "") -> list[RetrainingDecision]:
    """The retraining decisions of the registered model, or of a backtest, newest first.

    Raises
    ------
    TableError
        If one of them cannot be read.
    """
    return store.decisions(backtest=of_backtest)


@cached(st.cache_data, ttl=_SOON)
def decision(store: ModelStore, run_id: str) -> dict[str, Any]:
    """The record of a decision; ``promotion_test`` holds the one of its challenger, or None."""
    with registry.translate_store_errors():
        record = decision_log.record(store, run_id)
        return {**record, "promotion_test": record.get("promotion_test") or _promotion_test(run_id)}


@until_written
def backtests(store: ModelStore) -> list[RunInfo]:
    """Finished policy backtests, newest first."""
    with registry.translate_store_errors():
        return store.backtests()


@cached(st.cache_data, max_entries=8)
def backtest_record(store: ModelStore, run_id: str) -> dict[str, Any]:
    """The record of a policy backtest, as `monitor.retraining.backtest` writes it.

    Raises
    ------
    TableError
        If the run does not hold it, or it is incomplete.
    """
    path = store.artifact(run_id, backtest.FILE)
    try:
        return backtest.PolicyBacktest.model_validate_json(path.read_bytes()).model_dump()
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the whole file"
        message = (
            f"{backtest.FILE} of run {run_id} cannot be read ({where}: {problem['msg']}). "
            "Run another backtest: mlflow run . -e operacao"
        )
        raise TableError(message) from error


@cached(st.cache_data, ttl=_LATER)
def logged(url: str) -> reader.LogSummary:
    """Summary of the whole inference log."""
    return reader.window(reader.open_log(url))


def current() -> ShownEvaluation:
    """The evaluation of the data source that is selected in the bar.

    Raises
    ------
    KobeShotError
        If something is missing; the message names it.
    """
    if widgets.source() == widgets.LOG:
        return _of_log(widgets.window(), lambda: st.spinner(_("Reading the inference log")))
    return _of_batch()


def prepare_batch() -> None:
    """Compute what the pages show first of the latest batch-scoring run, before they are opened."""
    with registry.translate_store_errors():
        _prepared(_of_batch())


def prepare_log() -> None:
    """Compute what the pages show of the whole inference log, before they are opened."""
    with registry.translate_store_errors():
        _with_evidence(_prepared(_of_log(None, nullcontext)))


def prepare_evidence() -> None:
    """Compute what the page Why shows of the latest batch-scoring run, before it is opened."""
    with registry.translate_store_errors():
        _with_evidence(_of_batch())


def log_age() -> float:
    """Seconds since the inference log was read, while a newer reading of a long one is awaited; else 0."""
    if widgets.source() != widgets.LOG:
        return 0.0
    store = current_store()
    age = _LOGS.age(_log_key(store, widgets.window(), champion_number(store)))
    return age if age > _LATER else 0.0


def clear() -> None:
    """Forget what the store and the inference log held."""
    st.cache_data.clear()
    _LOGS.clear()
    widgets.forget_figures()


def _of_batch() -> ShownEvaluation:
    store = current_store()
    version, key = champion_number(store), tables.require_scored(store, last_batch_scoring(store)).run_id
    table, rows = _table(store, key)
    judged = rows_of_version(table, version)
    rows = round(rows * len(judged.table) / len(table)) if len(table) else rows
    name = f"{version} {key}"
    return ShownEvaluation(_evaluation(store, name, "prod", judged, None), rows, name)


def _of_log(window: timedelta | None, waiting: Callable[[], AbstractContextManager[object]]) -> ShownEvaluation:
    """The evaluation of the inference log; `waiting` is entered while a visitor waits for it."""
    store, url = current_store(), reader.log_url()
    version = champion_number(store)

    def read() -> ShownEvaluation:
        return _read_log(store, url, window, version)

    def read_for_visitor() -> ShownEvaluation:
        with waiting():
            return read()

    return _LOGS.get(_log_key(store, window, version), read_for_visitor, lambda: _with_evidence(_prepared(read())))


def _log_key(store: ModelStore, window: timedelta | None, version: str) -> tuple[Hashable, ...]:
    return store.uri, store.model_name, reader.log_url(), window, version


def _prepared(shown: ShownEvaluation) -> ShownEvaluation:
    """An evaluation, after what the pages show of it has been computed."""
    store = current_store()
    if has_court(shown.evaluation):
        _courts(store, shown.key, shown.evaluation)
    if len(shown.evaluation.labeled):
        _runners(store, shown.key, shown.evaluation)
        _rolling(store, shown.key, shown.evaluation)
    return shown


def _with_evidence(shown: ShownEvaluation) -> ShownEvaluation:
    """An evaluation, after it has computed its results, which it keeps."""
    evaluation = shown.evaluation
    if len(evaluation.current):
        evaluation.drift, evaluation.estimate, evaluation.actual_performance  # noqa: B018
    if len(evaluation.labeled):
        evaluation.performance  # noqa: B018
    return shown


def baseline() -> ReferenceData:
    """The reference data of the champion."""
    store = current_store()
    return _baseline(store, champion_number(store))


def has_court(evaluation: Evaluation) -> bool:
    """Whether the rows of an evaluation are on a court."""
    return has_place(evaluation.current, evaluation.dataset)


def courts(shown: ShownEvaluation) -> Frames:
    """Trust courts of all current rows, and of each season that has some."""
    return _courts(current_store(), shown.key, shown.evaluation)


def of_season(shown: ShownEvaluation, season: str) -> ShownEvaluation:
    """The evaluation of the rows of one season; of all where the season is empty."""
    if not season:
        return shown
    evaluation = _of_season(current_store(), f"{shown.key} {season}", shown.evaluation, season)
    return ShownEvaluation(evaluation, len(evaluation.current), f"{shown.key} {season}")


def runners() -> list[Runner]:
    """The candidates that the champion's training did not select, on the labeled rows that the pages show."""
    shown = current()
    return _runners(current_store(), shown.key, shown.evaluation)


def rolling_loss() -> pd.DataFrame | None:
    """Log loss of the labeled rows over time; see `monitor.metrics.rolling`. None where their time is not known."""
    shown = current()
    return _rolling(current_store(), shown.key, shown.evaluation)


def promotion_marks() -> list[Mark]:
    """For each promoted version the season from which it predicts shots that its training did not have."""
    marks = []
    for version in versions_of(current_store()):
        until = version.labels_until
        if version.promotions and until:
            # A season starts in October.
            first = until.year if until.month >= _FIRST_MONTH else until.year - 1
            marks.append(Mark(f"{first}-{(first + 1) % 100:02d}", f"v{version.version}"))
    return marks


def promotion_times(rows: pd.DataFrame) -> list[tuple[datetime, str]]:
    """Promotions within the time span of rows, and their versions."""
    first, last = rows["time"].min(), rows["time"].max()
    dated = []
    for version in versions_of(current_store()):
        if widgets.source() == widgets.LOG:
            times = [promotion.when.replace(tzinfo=None) for promotion in version.promotions]
        else:
            times = [version.labels_until.replace(tzinfo=None)] if version.promotions and version.labels_until else []
        dated += [(time, f"v{version.version}") for time in times if first <= time <= last]
    return sorted(dated)


@until_written
def versions_of(store: ModelStore) -> list[ModelVersion]:
    """All versions of the registered model."""
    with registry.translate_store_errors():
        return list(store.versions())


@cached(st.cache_resource, max_entries=8)
def _of_season(store: ModelStore, key: str, _evaluation_of: Evaluation, season: str) -> Evaluation:
    del store, key
    kept = [
        None if rows is None else rows[rows[SEASON] == season].reset_index(drop=True)
        for rows in (_evaluation_of.current, _evaluation_of.labels)
    ]
    current = kept[0]
    return _evaluation_of if current is None else replace(_evaluation_of, current=current, sketch=None, labels=kept[1])


@cached(st.cache_resource, max_entries=4)
def _courts(store: ModelStore, key: str, _evaluation_of: Evaluation) -> Frames:
    del store, key
    rows = on_court(_evaluation_of.current, _evaluation_of.dataset)
    # Training and reference rows show nothing about new shots.
    rows = rows.assign(**{TARGET: rows[TARGET].where(~_evaluation_of.is_own)})
    out = _evaluation_of.out_of_support
    frames = {"": trust_court(rows, out)}
    for season in sorted(set(rows[SEASON].unique()) - {UNKNOWN}):
        own = (rows[SEASON] == season).to_numpy()
        frames[str(season)] = trust_court(rows[own], out[own])
    return encode(frames)


@cached(st.cache_data, max_entries=4)
def _runners(store: ModelStore, key: str, _evaluation_of: Evaluation) -> list[Runner]:
    del key
    rows, version = with_label(_evaluation_of.labeled, _evaluation_of.dataset), _evaluation_of.version
    if rows.empty:
        return []
    own = log_loss_by_row(rows[TARGET], rows[PROBABILITY])
    found = []
    for candidate in all_candidates(store, version):
        if not candidate.selected:
            loss = log_loss_by_row(rows[TARGET], candidate.probability(rows))
            low, high = mean_interval(loss - own, groups_of(rows, _evaluation_of.dataset))
            found.append(Runner(candidate.name, float(loss.mean()), float(own.mean()), low, high, len(rows)))
    return found


@cached(st.cache_data, max_entries=4)
def _rolling(store: ModelStore, key: str, _evaluation_of: Evaluation) -> pd.DataFrame | None:
    del key
    rows = with_label(_evaluation_of.labeled, _evaluation_of.dataset)
    time = rows["time"] if "time" in rows else shots.game_dates(store, rows)
    return (
        None
        if time is None
        else rolling_loss_of(rows[TARGET], rows[PROBABILITY], time, groups_of(rows, _evaluation_of.dataset))
    )


def _promotion_test(run_id: str) -> dict[str, Any] | None:
    of_decision = f"tags.`mlflow.parentRunId` = '{run_id}'"
    for run in current_store().find_runs(run_names.TRAINING, of_decision, 1):
        return promotion_test_of(run.run_id)
    return None


@cached(st.cache_data, ttl=_SOON)
def promotion_test_of(run_id: str) -> dict[str, Any] | None:
    """The promotion test of a training run; None where it holds none."""
    try:
        path = current_store().artifact(run_id, promotion_test.FILE)
        found = json.loads(path.read_text(encoding="utf-8"))
    except TableError:
        return None  # The training is running, or was interrupted.
    except ValueError:
        found = None
    damaged = {"reason": f"{promotion_test.FILE} of run {run_id} cannot be read"}
    return decision_log.upgrade(found) if isinstance(found, dict) else damaged


@cached(st.cache_resource, max_entries=2, show_spinner="Loading the candidate models")
def all_candidates(store: ModelStore, version: str) -> list[StoredCandidate]:
    """The candidate models of the training run of a version."""
    return candidates(store, version)


@cached(st.cache_data, max_entries=2, show_spinner="Scoring all development shots")
def development(store: ModelStore, version: str) -> pd.DataFrame:
    """The labeled development shots with their season, scored by a version."""
    return predict(shots.development_shots(store), version)


@cached(st.cache_resource, max_entries=4, show_spinner="Scoring the reference rows")
def _baseline(store: ModelStore, version: str) -> ReferenceData:
    return reference_data(store, version)


@cached(st.cache_resource, max_entries=4)
def _evaluation(
    store: ModelStore, key: str, name: str, _judged: VersionRows, _labels: pd.DataFrame | None
) -> Evaluation:
    del key
    live = ServingState(datetime.now(UTC), store.champion())
    baseline = _baseline(store, _judged.version)
    table = marked(shots.with_season(store, _judged.table), baseline)
    labels = None if _labels is None else marked(shots.with_season(store, _judged.of(_labels)), baseline)
    return Evaluation(baseline, table, live, name, excluded=_judged.excluded, labels=labels)


@cached(st.cache_data, max_entries=4)
def _table(store: ModelStore, run_id: str) -> tuple[pd.DataFrame, int]:
    dataset = dataset_of(store.batch_scoring_run(run_id).model_version)
    found = scored_tables.read_sample(tables.scored_table(store, run_id), MAX_TABLE_ROWS, dataset)
    return found.table, found.rows


def _read_log(store: ModelStore, url: str, window: timedelta | None, champion: str) -> ShownEvaluation:
    now = reader.now()
    since = now - window if window else None
    engine = reader.open_log(url)
    counted = reader.versions(engine, since)
    if not counted:
        message = worded(
            "The inference log holds no row in this time window. Select a longer one, or score some shots."
        )
        raise reader.LogError(message)
    version = version_to_evaluate(counted, champion)
    rows = counted.pop(version)
    table, labels = (
        flag_training_rows(store, found)
        for found in (
            reader.read(engine, since, max_rows=MAX_LOGGED_ROWS, version=version),
            reader.read_labeled(engine, since, max_rows=MAX_LABELED_ROWS, version=version),
        )
    )
    name = f"{champion} {url} {now.isoformat()}"
    judged = rows_of_version(table, champion)._replace(excluded=counted)
    return ShownEvaluation(_evaluation(store, name, "log", judged, labels), rows, name)
