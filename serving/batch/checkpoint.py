"""Predictions of a table's chunks in a folder next to the output, with which a killed run is continued."""

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pyarrow as pa

from data.errors import KobeShotError
from data.storage.files import sha256, write_text


class CheckpointError(KobeShotError):
    """A run cannot be started or continued as requested."""


class Checkpoint(contextlib.AbstractContextManager["Checkpoint"]):
    """The folder ``OUT.progress``, which one process at a time holds.

    A file for each chunk, renamed into place when it is complete, contains the predictions of its rows.

    Parameters
    ----------
    out : pathlib.Path
        Path of the output.
    table : pathlib.Path
    files : sequence of pathlib.Path
        Files of the table.
    chunk_rows : int
        Rows of a chunk.
    name : str
        Location of a table that is copied for each run, whose content is compared.

    Attributes
    ----------
    run : str
        Identifies the run, also when it is continued.
    """

    def __init__(self, out: Path, table: Path, files: Sequence[Path], chunk_rows: int, name: str = "") -> None:
        self.run = uuid.uuid4().hex
        self._out, self._table, self._files, self._chunk_rows, self._name = out, table, files, chunk_rows, name
        self._folder = out.with_name(f"{out.name}.progress")

    def __enter__(self) -> Self:
        """Take the folder, of this run or of a killed one.

        Raises
        ------
        CheckpointError
            If another process holds it, or it belongs to another table.
        """
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        # Whoever can open it could hold it.
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._held = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            self._lock()
            self._continue_or_start()
        except BaseException:
            os.close(self._held)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let another process take the folder."""
        os.close(self._held)

    def read(self, start: int, rows: int) -> pa.Table | None:
        """The predictions of the chunk that starts with a row; None if there are none that are complete."""
        try:
            predictions = pa.ipc.open_file(self._path(start)).read_all()
        except (OSError, pa.ArrowException):
            return None
        return predictions if len(predictions) == rows else None

    def keep(self, start: int, predictions: pa.Table) -> None:
        """Keep the predictions of a chunk."""
        target = self._path(start)
        partial = target.with_suffix(".partial")
        with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, predictions.schema) as writer:
            writer.write_table(predictions)
        partial.replace(target)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"Another run is writing {self._out}; wait for it, or name another output."
            raise CheckpointError(message) from error

    def _continue_or_start(self) -> None:
        states = [file.stat() for file in self._files]
        wanted = {
            "table": self._name or str(self._table.resolve()),
            "bytes": sum(state.st_size for state in states),
            "modified": sha256(self._table) if self._name else max(state.st_mtime_ns for state in states),
            "batch_size": self._chunk_rows,
        }
        manifest = self._folder / "job.json"
        if not manifest.exists():
            # Predictions without a manifest remain from a killed removal, of an unknown table.
            for path in self._folder.glob("*.arrow"):
                path.unlink()
            write_text(json.dumps({**wanted, "run": self.run}), manifest)
            return
        found = json.loads(manifest.read_text(encoding="utf-8"))
        self.run = found.pop("run")
        changed = [name for name, value in wanted.items() if found.get(name) != value]
        if changed:
            message = (
                f"{self._folder} holds predictions of a run that differs in {', '.join(changed)}: expected "
                f"{ {name: found.get(name) for name in changed} }, found { {name: wanted[name] for name in changed} }. "
                "Run it with the same arguments again, or remove that folder to start again."
            )
            raise CheckpointError(message)

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:012d}.arrow"
