from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sql

from data.cli.config import parse_args
from data.errors import KobeShotError
from data.schema import FEATURES
from serving.inference_log.ground_truth import LabelError, LabelsConfig, attach_labels, run
from serving.inference_log.inference_log import ORIGINS, UPLOAD, InferenceLogWriter, Request, create_engine
from serving.inference_log.reader import read, read_labeled, window
from tests.project import Checkout, ok

ROWS = 6


@pytest.fixture
def engine(tmp_path: Path) -> sql.Engine:
    """A log of a request of six rows and of one request of a single row."""
    url = f"sqlite:///{tmp_path / 'log.db'}"
    recorder = InferenceLogWriter(url, FEATURES)
    values = np.arange(6.0 * ROWS).reshape(ROWS, 6)
    label, probability = np.ones(ROWS, dtype=np.int64), np.full(ROWS, 0.5)
    recorder.append(Request("table", "1", values, label, probability, np.arange(ROWS) + 10, 1.0))
    recorder.append(Request("single", "1", values[:1] + 0.1, label[:1], probability[:1], None, 2.0))
    assert not recorder.close()
    found: sql.Engine = create_engine(url)
    return found


def labeled(engine: sql.Engine) -> dict[object, object]:
    table = pd.read_sql("select request_id, row, shot_made_flag from inference", engine).dropna()
    return {(request_id, row): label for request_id, row, label in table.itertuples(index=False)}


def test_labels_find_their_rows_by_shot_id(engine: sql.Engine) -> None:
    joined = attach_labels(pd.DataFrame({"shot_id": [10, 12, 99], "shot_made_flag": [1, 0, 1]}), engine)
    assert (joined.rows, joined.unmatched, joined.key) == (2, 1, ("shot_id",))
    assert labeled(engine) == {("table", 0): 1, ("table", 2): 0}


def test_labels_find_their_rows_by_request_and_row(engine: sql.Engine) -> None:
    table = pd.DataFrame({"request_id": ["table", "single"], "row": [5, 0], "shot_made_flag": [1, 1]})
    assert attach_labels(table, engine).rows == 2
    assert labeled(engine) == {("table", 5): 1, ("single", 0): 1}


def test_a_request_alone_names_a_row_only_where_it_had_one(engine: sql.Engine) -> None:
    joined = attach_labels(pd.DataFrame({"request_id": ["table", "single"], "shot_made_flag": [1, 0]}), engine)
    assert (joined.rows, joined.unmatched) == (1, 1)
    assert labeled(engine) == {("single", 0): 0}


def test_labels_find_their_rows_by_the_shot_itself(engine: sql.Engine) -> None:
    table = pd.DataFrame([dict(zip(FEATURES, np.arange(6.0) + 6, strict=True)) | {"shot_made_flag": 0}])
    assert attach_labels(table, engine).key == FEATURES
    assert labeled(engine) == {("table", 1): 0}


def uploaded(engine: sql.Engine, shot_id: int) -> None:
    """Log an uploaded table of one row, which has the values and the number of a row of the traffic."""
    recorder = InferenceLogWriter(str(engine.url), FEATURES)
    values, one = np.arange(6.0).reshape(1, 6), np.ones(1)
    recorder.append(Request("upload", "1", values, one.astype(int), one / 2, np.array([shot_id]), 3.0, UPLOAD))
    assert not recorder.close()


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"shot_id": [10], "shot_made_flag": [1]}),
        pd.DataFrame([dict(zip(FEATURES, np.arange(6.0), strict=True)) | {"shot_made_flag": 1}]),
    ],
)
def test_labels_go_to_traffic_only_unless_others_are_requested_for(engine: sql.Engine, table: pd.DataFrame) -> None:
    uploaded(engine, 10)
    assert attach_labels(table, engine).rows == 1
    assert labeled(engine) == {("table", 0): 1}
    assert attach_labels(table, engine, origins=ORIGINS).rows == 2
    assert attach_labels(pd.DataFrame({"request_id": ["upload"], "shot_made_flag": [0]}), engine).unmatched == 1


def test_the_label_of_an_uploaded_row_is_none_of_the_shot_of_the_same_number(engine: sql.Engine) -> None:
    uploaded(engine, 10)
    assert (
        attach_labels(pd.DataFrame({"request_id": ["upload"], "shot_made_flag": [0]}), engine, origins=[UPLOAD]).rows
        == 1
    )
    assert window(engine).labeled == 0
    assert read(engine, max_rows=100)["shot_made_flag"].notna().sum() == 0
    assert read_labeled(engine, max_rows=100).empty
    assert window(engine, origins=[UPLOAD]).labeled == 1


def test_contradicting_labels_are_excluded_and_repeated_ones_are_not(engine: sql.Engine) -> None:
    table = pd.DataFrame({"shot_id": [10, 10, 11, 11], "shot_made_flag": [1, 0, 1, 1]})
    joined = attach_labels(table, engine)
    assert (joined.rows, joined.ambiguous) == (1, 2)
    assert labeled(engine) == {("table", 1): 1}


def test_a_corrected_label_replaces_the_first_and_unknown_ones_change_nothing(engine: sql.Engine) -> None:
    attach_labels(pd.DataFrame({"shot_id": [10, 11], "shot_made_flag": [1, 1]}), engine)
    attach_labels(pd.DataFrame({"shot_id": [10, 11], "shot_made_flag": [0, None]}), engine)
    assert labeled(engine) == {("table", 0): 0, ("table", 1): 1}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pd.DataFrame({"shot_id": [1]}), "expected shot_made_flag and the columns of one of"),
        (pd.DataFrame({"shot_made_flag": [1]}), "found shot_made_flag"),
        (pd.DataFrame({"shot_id": [1], "shot_made_flag": [2]}), "row 0, column shot_made_flag: expected 0, 1 or null"),
        (pd.DataFrame({"shot_id": [1], "shot_made_flag": ["in"]}), "found 'in'"),
        (pd.DataFrame({"shot_id": ["a7"], "shot_made_flag": [1]}), "row 0, column shot_id: expected a number"),
    ],
)
def test_what_is_no_label_is_refused_and_nothing_is_written(
    engine: sql.Engine, table: pd.DataFrame, words: str
) -> None:
    with pytest.raises(LabelError, match=words):
        attach_labels(table, engine)
    assert labeled(engine) == {}


def test_the_command_shows_what_became_of_the_labels(
    engine: sql.Engine, tmp_path: Path, served_checkout: tuple[Checkout, object]
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("shot_id,shot_made_flag\n10,1\n99,0\n")
    command = ["python", "-m", "serving.inference_log.ground_truth", str(labels), "--log", str(engine.url)]
    printed = ok(served_checkout[0].command(*command))
    assert "1 rows of the inference log have one of them" in printed
    assert "1 labels belong to no logged row (origin traffic)" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.csv"], "nothing.csv"),
        (["labels.csv", "--log", "sqlite:////nowhere/log.db"], "found no such file"),
        (["labels.csv", "--log", "nonsense"], "expected the SQLAlchemy URL"),
    ],
)
def test_the_command_refuses_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labels.csv").write_text("shot_id,shot_made_flag\n10,1\n")
    with pytest.raises((KobeShotError, OSError), match=words):
        run(parse_args(LabelsConfig, arguments))


def test_the_command_refuses_a_name_of_another_kind_of_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args(LabelsConfig, ["labels.txt"])
    assert ended.value.code == 2
    assert "expected a name that ends in .parquet or .csv" in capsys.readouterr().err.replace("\n", " ")
