"""The gate: whether a model is significantly better than another, by the losses on the same rows."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from data.datasets import current
from data.groups import Groups, percentile_confidence

CONFIDENCE = 0.95
MIN_SKILL = 0.002
"""Skill score that a model needs against the base-rate baseline: the relative decrease of log loss.

Against that baseline every nearly constant prediction is significantly better or worse, however little it depends on
the features: the strongly regularized logistic regression of the public shots has a skill score of 0.02%, ten standard
errors from 0, and one of the period alone 0.08%; one of all six features has 2%.
"""
MIN_SPREAD = 0.005
"""Standard deviation of P(made) below which predictions are almost constant; the public shots' regression has 0.09."""
_RESAMPLES = 2_000
_RESAMPLES_AT_ONCE = 200
_MAX_RESAMPLED = 100_000


@dataclass(frozen=True)
class PairedComparison:
    """The losses of a model compared with those of a reference on the same rows.

    Attributes
    ----------
    rows : int
    loss, reference_loss : float
        Mean loss of the model and of the reference.
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
        """Relative decrease of the reference's loss; against the baseline, the skill score."""
        return -self.value / self.reference_loss if self.reference_loss else 0.0

    @property
    def better(self) -> bool:
        """Whether the model is significantly better."""
        return self.high < 0

    @property
    def worse(self) -> bool:
        """Whether the model is significantly worse."""
        return self.low > 0


@dataclass(frozen=True)
class GateResult(PairedComparison):
    """The result of the comparison of two models on the same rows.

    Attributes
    ----------
    passed : bool
        Whether the whole interval lies below zero and the improvement is large enough.
    reason : str
        Why it passed or failed.
    """

    passed: bool
    reason: str

    def metrics(self) -> dict[str, float]:
        """The numbers by name."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, float)}


def paired_bootstrap(
    loss: npt.ArrayLike,
    reference_loss: npt.ArrayLike,
    *,
    seed: int,
    groups: npt.ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> PairedComparison:
    """Compare two models by the paired bootstrap of their losses.

    Parameters
    ----------
    loss, reference_loss : array_like of float, shape (n,)
        Loss of the model and of the reference on the same n rows, n > 1.
    groups : array_like, shape (n,), or None
        Group of each row, such as its game, where rows of a group are not independent: whole groups are resampled.
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
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. The interval of more than 100,000 rows
    without groups is that of the normal distribution, which the bootstrap approaches.

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
    low, high = _interval(differences, groups, seed, confidence)
    return PairedComparison(model.size, float(model.mean()), float(reference.mean()), low, high)


def _interval(
    differences: npt.NDArray[np.float64], groups: npt.ArrayLike | None, seed: int, confidence: float
) -> tuple[float, float]:
    """Percentile interval of the mean difference."""
    if groups is not None:
        found = Groups.of(groups)
        if found.count == 1:
            # A single group shows nothing about other groups: no difference is significant.
            return min(float(differences.min()), 0.0), max(float(differences.max()), 0.0)
        stream = np.random.default_rng(seed)
        sums, rows = found.totals(differences), found.totals()
        parts = []
        for _ in range(_RESAMPLES // _RESAMPLES_AT_ONCE):
            # One group fewer than there are makes the variance unbiased: Rao and Wu, JASA 83 (1988).
            drawn = found.draw(found.count - 1, _RESAMPLES_AT_ONCE, stream)
            parts.append(drawn @ sums / (drawn @ rows))
        used = percentile_confidence(confidence, found.count)
        low, high = np.quantile(np.concatenate(parts), [(1 - used) / 2, (1 + used) / 2])
        return float(low), float(high)
    if differences.size > _MAX_RESAMPLED:
        # As resampling finds, which holds 16 bytes a row of each resample: gigabytes of a million rows.
        half = stats.norm.ppf((1 + confidence) / 2) * differences.std(ddof=1) / np.sqrt(differences.size)
        return float(differences.mean() - half), float(differences.mean() + half)
    interval = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=_RESAMPLES_AT_ONCE,
        confidence_level=confidence,
        method="percentile",
        random_state=seed,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def is_constant(probability: npt.ArrayLike) -> bool:
    """Whether predictions are almost the same for every row.

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


def describe_constant(probability: npt.ArrayLike) -> str:
    """The message that predictions are almost constant."""
    made = np.asarray(probability, dtype=float)
    return (
        f"the predictions are almost constant: P({current().positive}) is {made.min():.5f} to {made.max():.5f} "
        f"for all {made.size:,} rows"
    )


def compare(  # noqa: PLR0913 two models, on which rows, and what the first has to show
    loss: npt.ArrayLike,
    reference_loss: npt.ArrayLike,
    *,
    reference_name: str,
    seed: int,
    groups: npt.ArrayLike | None = None,
    min_improvement: float = 0,
) -> GateResult:
    """Whether a model is significantly better than another, by a minimum improvement; see `paired_bootstrap`.

    Parameters
    ----------
    loss, reference_loss : array_like of float, shape (n,)
        Loss of the model and of the reference on the same n rows, n > 1.
    reference_name : str
        Name of the reference in the reason.
    seed : int
        Of the resampling.
    groups : array_like, shape (n,), or None
        See `paired_bootstrap`.
    min_improvement : float
        Minimum relative decrease of the reference's loss.

    Returns
    -------
    GateResult
        Passed if the 95% percentile interval of the mean difference lies below zero, and the improvement is enough.

    Examples
    --------
    >>> losses = np.linspace(0.5, 0.9, 200)
    >>> compare(losses - 0.01, losses, reference_name="the baseline", seed=0).passed
    True
    >>> compare(losses, losses, reference_name="the baseline", seed=0).passed
    False
    """
    found = paired_bootstrap(loss, reference_loss, seed=seed, groups=groups)
    reason = (
        f"log loss {found.loss:.4f} against {found.reference_loss:.4f} of {reference_name} "
        f"on the same {found.rows:,} rows: difference {found.value:+.4f}, "
        f"{CONFIDENCE:.0%} interval {found.low:+.4f} to {found.high:+.4f}, "
        f"{'significantly better' if found.better else 'not significantly better'}"
    )
    enough = found.improvement >= min_improvement
    if min_improvement and not enough:
        reason += f"; improvement {max(found.improvement, 0):.2%}, minimum {min_improvement:.2%}"
    return GateResult(**vars(found), passed=found.better and enough, reason=reason)
