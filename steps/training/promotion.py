"""From a registered version to a verdict that is written on it, and to champion and Production if it is better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from data.preparation.identity import among
from data.preparation.manifest import TEST, TRAIN
from data.schema import FEATURES, PROBABILITY, SHOT_ID, TARGET
from monitor.metrics.binary import log_loss_by_row
from monitor.retraining.promotion_test import (
    FEWEST_ROWS,
    MIN_IMPROVEMENT,
    MOST_LOG_LOSS,
    PromotionTest,
    evaluate_challenger,
)
from monitor.store import tables
from monitor.store.tables import TableError
from serving import registry
from serving.batch.in_process import ScoredError, predict
from serving.registry import gate
from steps.training.training_set import TrainingData

_DEVELOPMENT = "sha256_dataset_kobe_dev"


@dataclass(frozen=True)
class Challenger:
    """A version that wants to be champion.

    Attributes
    ----------
    version : str
        Its number.
    lesson : Lesson
        What it has learned from and was tested on.
    pipeline, prior : sklearn.pipeline.Pipeline
        Itself, and the class prior of the same lesson.
    """

    version: str
    lesson: TrainingData
    pipeline: Pipeline
    prior: Pipeline


class ComparisonRows(NamedTuple):
    """Rows to compare a contender and the champion on, and in words which, where they are not simply its test rows."""

    rows: pd.DataFrame
    note: str = ""


@dataclass(frozen=True)
class PromotionOutcome:
    """What became of a contender.

    Attributes
    ----------
    verdict : Verdict
        Written on the version.
    promoted : bool
    note : str
        In words.
    challenge : Challenge or None
        Against the champion; None where there was none to compare with.
    """

    verdict: gate.GateResult
    promoted: bool
    note: str
    challenge: PromotionTest | None = None


def comparison_rows(contender: Challenger) -> ComparisonRows:
    """Rows that a contender and the champion can be compared on: neither was trained on them, by their ``shot_id``.

    Of the same raw file these are the champion's own test rows, so that one who had easier test rows gains nothing by
    it; of another, the contender's. Where nobody knows which shots the champion was trained on, they are all of the
    contender's test rows: if the champion knows some of them, that is to its advantage.
    """
    lesson, current = contender.lesson, registry.usable_champion()
    if current is None or current.tags.get(f"sha256_{TEST}") == lesson.tags[f"sha256_{TEST}"]:
        return ComparisonRows(lesson.test)
    version = registry.number(current)
    is_same_file = current.tags.get(_DEVELOPMENT) == lesson.tags.get(_DEVELOPMENT)
    name = TEST if is_same_file else TRAIN
    try:
        theirs = tables.identified(tables.read_scored(tables.prepared_table(name)), name, version)
    except TableError:
        note = f"on all {len(lesson.test):,} test rows: the tables of champion version {version} are gone"
        return ComparisonRows(lesson.test, note)
    rows, trained_on = (theirs, lesson.identified(TRAIN)) if is_same_file else (lesson.identified(TEST), theirs)
    if SHOT_ID not in rows or SHOT_ID not in trained_on:
        unknown = f"champion version {version}" if SHOT_ID not in theirs else "the new version"
        note = (
            f"on all {len(lesson.test):,} test rows: no run says by shot_id which shots {unknown} was trained and "
            "tested on, so the champion may have been trained on some of them, to its advantage"
        )
        return ComparisonRows(lesson.test, note)
    dropped = among(rows, trained_on)
    kept = rows.loc[~dropped, [*FEATURES, TARGET]]
    whose = f"champion version {version}'s" if is_same_file else "the new version's"
    other = "the new version" if is_same_file else "the champion"
    note = f"on {len(kept):,} of {whose} {len(rows):,} test rows; {other} was trained on the other {dropped.sum():,}"
    if unnamed := int(trained_on[SHOT_ID].isna().sum()):
        note += f", and on {unnamed:,} shots without a shot_id that may be among them"
    return ComparisonRows(kept, note)


def promote_if_better(  # noqa: PLR0913 whom, on what, and what it has to show
    contender: Challenger,
    rows: pd.DataFrame,
    *,
    seed: int,
    against: str | None = None,
    max_log_loss: float = MOST_LOG_LOSS,
    min_improvement: float = MIN_IMPROVEMENT,
) -> PromotionOutcome:
    """Judge a contender, write the verdict on its version, and promote or archive it.

    Parameters
    ----------
    contender : Contender
    rows : pandas.DataFrame
        The features and ``shot_made_flag`` of rows that neither it nor the champion has learned from.
    seed : int
        Of the bootstrap.
    against : str, optional
        The champion that it was trained to replace; if another one is champion now, it is not promoted.
    max_log_loss, min_improvement : float
        See `monitor.retraining.promotion_test.evaluate_challenger`.

    Returns
    -------
    Settled
        Not promoted either if another process has changed the champion meanwhile.

    Raises
    ------
    RegistryError
        If the champion cannot be loaded, and so not be compared with; the version is archived.
    """
    named = registry.standing().champion or ""
    current = registry.usable_champion()
    remark, found = "", None
    if against is not None and against != named:
        note = f"it was trained to replace champion version {against}; the champion is now {named or 'none'}"
        return _archived(contender.version, _refused(_against_the_prior(contender, seed), note), note, None)
    if current is None:
        verdict = _against_the_prior(contender, seed)
    elif contender.lesson.is_synthetic != _is_synthetic(current.tags):
        verdict = _against_the_prior(contender, seed)
        kinds = ("synthetic", "real") if contender.lesson.is_synthetic else ("real", "synthetic")
        remark = f"it learned from {kinds[0]} shots, champion version {named} from {kinds[1]} ones"
        if contender.lesson.is_synthetic:
            return _archived(contender.version, _refused(verdict, remark), remark, None)
    elif len(rows) < FEWEST_ROWS:
        note = (
            f"there are {len(rows):,} rows that neither it nor champion version {named} has learned from; "
            f"{FEWEST_ROWS} are needed to compare them"
        )
        return _archived(contender.version, _refused(_against_the_prior(contender, seed), note), note, None)
    else:
        found = evaluate_challenger(
            rows,
            _made(contender.pipeline, rows),
            _answers(named, rows, contender.version),
            _made(contender.prior, rows),
            champion_name=f"champion version {named}",
            max_log_loss=max_log_loss,
            min_improvement=min_improvement,
            seed=seed,
        )
        verdict = found.verdict
    if not verdict.passed:
        return _archived(contender.version, verdict, f"it did not pass the gate: {verdict.reason}", found)
    registry.record_gate_result(contender.version, verdict)
    why = f"{verdict.reason}; {remark}" if remark else verdict.reason
    try:
        registry.promote(contender.version, why, instead_of=named)
    except registry.ConcurrentPromotionError as error:
        registry.archive(contender.version, str(error))
        return PromotionOutcome(verdict, promoted=False, note=f"not promoted: {error}", challenge=found)
    return PromotionOutcome(
        verdict, promoted=True, note="passed the gate and became champion and Production", challenge=found
    )


def _answers(champion: str, rows: pd.DataFrame, contender: str) -> npt.NDArray[np.float64]:
    """P(made) by the champion."""
    try:
        return predict(rows, champion)[PROBABILITY].to_numpy(dtype=float)
    except ScoredError as error:
        registry.archive(contender, "the champion could not be loaded, and so not be compared with")
        message = (
            f"Champion version {champion} cannot be compared with, so nothing was promoted: {error}. Bring its files "
            "back, go back to another version (mlflow run . -e reverter -P version=N), or, if it is lost for good, "
            f"take the alias {registry.CHAMPION} of {registry.model()} away in the MLflow UI and train again."
        )
        raise registry.RegistryError(message) from error


def _archived(version: str, verdict: gate.GateResult, note: str, found: PromotionTest | None) -> PromotionOutcome:
    registry.record_gate_result(version, verdict)
    registry.archive(version, note)
    return PromotionOutcome(verdict, promoted=False, note=f"not promoted, {note}", challenge=found)


def _refused(verdict: gate.GateResult, reason: str) -> gate.GateResult:
    return gate.GateResult(False, reason, verdict.loss, verdict.reference_loss, verdict.low, verdict.high)


def _against_the_prior(contender: Challenger, seed: int) -> gate.GateResult:
    test = contender.lesson.test
    made = _made(contender.pipeline, test)
    losses = [log_loss_by_row(test[TARGET], each) for each in (made, _made(contender.prior, test))]
    verdict = gate.compare(
        losses[0], losses[1], reference_name="the class prior", seed=seed, min_improvement=gate.MIN_SKILL
    )
    return _refused(verdict, gate.constant_words(made)) if gate.is_constant(made) else verdict


def _made(pipeline: Pipeline, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    return np.asarray(pipeline.predict_proba(rows[list(FEATURES)].to_numpy(dtype=np.float64))[:, 1])


def _is_synthetic(tags: Mapping[str, str]) -> bool:
    return tags.get("synthetic") == "true"
