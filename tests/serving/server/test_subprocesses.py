import functools
import http.server
import subprocess
import sys
import threading

import pytest

from data.paths import ROOT
from serving.server.subprocesses import ServerError, check_alive, run_mlflow_server
from tests.project import free_port, is_running, wait_until

GUARD = str(ROOT / "serving" / "server" / "process_guard.py")
# Each starts a child of its own and prints both numbers; one of the two does not listen to SIGTERM.
STUBBORN_PARENT = (
    "import os, signal, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print(os.getpid(), child.pid, flush=True)\n"
    "time.sleep(300)\n"
)
STUBBORN_CHILD = (
    "import os, signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
    "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
    "print(os.getpid(), child.pid, flush=True)\n"
    "time.sleep(300)\n"
)


@pytest.mark.parametrize("stubborn", [STUBBORN_PARENT, STUBBORN_CHILD], ids=["parent", "child"])
def test_what_is_guarded_ends_with_all_its_children_when_its_starter_is_killed(stubborn: str) -> None:
    starter = (
        "import subprocess, sys\n"
        f"command = [sys.executable, {GUARD!r}, sys.executable, '-c', {stubborn!r}]\n"
        "subprocess.Popen(command, stdin=subprocess.PIPE).wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        numbers = [int(word) for word in process.stdout.readline().split()]
        assert len(numbers) == 2
        process.kill()
        process.wait()
        wait_until(lambda: not any(map(is_running, numbers)), "the guarded processes to end")


def test_the_guard_passes_the_exit_code_on() -> None:
    command = [sys.executable, GUARD, sys.executable, "-c", "raise SystemExit(7)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        wait_until(lambda: process.poll() is not None, "the guard to end")
    assert process.returncode == 7


@pytest.mark.usefixtures("store")
def test_a_server_that_cannot_start_is_reported_with_the_end_of_its_log() -> None:
    with (
        pytest.raises(ServerError, match=r"ended with exit code[\s\S]*nothing_here"),
        run_mlflow_server("models:/nothing_here/1"),
    ):
        pytest.fail("a server for a model that does not exist")


def test_a_server_of_this_machine_is_not_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(ROOT / "docs"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(ServerError, match="responded with 404"):
            check_alive(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
