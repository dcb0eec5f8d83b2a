"""The health checks; ``docs/monitoring.md`` explains what each one means and what to do when it fails."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np

from data.datasets import Dataset, for_dataset
from data.groups import Groups, groups_of
from data.preparation.manifest import TEST, TRAIN
from data.schema import PROBABILITY
from monitor.drift.detector import LARGE_PSI, DriftResult, RateTest
from monitor.drift.domain_classifier import FOLDS, MIN_ROWS
from monitor.health.evaluation import Evaluation
from monitor.health.status import Check, CheckResult, CheckStatus, failed, passed, skipped, warning
from monitor.metrics import base_rate
from monitor.metrics.binary import METRICS, Floats, ScoreCounts, calibration_gaps, sample_counts
from monitor.metrics.intervals import CONFIDENCE, Interval, Performance, relative_degradation
from monitor.metrics.rates import exceeds
from monitor.scored_tables import TIME

MIN_LABELED = 100
"""Labeled rows that the performance checks need; for precision and recall, the rows in their denominator."""
MIN_SAMPLE = 30
"""Minimum sample size of a batch."""
MIN_MISCALIBRATION = 0.02
"""Calibration error below which no action is needed, in P(made)."""
MAX_OWN = 0.1
"""Maximum share of training and reference rows in a batch; above it, the drift checks are skipped."""
NEW_ROWS = "K108"
"""Code of the check for rows that are new to the model."""

_DEGRADABLE = ("log_loss", "brier", "roc_auc", "f1_score", "accuracy")
_SKILLS = ("log_loss_skill", "brier_skill")
_RATES = ("recall", "specificity", "precision")
COMPARED = (*_DEGRADABLE, *_SKILLS, *_RATES)
"""Metrics that are compared with the reference."""
# The comparisons share the false-positive rate (Bonferroni); only the lower end of each interval decides.
COMPARISON_CONFIDENCE = 1 - 2 * (1 - CONFIDENCE) / len(COMPARED)
_MAX_NAMED = 5
_SEED = 0
_NULL_SAMPLES, _CALIBRATION_CONFIDENCE = 1_000, 0.99


def performance_degradation(evaluation: Evaluation) -> CheckResult:
    """Log loss, Brier score, ROC AUC, F1 and accuracy compared with the reference."""
    return _degraded(evaluation, _DEGRADABLE)


def skill_score(evaluation: Evaluation) -> CheckResult:
    """Skill scores compared with those of the reference."""
    reference = evaluation.baseline.performance
    known = [name for name in _SKILLS if reference.metrics.get(name, 0) > 0]
    if not known:
        return skipped("the skill score on the reference is not positive either")
    result = _degraded(evaluation, known)
    if not result.is_alarm:
        return result
    fallen = ", ".join(
        f"{name} fell from {reference.metrics[name]:.1%} to {evaluation.performance.metrics[name]:.1%}"
        for name in known
    )
    return replace(result, message=fallen)


def better_than_base_rate(evaluation: Evaluation) -> CheckResult:
    """Whether the model is worse than the base-rate baseline, the constant prediction that fits the same rows best."""
    rows = evaluation.labeled
    if len(rows) < MIN_LABELED:
        return skipped(_too_few_labels(evaluation))
    found = base_rate.compare(evaluation.performance)
    if found is None:
        return skipped("all labels are the same")
    loss, rate = evaluation.performance.metrics["log_loss"], evaluation.performance.rate
    constant = loss / (1 - found.skill.value)
    details = f"log loss {loss:.4f}; base-rate baseline ({rate:.3f}) on the same rows {constant:.4f}"
    if found.result is base_rate.Result.WORSE:
        return failed(f"the model is {found.message}", details)
    return passed(f"the model is {found.message}", details)


def recall_and_precision(evaluation: Evaluation) -> CheckResult:
    """Recall, specificity and precision compared with the reference."""
    return _degraded(evaluation, _RATES)


def calibration(evaluation: Evaluation) -> CheckResult:
    """Calibration error compared with batches of the same size drawn from the reference."""
    if len(evaluation.labeled) < MIN_LABELED:
        return skipped(_too_few_labels(evaluation))
    current, dataset = evaluation.performance, evaluation.dataset
    limit = float(np.quantile(null_calibration_errors(evaluation), _CALIBRATION_CONFIDENCE))
    found = current.metrics["calibration_error"]
    message = f"calibration error {found:.3f}"
    details = (
        f"null threshold {limit:.3f} on {_reference(evaluation)}; "
        f"mean {_probability(dataset)} {evaluation.labeled[PROBABILITY].mean():.3f}, {dataset.rate} {current.rate:.3f}"
    )
    if found > max(limit, MIN_MISCALIBRATION):
        return warning(message, details)
    return passed(f"{message}, not above the null threshold" if found <= limit else message, details)


def null_calibration_errors(evaluation: Evaluation) -> Floats:
    """Calibration errors of samples as large as the labeled rows, of a model as calibrated as on the reference.

    The gaps of the reference are noise in part: they are multiplied so that their calibration error is plausible.
    """
    table, current = evaluation.baseline.table, evaluation.performance
    counts = ScoreCounts.of(table[evaluation.baseline.target], table[PROBABILITY], groups_of(table, evaluation.dataset))
    stream, noise = np.random.default_rng(_SEED), []
    gaps = calibration_gaps(counts)
    for count in sample_counts(_NULL_SAMPLES, len(counts.probability)):
        drawn = counts.resampled(count, stream, rows=current.rows, groups=current.groups)
        noise.append(calibration_gaps(drawn) - gaps)
    plausible, measured = np.median(evaluation.baseline.performance.samples["calibration_error"]), np.abs(gaps).sum()
    # A single group has no bootstrap samples.
    true_gaps = gaps * plausible / measured if measured and np.isfinite(plausible) else gaps
    errors: Floats = np.abs(true_gaps + np.concatenate(noise)).sum(axis=1)
    return errors


def label_coverage(evaluation: Evaluation) -> CheckResult:
    """Share of rows whose delayed labels have arrived."""
    rows, limits = evaluation.current, evaluation.dataset.monitoring
    if TIME in rows:
        delay = timedelta(days=limits.label_delay_days)
        expected = rows[rows[TIME] < (evaluation.live.as_of - delay).replace(tzinfo=None)]
        if expected.empty:
            return skipped(f"no row is older than {limits.label_delay_days:g} days: no label is expected yet")
        rows, which = expected, f"rows older than {limits.label_delay_days:g} days"
    else:
        which = "rows"
    missing = int(rows[evaluation.baseline.target].isna().sum())
    message = f"{missing:,} of {len(rows):,} {which} have no label ({missing / len(rows):.1%})"
    return warning(message) if missing > limits.max_unlabeled * len(rows) else passed(message)


def sample_size(evaluation: Evaluation) -> CheckResult:
    """Whether the batch has enough rows."""
    rows = evaluation.rows
    if rows < MIN_SAMPLE:
        return warning(f"{rows:,} rows are too few; {MIN_SAMPLE} are needed")
    sampled = f"; drift uses all of them, the other checks use a systematic sample of {len(evaluation.current):,}"
    return passed(f"{rows:,} rows{sampled if evaluation.is_sampled else ''}")


def new_rows(evaluation: Evaluation) -> CheckResult:
    """Whether the rows are new to the model."""
    if own := _own_rows(evaluation):
        return warning(f"{own}. Score new rows")
    own_rows = int(evaluation.is_own.sum())
    return passed(
        f"{own_rows:,} of {len(evaluation.current):,} rows are training or reference rows"
        if own_rows
        else "all rows are new"
    )


def feature_drift(evaluation: Evaluation) -> CheckResult:
    """Drift of the features."""
    if own := _own_rows(evaluation):
        return skipped(own)
    found = evaluation.drift
    drifted = found.drifted_features
    dates = "".join(
        f"; {each.feature} has shifted by {each.value:.3g} {each.unit}, which is expected of a date and no alarm"
        for each in found.moved_dates
    )
    if not drifted:
        return passed(f"none of {len(found.features)} features has drifted{dates}")
    drifted.sort(key=found.times_threshold, reverse=True)
    message = (
        f"{len(drifted)} of {len(found.features)} features have drifted, {drifted[0]} most: "
        f"{_shift(found, drifted[0])}{dates}"
    )
    # The PSI of small samples is always large.
    enough = found.rows >= MIN_LABELED
    large = enough and any(found.statistic(name, "psi").value >= LARGE_PSI for name in drifted)
    details = "; ".join(_distances(found, name) for name in drifted)
    return failed(message, details) if large else warning(message, details)


def prediction_drift(evaluation: Evaluation) -> CheckResult:
    """Drift of P(made)."""
    if own := _own_rows(evaluation):
        return skipped(own)
    found = evaluation.drift
    name, details = _probability(evaluation.dataset), _distances(found, PROBABILITY)
    if not found.has_drifted(PROBABILITY):
        return passed(f"{name} has not drifted", details)
    return warning(f"{name} has drifted: shifted by {found.mean_difference[PROBABILITY]:+.3f} on average", details)


def domain_classifier(evaluation: Evaluation) -> CheckResult:
    """Whether a classifier discriminates current rows from reference rows."""
    if own := _own_rows(evaluation):
        return skipped(own)
    drift = evaluation.drift
    found = drift.classifier
    if found is None:
        groups = f", and {FOLDS} groups" if drift.groups is not None else ""
        return skipped(f"the domain classifier needs {MIN_ROWS} rows on each side{groups}")
    details = f"ROC AUC {found.auc:.3f}, null threshold {found.threshold:.3f}"
    if found.drifted:
        return warning("a classifier discriminates current rows from reference rows", details)
    return passed("a classifier does not discriminate current rows from reference rows", details)


def out_of_support_rate(evaluation: Evaluation) -> CheckResult:
    """Share of rows outside the training support."""
    if own := _own_rows(evaluation):
        return skipped(own)
    found = evaluation.drift
    message = f"{found.out_of_support_rate:.1%} of the rows are out of support"
    details = f"{found.rows:,} rows; null threshold {found.out_of_support_threshold:.1%}"
    if not found.is_out_of_support:
        return passed(message, details)
    groups, limit = groups_of(evaluation.current, evaluation.dataset), evaluation.dataset.monitoring.max_out_of_support
    effect = 1.0 if groups is None else Groups.of(groups).design_effect(evaluation.out_of_support.astype(float))
    many = exceeds(found.out_of_support_rate, limit, found.rows / effect)
    return failed(message, details) if many else warning(message, details)


def unknown_categories(evaluation: Evaluation) -> CheckResult:
    """Rows with categories that no training row has."""
    if own := _own_rows(evaluation):
        return skipped(own)
    tests = evaluation.drift.unseen
    if not tests:
        return skipped("no feature is a category")
    return _rates(evaluation.drift.rows, tests, "an unknown category", "unknown categories")


def null_rate(evaluation: Evaluation) -> CheckResult:
    """Rows without a value of a feature that may be null."""
    if own := _own_rows(evaluation):
        return skipped(own)
    tests = evaluation.drift.nulls
    if not tests:
        return skipped("no feature may be null")
    return _rates(evaluation.drift.rows, tests, "a null", "nulls")


def _rates(rows: int, tests: Sequence[RateTest], one: str, many: str) -> CheckResult:
    """Check rates of features against those of the reference; name the categories."""
    seen = sorted((test for test in tests if test.rows), key=lambda test: -test.rate)
    high = [test for test in seen if test.drifted]
    details = "; ".join(
        f"{test.feature} {test.rate:.1%} of {rows:,} rows (reference {test.reference_rate:.1%}, null threshold "
        f"{test.threshold:.1%})"
        for test in high or seen
    )
    if not seen:
        return passed(f"no row has {one}")
    counts = "; ".join(f"{test.rows:,} rows have {one} of {test.feature}{_listed(test)}" for test in high or seen)
    if not high:
        return passed(f"{counts}: not significantly more than on the reference", details)
    return warning(f"more {many} than on the reference: {counts}", details)


def _listed(test: RateTest) -> str:
    """Name the most frequent unknown categories."""
    if not test.categories:
        return ""
    named = [f"{name!r} ({rows:,})" for name, rows in list(test.categories.items())[:_MAX_NAMED]]
    rest = len(test.categories) - len(named)
    return f": {', '.join(named)}{f' and {rest:,} more' if rest else ''}"


def estimated_performance(evaluation: Evaluation) -> CheckResult:
    """Metrics that are estimated without labels, compared with the reference."""
    if own := _own_rows(evaluation):
        return skipped(own)
    found = evaluation.estimate
    if found.unavailable_reason:
        return skipped(found.unavailable_reason)
    reference = evaluation.baseline.performance.metrics
    worse: dict[str, float] = {}
    for name, interval in found.intervals.items():
        before, sign = reference.get(name, 0), -1 if METRICS[name].greater_is_better else 1
        # A metric that may be 0 on the reference, as F1 with few positive rows, can always fall by 100%.
        if before and evaluation.baseline.performance.interval(name).low > 0:
            degradations = [sign * (value - before) / before for value in (interval.value, interval.low, interval.high)]
            if degradations[0] > evaluation.dataset.monitoring.warning_degradation and min(degradations) > 0:
                worse[name] = degradations[0]
    details = "; ".join(
        f"{name} {reference[name]:.3f} to {found.intervals[name].value:.3f} ({_ends(found.intervals[name])})"
        for name in worse or ("log_loss",)
        if name in reference
    )
    if not worse:
        return passed("no estimated metric is worse than on the reference", details)
    return _alarm(evaluation, worse, f"estimated without labels: {_format_degradation(worse)}", details)


def model_age(evaluation: Evaluation) -> CheckResult:
    """Age of the champion since its promotion."""
    champion = evaluation.live.champion
    if champion is None:
        return skipped("there is no champion")
    if champion.promoted_at is None:
        return skipped(f"the promotion date of version {champion.version} is unknown")
    age = evaluation.live.as_of - champion.promoted_at
    message, limit = f"version {champion.version} was promoted {age.days} days ago", stale_after(evaluation.dataset)
    return (
        warning(f"{message}; a champion is stale after {limit / timedelta(days=1):g} days")
        if age > limit
        else passed(message)
    )


def stale_after(dataset: Dataset) -> timedelta:
    """Age since promotion above which a champion is stale."""
    return timedelta(days=dataset.monitoring.stale_after_days)


_NO_ENDPOINT = "no endpoint was given"


def endpoint_health(evaluation: Evaluation) -> CheckResult:
    """Whether the endpoint responds."""
    if not evaluation.live.endpoint:
        return skipped(_NO_ENDPOINT)
    if evaluation.live.served is None:
        return warning(f"no response from {evaluation.live.endpoint}; start the server: {for_dataset('make serve')}")
    return passed(f"{evaluation.live.endpoint} responds")


def served_version(evaluation: Evaluation) -> CheckResult:
    """Whether the champion is the served version."""
    served, champion = evaluation.live.served, evaluation.live.champion
    if served is None:
        return skipped("no endpoint responded" if evaluation.live.endpoint else _NO_ENDPOINT)
    if served.version is None:
        return skipped(f"{evaluation.live.endpoint} does not report its version")
    if champion is None or served.version != champion.version:
        expected = f"version {champion.version}" if champion else "none"
        return warning(f"version {served.version} is served; the champion is {expected}")
    return passed(f"version {served.version} is served and is the champion")


def scoring_version(evaluation: Evaluation) -> CheckResult:
    """Whether the champion scored the rows."""
    champion = evaluation.live.champion
    if champion is None:
        return skipped("there is no champion")
    if not evaluation.version:
        return skipped("the version that scored the rows is unknown")
    excluded = ", ".join(
        f"{rows:,} rows by {f'version {version}' if version else 'an unknown version'}"
        for version, rows in evaluation.excluded.items()
    )
    if evaluation.version != champion.version:
        return warning(
            f"version {evaluation.version} scored these rows, and all results are about it; the champion is version "
            f"{champion.version}. Score the rows again with the champion"
            + (f". Excluded: {excluded}" if excluded else ""),
        )
    which = "the" if evaluation.excluded else "all"
    return passed(
        f"{which} rows were scored by the champion, version {champion.version}",
        f"excluded: {excluded}" if excluded else "",
    )


CHECKS: tuple[Check, ...] = (
    Check("K101", "Performance degradation", CheckStatus.FAILED, performance_degradation),
    Check("K102", "Skill-score degradation", CheckStatus.FAILED, skill_score),
    Check("K103", "Better than base rate", CheckStatus.FAILED, better_than_base_rate),
    Check("K104", "Recall, specificity and precision", CheckStatus.FAILED, recall_and_precision),
    Check("K105", "Calibration", CheckStatus.WARNING, calibration),
    Check("K106", "Label coverage", CheckStatus.WARNING, label_coverage),
    Check("K107", "Sample size", CheckStatus.WARNING, sample_size),
    Check(NEW_ROWS, "New rows", CheckStatus.WARNING, new_rows),
    Check("K201", "Feature drift", CheckStatus.FAILED, feature_drift),
    Check("K202", "Prediction drift", CheckStatus.WARNING, prediction_drift),
    Check("K203", "Domain classifier", CheckStatus.WARNING, domain_classifier),
    Check("K204", "Out-of-support rate", CheckStatus.FAILED, out_of_support_rate),
    Check("K301", "Estimated performance", CheckStatus.FAILED, estimated_performance),
    Check("K401", "Model age", CheckStatus.WARNING, model_age),
    Check("K402", "Endpoint health", CheckStatus.WARNING, endpoint_health),
    Check("K403", "Served version", CheckStatus.WARNING, served_version),
    Check("K404", "Scoring version", CheckStatus.WARNING, scoring_version),
)
"""The checks of every dataset, in the order in which they run."""
UNKNOWN_CATEGORIES = Check("K205", "Unknown categories", CheckStatus.WARNING, unknown_categories)
NULL_RATE = Check("K206", "Null rate", CheckStatus.WARNING, null_rate)
ALL_CHECKS = tuple(sorted((*CHECKS, UNKNOWN_CATEGORIES, NULL_RATE), key=lambda check: check.code))
"""All checks; `checks_of` selects those of a dataset."""


def checks_of(dataset: Dataset) -> tuple[Check, ...]:
    """Return the checks of a dataset: those of categories and nulls only where a feature has them."""
    absent = {
        *([] if dataset.categorical else [UNKNOWN_CATEGORIES.code]),
        *([] if any(column.nullable for column in dataset.features) else [NULL_RATE.code]),
    }
    return tuple(check for check in ALL_CHECKS if check.code not in absent)


def _degraded(evaluation: Evaluation, metrics: Iterable[str]) -> CheckResult:
    """Check for metrics that are worse than on the reference by more than 10%, if statistically significant."""
    if len(evaluation.labeled) < MIN_LABELED:
        return skipped(_too_few_labels(evaluation))
    current, reference = evaluation.performance, evaluation.baseline.performance
    known = [name for name in metrics if _comparable(name, current, reference)]
    if not known:
        return skipped(f"none of these metrics covers {MIN_LABELED} rows on each side and is non-zero on the reference")
    degradations = {name: relative_degradation(current, reference, name, COMPARISON_CONFIDENCE) for name in known}
    tolerated = evaluation.dataset.monitoring.warning_degradation
    worse = {name: each.value for name, each in degradations.items() if each.value > tolerated and each.low > 0}
    worst = max(degradations, key=lambda name: degradations[name].value)
    details = f"{current.rows:,} labeled rows, compared with {reference.rows:,}: " + "; ".join(
        f"{name} {reference.metrics[name]:.3f} to {current.metrics[name]:.3f} ({_ends(current.interval(name))})"
        for name in worse or (worst,)
    )
    if not worse:
        return passed(f"none of {len(known)} metrics is significantly worse, by more than {tolerated:.0%}", details)
    return _alarm(evaluation, worse, _format_degradation(worse), details)


def _too_few_labels(evaluation: Evaluation) -> str:
    few = f"fewer than {MIN_LABELED} rows have a label"
    own = [
        *([f"{evaluation.in_reference:,} are rows of {_reference(evaluation)}"] if evaluation.in_reference else []),
        *([f"{evaluation.in_training:,} are training rows"] if evaluation.in_training else []),
    ]
    return f"{few} that can be evaluated: {' and '.join(own)}" if own else few


def _own_rows(evaluation: Evaluation) -> str:
    """Describe an excess of training and reference rows; empty where there is none."""
    if evaluation.own_share <= MAX_OWN:
        return ""
    rows = int(evaluation.is_own.sum())
    return (
        f"{rows:,} of {len(evaluation.current):,} rows are not new to the model: they are training rows or rows of "
        f"{_reference(evaluation)}"
    )


def _reference(evaluation: Evaluation) -> str:
    """The reference rows within a sentence."""
    name = evaluation.baseline.name
    return {TEST: "the test set", TRAIN: "the training set"}.get(name, name)


def _comparable(name: str, current: Performance, reference: Performance) -> bool:
    both = (current, reference)
    enough = all(name in side.metrics and side.counts[name] >= MIN_LABELED for side in both)
    return enough and reference.metrics[name] != 0


def _alarm(evaluation: Evaluation, worse: Mapping[str, float], message: str, details: str) -> CheckResult:
    limit = evaluation.dataset.monitoring.max_degradation
    return (failed if max(worse.values()) > limit else warning)(message, details)


def _probability(dataset: Dataset) -> str:
    return f"P({dataset.positive})"


def _shift(found: DriftResult, column: str) -> str:
    """Describe by how much a column has shifted: in its unit, or by the distance of categories."""
    statistics = found.of_column(column)
    if "wasserstein" not in statistics:
        return f"Jensen-Shannon distance {statistics['js'].value:.3g}"
    shift = statistics["wasserstein"]
    return f"shifted by {shift.value:.3g}{f' {shift.unit}' if shift.unit else ''}"


def _distances(found: DriftResult, column: str) -> str:
    statistics = found.of_column(column)
    psi = statistics["psi"]
    name, other = ("KS", statistics["ks"]) if "ks" in statistics else ("Jensen-Shannon", statistics["js"])
    return (
        f"{column} PSI {psi.value:.3g} (threshold {psi.threshold:.2g}), "
        f"{name} {other.value:.3g} (threshold {other.threshold:.2g})"
    )


def _format_degradation(worse: Mapping[str, float]) -> str:
    return ", ".join(f"{name} is worse by {degradation:.0%}" for name, degradation in worse.items())


def _ends(interval: Interval) -> str:
    return f"{CONFIDENCE:.0%} CI: {interval.low:.3f} to {interval.high:.3f}"
