"""Whether a challenger may take the champion's place, from the answers of both to the same later rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.schema import TARGET
from monitor.metrics.binary import log_loss_by_row
from monitor.metrics.intervals import slices
from serving.registry import gate
from serving.registry.gate import CONFIDENCE, MIN_SKILL, GateResult, PairedComparison

MAX_LOG_LOSS = float(np.log(2))
"""Log loss of a coin: what is not below it is never promoted."""
MIN_IMPROVEMENT = 0.005
"""Share of the champion's log loss by which a challenger must be better: of many rows a difference that nobody would
notice is beyond chance."""
MIN_ROWS = 100
"""Rows that a comparison needs, overall and in a slice."""
MIN_ROWS_PER_CLASS = 30
"""Made and missed rows that a comparison needs: a feed of labels may bring one result first."""
SLICE_LIMIT = 0.05
"""Share of the champion's log loss by which a slice may be worse before it is looked at for chance."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Criterion:
    """The challenger beside something else on some rows.

    Attributes
    ----------
    name : str
        Against what and on which rows.
    difference : Difference
        Of the log losses.
    passed : bool
        Whether it speaks for a promotion, or at least not against it.
    words : str
    """

    name: str
    difference: PairedComparison
    passed: bool
    words: str

    def record(self) -> dict[str, Any]:
        """As JSON takes it."""
        found = self.difference
        return {
            "name": self.name,
            "rows": found.rows,
            "log_loss": found.loss,
            "reference_log_loss": found.reference_loss,
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "verdict": "passed" if self.passed else "failed",
            "words": self.words,
        }


@dataclass(frozen=True)
class PromotionTest:
    """Every comparison of a challenger; it passes if all of them do.

    Attributes
    ----------
    verdict : Verdict
        Against the champion overall, `passed` and `reason` those of all comparisons.
    comparisons : tuple of Comparison
        Against the champion overall, the limit, the class prior, a constant, and the champion in each slice.
    """

    verdict: GateResult
    comparisons: tuple[Criterion, ...]

    def record(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "rows": self.comparisons[0].difference.rows,
            "passed": self.verdict.passed,
            "reason": self.verdict.reason,
            "comparisons": [comparison.record() for comparison in self.comparisons],
        }


def evaluate_challenger(  # noqa: PLR0913 three models and how to judge them
    rows: pd.DataFrame,
    challenger: npt.ArrayLike,
    champion: npt.ArrayLike,
    prior: npt.ArrayLike,
    *,
    champion_name: str,
    max_log_loss: float = MAX_LOG_LOSS,
    min_improvement: float = MIN_IMPROVEMENT,
    seed: int = 0,
) -> PromotionTest:
    """Judge a challenger.

    It passes if it is better than the champion beyond chance on all rows (paired bootstrap, 95 %) and by at least a
    share of its loss, better than the class prior by ``MIN_SKILL`` and than a limit, not almost constant, and in no
    slice of distance, period, playoffs or zone worse than the champion by more than ``SLICE_LIMIT`` and beyond chance.
    The slices share the probability of a false alarm (Bonferroni). A champion that is almost constant is no more than a
    baseline: beside it no slice is looked at, and ``MIN_SKILL`` is enough.

    Parameters
    ----------
    rows : pandas.DataFrame
        The features and ``shot_made_flag`` of rows that neither model has learned from, all labelled.
    challenger, champion, prior : array_like of float, shape (n,)
        P(made) of each row by the challenger, the champion and the class prior.
    champion_name : str
        What to call the champion in the reasons.
    max_log_loss : float
        Log loss that the challenger must not exceed, in nats.
    min_improvement : float
        Share of the champion's log loss by which the challenger's must be lower.
    seed : int
        Of the resampling.

    Raises
    ------
    ValueError
        If there are fewer than two rows or a label is missing.
    """
    labels = rows[TARGET].to_numpy(dtype=float)
    losses = [log_loss_by_row(labels, np.asarray(made, dtype=float)) for made in (challenger, champion, prior)]
    overall = gate.compare(losses[0], losses[1], reference_name=champion_name, seed=seed)
    is_baseline = gate.is_constant(champion)
    found = (
        _overall(overall, len(rows), champion_name),
        _gain(overall, len(rows), min(min_improvement, MIN_SKILL) if is_baseline else min_improvement),
        _results(overall, labels),
        _limit(overall, len(rows), max_log_loss),
        _prior(gate.paired_bootstrap(losses[0], losses[2], seed=seed)),
        _spread(overall, np.asarray(challenger, dtype=float)),
        *(() if is_baseline else _slices(rows, losses[0], losses[1], champion_name, seed)),
    )
    failed = [comparison.words for comparison in found if not comparison.passed]
    reason = "; ".join(failed) if failed else overall.reason
    verdict = GateResult(not failed, reason, overall.loss, overall.reference_loss, overall.low, overall.high)
    return PromotionTest(verdict, found)


def _overall(verdict: GateResult, rows: int, champion_name: str) -> Criterion:
    found = PairedComparison(rows, verdict.loss, verdict.reference_loss, verdict.low, verdict.high)
    return Criterion(f"{champion_name}, all rows", found, verdict.passed, verdict.reason)


def _gain(verdict: GateResult, rows: int, min_improvement: float) -> Criterion:
    found = PairedComparison(rows, verdict.loss, verdict.reference_loss, verdict.low, verdict.high)
    words = f"the champion's log loss is undercut by {max(found.improvement, 0):.2%}, {min_improvement:.2%} is needed"
    return Criterion("the least gain", found, found.improvement >= min_improvement, words)


def _results(verdict: GateResult, labels: Floats) -> Criterion:
    found = PairedComparison(len(labels), verdict.loss, verdict.reference_loss, verdict.low, verdict.high)
    made = int(labels.sum())
    words = f"{made:,} made and {len(labels) - made:,} missed rows; {MIN_ROWS_PER_CLASS} of each are needed"
    return Criterion("both results", found, min(made, len(labels) - made) >= MIN_ROWS_PER_CLASS, words)


def _limit(verdict: GateResult, rows: int, max_log_loss: float) -> Criterion:
    difference = verdict.loss - max_log_loss
    words = f"log loss {verdict.loss:.4f}, limit {max_log_loss:.4f}"
    found = PairedComparison(rows, verdict.loss, max_log_loss, difference, difference)
    return Criterion("the limit", found, verdict.loss <= max_log_loss, words)


def _prior(found: PairedComparison) -> Criterion:
    words = f"log loss {found.loss:.4f} against {found.reference_loss:.4f} of the class prior"
    passed = found.improvement >= MIN_SKILL
    skill = f"a skill score of {found.improvement:+.2%}, {MIN_SKILL:.2%} is needed"
    return Criterion("the class prior, all rows", found, passed, words if passed else f"{words}: {skill}")


def _spread(verdict: GateResult, made: Floats) -> Criterion:
    found = PairedComparison(made.size, verdict.loss, verdict.reference_loss, verdict.low, verdict.high)
    passed = not gate.is_constant(made)
    words = f"P(made) differs by {made.std():.4f} from row to row (standard deviation)"
    return Criterion("a constant", found, passed, words if passed else gate.describe_constant(made))


def _slices(
    rows: pd.DataFrame, loss: Floats, champion_loss: Floats, champion_name: str, seed: int
) -> Iterator[Criterion]:
    masks = {
        f"{name} {value}": (values == value).to_numpy()
        for name, values in slices(rows).items()
        for value in values.cat.categories
    }
    judged = {name: mask for name, mask in masks.items() if MIN_ROWS <= mask.sum() < len(rows)}
    for name, mask in judged.items():
        confidence = 1 - (1 - CONFIDENCE) / len(judged)
        found = gate.paired_bootstrap(loss[mask], champion_loss[mask], seed=seed, confidence=confidence)
        worse = found.worse and found.value > SLICE_LIMIT * found.reference_loss
        words = (
            f"{name}: log loss {found.loss:.4f} against {found.reference_loss:.4f} of {champion_name} "
            f"on {found.rows:,} rows, {'worse beyond chance' if worse else 'not worse beyond chance and the limit'}"
        )
        yield Criterion(f"{champion_name}, {name}", found, not worse, words)
