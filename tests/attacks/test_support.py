"""The meter and the other client see what a server does."""

import subprocess
import sys

import psutil

from tests.attacks.support import MEGABYTE, MemoryMeter, Server, Watched
from tests.project import wait_until


def test_an_idle_server_does_not_grow_and_serves_the_other_client(server: Server) -> None:
    with Watched(server) as seen:
        response = server.send(b"{}")
    assert response.status == 400
    assert response.is_harmless()
    seen.assert_bounded(growth=50 * MEGABYTE)


def test_the_meter_sees_memory_that_was_given_back_between_two_samples() -> None:
    """A process of its own stands for a server."""

    class One(Server):
        def processes(self) -> list[psutil.Process]:
            return [psutil.Process(process.pid)]

    program = "print(flush=True); input(); b'x' * 200_000_000; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        meter = MemoryMeter(One("one", "http://127.0.0.1:1"))
        meter.start()
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        meter.stop()
        process.stdin.write("\n")
        process.stdin.flush()
        wait_until(lambda: process.poll() is not None, "the end of the process")
    assert 190 * MEGABYTE < meter.growth < 220 * MEGABYTE
