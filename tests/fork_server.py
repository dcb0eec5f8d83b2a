"""Commands that start with their libraries imported: forks of one interpreter instead of new ones.

A command of the project spends four seconds of CPU time on imports, most of it on libraries. The server imports these
once per test worker and forks for each command. The fork then does what ``python`` does: it runs the module or script
in the given folder and environment, with the project's code of that folder.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import matplotlib as mpl
from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

_LIBRARIES = (
    "markdown_it",
    "mlflow.cli",
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "pandera.pandas",
    "plotly.graph_objects",
    "pycaret.classification",
    "pydantic_settings",
    "rich.progress",
    "rich.table",
    "skops.io",
)
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Let this process get SIGTERM when its parent is killed."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def can_run(command: Sequence[str]) -> bool:
    """Whether a command is ``python -m MODULE`` or ``mlflow``."""
    return list(command[:2]) == [sys.executable, "-m"] or command[0] == "mlflow"


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], check: Callable[[], object]
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end; `check` is called every second and may raise, which ends the command."""
    with tempfile.TemporaryFile() as request, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        request.write(json.dumps([list(command), str(cwd), dict(env)]).encode())
        request.flush()
        server, connection = _server()
        socket.send_fds(connection, [b"."], [file.fileno() for file in (request, output, errors)])
        try:
            code = _wait(connection, check)
        except BaseException:
            _server.cache_clear()
            server.kill()
            server.wait()
            raise
        printed = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (output, errors)]
    return subprocess.CompletedProcess(list(command), code, *printed)


@cache
def _server() -> "tuple[subprocess.Popen[bytes], socket.socket]":
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            preexec_fn=end_with_parent,  # noqa: PLW1509 it calls nothing but the kernel
        )

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    ours.settimeout(1)
    return process, ours


def _wait(connection: socket.socket, check: Callable[[], object]) -> int:
    while True:
        try:
            return int(connection.recv(16))
        except TimeoutError:
            check()


def _serve(connection: socket.socket) -> tuple[list[str], str, dict[str, str]]:
    """Return in each fork, with the command, folder and environment of a request."""
    while True:
        message, files, _flags, _sender = socket.recv_fds(connection, 1, 3)
        if not message:
            os._exit(0)
        child = os.fork()
        if child == 0:
            connection.close()
            end_with_parent()
            for file, number in zip(files[1:], (1, 2), strict=True):
                os.dup2(file, number)
                os.close(file)
            with open(files[0], "rb") as request:  # noqa: PTH123 a descriptor
                request.seek(0)
                command, folder, environment = json.load(request)
            return command, folder, environment
        for file in files:
            os.close(file)
        _child, status = os.waitpid(child, 0)
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _become(command: list[str], folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    if command[0] == "mlflow":
        script = str(Path(sys.executable).with_name("mlflow"))
        sys.path[0] = str(Path(script).parent)
        sys.argv[:] = [script, *command[1:]]
        runpy.run_path(script, run_name="__main__")
    else:
        sys.path[0] = folder
        sys.argv[:] = command[2:]
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)


def _import_libraries() -> None:
    os.environ["PYCARET_CUSTOM_LOGGING_PATH"] = os.devnull
    # PyCaret imports yellowbrick, which sets a style of its own for all of matplotlib.
    with mpl.rc_context():
        for library in _LIBRARIES:
            importlib.import_module(library)
    # Lists what all packages provide, once per process that loads a model.
    warn_dependency_requirement_mismatches(["mlflow"])
    gc.freeze()


if __name__ == "__main__":
    _import_libraries()
    _become(*_serve(socket.socket(fileno=int(sys.argv[1]))))
