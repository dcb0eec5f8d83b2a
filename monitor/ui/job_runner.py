"""Run a command to its end, even if the process that started it exits, and keep its output.

``python job_runner.py FOLDER JOB COMMAND …`` writes the last part of the output to ``output`` and the exit code to
``result.json``, in that folder. An inherited file lock is held until this process exits. On SIGTERM it closes the
standard input of the command, which makes ``serving/server/process_guard.py`` terminate the command.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import types
from datetime import UTC, datetime
from pathlib import Path

_KEPT_BYTES = 256 * 2**10
_CHUNK_BYTES = 2**16


def main(folder: Path, job: str, command: list[str]) -> None:
    """Run `command`, and write its exit code and end time."""
    stopped = False
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    command_input, command_output = process.stdin, process.stdout
    assert command_input is not None  # noqa: S101 both are pipes
    assert command_output is not None  # noqa: S101

    def stop(_number: int, _frame: types.FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        command_input.close()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    while chunk := os.read(command_output.fileno(), _CHUNK_BYTES):
        # On a full disk the output is lost, but the command goes on.
        with contextlib.suppress(OSError):
            _keep(folder / "output", chunk)
    code = process.wait()
    result = {"job": job, "code": code, "ended": datetime.now(UTC).isoformat(), "stopped": stopped}
    _replace(folder / "result.json", json.dumps(result).encode())


def _keep(path: Path, chunk: bytes) -> None:
    with path.open("ab") as output:
        output.write(chunk)
        size = output.tell()
    if size > 2 * _KEPT_BYTES:
        with path.open("rb") as output:
            output.seek(-_KEPT_BYTES, os.SEEK_END)
            end = output.read()
        _replace(path, end.partition(b"\n")[2] or end)


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
