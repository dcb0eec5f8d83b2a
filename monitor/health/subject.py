"""What figures are about: which version, which rows, how many labels, beside which reference; said in one way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monitor.health.evaluation import Evaluation


@dataclass(frozen=True)
class Subject:
    """What the figures of a page, a report or a run are about.

    Attributes
    ----------
    version : str
        Number of the version that scored the rows, whose figures they are; empty where nobody knows.
    champion : str or None
        Version that was champion.
    source : str
        What the rows are called.
    rows, labeled : int
        How many there are, and how many of those looked at have a label that counts.
    reference : str
        What they are compared with, scored by the same version.
    looked_at : int
        Rows that were looked at one by one; evenly spread ones, where they are fewer than `rows`.
    left_out : mapping of str to int
        Rows that other versions scored, by version: no figure is about them.
    in_reference, in_training : int
        Labeled rows that do not count: they are rows of the reference, or rows that the version was trained on.
    own : int
        Rows, with and without a label, that are of either kind.
    drift_of_all : bool
        Whether drift is of all rows, though not all were looked at one by one.
    """

    version: str
    champion: str | None
    source: str
    rows: int
    labeled: int
    reference: str
    looked_at: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    in_reference: int = 0
    in_training: int = 0
    own: int = 0
    drift_of_all: bool = False

    @classmethod
    def of(cls, look: Evaluation, rows: int | None = None) -> "Subject":
        """Of a batch of which there may be more rows than are held."""
        champion = look.live.champion
        return cls(
            version=look.version,
            champion=champion.version if champion else None,
            source=look.name,
            rows=max(look.rows, rows or 0),
            labeled=len(look.labelled),
            reference=look.baseline.name,
            looked_at=len(look.current),
            left_out=look.left_out,
            in_reference=look.in_reference,
            in_training=look.in_training,
            own=int(look.is_own.sum()),
            drift_of_all=look.is_sampled,
        )

    @classmethod
    def of_record(cls, found: Mapping[str, Any]) -> "Subject":
        """Of a record; one that was written before it named its version is about the one that scored most rows."""
        current, versions = found["current"], found.get("versions") or {}
        most = max(versions, key=versions.__getitem__, default=str(found["champion"] or ""))
        return cls(
            version=str(found.get("version") or most),
            champion=found["champion"],
            source=current["name"],
            rows=current["rows"],
            labeled=current["labelled"],
            reference=found["reference"]["name"],
            looked_at=current.get("sampled", current["rows"]),
            left_out=found.get("left_out") or {},
            in_reference=current.get("in_reference", 0),
            in_training=current.get("in_training", 0),
            own=current.get("own", 0),
            drift_of_all="sampled" in current,
        )

    @property
    def who(self) -> str:
        """The version, in words."""
        return f"version {self.version}" if self.version else "a version that nobody knows"

    @property
    def words(self) -> str:
        """All of it in one sentence or two."""
        rows = f"{self.rows:,} rows"
        if self.looked_at < self.rows:
            rows = f"{self.looked_at:,} evenly spread of {self.rows:,} rows"
        told = f"{self.who.capitalize()} on {self.source}: {rows}, {self.labeled:,} of them labeled"
        told += f"; compared with {self.reference}, scored by the same version."
        return " ".join([told, *self.remarks])

    @property
    def remarks(self) -> list[str]:
        """What does not count, in sentences."""
        found = []
        if self.drift_of_all:
            found.append("Drift is of all of them, everything else of those looked at.")
        if self.left_out:
            others = ", ".join(f"{rows:,} by {_called(version)}" for version, rows in self.left_out.items())
            found.append(f"Left out, because others scored them: {others}.")
        if self.in_reference:
            found.append(f"{self.in_reference:,} labeled rows do not count: they are rows of {self.reference} itself.")
        if self.in_training:
            found.append(f"{self.in_training:,} labeled rows do not count: {self.who} was trained on them.")
        return found

    def is_about(self, version: str) -> bool:
        """Whether it is about a version."""
        return self.version == version


def _called(version: str) -> str:
    return f"version {version}" if version else "an unknown version"
