"""What the pages set going: steps as processes, shots and tables over REST."""

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.pipeline import Pipeline

from data.files import ROOT
from data.schema import FEATURES, feature_column
from monitor import jobs
from monitor.jobs import JobError, read_shots, run_step, score_shot, score_shots
from monitor.metrics import evaluate
from serving.endpoint import RefusedError, ScoringError
from serving.tables import TableError
from tests.project import Checkout, Operated, free_port, runs, shot, wait_until

SHOT = {name: float(str(value)) for name, value in shot().items()}


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose steps are small scripts of a test."""
    (tmp_path / "serving").mkdir()
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "__init__.py").touch()
    (tmp_path / "serving" / "guard.py").write_bytes((ROOT / "serving" / "guard.py").read_bytes())
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    yield tmp_path
    mlflow.set_tracking_uri(before)


def write_step(bundle: Path, text: str) -> None:
    (bundle / "steps" / "treinamento.py").write_text(text)


def csv(table: pd.DataFrame) -> bytes:
    return bytes(table.to_csv(index=False).encode())


def parquet(table: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    table.to_parquet(sink, index=False)
    return sink.getvalue()


def table(**changes: object) -> pd.DataFrame:
    return pd.DataFrame([shot(), shot(lat=34.0, shot_distance=8)]).assign(**changes)


def test_a_step_runs_in_the_project_against_this_store_and_is_heard_line_by_line(bundle: Path) -> None:
    write_step(
        bundle,
        "import os, sys\nprint(os.getcwd())\nprint(sys.argv[1:])\nprint(os.environ['MLFLOW_TRACKING_URI'])\n"
        "print('a word of error', file=sys.stderr)\nsys.exit(3)\n",
    )
    lines: list[str] = []
    assert run_step("treinamento", ["--cv-folds", "2; echo no shell"], on_line=lines.append) == 3
    expected = [str(bundle), "['--cv-folds', '2; echo no shell']", mlflow.get_tracking_uri(), "a word of error"]
    assert sorted(lines) == sorted(expected)


def test_a_real_step_runs_with_the_environment_of_this_process() -> None:
    lines: list[str] = []
    assert run_step("treinamento", ["--help"], on_line=lines.append) == 0
    assert "cv_folds" in "\n".join(lines)


@pytest.mark.parametrize("name", ["main", "../serving/server", "treinamento; true", ""])
def test_a_page_may_only_run_the_steps_that_are_named(name: str) -> None:
    with pytest.raises(JobError, match="Expected one of the steps treinamento"):
        run_step(name, on_line=print)


def test_a_step_and_its_children_end_when_the_page_is_left(bundle: Path) -> None:
    write_step(
        bundle,
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(os.getpid(), child.pid, flush=True)\ntime.sleep(600)\n",
    )
    started: list[int] = []

    def leave(line: str) -> None:
        started.extend(map(int, line.split()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_step("treinamento", on_line=leave)
    assert len(started) == 2
    wait_until(lambda: not any(runs(number) for number in started), "the step to end", seconds=10)


def test_a_step_that_is_ended_may_still_say_goodbye(bundle: Path) -> None:
    write_step(
        bundle,
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "print('ready', flush=True)\n"
        "try:\n    time.sleep(600)\n"
        "finally:\n    print('tidying up' * 9_999, flush=True)\n    pathlib.Path('tidied').touch()\n",
    )

    def leave(_line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_step("treinamento", on_line=leave)
    assert (bundle / "tidied").exists()


def test_a_place_on_the_court_decides_position_and_whole_feet_within_the_ranges() -> None:
    assert jobs.shot_from(0, 0) == {"lat": 34.0443, "lng": -118.2698, "shot_distance": 0}
    assert jobs.shot_from(-3, 4.99)["shot_distance"] == 5
    for name, value in jobs.shot_from(-25, 900).items():
        column = feature_column(name)
        assert float(column.minimum or 0) <= value <= float(column.maximum or 0)


def test_one_shot_gets_the_answer_of_the_model(
    operated_door: Operated, served_checkout: tuple[Checkout, Pipeline]
) -> None:
    answer = score_shot(SHOT, operated_door.address)
    expected = served_checkout[1].predict_proba([[SHOT[name] for name in FEATURES]])[0, 1]
    assert answer.probability == pytest.approx(expected)
    assert answer.made == (expected >= 0.5)
    assert answer.version == "1"
    assert 0 < answer.milliseconds < 60_000


def test_the_command_that_is_shown_gets_the_answer_that_is_shown(operated_door: Operated) -> None:
    answer = score_shot(SHOT, operated_door.address)
    done = subprocess.run(["sh", "-c", answer.curl], capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout) == answer.answered


def test_a_shot_that_the_server_refuses_is_told_with_its_reason(operated_door: Operated) -> None:
    with pytest.raises(RefusedError) as refused:
        score_shot(SHOT | {"period": 11.0}, operated_door.address)
    assert "column period: found 11, expected a whole number from 1 to 10" in refused.value.reason


@pytest.mark.parametrize("address", ["", "foo", "http://", "http://["])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(ScoringError, match="Expected the address of a scoring server"):
        score_shot(SHOT, address)


def test_a_server_that_is_down_is_told(operated_door: Operated) -> None:
    del operated_door
    with pytest.raises(ScoringError, match=r"No scoring server answers at http://127\.0\.0\.1:"):
        score_shot(SHOT, f"http://127.0.0.1:{free_port()}", patience=0)


@pytest.mark.parametrize(("name", "write"), [("my.csv", csv), ("my.parquet", parquet), ("MY.CSV", csv)])
def test_a_file_with_raw_names_and_columns_of_its_own_is_scored_and_kept_whole(
    name: str, write: object, operated_door: Operated
) -> None:
    assert callable(write)
    mine = table(shot_made_flag=[1, None], shot_id=[7, 8], season="2000-01", mood=["good", "bad"])
    mine = mine.rename(columns={"lng": "lon"})
    shots = read_shots(name, write(mine))
    assert shots.aside == ("mood",)
    progress: list[int] = []
    scored = score_shots(shots, operated_door.address, on_progress=progress.append)
    assert sum(progress) == 2
    pd.testing.assert_frame_equal(scored.table[list(mine)], mine, check_dtype=False)
    assert scored.labelled == 1
    assert scored.metrics == evaluate([1], scored.table["probability"][:1])
    assert scored.versions == "1"
    assert scored.mean_probability == pytest.approx(scored.table["probability"].mean())
    downloaded = pd.read_csv(io.BytesIO(scored.csv)), pd.read_parquet(io.BytesIO(scored.parquet))
    for again in downloaded:
        assert again["probability"].tolist() == pytest.approx(scored.table["probability"].tolist())


def test_a_downloaded_table_may_be_scored_again(operated_door: Operated) -> None:
    first = score_shots(read_shots("a.csv", csv(table())), operated_door.address, on_progress=lambda _: None)
    again = read_shots("a.csv", first.csv)
    assert again.aside == ()
    second = score_shots(again, operated_door.address, on_progress=lambda _: None)
    assert list(second.table) == list(first.table)


def test_without_labels_there_are_no_metrics(operated_door: Operated) -> None:
    for mine in (table(), table(shot_made_flag=[None, None])):
        scored = score_shots(read_shots("a.csv", csv(mine)), operated_door.address, on_progress=lambda _: None)
        assert (scored.labelled, scored.metrics) == (0, {})


TWICE = io.BytesIO()
pq.write_table(pa.table([pa.array([1.0])] * 7, names=[*FEATURES, "lat"]), TWICE)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"PAR1 no table", "expected a parquet table; it cannot be read"),
        ("a.parquet", b"", "expected a parquet table; it cannot be read"),
        ("a.csv", b"", "expected a csv table; it cannot be read"),
        ("a.csv", b"\xff\xfe\x00", "a.csv"),
        ("a.csv", b"lat,lng\n1,2,3\n", "expected a csv table; it cannot be read"),
        ("a.xlsx", b"", "ends in .parquet or .csv"),
        ("a.csv", csv(table().drop(columns=["period", "lng"])), "missing: lng, period"),
        ("a.parquet", TWICE.getvalue(), "found twice: lat"),
        ("a.csv", csv(table().head(0)), "holds no rows"),
        ("a.csv", csv(table(period=["first", 2])), "row 0, column period: found 'first', expected a whole number"),
        ("a.csv", csv(table(period=[None, 2])), "row 0, column period: found null"),
        ("a.parquet", parquet(table(lat=[34.0, 99.0])), "row 1, column lat: found 99, expected a number from"),
        ("a.csv", csv(table(shot_made_flag=[0, 2])), "row 1, column shot_made_flag: found 2, expected 1, 0 or nothing"),
        ("a.csv", csv(table(shot_made_flag=[0, "in"])), "row 1, column shot_made_flag: found 'in'"),
    ],
)
def test_a_file_that_is_no_table_of_shots_is_told_in_words(name: str, content: bytes, message: str) -> None:
    with pytest.raises(TableError) as told:
        read_shots(name, content)
    assert message in str(told.value)


def test_of_many_wrong_rows_the_first_are_named_and_all_are_counted() -> None:
    mine = pd.concat([table(period=11)] * 20)
    with pytest.raises(TableError) as told:
        read_shots("a.csv", csv(mine))
    assert "40 row(s)" in str(told.value)
    assert str(told.value).count("column period") == 10
    assert "and 30 more rows" in str(told.value)


def test_without_a_preparation_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PROCESSED", tmp_path)
    with pytest.raises(TableError, match="make main"):
        jobs.production_set()
    assert jobs.historical_shots() is None
    (tmp_path / "base_prod.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(TableError, match="make main"):
        jobs.historical_shots()
    with pytest.raises(TableError, match="cannot be read"):
        jobs.production_set()


def test_the_production_set_and_the_history_are_those_of_the_last_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PROCESSED", tmp_path)
    table(shot_made_flag=[1, None]).to_parquet(tmp_path / "base_prod.parquet")
    assert len(jobs.production_set().sent) == 2
    table(shot_made_flag=[1, 0]).to_parquet(tmp_path / "data_filtered.parquet")
    history = jobs.historical_shots()
    assert history is not None
    assert history.shape == (4, 2)
