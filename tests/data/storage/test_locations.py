"""Tables of databases: read in pieces, without changing anything, and without a secret in any message."""

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pandas as pd
import psycopg
import pytest

from data.acquisition import sources
from data.acquisition.provenance import read_provenance
from data.errors import KobeShotError, TableError
from data.storage import locations
from data.storage.locations import local_table, validate_location
from data.storage.shot_reader import ShotReader
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
        assert len(ShotReader(path).whole()) == 7
    with pytest.raises(KobeShotError, match="shots"), local_table(f"{tmp_path}/shots.db?table=x"):
        pass


def test_a_table_that_is_too_large_is_refused_and_its_copy_removed(filled: str, tmp_path: Path) -> None:
    with pytest.raises(KobeShotError, match="max_source_bytes"):
        sources.acquire(filled, rows=100, seed=1, raw=tmp_path, max_bytes=10_000)
    assert list(tmp_path.iterdir()) == []
