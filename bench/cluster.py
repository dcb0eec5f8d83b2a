"""A standalone Spark cluster on this machine, started with PySpark's scripts."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil
import requests

from bench.patience import wait_until
from bench.processes import process_tree
from serving.server.subprocesses import free_port


@dataclass
class Cluster:
    """A master and its workers.

    Attributes
    ----------
    master : str
        Its URL, ``spark://127.0.0.1:PORT``.
    web : str
        URL of its web page.
    folder : pathlib.Path
        Folder of its logs.
    workers : list of subprocess.Popen
        Workers that were started, running or not.
    """

    master: str
    web: str
    folder: Path
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def alive(self) -> int:
        """Number of registered workers."""
        return int(requests.get(f"{self.web}/json/", timeout=5).json()["aliveworkers"])

    def kill(self, number: int) -> None:
        """Kill a worker and its executors, like the loss of its machine."""
        for process in process_tree(self.workers[number].pid):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def processes(self) -> list[psutil.Process]:
        """The running workers and their executors."""
        return [process for worker in self.workers for process in process_tree(worker.pid)]


@contextmanager
def cluster(folder: Path, *, workers: int = 2, cores: int = 1, memory: str = "1g") -> Iterator[Cluster]:
    """Start a master and workers, and stop them with their child processes.

    Parameters
    ----------
    folder : pathlib.Path
        Folder for logs and the workers' files.
    workers, cores : int
        Number of workers, and cores of each worker.
    memory : str
        Memory of each worker, in Spark's notation.

    Raises
    ------
    TimeoutError
        If the workers do not register with the master.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, web_port = free_port(), free_port()
    found = Cluster(f"spark://127.0.0.1:{port}", f"http://127.0.0.1:{web_port}", folder)
    host = ["--host", "127.0.0.1"]
    master = _start("master.Master", [*host, "--port", str(port), "--webui-port", str(web_port)], folder / "master")
    try:
        _wait_for(lambda: found.alive() == 0, "the master to respond")
        for number in range(workers):
            resources = ["--cores", str(cores), "--memory", memory, "--work-dir", str(folder / f"work-{number}")]
            command = [*host, *resources, "--webui-port", "0", found.master]
            found.workers.append(_start("worker.Worker", command, folder / f"worker-{number}"))
        _wait_for(lambda: found.alive() == workers, f"{workers} workers to register")
        yield found
    finally:
        for process in [*found.workers, master]:
            _terminate(process)


def _start(name: str, arguments: list[str], log: Path) -> "subprocess.Popen[bytes]":
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        message = "pyspark is not installed. Install it: make spark"
        raise SystemExit(message)
    script = Path(spec.origin).parent / "bin" / "spark-class"
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    with log.with_suffix(".log").open("wb") as file:
        return subprocess.Popen(
            [str(script), f"org.apache.spark.deploy.{name}", *arguments],
            cwd=log.parent,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def _terminate(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        family = process_tree(process.pid)[::-1]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for member in alive:
            with suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    def met() -> bool:
        with suppress(requests.RequestException):
            return condition()
        return False

    wait_until(met, what)
