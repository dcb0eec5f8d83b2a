"""Tables of databases: read in pieces, without changing anything, and without a secret in any message."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import psycopg
import pytest

from data.acquisition import sources
from data.acquisition.provenance import read_provenance
from data.errors import KobeShotError, TableError
from data.paths import ROOT
from data.storage import locations
from data.storage.dataset_reader import DatasetReader
from data.storage.locations import local_table, validate_location
from data.storage.tables import TableReader
from tests.project import free_port, wait_until

SECRET = "s3cr3tvalue"  # noqa: S105 what must not be found


def binary(name: str) -> Path:
    found = [*sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))]
    return found[-1] if found else Path(shutil.which(name) or name)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL server with a password; its URL without a table."""
    if not binary("initdb").exists():
        pytest.skip("PostgreSQL is not installed")
    user = "postgres" if os.getuid() == 0 else None
    data = Path(tempfile.mkdtemp(prefix="kobe_shot_postgres_"))
    password = data / "password"
    password.write_text(SECRET)
    for path in (data, password):
        if user:
            shutil.chown(path, user)
    initdb = [str(binary("initdb")), "-D", str(data / "data"), "-A", "scram-sha-256", "-U", "kobe", "-N"]
    subprocess.run([*initdb, f"--pwfile={password}"], user=user, check=True, stdout=subprocess.DEVNULL, cwd="/")
    port = str(free_port())
    command = [str(binary("postgres")), "-D", str(data / "data"), "-p", port, "-k", str(data), "-h", "127.0.0.1"]
    server = subprocess.Popen(command, user=user, stderr=subprocess.DEVNULL, cwd="/")
    try:
        ready = [str(binary("pg_isready")), "-q", "-h", "127.0.0.1", "-p", port]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL to respond")
        yield f"postgresql://kobe:{SECRET}@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(data)


@pytest.fixture(scope="module")
def filled(postgres: str, shots: pd.DataFrame) -> str:
    """The URL of a table of a schema of its own, with the types that people give columns."""
    columns = ["shot_id", "lat", "lon", "minutes_remaining", "period", "playoffs", "shot_distance", "shot_made_flag"]
    table = shots[[*columns, "shot_type", "game_date"]].astype({"shot_made_flag": "Int64", "playoffs": bool})
    kinds = ["bigint", "double precision", "numeric(9,4)", "int", "smallint", "boolean", "real", "int", "text", "date"]
    fields = ", ".join(f"{name} {kind}" for name, kind in zip(table, kinds, strict=True))
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE SCHEMA nba")
        connection.execute(f"CREATE TABLE nba.shots ({fields})".encode())
        with connection.cursor().copy("COPY nba.shots FROM STDIN (FORMAT csv)") as copy:
            copy.write(table.to_csv(index=False, header=False))
    return f"{postgres}?table=nba.shots"


def test_a_table_of_postgresql_is_a_source_and_its_password_is_recorded_nowhere(
    filled: str,
    shots: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(locations, "PIECE_ROWS", 999)
    found = sources.acquire(sources.validate_source(filled), rows=100, seed=1, raw=tmp_path)
    assert found.location == filled.replace(SECRET, "***")
    assert read_provenance(tmp_path) == found
    raw = pd.concat([pd.read_parquet(tmp_path / name) for name in found.sha256]).sort_values("shot_id")
    expected = shots.sort_values("shot_id")
    for name in ("shot_id", "lat", "lon", "playoffs", "shot_made_flag"):
        pd.testing.assert_series_equal(
            raw[name].reset_index(drop=True), expected[name].reset_index(drop=True), check_dtype=False, check_exact=True
        )
    assert raw["game_date"].tolist() == expected["game_date"].tolist()
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err + "".join(path.read_text() for path in tmp_path.glob("*.json"))


def test_values_of_postgresql_arrive_as_they_are_whatever_its_settings(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("ALTER ROLE kobe SET datestyle = 'SQL, DMY'")
        connection.execute("ALTER ROLE kobe SET extra_float_digits = 0")
        connection.execute(
            'CREATE TABLE kinds (id int, "Odd "" name" text, third double precision, made boolean, day date, '
            "at timestamp, share numeric(9,4), tags text[], none text)"
        )
        connection.execute(
            "INSERT INTO kinds VALUES (1, '', 1/3::double precision, true, '2001-02-03', '2001-02-03 04:05:06', 0.1, "
            "'{a,b}', null), (2, E'a, \"b\"\\n\\\\N t', 'Infinity', false, null, null, null, null, null), "
            "(null, null, 'NaN', null, null, null, null, null, null)"
        )
    with local_table(f"{postgres}?table=kinds") as path:
        rows = TableReader(path).table().to_pydict()
    third = rows.pop("third")
    assert third[:2] == [1 / 3, float("inf")]
    assert np.isnan(third[2])
    assert rows == {
        "id": [1, 2, None],
        'Odd " name': ["", 'a, "b"\n\\N t', None],
        "made": [True, False, None],
        "day": ["2001-02-03", None, None],
        "at": ["2001-02-03 04:05:06", None, None],
        "share": [0.1, None, None],
        "tags": ["{a,b}", None, None],
        "none": [None, None, None],
    }


def test_an_empty_table_of_postgresql_has_its_columns(postgres: str) -> None:
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE empty (id int, name text)")
    with local_table(f"{postgres}?table=empty") as path:
        table = TableReader(path).table()
    assert (table.num_rows, table.schema.names) == (0, ["id", "name"])


def test_an_error_within_a_view_of_postgresql_is_one_sentence(postgres: str) -> None:
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE VIEW broken AS SELECT n, 1 / (n - 40000) AS x FROM generate_series(1, 50000) n")
    with pytest.raises(TableError, match=r"cannot be read: division by zero$"), local_table(f"{postgres}?table=broken"):
        pass


_MEASURED = """
import re, sys
from pathlib import Path
from data.storage.locations import local_table
with local_table(sys.argv[1]):
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""

_DOUBLE = "INSERT INTO wide SELECT * FROM wide"


def peak(location: str) -> int:
    """Peak memory of a process that copies a table, bytes."""
    command = [sys.executable, "-c", _MEASURED, location]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout) * 1_024


def database(kind: str, postgres: str, folder: Path) -> tuple[Any, str]:
    """A connection to a database, and the URL of its table wide."""
    if kind == "postgresql":
        return psycopg.connect(postgres, autocommit=True), f"{postgres}?table=wide"
    path = folder / f"shots.{kind}"
    connect = sqlite3.connect if kind == "sqlite" else duckdb.connect
    return connect(str(path)), f"{path}?table=wide"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "sqlite", "duckdb"])
def test_memory_does_not_grow_with_the_table_of_a_database(kind: str, postgres: str, tmp_path: Path) -> None:
    columns = ", ".join(f"n{place} double precision" for place in range(8))
    create = [f"CREATE TABLE wide ({columns}, team text)", "INSERT INTO wide VALUES (1,2,3,4,5,6,7,8,'Los Angeles')"]
    peaks = []
    for statements in ([*create, *[_DOUBLE] * 18], [_DOUBLE] * 3):
        connection, location = database(kind, postgres, tmp_path)
        with closing(connection):
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        peaks.append(peak(location))
    assert peaks[1] - peaks[0] < 120e6
    assert peaks[1] < 1e9


def test_a_fraction_in_a_column_of_integers_is_named_not_cut(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shots.db")) as connection:
        connection.execute("CREATE TABLE shots (shot_distance INTEGER)")
        connection.executemany("INSERT INTO shots VALUES (?)", [(1,), (2.5,)])
        connection.commit()
    with pytest.raises(TableError, match=r"column shot_distance: .*2\.5"), local_table(f"{tmp_path}/shots.db"):
        pass


@pytest.mark.parametrize("table", ["nothing", "nba.nothing", "shots"])
def test_a_table_that_is_not_there_is_named_with_those_that_are(filled: str, table: str) -> None:
    location = f"{filled.rpartition('=')[0]}={table}"
    with pytest.raises(TableError, match=f"expected a table '{table}'") as refused, local_table(location):
        pass
    assert SECRET not in str(refused.value)


def test_a_password_that_is_wrong_is_not_repeated(filled: str) -> None:
    with (
        pytest.raises(TableError, match="password authentication failed") as refused,
        local_table(filled.replace(SECRET, f"{SECRET}x")),
    ):
        pass
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_password_is_refused_under_mlflow_run_which_logs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    location = f"postgresql://kobe:{SECRET}@host/shots?table=shots"
    assert validate_location(location) == location
    monkeypatch.setenv("MLFLOW_RUN_ID", "7")
    with pytest.raises(ValueError, match="PGPASSWORD") as refused:
        validate_location(location)
    assert SECRET not in str(refused.value)
    without = "postgresql://kobe@host/shots?table=shots"
    assert validate_location(without) == without


@pytest.mark.parametrize(
    ("location", "words"),
    [
        (f"postgresql://kobe:{SECRET}@host/shots", "the name of a table at the end"),
        (f"nosuchdatabase://kobe:{SECRET}@host/shots?table=shots", "a URL of nosuchdatabase://"),
        (f"postgresql://kobe:{SECRET}@host:port/shots?table=shots", "the URL of a table such as"),
        ("nothing.xlsx", "a name that ends in .parquet or .csv"),
        ("x" * 5_000, "File name too long"),
        ("~nobody_of_this_name/shots.csv", "expected a path"),
    ],
)
def test_what_is_no_location_is_refused_without_its_secrets(location: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        validate_location(location)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("location", ["s3://bucket/shots.csv", "gs://bucket/shots.parquet"])
def test_a_cloud_store_without_its_package_names_what_to_install(location: str) -> None:
    with pytest.raises(TableError, match="pip install fsspec"), local_table(validate_location(location)):
        pass


def test_a_database_file_is_not_changed_and_reads_no_other_file(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "shots.duckdb")) as connection:
        connection.execute("CREATE TABLE shots AS SELECT 34.0 AS lat")
        connection.execute("CREATE VIEW stolen AS SELECT * FROM read_csv('/etc/hostname')")
    with closing(sqlite3.connect(tmp_path / "shots.db")) as connection_:
        connection_.execute("CREATE TABLE shots (lat REAL)")
        connection_.execute("INSERT INTO shots VALUES ('north')")
        connection_.commit()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with local_table(f"{tmp_path}/shots.duckdb?table=shots") as path:
        assert TableReader(path).whole()["lat"].tolist() == [34.0]
    with pytest.raises(TableError, match="Permission"), local_table(f"{tmp_path}/shots.duckdb?table=stolen"):
        pass
    with (
        pytest.raises(TableError, match="column lat: expected values of its type"),
        local_table(f"{tmp_path}/shots.db"),
    ):
        pass
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ['shots"; DROP TABLE shots; --', "shots of 2000", "Größe"])
def test_any_name_of_a_table_is_a_name(name: str, tmp_path: Path, shots: pd.DataFrame) -> None:
    with closing(sqlite3.connect(tmp_path / "shots.db")) as connection:
        shots.head(5).to_sql("shots", connection, index=False)
        shots.head(7).to_sql(name, connection, index=False)
    with local_table(f"{tmp_path}/shots.db?table={name}") as path:
        assert len(DatasetReader(path).whole()) == 7
    with pytest.raises(KobeShotError, match="shots"), local_table(f"{tmp_path}/shots.db?table=x"):
        pass


def test_a_table_that_is_too_large_is_refused_and_its_copy_removed(filled: str, tmp_path: Path) -> None:
    with pytest.raises(KobeShotError, match="max_source_bytes"):
        sources.acquire(filled, rows=100, seed=1, raw=tmp_path, max_bytes=10_000)
    assert list(tmp_path.iterdir()) == []
