"""Whether a model is better than another beyond chance, from the losses of the same rows."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

CONFIDENCE = 0.95
MIN_SKILL = 0.002
"""Skill score that a model needs against the base-rate baseline: the share of its log loss by which it is better.

Against a constant every nearly constant answer is better or worse beyond chance, however little it knows: strongly
regularized, the logistic regression of the public shots has a skill score of 0.02 %, ten standard errors from 0, and
one of the period alone 0.08 %; one of all six features has 2 %.
"""
MIN_SPREAD = 0.005
"""Standard deviation of P(made) below which answers are almost constant; the public shots' regression has 0.09."""
_RESAMPLES = 2_000
_RESAMPLES_AT_ONCE = 200


@dataclass(frozen=True)
class PairedComparison:
    """By how much the losses of a model differ from those of another on the same rows.

    Attributes
    ----------
    rows : int
    loss, reference_loss : float
        Mean loss of the model and of what it is compared with.
    low, high : float
        Ends of the interval of the mean difference, model minus reference.
    """

    rows: int
    loss: float
    reference_loss: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Mean difference; below zero the model is better."""
        return self.loss - self.reference_loss

    @property
    def improvement(self) -> float:
        """Share of the reference's loss by which the model is better; against the baseline, its skill score."""
        return -self.value / self.reference_loss if self.reference_loss else 0.0

    @property
    def better(self) -> bool:
        """Whether the model is better beyond chance."""
        return self.high < 0

    @property
    def worse(self) -> bool:
        """Whether the model is worse beyond chance."""
        return self.low > 0


@dataclass(frozen=True)
class GateResult:
    """What a comparison of two models on the same rows says.

    Attributes
    ----------
    passed : bool
        Whether the whole interval lies below zero: better, beyond chance.
    reason : str
        The verdict in words.
    loss, reference_loss : float
        Mean loss of the model and of what it is compared with.
    low, high : float
        Ends of the interval of the mean difference, model minus reference; below zero the model is better.
    """

    passed: bool
    reason: str
    loss: float
    reference_loss: float
    low: float
    high: float

    def figures(self) -> dict[str, float]:
        """The numbers alone, by name."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, float)}


def paired_bootstrap(
    loss: npt.ArrayLike, reference_loss: npt.ArrayLike, *, seed: int, confidence: float = CONFIDENCE
) -> PairedComparison:
    """Compare two models by the paired bootstrap of their losses.

    Parameters
    ----------
    loss, reference_loss : array_like of float, shape (n,)
        Loss of the model and of the reference on the same n rows, n > 1.
    seed : int
        Of the resampling.
    confidence : float
        Of the percentile interval of the mean difference.

    Raises
    ------
    ValueError
        If the shapes differ, there are fewer than two rows, or a loss is not finite.

    Notes
    -----
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Examples
    --------
    >>> losses = np.linspace(0.5, 0.9, 200)
    >>> paired_bootstrap(losses - 0.01, losses, seed=0).better
    True
    """
    model, reference = np.asarray(loss, dtype=float), np.asarray(reference_loss, dtype=float)
    if model.shape != reference.shape or model.ndim != 1 or model.size <= 1:
        message = f"expected two arrays of one shape (n,), n > 1; found {model.shape} and {reference.shape}"
        raise ValueError(message)
    differences = model - reference
    if not np.isfinite(differences).all():
        message = "expected finite losses in every row"
        raise ValueError(message)
    interval = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=_RESAMPLES_AT_ONCE,
        confidence_level=confidence,
        method="percentile",
        random_state=seed,
    ).confidence_interval
    return PairedComparison(
        model.size, float(model.mean()), float(reference.mean()), float(interval.low), float(interval.high)
    )


def is_constant(probability: npt.ArrayLike) -> bool:
    """Whether answers are almost the same for every row.

    Parameters
    ----------
    probability : array_like of float, shape (n,)
        P(made).

    Examples
    --------
    >>> is_constant([0.48127, 0.48127, 0.48128]), is_constant([0.4, 0.5, 0.6])
    (True, False)
    """
    return float(np.std(np.asarray(probability, dtype=float))) < MIN_SPREAD


def constant_words(probability: npt.ArrayLike) -> str:
    """That answers are almost constant, in words."""
    made = np.asarray(probability, dtype=float)
    return (
        f"the answers are almost constant: P(made) is {made.min():.5f} to {made.max():.5f} for all {made.size:,} rows"
    )


def compare(
    loss: npt.ArrayLike, reference_loss: npt.ArrayLike, *, reference_name: str, seed: int, min_improvement: float = 0
) -> GateResult:
    """Whether a model is better than another beyond chance, and by enough; see `paired_bootstrap`.

    Parameters
    ----------
    loss, reference_loss : array_like of float, shape (n,)
        Loss of the model and of the reference on the same n rows, n > 1.
    reference_name : str
        What to call the reference in the reason.
    seed : int
        Of the resampling.
    min_improvement : float
        Share of the reference's loss by which the model must be better.

    Returns
    -------
    Verdict
        Passed if the 95 % percentile interval of the mean difference lies below zero, and the improvement is enough.

    Examples
    --------
    >>> losses = np.linspace(0.5, 0.9, 200)
    >>> compare(losses - 0.01, losses, reference_name="the class prior", seed=0).passed
    True
    >>> compare(losses, losses, reference_name="the class prior", seed=0).passed
    False
    """
    found = paired_bootstrap(loss, reference_loss, seed=seed)
    reason = (
        f"log loss {found.loss:.4f} against {found.reference_loss:.4f} of {reference_name} "
        f"on the same {found.rows:,} rows: difference {found.value:+.4f}, "
        f"{CONFIDENCE:.0%} interval {found.low:+.4f} to {found.high:+.4f}, "
        f"{'better beyond chance' if found.better else 'not better beyond chance'}"
    )
    enough = found.improvement >= min_improvement
    if min_improvement and not enough:
        reason += f"; an improvement of {max(found.improvement, 0):.2%}, {min_improvement:.2%} is needed"
    return GateResult(found.better and enough, reason, found.loss, found.reference_loss, found.low, found.high)
