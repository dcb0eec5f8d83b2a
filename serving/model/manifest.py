"""SHA-256 of every file of a logged model, as the registry records it, and later differences from the record.

An account that can write only to the artifact store cannot change the record, and so cannot change what runs.
"""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from data.errors import KobeShotError
from data.storage.files import sha256

FILES = "files"
"""Tag of a version, and of a logged model: the SHA-256 of each of its files by its path, as JSON."""
FILES_SHA256 = "files_sha256"
"""Tag of the same: one SHA-256 over all of them, which is authoritative."""
RECORDED_FROM = "files_recorded_from"
"""Tag of the registered model: the first version that was registered with the SHA-256 of its files."""
META = "registered_model_meta"
"""File that MLflow writes next to the files of a downloaded version."""

_COMPILED = "__pycache__"
_CHUNK = 1 << 20


class ModelFilesError(KobeShotError):
    """The files of a model are not those that were registered."""


def manifest_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a model by its POSIX path, without the files that MLflow and Python add.

    Raises
    ------
    ModelFilesError
        If one of them is a link, a pipe or a device.
    """
    return {path: sha256(folder / path) for path in _files(folder)}


def digest_of(files: Mapping[str, str]) -> str:
    """One SHA-256 over all files and their paths.

    Examples
    --------
    >>> digest_of({"b": "2", "a": "1"}) == digest_of({"a": "1", "b": "2"}) != digest_of({"a": "2", "b": "1"})
    True
    """
    return hashlib.sha256(_text(files).encode()).hexdigest()


def tags_of(files: Mapping[str, str]) -> dict[str, str]:
    """The tags that record the files."""
    return {FILES: _text(files), FILES_SHA256: digest_of(files)}


def differences(tags: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Describe how files differ from those that tags record, with the path of each; empty if they are equal."""
    if tags[FILES_SHA256] == digest_of(found):
        return ""
    try:
        named = dict(json.loads(tags.get(FILES, "")))
    except ValueError:
        named = {}
    if digest_of(named) != tags[FILES_SHA256]:
        return (
            f"their digest is {digest_of(found)}, not {tags[FILES_SHA256]}, and the tag {FILES} names other files too"
        )
    changed = sorted(path for path in named.keys() & found.keys() if named[path] != found[path])
    parts = {
        "changed": changed,
        "missing": sorted(named.keys() - found.keys()),
        "not registered": sorted(found.keys() - named.keys()),
    }
    return "; ".join(f"{kind}: {', '.join(paths)}" for kind, paths in parts.items() if paths)


def copy_files(source: Path, target: Path) -> None:
    """Copy the files of a model to a new folder. No link is followed, and only regular files are opened.

    Raises
    ------
    ModelFilesError
        See `manifest_of`.
    """
    for path in _files(source):
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        # The file may have been replaced by a link or a pipe since it was listed.
        descriptor = os.open(source / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as original, copy.open("xb") as written:  # noqa: PTH123 a descriptor
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _refused(path)
            while chunk := original.read(_CHUNK):
                written.write(chunk)


def remove_compiled(folder: Path) -> list[str]:
    """Remove compiled Python files, which a copy excludes and a stock MLflow server would run; return their paths.

    No link is followed.
    """
    removed = []
    for place, folders, _ in os.walk(folder):
        if _COMPILED in folders:
            path = Path(place, _COMPILED)
            path.unlink() if path.is_symlink() else shutil.rmtree(path)
            removed.append(path.relative_to(folder).as_posix())
        folders[:] = [name for name in folders if name != _COMPILED]
    return sorted(removed)


def _files(folder: Path) -> Iterator[str]:
    """Paths of the files below a folder, sorted."""
    if not folder.is_dir():
        message = f"Expected the files of a model in {folder}; found none."
        raise ModelFilesError(message)
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != _COMPILED)
        for name in sorted([*folders, *names]):
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode) or relative == META:
                continue
            if not stat.S_ISREG(mode):
                raise _refused(relative)
            yield relative


def _refused(path: str) -> ModelFilesError:
    return ModelFilesError(f"Expected files and folders in a model; found {path}, which is a link, a pipe or a device.")


def _text(files: Mapping[str, str]) -> str:
    return json.dumps(dict(files), sort_keys=True)
