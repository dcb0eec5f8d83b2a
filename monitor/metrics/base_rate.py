"""Whether a model is better than its base rate: the constant that fits the same rows best. One answer, wherever asked.

The answer is that of the 95 % interval of the skill, the share of the base rate's log loss that the model saves.
"""

from dataclasses import dataclass
from enum import StrEnum

from monitor.metrics.intervals import CONFIDENCE, Interval, Performance

SKILL = "log_loss_skill"
"""Metric that the answer is read from."""


class Answer(StrEnum):
    """How a model compares with its base rate."""

    BETTER = "better"
    WORSE = "worse"
    NOT_DISTINGUISHABLE = "not distinguishable"

    @property
    def words(self) -> str:
        """The same as part of a sentence.

        Examples
        --------
        >>> Answer.NOT_DISTINGUISHABLE.words
        'not distinguishable from the base rate'
        """
        return f"{self} {'from' if self is Answer.NOT_DISTINGUISHABLE else 'than'} the base rate"


def answer(low: float, high: float) -> Answer:
    """How a model compares with its base rate, from the ends of the interval of its skill; NaN where there is none.

    Examples
    --------
    >>> answer(0.01, 0.03).words, answer(-0.01, 0.01).words
    ('better than the base rate', 'not distinguishable from the base rate')
    """
    if low > 0:
        return Answer.BETTER
    return Answer.WORSE if high < 0 else Answer.NOT_DISTINGUISHABLE


@dataclass(frozen=True)
class Comparison:
    """A model beside its base rate.

    Attributes
    ----------
    answer : Answer
    skill : Interval
        Share of the base rate's log loss that the model saves; below zero it adds to it.
    rows : int
        Labeled rows.
    """

    answer: Answer
    skill: Interval
    rows: int

    @property
    def words(self) -> str:
        """The answer and the figures behind it."""
        ends = f"{CONFIDENCE:.0%} interval {self.skill.low:+.1%} to {self.skill.high:+.1%}, "
        known = ends if self.skill.low == self.skill.low else ""
        return f"{self.answer.words}: skill {self.skill.value:+.1%} ({known}{self.rows:,} labeled rows)"


def compare(found: Performance) -> Comparison | None:
    """A model beside its base rate; None where all rows have the same label."""
    if SKILL not in found.figures:
        return None
    skill = found.interval(SKILL)
    return Comparison(answer(skill.low, skill.high), skill, found.rows)
