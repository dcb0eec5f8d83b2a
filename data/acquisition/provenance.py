"""Provenance of the files of ``data/raw``: where they come from, and whether they are unchanged."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from data.acquisition.raw_tables import simulation
from data.datasets import Dataset, current, for_dataset, raw_folder
from data.datasets import default as default_dataset
from data.errors import SourceError
from data.storage.files import atomic_write, display_path, sha256, write_text

_PUBLIC = default_dataset().source
PUBLIC_URL = _PUBLIC.url if _PUBLIC else ""
PUBLIC_SHA256 = {file.name: file.sha256 for file in _PUBLIC.files} if _PUBLIC else {}
"""URL and checksums of the public files of the default dataset."""

Kind = Literal["public", "folder", "table", "url", "synthetic", "unknown"]

_RECORD = "source.json"
_FORMER_FIELDS = {"address": "location"}
_FORMER_KINDS: dict[str, Kind] = {"address": "url"}
"""Names in records of 0.1.0."""


class IncompleteAcquisitionError(SourceError):
    """An acquisition was interrupted, so the files come from two sources."""


@dataclass(frozen=True)
class Provenance:
    """Origin of the two raw files.

    Attributes
    ----------
    kind : str
        ``public`` if the bytes are those of the public files, ``synthetic`` if the Parquet metadata marks the shots as
        synthetic; otherwise the kind of source.
    location : str
        Folder, file or URL, or size and seed of the simulation.
    sha256 : dict of str to str
        SHA-256 of each file, or folder of Parquet files, by its name.
    previous_sha256 : dict of str to str
        SHA-256 of the files that were replaced.
    redirects : dict of str to list of str
        By file, the URLs of a download's redirects, without secrets.
    """

    kind: Kind
    location: str
    sha256: dict[str, str] = field(default_factory=dict)
    previous_sha256: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Create the provenance from its JSON record, also from one of 0.1.0.

        Raises
        ------
        TypeError
            If a field is missing or unknown.

        Examples
        --------
        >>> Provenance.from_record({"kind": "address", "address": "https://example.org"}).location
        'https://example.org'
        """
        fields = {_FORMER_FIELDS.get(name, name): value for name, value in dict(record).items()}
        kind = fields.get("kind")
        return cls(**fields | {"kind": _FORMER_KINDS.get(str(kind), kind)}) if "kind" in fields else cls(**fields)

    @property
    def is_synthetic(self) -> bool:
        """Whether the shots are synthetic."""
        return self.kind == "synthetic"


def infer_provenance(
    kind: Kind, location: str, folder: Path, hashes: Mapping[str, str], dataset: Dataset | None = None
) -> Provenance:
    """Infer the provenance of files from their bytes, then from their source."""
    if hashes == PUBLIC_SHA256:
        return Provenance("public", location, dict(hashes))
    simulated = simulation(folder, dataset)
    return Provenance("synthetic", simulated, dict(hashes)) if simulated else Provenance(kind, location, dict(hashes))


def install_files(source: Provenance, stage: Path, raw: Path, dataset: Dataset | None = None) -> Provenance:
    """Move validated files from `stage` to `raw` and record their provenance.

    The record is written first and lists the hashes of the replaced files, so `read_provenance` detects an interruption
    between the renames.
    """
    files = (dataset or current()).raw_tables
    inferred = infer_provenance(source.kind, source.location, stage, file_hashes(stage, dataset), dataset)
    present = {name: sha256(raw / name) for name in files if (raw / name).exists()}
    found = replace(inferred, previous_sha256=present, redirects=source.redirects)
    write_text(json.dumps(asdict(found), indent=2) + "\n", raw / _RECORD)
    for name in files:
        with atomic_write(raw / name) as partial:
            (stage / name).replace(partial)
    return found


def read_provenance(raw: Path | None = None, dataset: Dataset | None = None) -> Provenance:
    """Read the provenance of the files of `raw`; without a record, infer it from their bytes.

    Parameters
    ----------
    raw : pathlib.Path, optional
        By default the folder of the raw tables of the dataset.
    dataset : Dataset, optional
        By default that of this process.

    Raises
    ------
    IncompleteAcquisitionError
        If the acquisition that wrote them was interrupted.
    SourceError
        If files are missing, or differ from what was acquired.
    """
    dataset = dataset or current()
    raw = raw or raw_folder(dataset)
    missing = [name for name in dataset.raw_tables if not (raw / name).exists()]
    if missing:
        source = " -P source=TABLE" if dataset.source is None else ""
        advice = f"{for_dataset('mlflow run . -e aquisicao')}{source}"
        message = f"{display_path(raw)} lacks {' and '.join(missing)}. Acquire the files first: {advice}"
        raise SourceError(message)
    hashes, record = file_hashes(raw, dataset), raw / _RECORD
    if hashes == PUBLIC_SHA256 or not record.is_file():
        return infer_provenance("unknown", PUBLIC_URL if hashes == PUBLIC_SHA256 else str(raw), raw, hashes, dataset)
    try:
        recorded = Provenance.from_record(json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        message = f"{display_path(record)} cannot be read ({error}). Delete it, or acquire the files again."
        raise SourceError(message) from error
    changed = [name for name in dataset.raw_tables if hashes[name] != recorded.sha256.get(name)]
    if not changed:
        return recorded
    if all(hashes[name] == recorded.previous_sha256.get(name) for name in changed):
        again = for_dataset("mlflow run . -e aquisicao")
        message = f"The last acquisition into {display_path(raw)} was interrupted. Run it again: {again}"
        raise IncompleteAcquisitionError(message)
    message = (
        f"{' and '.join(changed)} in {display_path(raw)}: wrong checksum; expected the bytes that were acquired from "
        f"{recorded.location}. Acquire them again from there, or delete {display_path(record)} to keep the new files."
    )
    raise SourceError(message)


def file_hashes(folder: Path, dataset: Dataset | None = None) -> dict[str, str]:
    """SHA-256 of both tables of a folder, by name."""
    return {name: sha256(folder / name) for name in (dataset or current()).raw_tables}
