"""Comparison of a model with the base-rate baseline, the constant prediction that fits the same rows best.

The 95% interval of the log-loss skill score decides; checks, pages and reports all use this comparison. The baseline is
scikit-learn's ``DummyClassifier(strategy="prior")``, fitted on the evaluated rows.
"""

from dataclasses import dataclass
from enum import StrEnum

from scipy.stats import chi2_contingency

from monitor.metrics.intervals import CONFIDENCE, Interval, Performance

SKILL = "log_loss_skill"
"""Metric whose interval decides."""


OF_BASE_RATE = frozenset({"log_loss", "brier", "accuracy"})
"""Metrics that the base rate changes by itself: of two samples whose base rates differ they do not compare."""


class Result(StrEnum):
    """Result of a comparison with the base-rate baseline."""

    BETTER = "better"
    WORSE = "worse"
    NOT_DISTINGUISHABLE = "not distinguishable"

    @property
    def phrase(self) -> str:
        """The result as part of a sentence.

        Examples
        --------
        >>> Result.NOT_DISTINGUISHABLE.phrase
        'not distinguishable from the base rate'
        """
        return f"{self} {'from' if self is Result.NOT_DISTINGUISHABLE else 'than'} the base rate"


def classify(low: float, high: float) -> Result:
    """Classify the ends of a skill-score interval; NaN ends are not distinguishable.

    Examples
    --------
    >>> classify(0.01, 0.03).phrase, classify(-0.01, 0.01).phrase
    ('better than the base rate', 'not distinguishable from the base rate')
    """
    if low > 0:
        return Result.BETTER
    return Result.WORSE if high < 0 else Result.NOT_DISTINGUISHABLE


@dataclass(frozen=True)
class Comparison:
    """A model compared with the base-rate baseline.

    Attributes
    ----------
    result : Result
    skill : Interval
        Log-loss skill score; negative where the model is worse than the baseline.
    rows : int
        Labeled rows.
    """

    result: Result
    skill: Interval
    rows: int

    @property
    def message(self) -> str:
        """The result with its skill score, interval and row count."""
        interval = f"{CONFIDENCE:.0%} interval {self.skill.low:+.1%} to {self.skill.high:+.1%}, "
        known = interval if self.skill.low == self.skill.low else ""
        return f"{self.result.phrase}: skill score {self.skill.value:+.1%} ({known}{self.rows:,} labeled rows)"


def compare(performance: Performance) -> Comparison | None:
    """Compare a model with the base-rate baseline; None where all rows have the same label."""
    if SKILL not in performance.metrics:
        return None
    skill = performance.interval(SKILL)
    return Comparison(classify(skill.low, skill.high), skill, performance.rows)


def differs(sample: Performance, other: Performance) -> bool:
    """Whether the base rates of two samples differ, by a chi-squared test at the 5% level.

    Examples
    --------
    >>> from monitor.metrics.intervals import evaluate_with_intervals
    >>> half = evaluate_with_intervals([1, 0] * 99, [0.5, 0.4] * 99)
    >>> third = evaluate_with_intervals([1, 0, 0] * 99, [0.5, 0.4, 0.3] * 99)
    >>> differs(half, third), differs(half, half)
    (True, False)
    """
    made = [round(each.rate * each.rows) for each in (sample, other)]
    missed = [each.rows - count for each, count in zip((sample, other), made, strict=True)]
    if 0 in (sum(made), sum(missed)):
        return False
    return bool(chi2_contingency([made, missed]).pvalue < 1 - CONFIDENCE)
