"""Run a command that must not outlive whoever started it.

``python guard.py COMMAND …`` runs the command in a process group of its own and ends the whole group when standard
input closes, which the operating system does even when the starter is killed with SIGKILL.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.05


def main(command: list[str]) -> int:
    """Run `command` until it ends or standard input closes; its exit code."""
    # The command's group is its own, so that the guard can end it and still live to see it dead.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=_end, args=(process,)).start())
    threading.Thread(target=_end_when_input_closes, args=(process,), daemon=True).start()
    code = process.wait()
    _end(process)
    return code


def _end_when_input_closes(process: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while _group_lives(process) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
