"""The scope of results: version, rows, labels and reference, described in one way for pages, reports and runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monitor.health.evaluation import Evaluation


@dataclass(frozen=True)
class Subject:
    """Scope of the results of a page, a report or a run.

    Attributes
    ----------
    version : str
        Number of the version that scored the rows; empty where it is unknown.
    champion : str or None
        Version that was champion.
    source : str
        Display name of the rows.
    rows, labeled : int
        Rows, and evaluated rows with a label that is neither of a training row nor of a reference row.
    reference : str
        Display name of the reference rows, which the same version scored.
    evaluated : int
        Rows that were evaluated one by one: all of them, or a systematic sample.
    excluded : mapping of str to int
        Rows that other versions scored, by version; no result covers them.
    in_reference, in_training : int
        Labeled rows that are excluded as reference rows, and as training rows.
    own : int
        Training and reference rows, labeled or not.
    drift_of_all : bool
        Whether drift covers all rows, although a sample was evaluated.
    """

    version: str
    champion: str | None
    source: str
    rows: int
    labeled: int
    reference: str
    evaluated: int
    excluded: Mapping[str, int] = field(default_factory=dict)
    in_reference: int = 0
    in_training: int = 0
    own: int = 0
    drift_of_all: bool = False

    @classmethod
    def of(cls, evaluation: Evaluation, rows: int | None = None) -> "Subject":
        """Describe an evaluation; `rows` is the size of the whole batch, where it is larger than the evaluated one."""
        champion = evaluation.live.champion
        return cls(
            version=evaluation.version,
            champion=champion.version if champion else None,
            source=evaluation.name,
            rows=max(evaluation.rows, rows or 0),
            labeled=len(evaluation.labeled),
            reference=evaluation.baseline.name,
            evaluated=len(evaluation.current),
            excluded=evaluation.excluded,
            in_reference=evaluation.in_reference,
            in_training=evaluation.in_training,
            own=int(evaluation.is_own.sum()),
            drift_of_all=evaluation.is_sampled,
        )

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Subject":
        """Describe a record; one without a version is about the version that scored most rows."""
        current, versions = record["current"], record.get("versions") or {}
        busiest = max(versions, key=versions.__getitem__, default=str(record["champion"] or ""))
        return cls(
            version=str(record.get("version") or busiest),
            champion=record["champion"],
            source=current["name"],
            rows=current["rows"],
            labeled=current["labeled"],
            reference=record["reference"]["name"],
            evaluated=current.get("sampled", current["rows"]),
            excluded=record.get("excluded") or {},
            in_reference=current.get("in_reference", 0),
            in_training=current.get("in_training", 0),
            own=current.get("own", 0),
            drift_of_all="sampled" in current,
        )

    @property
    def version_name(self) -> str:
        """The version as part of a sentence."""
        return f"version {self.version}" if self.version else "an unknown version"

    @property
    def description(self) -> str:
        """The whole scope in one or two sentences."""
        return " ".join(self.sentences)

    @property
    def sentences(self) -> list[str]:
        """The whole scope, sentence by sentence."""
        rows = f"{self.rows:,} rows"
        if self.evaluated < self.rows:
            rows = f"a systematic sample of {self.evaluated:,} of {self.rows:,} rows"
        sentence = f"{self.version_name.capitalize()} on {self.source}: {rows}, {self.labeled:,} of them labeled"
        sentence += f"; compared with {self.reference}, scored by the same version."
        return [sentence, *self.remarks]

    @property
    def remarks(self) -> list[str]:
        """What the results exclude, in sentences."""
        remarks = []
        if self.drift_of_all:
            remarks.append("Drift covers all rows; all other results cover the sample.")
        if self.excluded:
            others = ", ".join(f"{rows:,} by {_version_name(version)}" for version, rows in self.excluded.items())
            remarks.append(f"Excluded, because other versions scored them: {others}.")
        if self.in_reference:
            remarks.append(f"{self.in_reference:,} labeled rows are excluded: they are rows of {self.reference}.")
        if self.in_training:
            remarks.append(
                f"{self.in_training:,} labeled rows are excluded: they are training rows of {self.version_name}."
            )
        return remarks

    def is_about(self, version: str) -> bool:
        """Whether the results are about a version."""
        return self.version == version


def _version_name(version: str) -> str:
    return f"version {version}" if version else "an unknown version"
