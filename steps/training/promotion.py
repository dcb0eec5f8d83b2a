"""Compare a registered version with the champion, record the gate result, and promote the version if it is better."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from data.errors import TableError
from data.groups import groups_of
from data.preparation.identity import is_among
from data.preparation.manifest import TEST, TRAIN
from data.schema import PROBABILITY
from monitor import scored_tables
from monitor.metrics.binary import log_loss_by_row
from monitor.retraining import promotion_test
from monitor.retraining.promotion_test import (
    MAX_LOG_LOSS,
    MIN_IMPROVEMENT,
    MIN_ROWS,
    PromotionTest,
    evaluate_challenger,
)
from monitor.store import tables, tags
from monitor.store.model_store import current_store
from monitor.store.records import AWAITING, PROMOTED, REJECTED, ModelVersion
from serving import registry
from serving.batch.in_process import ScoredError, dataset_of, predict
from serving.model.packaging import predict_probability
from serving.registry import gate
from steps.shared.tracking import Metrics, Record, Tags, Text
from steps.training.decision_outcome import record_approvals
from steps.training.training_set import TrainingData


@dataclass(frozen=True)
class Challenger:
    """A version that may become champion.

    Attributes
    ----------
    version : str
        Its number.
    training_data : TrainingData
        Its training and test rows.
    pipeline, prior : sklearn.pipeline.Pipeline
        Its model, and the base-rate baseline of the same training set.
    """

    version: str
    training_data: TrainingData
    pipeline: Pipeline
    prior: Pipeline


@dataclass(frozen=True)
class EarlierRows:
    """Labeled rows before a challenger's hold-out, each scored by a model that was trained on the rows before it.

    Attributes
    ----------
    rows : pandas.DataFrame
        As those of the hold-out.
    challenger, base_rate : ndarray of float64, shape (n,)
        P(made) of each row by the model that the challenger's training selects at that time, and by the base-rate
        baseline of the same training rows.
    """

    rows: pd.DataFrame
    challenger: npt.NDArray[np.float64]
    base_rate: npt.NDArray[np.float64]


class ComparisonRows(NamedTuple):
    """Rows to compare a challenger and the champion on, and a note where they are not simply its test rows."""

    rows: pd.DataFrame
    note: str = ""


@dataclass(frozen=True)
class PromotionOutcome:
    """The outcome of a challenger.

    Attributes
    ----------
    gate_result : GateResult
        Recorded on the version.
    outcome : str
        ``promoted``, ``awaiting approval`` or ``rejected``.
    note : str
        A summary.
    promotion_test : PromotionTest or None
        Against the champion; None where there was none to compare with.
    """

    gate_result: gate.GateResult
    outcome: str
    note: str
    promotion_test: PromotionTest | None = None

    @property
    def promoted(self) -> bool:
        """Whether it is champion."""
        return self.outcome == PROMOTED


def comparison_rows(challenger: Challenger) -> ComparisonRows:
    """Rows that a challenger and the champion can be compared on: by ``shot_id``, neither was trained on them.

    With the same raw file these are the champion's own test rows, so that easier test rows are no
    advantage; with another file, the challenger's. If the champion's training shots are unknown, they are all of the
    challenger's test rows: if the champion was trained on some of them, that is its advantage.
    """
    current = current_store().usable_champion()
    found = _comparison_rows(challenger, current)
    lacking = _lacking(current, found.rows)
    return _joined(challenger, current, lacking) or found if current and lacking else found


def _lacking(champion: ModelVersion | None, rows: pd.DataFrame) -> list[str]:
    """Features of the champion that rows do not have: its description may have others."""
    try:
        return [name for name in dataset_of(champion.version).feature_names if name not in rows] if champion else []
    except ScoredError:
        # Whoever loads it to compare reports that.
        return []


def _joined(challenger: Challenger, champion: ModelVersion, lacking: list[str]) -> ComparisonRows | None:
    """The rows that are test rows of both, with the features of both, by their id; None where no run holds them."""
    training_data, store = challenger.training_data, current_store()
    identifier, mine = training_data.dataset.id.name, training_data.identified(TEST)
    if not _is_same_file(champion, training_data):
        return None
    try:
        theirs = scored_tables.read_scored(tables.prepared_table(store, TEST), dataset_of(champion.version))
        theirs = tables.identified(store, theirs, TEST, champion.version)
    except TableError:
        return None
    if identifier not in mine or not {identifier, *lacking} <= {*theirs.columns}:
        return None
    rows = mine[mine[identifier].notna()].merge(theirs[[identifier, *lacking]].dropna(subset=identifier), on=identifier)
    note = (
        f"on {len(rows):,} rows that are test rows of both, with {', '.join(lacking)} of champion version "
        f"{champion.version}"
    )
    return ComparisonRows(rows.drop(columns=identifier), note)


def _is_same_file(champion: ModelVersion, training_data: TrainingData) -> bool:
    """Whether both were trained on one raw table of development."""
    name = tags.sha256_of(training_data.dataset.raw_tables[0].partition(".")[0])
    return champion.tags.get(name) == training_data.tags.get(name)


def _comparison_rows(challenger: Challenger, current: ModelVersion | None) -> ComparisonRows:
    training_data = challenger.training_data
    dataset = training_data.dataset
    identifier, columns = dataset.id.name, [*dataset.feature_names, dataset.target.name]
    group = [dataset.group.name] if dataset.group else []
    if current is None or current.sha256(TEST) == training_data.tags[tags.sha256_of(TEST)]:
        return ComparisonRows(training_data.test)
    version = current.version
    is_same_file = _is_same_file(current, training_data)
    name = TEST if is_same_file else TRAIN
    try:
        theirs = tables.identified(
            current_store(),
            scored_tables.read_scored(tables.prepared_table(current_store(), name), dataset),
            name,
            version,
        )
    except TableError:
        note = f"on all {len(training_data.test):,} test rows: the tables of champion version {version} are missing"
        return ComparisonRows(training_data.test, note)
    rows, trained_on = (
        (theirs, training_data.identified(TRAIN)) if is_same_file else (training_data.identified(TEST), theirs)
    )
    if not {*columns} <= {*rows.columns}:
        note = f"on all {len(training_data.test):,} test rows: champion version {version} has other features"
        return ComparisonRows(training_data.test, note)
    if identifier not in rows or identifier not in trained_on:
        unknown = f"champion version {version}" if identifier not in theirs else "the new version"
        note = (
            f"on all {len(training_data.test):,} test rows: no run holds the {identifier} of the rows that {unknown} "
            "was trained and tested on, so the champion may have been trained on some of them, which is its advantage"
        )
        return ComparisonRows(training_data.test, note)
    dropped = is_among(rows, trained_on)
    kept = rows.loc[~dropped, [*columns, *(name for name in group if name in rows)]]
    whose = f"champion version {version}'s" if is_same_file else "the new version's"
    other = "the new version" if is_same_file else "the champion"
    note = f"on {len(kept):,} of {whose} {len(rows):,} test rows; {other} was trained on the other {dropped.sum():,}"
    if unnamed := int(trained_on[identifier].isna().sum()):
        note += f", and on {unnamed:,} {dataset.rows} without a {identifier} that may be among them"
    return ComparisonRows(kept, note)


def promote_if_better(  # noqa: PLR0913 whom, on what, and what it has to show
    challenger: Challenger,
    rows: pd.DataFrame,
    *,
    seed: int,
    earlier: EarlierRows | None = None,
    against: str | None = None,
    approval: bool = False,
    max_log_loss: float = MAX_LOG_LOSS,
    min_improvement: float = MIN_IMPROVEMENT,
) -> PromotionOutcome:
    """Compare a challenger, record the gate result on its version, and promote or archive it, or let it wait.

    Parameters
    ----------
    challenger : Challenger
    rows : pandas.DataFrame
        The features and ``shot_made_flag`` of rows that neither it nor the champion was trained on.
    seed : int
        Of the bootstrap.
    earlier : EarlierRows, optional
        Earlier rows to compare on too.
    against : str, optional
        The champion that it was trained to replace; if another version is champion now, it is not promoted.
    approval : bool
        Whether it waits for the approval of a person if it passes the gate.
    max_log_loss, min_improvement : float
        See `monitor.retraining.promotion_test.evaluate_challenger`.

    Returns
    -------
    PromotionOutcome
        Not promoted either if another process has changed the champion meanwhile.

    Raises
    ------
    RegistryError
        If the champion cannot be loaded for the comparison; the version is archived.
    """
    named = registry.alias_state().champion or ""
    current = current_store().usable_champion()
    is_synthetic = challenger.training_data.is_synthetic
    # Losses on synthetic and on real shots do not compare.
    is_comparable = current is not None and current.synthetic == is_synthetic
    lacking = _lacking(current, rows)
    too_few = (
        f"there are {len(rows):,} rows that neither it nor champion version {named} was trained on; {MIN_ROWS} are "
        "needed to compare them"
    )
    obstacles = (
        (
            against not in {None, named},
            f"it was trained to replace champion version {against}; the champion is now {named or 'none'}",
        ),
        (
            current is not None and not is_comparable and is_synthetic,
            f"it was trained on synthetic shots, champion version {named} on real ones",
        ),
        (is_comparable and len(rows) < MIN_ROWS, too_few),
        (
            is_comparable and bool(lacking),
            f"its test rows lack {', '.join(lacking)}, which champion version {named} needs, so they are not compared",
        ),
    )
    obstacle = next((reason for applies, reason in obstacles if applies), "")
    test = None
    if is_comparable and not obstacle:
        dataset = challenger.training_data.dataset
        made, prior = (predict_probability(each, rows, dataset) for each in (challenger.pipeline, challenger.prior))
        held_out = None
        if earlier:
            held_out = np.repeat([False, True], [len(earlier.rows), len(rows)])
            rows = pd.concat([earlier.rows, rows], ignore_index=True)
            made, prior = (np.concatenate(both) for both in ((earlier.challenger, made), (earlier.base_rate, prior)))
        test = evaluate_challenger(
            rows,
            made,
            _predictions(named, rows, challenger.version),
            prior,
            held_out=held_out,
            dataset=dataset,
            champion_name=f"champion version {named}",
            max_log_loss=max_log_loss,
            min_improvement=min_improvement,
            seed=seed,
        )
    result = test.result if test else _compare_with_base_rate(challenger, seed)
    if obstacle:
        result = replace(result, passed=False, reason=obstacle)
    if not result.passed:
        registry.record_gate_result(challenger.version, result)
        note = obstacle or f"it did not pass the gate: {result.reason}"
        registry.archive(challenger.version, note)
        return PromotionOutcome(result, REJECTED, f"not promoted, {note}", test)
    why = result.reason
    if current and not is_comparable:
        why += f"; it was trained on real shots, champion version {named} on synthetic ones"
    try:
        if approval:
            registry.request_approval(challenger.version, replace(result, reason=why), instead_of=named)
        else:
            registry.record_gate_result(challenger.version, result)
            registry.promote(challenger.version, why, instead_of=named)
    except registry.ConcurrentPromotionError as error:
        if approval:
            result = replace(result, passed=False, reason=str(error))
            registry.record_gate_result(challenger.version, result)
        registry.archive(challenger.version, str(error))
        return PromotionOutcome(result, REJECTED, f"not promoted: {error}", test)
    record_approvals()
    if approval:
        note = (
            f"passed the gate and waits for the approval of a person: {registry.approval_command(challenger.version)}"
        )
        return PromotionOutcome(result, AWAITING, note, test)
    return PromotionOutcome(result, PROMOTED, "passed the gate and became champion and Production", test)


def _predictions(champion: str, rows: pd.DataFrame, challenger: str) -> npt.NDArray[np.float64]:
    """P(made) by the champion."""
    try:
        return predict(rows, champion)[PROBABILITY].to_numpy(dtype=float)
    except ScoredError as error:
        registry.archive(challenger, "the champion could not be loaded for the comparison")
        message = (
            f"Champion version {champion} cannot be loaded, so nothing was promoted: {error}. Restore its "
            "files, roll back to another version (mlflow run . -e reverter -P version=N), or, if it is lost, "
            f"remove the alias {registry.CHAMPION} of {registry.model()} in the MLflow UI and train again."
        )
        raise registry.RegistryError(message) from error


def _compare_with_base_rate(challenger: Challenger, seed: int) -> gate.GateResult:
    test, dataset = challenger.training_data.test, challenger.training_data.dataset
    made, prior = (predict_probability(each, test, dataset) for each in (challenger.pipeline, challenger.prior))
    losses = [log_loss_by_row(test[dataset.target.name], each) for each in (made, prior)]
    result = gate.compare(
        losses[0],
        losses[1],
        reference_name="the base rate",
        seed=seed,
        groups=groups_of(test, dataset),
        min_improvement=gate.MIN_SKILL,
    )
    if gate.is_constant(made):
        return replace(result, passed=False, reason=gate.describe_constant(made))
    return result


def promotion_records(promotion: PromotionOutcome) -> Iterator[Record]:
    """The gate result, for the run of the training."""
    result = registry.PASSED if promotion.gate_result.passed else registry.REJECTED
    yield Tags(
        {
            tags.GATE: AWAITING if promotion.outcome == AWAITING else result,
            tags.GATE_REASON: promotion.gate_result.reason,
        }
    )
    yield Tags({tags.PROMOTION_NOTE: promotion.note})
    yield Metrics({f"gate_{name}": value for name, value in promotion.gate_result.metrics().items()})
    if promotion.promotion_test:
        yield Text(promotion_test.FILE, json.dumps(promotion.promotion_test.to_dict(), indent=2) + "\n")
