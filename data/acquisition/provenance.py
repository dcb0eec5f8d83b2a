"""Provenance of the files of ``data/raw``: where they come from, and whether they are unchanged."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from data.acquisition.raw_tables import DEV_FILE, FILES, PROD_FILE, simulation
from data.errors import SourceError
from data.paths import RAW
from data.storage.files import atomic_write, display_path, sha256, write_text

PUBLIC_URL = "https://raw.githubusercontent.com/tciodaro/eng_ml/main/data"
PUBLIC_SHA256 = {
    DEV_FILE: "3a177adbf7e4ef40cb770940a3aa52ee4880372352d4cf676a94a2d274a36b07",
    PROD_FILE: "98e4a0c2ed17d350f84fd356bfdcce9b707e931ec37909999489a3d36cf9d05e",
}
"""Checksums of the files of the public repository."""

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


def infer_provenance(kind: Kind, location: str, folder: Path, hashes: Mapping[str, str]) -> Provenance:
    """Infer the provenance of files from their bytes, then from their source."""
    if hashes == PUBLIC_SHA256:
        return Provenance("public", location, dict(hashes))
    simulated = simulation(folder)
    return Provenance("synthetic", simulated, dict(hashes)) if simulated else Provenance(kind, location, dict(hashes))


def install_files(source: Provenance, stage: Path, raw: Path) -> Provenance:
    """Move validated files from `stage` to `raw` and record their provenance.

    The record is written first and lists the hashes of the replaced files, so `read_provenance` detects an interruption
    between the renames.
    """
    inferred = infer_provenance(source.kind, source.location, stage, file_hashes(stage))
    present = {name: sha256(raw / name) for name in FILES if (raw / name).exists()}
    found = replace(inferred, previous_sha256=present, redirects=source.redirects)
    write_text(json.dumps(asdict(found), indent=2) + "\n", raw / _RECORD)
    for name in FILES:
        with atomic_write(raw / name) as partial:
            (stage / name).replace(partial)
    return found


def read_provenance(raw: Path = RAW) -> Provenance:
    """Read the provenance of the files of `raw`; without a record, infer it from their bytes.

    Raises
    ------
    IncompleteAcquisitionError
        If the acquisition that wrote them was interrupted.
    SourceError
        If files are missing, or differ from what was acquired.
    """
    missing = [name for name in FILES if not (raw / name).exists()]
    if missing:
        message = (
            f"{display_path(raw)} lacks {' and '.join(missing)}. Acquire the files first: mlflow run . -e aquisicao"
        )
        raise SourceError(message)
    hashes, record = file_hashes(raw), raw / _RECORD
    if hashes == PUBLIC_SHA256 or not record.is_file():
        return infer_provenance("unknown", PUBLIC_URL if hashes == PUBLIC_SHA256 else str(raw), raw, hashes)
    try:
        recorded = Provenance.from_record(json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        message = f"{display_path(record)} cannot be read ({error}). Delete it, or acquire the files again."
        raise SourceError(message) from error
    changed = [name for name in FILES if hashes[name] != recorded.sha256.get(name)]
    if not changed:
        return recorded
    if all(hashes[name] == recorded.previous_sha256.get(name) for name in changed):
        message = (
            f"The last acquisition into {display_path(raw)} was interrupted. Run it again: mlflow run . -e aquisicao"
        )
        raise IncompleteAcquisitionError(message)
    message = (
        f"{' and '.join(changed)} in {display_path(raw)}: wrong checksum; expected the bytes that were acquired from "
        f"{recorded.location}. Acquire them again from there, or delete {display_path(record)} to keep the new files."
    )
    raise SourceError(message)


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of both tables of a folder, by name."""
    return {name: sha256(folder / name) for name in FILES}
