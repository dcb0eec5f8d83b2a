"""The checks behind the verdict; ``docs/monitoring.md`` says what each means and what to do."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

import numpy as np
from scipy import stats

from data.schema import FEATURES, PROBABILITY, TARGET
from monitor.drift.detector import LARGE_PSI, DriftResult
from monitor.drift.domain_classifier import FEWEST_ROWS
from monitor.health.evaluation import Evaluation
from monitor.health.verdict import Check, CheckResult, Severity, Status, failed, not_applicable, passed
from monitor.metrics import base_rate
from monitor.metrics.binary import METRICS, ScoreCounts, compute_metrics
from monitor.metrics.intervals import CONFIDENCE, Interval, Performance, relative_degradation

WARNING_LOSS, RETRAIN_LOSS = 0.10, 0.15
"""Relative losses against the reference from which a metric is a warning, and asks for a new model."""
FEWEST_LABELLED = 100
"""Labelled rows that the checks of label metrics need; of a share, rows that it is about."""
FEWEST_JUDGED = 30
"""Rows below which a batch is not judged."""
MOST_UNLABELLED = 0.5
LABEL_DELAY = timedelta(days=7)
"""Age from which the label of a logged row is due."""
STALE_AFTER = timedelta(days=90)
"""Age of a promotion from which a champion is stale."""
SMALLEST_MISCALIBRATION = 0.02
"""Calibration error below which nobody needs to act, in P(made)."""
MOST_OWN = 0.1
"""Share of the model's own rows, which it was trained on or is compared with, above which drift is not judged."""
NEW_ROWS = "K108"
"""Code of the check that says whether current rows are new to the model."""
MANY_OUTSIDE = 0.1
"""Share of rows outside the training support from which, beyond chance, a new model is needed."""

_DEGRADABLE = ("log_loss", "brier", "roc_auc", "f1_score", "accuracy")
_SKILLS = ("log_loss_skill", "brier_skill")
_CONTROL = ("recall", "specificity", "precision")
_CONTROL_NAMES = {"recall": "sensitivity"}
# Each comparison has its share of the probability of a false alarm; only the lower end of its interval is looked at.
_COMPARISON_CONFIDENCE = 1 - 2 * (1 - CONFIDENCE) / len((*_DEGRADABLE, *_SKILLS, *_CONTROL))
_SEED = 0
_NULL_SAMPLES, _CALIBRATION_CONFIDENCE = 1_000, 0.99


def label_metrics(look: Evaluation) -> CheckResult:
    """Log loss, Brier score, ROC AUC, F1 and accuracy against the reference."""
    return _degraded(look, _DEGRADABLE)


def skill_score(look: Evaluation) -> CheckResult:
    """Skill against the class prior, against the reference's."""
    reference = look.baseline.performance
    known = [name for name in _SKILLS if reference.figures.get(name, 0) > 0]
    if not known:
        return not_applicable("the model has no skill on the reference either")
    answer = _degraded(look, known)
    if answer.status != Status.FINDING or answer.severity is None:
        return answer
    fallen = ", ".join(
        f"{name} fell from {reference.figures[name]:.1%} to {look.performance.figures[name]:.1%}" for name in known
    )
    return failed(answer.severity, f"of the class prior's loss, {fallen}", answer.figures)


def against_base_rate(look: Evaluation) -> CheckResult:
    """Whether the base rate, the constant that fits the same rows best, would have done better."""
    rows = look.labelled
    if len(rows) < FEWEST_LABELLED:
        return not_applicable(_too_few_labels(look))
    found = base_rate.compare(look.performance)
    if found is None:
        return not_applicable("all labels are the same")
    loss, rate = look.performance.figures["log_loss"], look.performance.rate
    constant = loss / (1 - found.skill.value)
    told = f"log loss {loss:.4f}; of the base rate {rate:.3f} on the same rows {constant:.4f}"
    if found.answer is base_rate.Answer.WORSE:
        return failed(Severity.RETRAIN, f"the model is {found.words}", told)
    return passed(f"the model is {found.words}", told)


def control_sample(look: Evaluation) -> CheckResult:
    """Sensitivity, specificity and precision of the labelled rows against the test rows."""
    return _degraded(look, _CONTROL)


def calibration(look: Evaluation) -> CheckResult:
    """Whether P(made) is the rate, as nearly as on batches of this size of the reference."""
    if len(look.labelled) < FEWEST_LABELLED:
        return not_applicable(_too_few_labels(look))
    current, reference = look.performance, look.baseline.table
    tally = ScoreCounts.of(reference[TARGET], reference[PROBABILITY])
    drawn = tally.resampled(_NULL_SAMPLES, np.random.default_rng(_SEED), rows=current.rows)
    limit = float(np.quantile(compute_metrics(drawn)["calibration_error"], _CALIBRATION_CONFIDENCE))
    found = current.figures["calibration_error"]
    told = f"P(made) is off by {found:.3f} on average"
    numbers = (
        f"by chance up to {limit:.3f}, with what {look.baseline.name} is off; "
        f"mean P(made) {look.labelled[PROBABILITY].mean():.3f}, rate {current.rate:.3f}"
    )
    if found > max(limit, SMALLEST_MISCALIBRATION):
        return failed(Severity.WARNING, told, numbers)
    return passed(f"{told}, no more than on the reference" if found <= limit else told, numbers)


def label_coverage(look: Evaluation) -> CheckResult:
    """Whether labels arrive."""
    rows = look.current
    if "time" in rows:
        due = rows[rows["time"] < (look.live.now - LABEL_DELAY).replace(tzinfo=None)]
        if due.empty:
            return not_applicable(f"no row is older than {LABEL_DELAY.days} days: no label is due yet")
        rows, which = due, f"rows older than {LABEL_DELAY.days} days"
    else:
        which = "rows"
    missing = int(rows[TARGET].isna().sum())
    told = f"{missing:,} of {len(rows):,} {which} have no label ({missing / len(rows):.1%})"
    return failed(Severity.WARNING, told) if missing > MOST_UNLABELLED * len(rows) else passed(told)


def sample_size(look: Evaluation) -> CheckResult:
    """Whether there are rows enough for a judgement."""
    rows = look.rows
    if rows < FEWEST_JUDGED:
        return failed(Severity.WARNING, f"{rows:,} rows are too few to judge; {FEWEST_JUDGED} are needed")
    sampled = f"; drift is of all of them, the rest of {len(look.current):,} evenly spread ones"
    return passed(f"{rows:,} rows{sampled if look.is_sampled else ''}")


def new_rows(look: Evaluation) -> CheckResult:
    """Whether the rows are new to the model."""
    if own := _own(look):
        return failed(Severity.WARNING, f"{own}. Score new rows")
    own_rows = int(look.is_own.sum())
    return passed(
        f"the model knows {own_rows:,} of {len(look.current):,} rows already" if own_rows else "all rows are new"
    )


def feature_drift(look: Evaluation) -> CheckResult:
    """Whether features are distributed as in the reference."""
    if own := _own(look):
        return not_applicable(own)
    found = look.drift
    drifted = found.drifted_features
    if not drifted:
        return passed(f"none of {len(FEATURES)} features is farther away than chance explains")
    drifted.sort(key=lambda name: -found.statistic(name, "psi").value)
    moved = found.statistic(drifted[0], "wasserstein")
    words = (
        f"{len(drifted)} of {len(FEATURES)} features have moved, {drifted[0]} most, "
        f"by {moved.value:.3g}{f' {moved.unit}' if moved.unit else ''}"
    )
    # The PSI of a few rows is always large.
    enough = found.rows >= FEWEST_LABELLED
    large = enough and any(found.statistic(name, "psi").value >= LARGE_PSI for name in drifted)
    numbers = "; ".join(_distances(found, name) for name in drifted)
    return failed(Severity.RETRAIN if large else Severity.WARNING, words, numbers)


def prediction_drift(look: Evaluation) -> CheckResult:
    """Whether P(made) is distributed as in the reference."""
    if own := _own(look):
        return not_applicable(own)
    found = look.drift
    numbers = _distances(found, PROBABILITY)
    if not found.has_drifted(PROBABILITY):
        return passed("P(made) is distributed as in the reference", numbers)
    return failed(
        Severity.WARNING, f"P(made) has moved by {found.mean_difference[PROBABILITY]:+.3f} on average", numbers
    )


def domain_classifier(look: Evaluation) -> CheckResult:
    """Whether a classifier tells current rows from reference rows."""
    if own := _own(look):
        return not_applicable(own)
    found = look.drift.classifier
    if found is None:
        return not_applicable(f"to teach a classifier takes {FEWEST_ROWS} rows on either side")
    numbers = f"ROC AUC {found.auc:.3f}; by chance up to {found.limit:.3f}"
    if found.drifted:
        return failed(Severity.WARNING, "a classifier can tell current rows from reference rows", numbers)
    return passed("a classifier cannot tell current rows from reference rows", numbers)


def out_of_support(look: Evaluation) -> CheckResult:
    """Whether rows lie where the model has not learned."""
    if own := _own(look):
        return not_applicable(own)
    found = look.drift
    told = f"{found.outside:.1%} of the rows lie outside the training support"
    numbers = f"of {found.rows:,} rows; by chance up to {found.outside_limit:.1%}"
    if not found.is_outside:
        return passed(told, numbers)
    rows = round(found.outside * found.rows)
    many = stats.binomtest(rows, found.rows, MANY_OUTSIDE, alternative="greater").pvalue < 1 - CONFIDENCE
    return failed(Severity.RETRAIN if many else Severity.WARNING, told, numbers)


def estimated_degradation(look: Evaluation) -> CheckResult:
    """Whether the metrics that P(made) promises are worse than the reference's."""
    if own := _own(look):
        return not_applicable(own)
    found = look.estimate
    if found.refused:
        return not_applicable(found.refused)
    reference = look.baseline.performance.figures
    worse: dict[str, float] = {}
    for name, interval in found.intervals.items():
        before, sign = reference.get(name, 0), -1 if METRICS[name].greater_is_better else 1
        if before:
            losses = [sign * (value - before) / before for value in (interval.value, interval.low, interval.high)]
            if losses[0] > WARNING_LOSS and min(losses) > 0:
                worse[name] = losses[0]
    numbers = "; ".join(
        f"{name} {reference[name]:.3f} → {found.intervals[name].value:.3f} ({_ends(found.intervals[name])})"
        for name in worse or ("log_loss",)
        if name in reference
    )
    if not worse:
        return passed("the metrics to expect are about those of the reference", numbers)
    return failed(_severity(max(worse.values())), f"expected without labels: {_by_how_much(worse)}", numbers)


def stale_model(look: Evaluation) -> CheckResult:
    """Whether the champion is old."""
    champion = look.live.champion
    if champion is None:
        return not_applicable("there is no champion")
    if champion.promoted_at is None:
        return not_applicable(f"nobody wrote down when version {champion.version} was promoted")
    age = look.live.now - champion.promoted_at
    told = f"version {champion.version} was promoted {age.days} days ago"
    return failed(Severity.WARNING, f"{told}; look again at {STALE_AFTER.days}") if age > STALE_AFTER else passed(told)


def endpoint_down(look: Evaluation) -> CheckResult:
    """Whether the server answers."""
    if not look.live.endpoint:
        return not_applicable("no endpoint was given to look after")
    if look.live.served is None:
        return failed(Severity.WARNING, f"nothing answers at {look.live.endpoint}; start it: make serve")
    return passed(f"{look.live.endpoint} answers")


def served_version(look: Evaluation) -> CheckResult:
    """Whether the champion is what is served."""
    served, champion = look.live.served, look.live.champion
    if served is None:
        return not_applicable("nothing is known of a server")
    if served.version is None:
        return not_applicable(f"{look.live.endpoint} does not say which version it serves")
    if champion is None or served.version != champion.version:
        expected = f"version {champion.version}" if champion else "none"
        return failed(Severity.WARNING, f"version {served.version} is served, the champion is {expected}")
    return passed(f"version {served.version} is served and is the champion")


def scoring_version(look: Evaluation) -> CheckResult:
    """Whether the champion scored the rows."""
    champion = look.live.champion
    if champion is None:
        return not_applicable("there is no champion")
    if not look.version:
        return not_applicable("which version scored the rows is not known")
    told = ", ".join(
        f"{rows:,} rows by {f'version {version}' if version else 'an unknown version'}"
        for version, rows in look.left_out.items()
    )
    if look.version != champion.version:
        return failed(
            Severity.WARNING,
            f"version {look.version} scored these rows, and every figure is about it; the champion is version "
            f"{champion.version}. Score again with the champion" + (f". Left out: {told}" if told else ""),
        )
    which = "the" if look.left_out else "all"
    return passed(
        f"{which} rows were scored by the champion, version {champion.version}", f"left out: {told}" if told else ""
    )


CHECKS: tuple[Check, ...] = (
    Check("K101", "Label metrics", Severity.RETRAIN, label_metrics),
    Check("K102", "Skill against the class prior", Severity.RETRAIN, skill_score),
    Check("K103", "Compared with the base rate", Severity.RETRAIN, against_base_rate),
    Check("K104", "Control sample", Severity.RETRAIN, control_sample),
    Check("K105", "Calibration", Severity.WARNING, calibration),
    Check("K106", "Labels arrive", Severity.WARNING, label_coverage),
    Check("K107", "Enough rows", Severity.WARNING, sample_size),
    Check(NEW_ROWS, "New rows", Severity.WARNING, new_rows),
    Check("K201", "Feature drift", Severity.RETRAIN, feature_drift),
    Check("K202", "Prediction drift", Severity.WARNING, prediction_drift),
    Check("K203", "Domain classifier", Severity.WARNING, domain_classifier),
    Check("K204", "Training support", Severity.RETRAIN, out_of_support),
    Check("K301", "Estimate without labels", Severity.RETRAIN, estimated_degradation),
    Check("K401", "Age of the model", Severity.WARNING, stale_model),
    Check("K402", "Endpoint", Severity.WARNING, endpoint_down),
    Check("K403", "Version served", Severity.WARNING, served_version),
    Check("K404", "Version that scored", Severity.WARNING, scoring_version),
)
"""Every check, in the order in which they are asked."""


def _degraded(look: Evaluation, metrics: Iterable[str]) -> CheckResult:
    """Metrics that are worse than the reference's by more than a tenth and beyond chance."""
    if len(look.labelled) < FEWEST_LABELLED:
        return not_applicable(_too_few_labels(look))
    current, reference = look.performance, look.baseline.performance
    known = [name for name in metrics if _comparable(name, current, reference)]
    if not known:
        return not_applicable(
            f"none of these metrics is about {FEWEST_LABELLED} rows on either side, and other than 0 on the reference"
        )
    losses = {name: relative_degradation(current, reference, name, _COMPARISON_CONFIDENCE) for name in known}
    worse = {name: loss.value for name, loss in losses.items() if loss.value > WARNING_LOSS and loss.low > 0}
    worst = max(losses, key=lambda name: losses[name].value)
    numbers = f"{current.rows:,} labelled rows against {reference.rows:,}: " + "; ".join(
        f"{_called(name)} {reference.figures[name]:.3f} → {current.figures[name]:.3f} ({_ends(current.interval(name))})"
        for name in worse or (worst,)
    )
    if not worse:
        return passed(f"none of {len(known)} is worse by more than {WARNING_LOSS:.0%} and beyond chance", numbers)
    return failed(_severity(max(worse.values())), _by_how_much(worse), numbers)


def _too_few_labels(look: Evaluation) -> str:
    few = f"fewer than {FEWEST_LABELLED} rows have a label"
    own = [
        *([f"{look.in_reference:,} are rows of {look.baseline.name} itself"] if look.in_reference else []),
        *([f"the model was trained on {look.in_training:,}"] if look.in_training else []),
    ]
    return f"{few} that counts: {' and '.join(own)}" if own else few


def _own(look: Evaluation) -> str:
    """That too many rows are the model's own, in words; empty where they are not."""
    if look.own_share <= MOST_OWN:
        return ""
    rows = int(look.is_own.sum())
    return (
        f"the model knows {rows:,} of {len(look.current):,} rows already: it was trained on them, or they are rows of "
        f"{look.baseline.name} itself"
    )


def _comparable(name: str, current: Performance, reference: Performance) -> bool:
    both = (current, reference)
    enough = all(name in side.figures and side.counts[name] >= FEWEST_LABELLED for side in both)
    return enough and reference.figures[name] != 0


def _severity(loss: float) -> Severity:
    return Severity.RETRAIN if loss > RETRAIN_LOSS else Severity.WARNING


def _distances(found: DriftResult, column: str) -> str:
    psi, ks = found.statistic(column, "psi"), found.statistic(column, "ks")
    return f"{column} PSI {psi.value:.3g} (limit {psi.limit:.2g}), KS {ks.value:.3g} (limit {ks.limit:.2g})"


def _by_how_much(worse: Mapping[str, float]) -> str:
    return ", ".join(f"{_called(name)} is worse by {loss:.0%}" for name, loss in worse.items())


def _called(metric: str) -> str:
    return _CONTROL_NAMES.get(metric, metric)


def _ends(interval: Interval) -> str:
    return f"{CONFIDENCE:.0%}: {interval.low:.3f} to {interval.high:.3f}"
