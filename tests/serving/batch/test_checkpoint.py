"""``python -m serving.client TABLE --out TABLE`` against the real production server."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.pipeline import Pipeline

from data.cli.config import parse_args
from data.errors import KobeShotError, TableError
from data.schema import FEATURES
from data.storage.tables import TableReader
from serving.batch import chunks
from serving.batch.checkpoint import CheckpointError
from serving.batch.local import BatchJob, score_table
from serving.client.cli import ClientConfig, job_of, run
from serving.client.endpoint import Predictions, RejectedRowsError, ScoringClient, ScoringError
from serving.shot_tables import problems_of
from tests.project import Checkout, ProductionServer, free_port, ok, wait_until


@pytest.fixture(scope="module")
def endpoint(production_server: ProductionServer) -> ScoringClient:
    return ScoringClient(production_server.url)


@pytest.fixture
def table(shots: pd.DataFrame) -> pd.DataFrame:
    """Three thousand shots with columns of every kind."""
    return shots.head(3_000)[["lat", "lon", *FEATURES[2:], "shot_id", "shot_made_flag", "game_date"]]


def job(folder: Path, table: pd.DataFrame, **options: Any) -> BatchJob:  # noqa: ANN401
    path = folder / "table.parquet"
    if not path.exists():
        table.to_parquet(path, index=False, row_group_size=700)
    return resumable(path, folder / "out.parquet", **{"rows_per_chunk": 250, **options})


def resumable(path: Path, out: Path, rejects: Path | None = None, **options: Any) -> BatchJob:  # noqa: ANN401
    most = None if rejects else 0
    return BatchJob(path, out, most, rejects_path=rejects, is_resumable=True, **options)


def expected(
    table: pd.DataFrame, served_checkout: tuple[Checkout, Pipeline]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = table.rename(columns={"lon": "lng"})[list(FEATURES)].to_numpy(dtype=float)
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = served_checkout[1].predict_proba(values)[:, 1]
    return found


def test_the_output_is_the_table_with_its_responses(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame, served_checkout: tuple[Checkout, Pipeline]
) -> None:
    counted: list[int] = []
    done = score_table(job(tmp_path, table), endpoint, on_progress=counted.append)
    assert (done.rows, done.rejected, done.continued, sum(counted)) == (3_000, 0, 0, 3_000)
    out = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(out[table.columns], table.reset_index(drop=True), check_dtype=False)
    np.testing.assert_allclose(out["probability"], expected(table, served_checkout), rtol=0, atol=1e-9)
    assert (out["prediction"] == (out["probability"] >= 0.5)).all()
    assert set(out["model_version"]) == {1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "table.parquet"]


@pytest.mark.parametrize("kinds", [("csv", "csv"), ("csv", "parquet"), ("parquet", "csv")])
def test_csv_and_parquet_can_be_either_side(
    tmp_path: Path,
    endpoint: ScoringClient,
    table: pd.DataFrame,
    served_checkout: tuple[Checkout, Pipeline],
    kinds: tuple[str, str],
) -> None:
    source, target = kinds
    path, out = tmp_path / f"table.{source}", tmp_path / f"out.{target}"
    table.to_csv(path, index=False) if source == "csv" else table.to_parquet(path, index=False)
    score_table(resumable(path, out, rows_per_chunk=700), endpoint)
    found = pd.read_csv(out) if target == "csv" else pd.read_parquet(out)
    np.testing.assert_allclose(found["probability"], expected(table, served_checkout), rtol=0, atol=1e-9)
    assert found["shot_id"].tolist() == table["shot_id"].tolist()
    assert found["game_date"].tolist() == table["game_date"].tolist()
    if (source, target) == ("csv", "csv"):
        unquoted = out.read_text().replace('"', "").splitlines()[1]
        assert unquoted.startswith(path.read_text().splitlines()[1])


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_an_empty_table_has_an_empty_response(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame, kind: str
) -> None:
    path = tmp_path / f"table.{kind}"
    empty = table.iloc[:0]
    empty.to_csv(path, index=False) if kind == "csv" else empty.to_parquet(path, index=False)
    score_table(resumable(path, tmp_path / "out.parquet"), endpoint)
    assert list(pd.read_parquet(tmp_path / "out.parquet")) == [*table, "prediction", "probability", "model_version"]


class CrashesAfter(ScoringClient):
    """An endpoint that is gone after some chunks."""

    def __init__(self, url: str, chunks: int) -> None:
        super().__init__(url, retry_timeout=0)
        self._left = chunks

    def score(self, *arguments: Any, **options: Any) -> Predictions:  # noqa: ANN401
        """Respond, or be gone."""
        self._left -= 1
        if self._left < 0:
            message = "gone"
            raise ScoringError(message)
        return super().score(*arguments, **options)


def test_a_run_that_broke_off_is_continued_and_requests_for_nothing_twice(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame
) -> None:
    with pytest.raises(ScoringError, match="gone"):
        score_table(job(tmp_path, table, at_once=2), CrashesAfter(endpoint.url, 5))
    assert not (tmp_path / "out.parquet").exists()
    done = score_table(job(tmp_path, table), endpoint)
    assert (done.rows, done.continued) == (3_000, 5 * 250)
    assert pd.read_parquet(tmp_path / "out.parquet")["shot_id"].tolist() == table["shot_id"].tolist()


def test_a_table_that_changed_is_not_continued(tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame) -> None:
    with pytest.raises(ScoringError):
        score_table(job(tmp_path, table), CrashesAfter(endpoint.url, 2))
    table.head(100).to_parquet(tmp_path / "table.parquet", index=False)
    with pytest.raises(CheckpointError, match=r"differs in bytes[\s\S]*remove that folder"):
        score_table(job(tmp_path, table), endpoint)


def test_two_runs_into_one_output_do_not_mix(tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame) -> None:
    sent, inner = job(tmp_path, table), []

    def run_another(_rows: int) -> None:
        with pytest.raises(CheckpointError, match="Another run is writing"):
            score_table(sent, endpoint)
        inner.append("refused")

    score_table(sent, endpoint, on_progress=run_another)
    assert set(inner) == {"refused"}


def broken(table: pd.DataFrame) -> pd.DataFrame:
    bad = table.astype({"period": float, "shot_distance": float}).reset_index(drop=True)
    bad.loc[10, "lat"] = np.nan
    bad.loc[260, "period"] = 11
    bad.loc[261, "period"] = 1.5
    bad.loc[2_999, "shot_distance"] = np.inf
    return bad


def test_refused_rows_end_the_run_with_their_reasons(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame
) -> None:
    given = job(tmp_path, broken(table))
    arguments = [str(given.table), "--out", str(given.out), "--batch_size", "250"]
    with pytest.raises(
        ScoringError, match=r"--rejects FILE.*\n  row 10, column lat: found null, expected a float from"
    ):
        score_table(job_of(parse_args(ClientConfig, arguments), given.table), endpoint)
    assert not (tmp_path / "out.parquet").exists()


def test_refused_rows_go_to_the_rejects_and_the_others_are_scored(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame, served_checkout: tuple[Checkout, Pipeline]
) -> None:
    with pytest.raises(ScoringError):
        score_table(job(tmp_path, broken(table)), endpoint)
    done = score_table(job(tmp_path, broken(table), rejects=tmp_path / "rejects.csv"), endpoint)
    assert (done.rows, done.rejected) == (2_996, 4)
    rejects = pd.read_csv(tmp_path / "rejects.csv")
    assert rejects["row"].tolist() == [10, 260, 261, 2_999]
    assert rejects["reason"].tolist() == [
        "column lat: found null, expected a float from 33.1568 to 34.0968",
        "column period: found 11, expected an integer from 1 to 10",
        "column period: found 1.5, expected an integer from 1 to 10",
        "column shot_distance: found inf, expected a float from 0 to 94",
    ]
    out = pd.read_parquet(tmp_path / "out.parquet")
    good = table.drop(table.index[[10, 260, 261, 2_999]])
    assert out["shot_id"].tolist() == good["shot_id"].tolist()
    np.testing.assert_allclose(out["probability"], expected(good, served_checkout), rtol=0, atol=1e-9)


def test_a_run_with_rejects_is_not_finished_without_them(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame
) -> None:
    done: list[int] = []

    def end_with_the_last_chunk(rows: int) -> None:
        done.append(rows)
        if sum(done) == len(table):
            raise KeyboardInterrupt

    with_rejects = job(tmp_path, broken(table), rejects=tmp_path / "rejects.csv")
    with pytest.raises(KeyboardInterrupt):
        score_table(with_rejects, endpoint, on_progress=end_with_the_last_chunk)
    with pytest.raises(ScoringError, match="row 10, column lat"):
        score_table(job(tmp_path, table), endpoint)
    assert not (tmp_path / "out.parquet").exists()
    finished = score_table(with_rejects, endpoint)
    assert (finished.rejected, finished.continued) == (4, 3_000)


def test_responses_that_a_killed_removal_has_left_are_not_another_tables(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame, served_checkout: tuple[Checkout, Pipeline]
) -> None:
    with pytest.raises(ScoringError):
        score_table(job(tmp_path, table), CrashesAfter(endpoint.url, 5))
    (tmp_path / "out.parquet.progress" / "job.json").unlink()
    turned = table.iloc[::-1]
    turned.to_parquet(tmp_path / "table.parquet", index=False)
    assert score_table(job(tmp_path, turned), endpoint).continued == 0
    found = pd.read_parquet(tmp_path / "out.parquet")["probability"]
    np.testing.assert_allclose(found, expected(turned, served_checkout), rtol=0, atol=1e-9)


def test_a_chunk_that_cannot_be_read_is_requested_for_again(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame
) -> None:
    with pytest.raises(ScoringError):
        score_table(job(tmp_path, table, at_once=1), CrashesAfter(endpoint.url, 3))
    next((tmp_path / "out.parquet.progress").glob("*.arrow")).write_bytes(b"")
    assert score_table(job(tmp_path, table), endpoint).continued == 2 * 250


def test_an_endpoint_that_refuses_everything_is_not_requested_for_every_row(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame
) -> None:
    class Refuses(ScoringClient):
        sent = 0

        def score(self, *_: Any, **__: Any) -> Predictions:  # noqa: ANN401
            """Refuse."""
            self.sent += 1
            message = "no such model"
            raise RejectedRowsError(message, message)

    refuses = Refuses(endpoint.url)
    with pytest.raises(ScoringError, match=r"rejects rows that the schema allows.*no such model"):
        score_table(job(tmp_path, table, rejects=tmp_path / "rejects.csv", rows_per_chunk=3_000, at_once=1), refuses)
    assert refuses.sent < 200


def test_a_text_that_cannot_be_written_is_reported_by_row_before_anything_is_scored(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame
) -> None:
    text = table.head(5).astype({"shot_id": str}).reset_index(drop=True)
    text.loc[3, "shot_id"] = "x7"
    text.to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(ScoringError, match=r"row 3, column shot_id: found 'x7'"):
        score_table(resumable(tmp_path / "table.csv", tmp_path / "out.parquet"), endpoint)
    score_table(resumable(tmp_path / "table.csv", tmp_path / "out.csv"), endpoint)
    assert pd.read_csv(tmp_path / "out.csv")["shot_id"].tolist()[3] == "x7"


def test_other_columns_and_an_index_pass_through(tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame) -> None:
    given = table.head(5).assign(color="red", prediction_label=1)
    given.to_csv(tmp_path / "table.csv")
    assert score_table(resumable(tmp_path / "table.csv", tmp_path / "out.csv"), endpoint).rows == 5
    found = pd.read_csv(tmp_path / "out.csv", index_col=0)
    pd.testing.assert_frame_equal(found[given.columns], given, check_dtype=False)


def test_where_every_row_is_refused_the_error_names_the_commonest_reason_and_nothing_is_kept(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame
) -> None:
    table.head(5).assign(period=11).to_parquet(tmp_path / "table.parquet", index=False)
    with pytest.raises(ScoringError, match=r"no row was scored(.|\n)* 5 row\(s\): column period: found 11"):
        score_table(resumable(tmp_path / "table.parquet", tmp_path / "out.csv", tmp_path / "rejects.csv"), endpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


def test_rows_that_only_the_endpoint_refuses_are_found_by_halving(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "problems_of", lambda _values, _dataset: {})
    done = score_table(job(tmp_path, broken(table), rejects=tmp_path / "rejects.parquet"), endpoint)
    assert (done.rows, done.rejected) == (2_996, 4)
    rejects = pd.read_parquet(tmp_path / "rejects.parquet")
    assert rejects["row"].tolist() == [10, 260, 261, 2_999]
    assert "column lat: found null" in rejects["reason"][0]


def test_a_cell_of_a_csv_file_that_is_no_number_is_rejected_by_row(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame
) -> None:
    text = table.head(5).to_csv(index=False).splitlines()
    text[3] = "north," + text[3].partition(",")[2]
    (tmp_path / "table.csv").write_text("\n".join(text) + "\n")
    done = score_table(resumable(tmp_path / "table.csv", tmp_path / "out.csv", tmp_path / "rejects.csv"), endpoint)
    assert (done.rows, done.rejected) == (4, 1)
    rejects = pd.read_csv(tmp_path / "rejects.csv")
    assert rejects["reason"].tolist() == ["column lat: found 'north', expected a float from 33.1568 to 34.0968"]


def test_a_client_killed_at_random_times_ends_with_every_row_once(
    tmp_path: Path, served_checkout: tuple[Checkout, Pipeline], production_server: ProductionServer, table: pd.DataFrame
) -> None:
    checkout, _ = served_checkout
    big = pd.concat([table] * 20, ignore_index=True).assign(shot_id=lambda t: range(len(t)))
    big.to_parquet(tmp_path / "table.parquet", index=False)
    options = ["--batch_size", "500", "--endpoint", production_server.url]
    command = ["python", "-m", "serving.client", str(tmp_path / "table.parquet"), *options]
    ok(checkout.command(*command, "--out", str(tmp_path / "undisturbed.parquet")))
    disturbed = [*command, "--out", str(tmp_path / "disturbed.parquet")]
    progress = tmp_path / "disturbed.parquet.progress"
    for number in (5, 80):
        process = checkout.start(*disturbed)
        wait_until(
            lambda p=process, c=number: p.poll() is not None or len(list(progress.glob("*.arrow"))) >= c, "chunks"
        )
        process.kill()
        process.wait()
        assert not (tmp_path / "disturbed.parquet").exists()
    assert "rows were scored in an earlier run" in ok(checkout.command(*disturbed))
    assert (tmp_path / "disturbed.parquet").read_bytes() == (tmp_path / "undisturbed.parquet").read_bytes()


@pytest.fixture
def files(tmp_path: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a table, and others that are none."""
    table.to_parquet(tmp_path / "table.parquet", index=False)
    table.drop(columns="lat").assign(color="red").to_csv(tmp_path / "color.csv", index=False)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "empty.csv").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table.parquet"], "out"),
        (["table.parquet", "--out", "table.parquet"], "expected three different files"),
        (["table.parquet", "--out", "out.xlsx"], "expected a name that ends in .parquet or .csv"),
        (["table.parquet", "--out", "out.csv", "--batch_size", "0"], "batch_size"),
        (["table.parquet", "--out", "out.csv", "--endpoint", "5001"], "endpoint"),
    ],
)
def test_the_command_refuses_parameters_that_cannot_be(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args(ClientConfig, arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.parquet", "expected a Parquet or CSV file, or a folder of Parquet files; found nothing"),
        ("broken.parquet", "it cannot be read"),
        ("empty.csv", "it cannot be read"),
        ("color.csv", "missing: lat. Found: lon, .*, color"),
    ],
)
def test_a_table_that_is_none_of_shots_is_refused_and_nothing_written(
    files: Path, production_server: ProductionServer, name: str, words: str
) -> None:
    config = parse_args(ClientConfig, [name, "--out", "out.csv", "--endpoint", production_server.url])
    with pytest.raises(KobeShotError, match=words):
        run(config)
    assert not (files / "out.csv").exists()


@pytest.mark.parametrize(
    ("name", "out", "code", "words"),
    [("broken.parquet", "out.csv", 1, "it cannot be read"), ("table.parquet", "table.parquet", 2, "three different")],
)
def test_the_command_ends_with_a_code_and_words(  # noqa: PLR0913, PLR0917 three fixtures and a case
    files: Path,
    served_checkout: tuple[Checkout, Pipeline],
    production_server: ProductionServer,
    name: str,
    out: str,
    code: int,
    words: str,
) -> None:
    arguments = [str(files / name), "--out", str(files / out), "--endpoint", production_server.url]
    result = served_checkout[0].command("python", "-m", "serving.client", *arguments)
    assert result.returncode == code, result.stderr
    assert words in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr
    assert not (files / "out.csv").exists()


def test_a_server_that_is_not_there_is_reported_with_the_command_that_starts_one(
    tmp_path: Path, served_checkout: tuple[Checkout, Pipeline], table: pd.DataFrame
) -> None:
    table.to_parquet(tmp_path / "table.parquet", index=False)
    result = served_checkout[0].command(
        *("python", "-m", "serving.client", str(tmp_path / "table.parquet"), "--out", str(tmp_path / "out.parquet")),
        *("--endpoint", f"http://127.0.0.1:{free_port()}"),
    )
    assert result.returncode == 1
    assert "serving.client failed: No scoring server responds" in result.stderr.replace("\n", " ")
    assert "make serve" in result.stderr


def test_what_is_wrong_with_a_row_is_logged_as_the_server_shows_it(table: pd.DataFrame) -> None:
    values = broken(table).rename(columns={"lon": "lng"})[list(FEATURES)].to_numpy(dtype=float)
    assert sorted(problems_of(values)) == [10, 260, 261, 2_999]


def test_a_file_that_ends_too_early_is_reported(tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame) -> None:
    (tmp_path / "table.csv").write_text(table.head(3).to_csv(index=False) + "1,2\n")
    with pytest.raises(TableError, match="cannot be read"):
        score_table(resumable(tmp_path / "table.csv", tmp_path / "out.csv"), endpoint)


def test_chunks_are_of_one_size_whatever_the_row_groups_are(tmp_path: Path, table: pd.DataFrame) -> None:
    table.to_parquet(tmp_path / "table.parquet", row_group_size=333, index=False)
    assert [len(piece) for piece in TableReader(tmp_path / "table.parquet").chunks(1_000)] == [1_000] * 3


def test_an_int_column_of_any_width_is_sent_as_doubles(
    tmp_path: Path, endpoint: ScoringClient, table: pd.DataFrame
) -> None:
    narrow = pa.Table.from_pandas(table, preserve_index=False)
    place = narrow.schema.get_field_index("period")
    pq.write_table(narrow.set_column(place, "period", narrow["period"].cast(pa.int8())), tmp_path / "table.parquet")
    assert score_table(resumable(tmp_path / "table.parquet", tmp_path / "out.parquet"), endpoint).rows == 3_000


@pytest.mark.slow
def test_memory_does_not_grow_with_the_table(
    tmp_path: Path, served_checkout: tuple[Checkout, Pipeline], production_server: ProductionServer, table: pd.DataFrame
) -> None:
    peaks = []
    for copies in (20, 400):
        folder = tmp_path / str(copies)
        folder.mkdir()
        pieces = pa.Table.from_pandas(table, preserve_index=False)
        with pq.ParquetWriter(folder / "table.parquet", pieces.schema) as writer:
            for _ in range(copies):
                writer.write_table(pieces)
        script = (
            "import pathlib, re, runpy, sys\n"
            f"sys.argv[1:] = ['{folder}/table.parquet', '--out', '{folder}/out.parquet', "
            f"'--endpoint', '{production_server.url}']\n"
            "runpy.run_module('serving.client', run_name='__main__')\n"
            "status = pathlib.Path('/proc/self/status').read_text()\n"
            "print(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])\n"
        )
        peaks.append(int(ok(served_checkout[0].command("python", "-c", script)).split()[-1]))
    assert peaks[1] < peaks[0] * 1.3 + 30_000, peaks
    assert peaks[1] < 500_000
