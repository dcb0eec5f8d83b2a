"""Promotion test: whether a challenger replaces the champion, from the predictions of rows they were not trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import Dataset, current
from data.groups import groups_of
from monitor.metrics.binary import log_loss_by_row
from monitor.metrics.intervals import slices
from serving.registry import gate
from serving.registry.gate import CONFIDENCE, MIN_SKILL, GateResult, PairedComparison

FILE = "promotion_test.json"
"""Artifact of the training run of a challenger."""
MAX_LOG_LOSS = float(np.log(2))
"""Log loss at chance level: a model that is not below it is never promoted."""
MIN_IMPROVEMENT = 0.005
"""Minimum relative improvement of the champion's log loss: on many rows, negligible differences are statistically
significant."""
MIN_ROWS = 100
"""Rows that a criterion needs, overall and in a slice."""
MIN_ROWS_PER_CLASS = 30
"""Made and missed rows that a criterion needs: delayed labels of one class may arrive first."""
SLICE_LIMIT = 0.05
"""Relative degradation of the champion's log loss that is tolerated in a slice."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Criterion:
    """A criterion of the promotion test: the challenger compared with a reference on some rows.

    Attributes
    ----------
    name : str
        Reference and rows of the comparison.
    difference : PairedComparison
        Comparison of the log losses.
    passed : bool
        Whether the criterion is met.
    summary : str
    """

    name: str
    difference: PairedComparison
    passed: bool
    summary: str

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON-serializable dict."""
        found = self.difference
        return {
            "name": self.name,
            "rows": found.rows,
            "log_loss": found.loss,
            "reference_log_loss": found.reference_loss,
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "result": "passed" if self.passed else "failed",
            "summary": self.summary,
        }


@dataclass(frozen=True)
class PromotionTest:
    """Every criterion for a challenger; the test passes if all criteria are met.

    Attributes
    ----------
    result : GateResult
        Comparison with the champion on all rows; `passed` and `reason` cover all criteria.
    criteria : tuple of Criterion
        The champion on all rows, the minimum improvement, both classes, the maximum log loss, the base-rate
        baseline, the spread of P(made), the champion on the temporal hold-out, if there are rows before it, and the
        champion in each slice.
    """

    result: GateResult
    criteria: tuple[Criterion, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON-serializable dict."""
        return {
            "rows": self.criteria[0].difference.rows,
            "passed": self.result.passed,
            "reason": self.result.reason,
            "criteria": [criterion.to_dict() for criterion in self.criteria],
        }


def evaluate_challenger(  # noqa: PLR0913 three models and the criteria
    rows: pd.DataFrame,
    challenger: npt.ArrayLike,
    champion: npt.ArrayLike,
    base_rate: npt.ArrayLike,
    *,
    dataset: Dataset,
    champion_name: str,
    held_out: npt.NDArray[np.bool_] | None = None,
    max_log_loss: float = MAX_LOG_LOSS,
    min_improvement: float = MIN_IMPROVEMENT,
    seed: int = 0,
) -> PromotionTest:
    """Run the promotion test of a challenger.

    The challenger passes if all criteria are met: its log loss on all rows is lower than the champion's, with
    statistical significance (paired bootstrap, 95%) and by a minimum share; its skill score is at least ``MIN_SKILL``;
    its log loss does not exceed a maximum; it is not almost constant; and in no slice of the dataset is it
    significantly worse than the champion by more than ``SLICE_LIMIT``. The slices share the false-positive rate
    (Bonferroni). Where rows have groups, the bootstrap draws groups. An almost constant champion is itself a baseline:
    slices are then not compared, and an improvement of ``MIN_SKILL`` is enough.

    Parameters
    ----------
    rows : pandas.DataFrame
        The features and the target of labeled rows that neither model was trained on, and their groups, where rows of a
        group are not independent.
    challenger, champion, base_rate : array_like of float, shape (n,)
        P(made) of each row by the challenger, the champion and the base-rate baseline.
    dataset : Dataset
        Description of the challenger: its slices and its groups.
    champion_name : str
        Display name of the champion in the reasons.
    held_out : ndarray of bool, shape (n,), optional
        The rows that the challenger itself scored, where the others were scored by earlier models of the same training,
        each trained on the rows before those that it scored. On its own rows it must not be significantly worse.
    max_log_loss : float
        Maximum log loss of the challenger.
    min_improvement : float
        Minimum relative improvement of the champion's log loss.
    seed : int
        Seed of the resampling.

    Raises
    ------
    ValueError
        If there are fewer than two rows or a label is missing.
    """
    labels, groups = rows[dataset.target.name].to_numpy(dtype=float), groups_of(rows, dataset)
    losses = [log_loss_by_row(labels, np.asarray(made, dtype=float)) for made in (challenger, champion, base_rate)]
    overall = gate.compare(losses[0], losses[1], reference_name=champion_name, seed=seed, groups=groups)
    is_baseline = gate.is_constant(champion)
    own = np.ones(len(labels), dtype=bool) if held_out is None else held_out
    found = (
        Criterion(f"{champion_name}, all rows", overall, overall.passed, overall.reason),
        _improvement(overall, min(min_improvement, MIN_SKILL) if is_baseline else min_improvement),
        _classes(overall, labels),
        _maximum(overall, max_log_loss),
        _base_rate(gate.paired_bootstrap(losses[0], losses[2], seed=seed, groups=groups)),
        _spread(overall, np.asarray(challenger, dtype=float)[own]),
        *(() if own.all() else (_holdout([loss[own] for loss in losses[:2]], groups, own, champion_name, seed),)),
        *(() if is_baseline else _slices(rows, dataset, losses, champion_name, seed)),
    )
    failed = [criterion.summary for criterion in found if not criterion.passed]
    reason = "; ".join(failed) if failed else overall.reason
    return PromotionTest(replace(overall, passed=not failed, reason=reason), found)


def _improvement(overall: GateResult, min_improvement: float) -> Criterion:
    found = overall.improvement
    summary = f"the champion's log loss improves by {max(found, 0):.2%}, {min_improvement:.2%} is needed"
    return Criterion("minimum improvement", overall, found >= min_improvement, summary)


def _classes(overall: GateResult, labels: Floats) -> Criterion:
    made = int(labels.sum())
    words = current()
    counts = f"{made:,} {words.positive} and {len(labels) - made:,} {words.negative} rows"
    summary = f"{counts}; {MIN_ROWS_PER_CLASS} of each are needed"
    return Criterion("both classes", overall, min(made, len(labels) - made) >= MIN_ROWS_PER_CLASS, summary)


def _maximum(overall: GateResult, max_log_loss: float) -> Criterion:
    difference = overall.loss - max_log_loss
    summary = f"log loss {overall.loss:.4f}, maximum {max_log_loss:.4f}"
    found = PairedComparison(overall.rows, overall.loss, max_log_loss, difference, difference)
    return Criterion("maximum log loss", found, overall.loss <= max_log_loss, summary)


def _base_rate(found: PairedComparison) -> Criterion:
    summary = f"log loss {found.loss:.4f}, base-rate baseline {found.reference_loss:.4f}"
    passed = found.improvement >= MIN_SKILL
    skill = f"a skill score of {found.improvement:+.2%}, {MIN_SKILL:.2%} is needed"
    return Criterion("base-rate baseline, all rows", found, passed, summary if passed else f"{summary}: {skill}")


def _spread(overall: GateResult, made: Floats) -> Criterion:
    passed = not gate.is_constant(made)
    summary = f"standard deviation of P({current().positive}): {made.std():.4f}"
    return Criterion("not constant", overall, passed, summary if passed else gate.describe_constant(made))


def _holdout(
    losses: Sequence[Floats], groups: "pd.Series[Any] | None", own: npt.NDArray[np.bool_], champion_name: str, seed: int
) -> Criterion:
    found = gate.paired_bootstrap(*losses, seed=seed, groups=None if groups is None else groups[own])
    summary = (
        f"temporal hold-out: log loss {found.loss:.4f}, {champion_name} {found.reference_loss:.4f} on {found.rows:,} "
        f"rows, {'significantly worse' if found.worse else 'not significantly worse'}"
    )
    return Criterion(f"{champion_name}, temporal hold-out", found, not found.worse, summary)


def _slices(
    rows: pd.DataFrame, dataset: Dataset, losses: Sequence[Floats], champion_name: str, seed: int
) -> Iterator[Criterion]:
    (loss, champion_loss), groups = losses[:2], groups_of(rows, dataset)
    masks = {
        f"{name} {value}": (values == value).to_numpy()
        for name, values in slices(rows, dataset).items()
        for value in values.cat.categories
    }
    compared = {name: mask for name, mask in masks.items() if MIN_ROWS <= mask.sum() < len(rows)}
    for name, mask in compared.items():
        confidence = 1 - (1 - CONFIDENCE) / len(compared)
        found = gate.paired_bootstrap(
            loss[mask],
            champion_loss[mask],
            seed=seed,
            groups=None if groups is None else groups[mask],
            confidence=confidence,
        )
        worse = found.worse and found.value > SLICE_LIMIT * found.reference_loss
        summary = (
            f"{name}: log loss {found.loss:.4f}, {champion_name} {found.reference_loss:.4f} on {found.rows:,} rows, "
            f"{'significantly worse' if worse else 'not significantly worse by more than the tolerance'}"
        )
        yield Criterion(f"{champion_name}, {name}", found, not worse, summary)
