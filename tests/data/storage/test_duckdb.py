import os

import pytest

from data.storage.duckdb import duckdb_settings


def test_all_cores_are_used_where_the_system_has_no_affinity_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOBE_DUCKDB_THREADS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert duckdb_settings().threads == os.cpu_count()
