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
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, AnyStr, NamedTuple, NoReturn

import matplotlib as mpl
from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

_LIBRARIES = (
    "duckdb",
    "git",
    "ibis.backends.duckdb",
    "markdown_it",
    "mlflow.cli",
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "plotly.graph_objects",
    "pyarrow.dataset",
    "pycaret.classification",
    "pydantic_settings",
    "rich.progress",
    "rich.table",
    "skops.io",
    "uvicorn",
    "uvloop",
)
_lock = threading.Lock()
_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class _Request(NamedTuple):
    command: list[str]
    folder: str
    environment: dict[str, str]
    has_own_session: bool
    descriptors: tuple[int, int]


def collect_less() -> None:
    """Let the collector of garbage start seldom and spare what this process holds; PyCaret starts it for each model."""
    gc.freeze()
    # DuckDB would print its objects as leaks at the end of the process.
    atexit.register(gc.unfreeze)
    gc.set_threshold(20_000, 50, 100)


def end_with_parent() -> None:
    """Let this process get SIGTERM when its parent is killed."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(option, value)


def start(command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":  # noqa: ANN401 as Popen has them
    """Start a command, as a child that ends with this process; ``python -m`` and ``mlflow`` are forked."""
    is_module = command[0] in {sys.executable, "python"} and command[1] == "-m"
    is_known = _LIBC is not None and (is_module or command[0] == "mlflow")
    return _start(_Fork if is_known else subprocess.Popen, command, options)


def start_interpreter(command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":  # noqa: ANN401 as Popen has them
    """Start a command as `start` does, without a fork."""
    return _start(subprocess.Popen, command, options)


def start_code(code: str, **options: Any) -> "subprocess.Popen[Any]":  # noqa: ANN401 as Popen has them
    """Start ``python -c CODE`` as `start` does, with a fork."""
    return _start(subprocess.Popen if _LIBC is None else _Fork, [sys.executable, "-c", code], options)


@contextmanager
def descriptors(limit: int) -> "Iterator[None]":
    """Start the commands of the block as after ``ulimit -n LIMIT``; this process keeps what it may open."""
    global _descriptors  # noqa: PLW0603 one process, one block at a time
    before, _descriptors = _descriptors, (limit, _descriptors[1])
    try:
        yield
    finally:
        _descriptors = before


def _start(
    kind: "type[subprocess.Popen[Any]]", command: Sequence[str], options: Mapping[str, Any]
) -> "subprocess.Popen[Any]":
    return kind(command, **{"stdin": subprocess.DEVNULL, **options}, preexec_fn=_prepare)


def _prepare() -> None:
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_NOFILE, _descriptors)


class _Fork(subprocess.Popen[AnyStr]):
    """A process that the server forks and that becomes a child of this one."""

    def _execute_child(self, args, *options):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN002, ANN202 overrides
        folder, variables, pipes, has_session = options[4], options[5], options[9:15], options[20]
        files = [given if given != -1 else number for number, given in enumerate((pipes[0], pipes[3], pipes[5]))]
        try:
            request = _Request(list(args), str(folder), dict(variables), bool(has_session), _descriptors)
            self.pid = _fork(request, files)
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
        self._child_created = True


def _fork(request: _Request, files: Sequence[int]) -> int:
    with _lock, tempfile.TemporaryFile() as body:
        connection = _connection()
        body.write(json.dumps(request).encode())
        body.flush()
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            socket.send_fds(connection, [b"."], [body.fileno(), *files])
            return int(connection.recv(16))
        finally:
            _prctl(_PR_SET_CHILD_SUBREAPER, 0)


@cache
def _connection() -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
            cwd=Path(__file__).parents[1],
            # MLflow keeps the store of the test at hand in its variables.
            env={name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            preexec_fn=end_with_parent,  # noqa: PLW1509 it calls nothing but the kernel
        )

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    return ours


def _serve(connection: socket.socket) -> _Request:
    """Return in each fork, with its request."""
    while True:
        message, files, _flags, _sender = socket.recv_fds(connection, 1, 4)
        if not message:
            os._exit(0)
        ready, started = os.pipe()
        # The fork of a fork that ends at once becomes a child of the process that made the request.
        between = os.fork()
        if between == 0:
            os.close(ready)
            connection.close()
            parent = os.getpid()
            if os.fork():
                os._exit(0)
            while os.getppid() == parent:
                time.sleep(0.001)
            return _enter(files, started)
        os.close(started)
        os.waitpid(between, 0)
        with open(ready, "rb") as number:  # noqa: PTH123 a descriptor
            connection.sendall(number.read())
        for file in files:
            os.close(file)


def _enter(files: Sequence[int], started: int) -> _Request:
    with open(files[0], "rb") as body:  # noqa: PTH123 a descriptor
        body.seek(0)
        request = _Request(*json.load(body))
    for number, file in enumerate(files[1:]):
        os.dup2(file, number)
        os.close(file)
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_NOFILE, request.descriptors)
    if request.has_own_session:
        os.setsid()
    os.write(started, str(os.getpid()).encode())
    os.close(started)
    return request


def _end(request: _Request) -> NoReturn:
    """Run a command and end as it does, without the second that an interpreter takes to free all libraries."""
    code: object = 0
    try:
        _run(request)
    except SystemExit as end:
        code = end.code
    except BaseException as error:  # noqa: BLE001 as the interpreter does
        sys.excepthook(*sys.exc_info())
        code = signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    if not isinstance(code, int | None):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 no public API
    atexit._run_exitfuncs()  # noqa: SLF001 no public API
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if code is signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit((code or 0) & 0xFF)


def _run(request: _Request) -> None:
    command = request.command
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    tempfile.tempdir = None
    if "PYTHONUNBUFFERED" in request.environment:
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115 a descriptor
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    if command[0] == "mlflow":
        script = str(Path(sys.executable).with_name("mlflow"))
        sys.path[0] = str(Path(script).parent)
        sys.argv[:] = [script, *command[1:]]
        runpy.run_path(script, run_name="__main__")
    elif command[1] == "-c":
        sys.path[0] = request.folder
        sys.argv[:] = ["-c"]
        exec(command[2], {"__name__": "__main__"})  # noqa: S102 code of a test
    else:
        sys.path[0] = request.folder
        sys.argv[:] = command[2:]
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)


def _import_libraries() -> None:
    os.environ["PYCARET_CUSTOM_LOGGING_PATH"] = os.devnull
    gc.disable()
    # PyCaret imports yellowbrick, which sets a style of its own for all of matplotlib.
    with mpl.rc_context():
        for library in _LIBRARIES:
            importlib.import_module(library)
    # Lists what all packages provide, once per process that loads a model.
    warn_dependency_requirement_mismatches(["mlflow"])
    gc.enable()
    collect_less()


if __name__ == "__main__":
    _import_libraries()
    _end(_serve(socket.socket(fileno=int(sys.argv[1]))))
