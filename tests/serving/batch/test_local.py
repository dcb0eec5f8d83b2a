import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.exceptions import MlflowException

from data.datasets import default
from data.errors import KobeShotError, TableError
from data.schema import FEATURES, IN_TRAINING, MODEL_VERSION, PREDICTION, PROBABILITY, SHOT_ID, TARGET
from data.storage.files import DiskFullError
from data.storage.tables import TableReader
from data.validation import is_date
from monitor.store.labels import is_among
from serving.batch.local import BatchJob, BatchResult, LocalScorer, score_table
from serving.client.endpoint import Predictions, RejectedRowsError, ScoringError
from serving.shot_tables import problems_of, time_problems_of

Floats = npt.NDArray[np.float64]
ROWS = 5_000


class Distance:
    """A model of one feature, which refuses what the schema refuses."""

    threshold = 0.5

    def score(self, values: Floats, threshold: float) -> tuple[npt.NDArray[np.int64], Floats]:
        """Label and P(made)."""
        if problems_of(values):
            message = "No row was scored."
            raise MlflowException.invalid_parameter_value(message)
        probability = 1 / (1 + values[:, 5])
        return (probability >= threshold).astype(np.int64), probability


def shots(rows: int = ROWS) -> pd.DataFrame:
    stream = np.random.default_rng(5)
    labels = stream.integers(0, 2, rows).astype(float)
    labels[::7] = np.nan
    return pd.DataFrame(
        {
            SHOT_ID: np.arange(rows),
            "lat": stream.uniform(33.2, 34.0, rows),
            "lng": stream.uniform(-118.5, -118.1, rows),
            "minutes_remaining": stream.integers(0, 12, rows).astype(float),
            "period": stream.integers(1, 5, rows).astype(float),
            "playoffs": stream.integers(0, 2, rows).astype(float),
            "shot_distance": stream.integers(0, 40, rows).astype(float),
            TARGET: labels,
        }
    )


def score(table: Path, out: Path, *, max_rejected_rows: int = 0, chunk: int = 700, **options: Any) -> BatchResult:  # noqa: ANN401
    return score_table(BatchJob(table, out, max_rejected_rows, chunk), LocalScorer(Distance(), 3), **options)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "shots.parquet"
    shots().to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("chunk", [1, 700, ROWS, 10 * ROWS])
def test_whatever_the_chunks_every_row_is_there_once_in_its_place_with_its_columns(tmp_path: Path, chunk: int) -> None:
    path, out = tmp_path / "shots.parquet", tmp_path / "out.parquet"
    expected = shots(60 if chunk == 1 else ROWS)
    expected.to_parquet(path, index=False)
    done = score(path, out, chunk=chunk)
    found = pd.read_parquet(out)
    probability = 1 / (1 + expected["shot_distance"])
    expected = expected.assign(
        **{PREDICTION: (probability >= 0.5).astype("int64"), PROBABILITY: probability, MODEL_VERSION: 3}
    )
    pd.testing.assert_frame_equal(found, expected)
    assert done == BatchResult(len(found), 0, int(found[PREDICTION].sum()), 0, (3,))


def test_a_folder_of_parts_is_one_table(tmp_path: Path, table: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3):
        shots().iloc[number::3].to_parquet(folder / f"{number}.parquet", index=False)
    assert score(folder, tmp_path / "out.parquet").rows == ROWS
    score(table, tmp_path / "whole.parquet")
    whole = pd.read_parquet(tmp_path / "whole.parquet")
    found = pd.read_parquet(tmp_path / "out.parquet").sort_values(SHOT_ID, ignore_index=True)
    pd.testing.assert_frame_equal(found, whole)


def test_an_output_of_many_rows_is_a_folder_of_parts(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.storage.tables.PART_ROWS", 2_000)
    score(table, tmp_path / "out.parquet")
    assert len(TableReader(tmp_path / "out.parquet").files) == 3
    assert pd.read_parquet(tmp_path / "out.parquet")[SHOT_ID].tolist() == list(range(ROWS))


def test_the_raw_name_of_a_column_stays_and_types_stay(tmp_path: Path) -> None:
    raw = shots().rename(columns={"lng": "lon"}).astype({"period": "int64", "playoffs": "int32"})
    raw.to_parquet(tmp_path / "raw.parquet", index=False)
    score(tmp_path / "raw.parquet", tmp_path / "out.parquet")
    found = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(found[raw.columns], raw)


def test_a_csv_file_becomes_a_typed_table_or_stays_text(tmp_path: Path, table: Path) -> None:
    shots().to_csv(tmp_path / "shots.csv", index=False)
    score(tmp_path / "shots.csv", tmp_path / "out.parquet")
    score(tmp_path / "shots.csv", tmp_path / "out.csv")
    score(table, tmp_path / "expected.parquet")
    expected = pd.read_parquet(tmp_path / "expected.parquet").astype({MODEL_VERSION: "int64"})
    typed = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(typed, expected, check_exact=True, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out.csv"), expected)


def test_an_empty_table_has_an_empty_response(tmp_path: Path) -> None:
    shots().head(0).to_parquet(tmp_path / "none.parquet", index=False)
    assert score(tmp_path / "none.parquet", tmp_path / "out.parquet") == BatchResult(0, 0, 0, 0, ())
    assert pd.read_parquet(tmp_path / "out.parquet").columns.tolist() == [
        *shots(),
        PREDICTION,
        PROBABILITY,
        MODEL_VERSION,
    ]


# Rows that violate the schema


def with_wrong(tmp_path: Path) -> Path:
    wrong = shots()
    wrong.loc[0, "period"], wrong.loc[1_500, "lat"], wrong.loc[4_999, "shot_distance"] = 11, np.nan, 95
    wrong.to_parquet(tmp_path / "wrong.parquet", index=False)
    return tmp_path / "wrong.parquet"


@pytest.mark.parametrize("chunk", [100, 700, ROWS])
def test_rows_that_violate_the_schema_go_to_the_rejects_with_their_reasons(tmp_path: Path, chunk: int) -> None:
    path = with_wrong(tmp_path)
    done = score(path, tmp_path / "out.parquet", max_rejected_rows=3, chunk=chunk)
    assert (done.rows, done.rejected) == (ROWS - 3, 3)
    found, rejects = (pd.read_parquet(tmp_path / name) for name in ("out.parquet", "out_rejects.parquet"))
    assert sorted([*found[SHOT_ID], *rejects[SHOT_ID]]) == list(range(ROWS))
    assert rejects["reason"].tolist() == [
        "column period: found 11, expected an integer from 1 to 10",
        "column lat: found null, expected a float from 33.1568 to 34.0968",
        "column shot_distance: found 95, expected a float from 0 to 94",
    ]
    assert rejects["row"].tolist() == [0, 1_500, 4_999]
    pd.testing.assert_frame_equal(
        rejects.drop(columns=["row", "reason"]), pd.read_parquet(path).iloc[[0, 1_500, 4_999]].reset_index(drop=True)
    )


def test_a_date_that_can_mean_two_days_is_a_reject_as_in_acquisition(tmp_path: Path) -> None:
    dates = ["2013-10-29", None, "29.10.2013", "03/04/2013", "soon"]
    shots(5).assign(game_date=dates).to_parquet(tmp_path / "wrong.parquet", index=False)
    assert score(tmp_path / "wrong.parquet", tmp_path / "out.parquet", max_rejected_rows=2).rejected == 2
    found, rejects = (pd.read_parquet(tmp_path / name) for name in ("out.parquet", "out_rejects.parquet"))
    assert found["game_date"].tolist() == ["2013-10-29", None, "2013-10-29"]
    assert rejects["reason"].tolist() == [
        f"column game_date: found '{text}', expected a date such as 2013-10-29" for text in ("03/04/2013", "soon")
    ]


def test_one_row_too_many_ends_the_run_names_the_first_ten_and_leaves_the_old_output(tmp_path: Path) -> None:
    wrong = shots()
    wrong.loc[100:120, "period"] = 11
    wrong.to_parquet(tmp_path / "wrong.parquet", index=False)
    pq.write_table(pa.table({"old": [1]}), tmp_path / "out.parquet")
    pq.write_table(pa.table({"old": [2]}), tmp_path / "out_rejects.parquet")
    with pytest.raises(ScoringError) as caught:
        score(tmp_path / "wrong.parquet", tmp_path / "out.parquet", max_rejected_rows=20, chunk=50)
    text = str(caught.value)
    for row in range(100, 110):
        assert f"row {row}, column period: found 11, expected an integer from 1 to 10" in text
    assert "row 110" not in text
    assert "At least 21 row(s) violate the schema, and 20 may" in text
    assert "and 11 more" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "out_rejects.parquet", "wrong.parquet"]
    assert pq.read_table(tmp_path / "out.parquet").column_names == ["old"]
    assert pq.read_table(tmp_path / "out_rejects.parquet").to_pydict() == {"old": [2]}


def test_rejects_of_an_earlier_run_do_not_stay_next_to_an_output_without_any(tmp_path: Path, table: Path) -> None:
    score(with_wrong(tmp_path), tmp_path / "out.parquet", max_rejected_rows=3)
    assert (tmp_path / "out_rejects.parquet").exists()
    score(table, tmp_path / "out.parquet")
    assert not (tmp_path / "out_rejects.parquet").exists()


def test_a_cell_that_is_no_number_is_a_reject_of_a_csv_file(tmp_path: Path) -> None:
    wrong = shots(20).astype(object)
    wrong.loc[4, "period"] = "fourth"
    wrong.to_csv(tmp_path / "wrong.csv", index=False)
    done = score(tmp_path / "wrong.csv", tmp_path / "out.parquet", max_rejected_rows=1)
    assert (done.rows, done.rejected) == (19, 1)
    rejects = pd.read_parquet(tmp_path / "out_rejects.parquet")
    assert rejects[["period", "reason"]].to_numpy().tolist() == [
        ["fourth", "column period: found 'fourth', expected an integer from 1 to 10"]
    ]


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ("game_id", "abc", "an integer"),
        ("game_id", "1.5", "an integer"),
        ("game_id", "1e30", "an integer"),
    ],
)
def test_a_text_that_cannot_be_typed_is_a_reject_of_a_csv_file(
    tmp_path: Path, column: str, text: str, expected: str
) -> None:
    wrong = shots(20).assign(game_id=7).astype(object)
    wrong.loc[4, column] = text
    wrong.to_csv(tmp_path / "wrong.csv", index=False)
    done = score(tmp_path / "wrong.csv", tmp_path / "out.parquet", max_rejected_rows=1)
    assert (done.rows, done.rejected) == (19, 1)
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert found[SHOT_ID].tolist() == [row for row in range(20) if row != 4]
    assert found["game_id"].tolist() == [7] * 19
    rejects = pd.read_parquet(tmp_path / "out_rejects.parquet")
    assert rejects[[column, "reason"]].to_numpy().tolist() == [
        [text, f"column {column}: found '{text}', expected {expected}"]
    ]
    with pytest.raises(ScoringError, match=rf"row 4, column {column}: found '{text}'"):
        score(tmp_path / "wrong.csv", tmp_path / "out.parquet")


def test_texts_of_a_parquet_table_stay_as_they_came(tmp_path: Path) -> None:
    given = shots(20).assign(game_id="abc", mood="good")
    given.to_parquet(tmp_path / "given.parquet", index=False)
    assert score(tmp_path / "given.parquet", tmp_path / "out.parquet").rows == 20
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet")[given.columns], given)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_label_that_cannot_be_read_is_null_and_counted_and_its_row_is_scored(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labels: list[object] = ["yes", "Missed", "1.0", None, "late"] * 4
    given, path = shots(20).assign(**{TARGET: labels}), tmp_path / f"given.{kind}"
    given.to_csv(path, index=False) if kind == "csv" else given.to_parquet(path, index=False)
    done = score(path, tmp_path / "out.parquet")
    assert (done.rows, done.rejected) == (20, 0)
    found = pd.read_parquet(tmp_path / "out.parquet")[TARGET].astype(float)
    np.testing.assert_array_equal(found, [1, 0, 1, np.nan, np.nan] * 4)
    printed = " ".join(capsys.readouterr().out.split())
    assert "4 value(s) of shot_made_flag" in printed
    assert "such as 'late'" in printed


def test_where_no_row_can_be_scored_the_error_names_the_commonest_reasons_and_the_old_output_stays(
    tmp_path: Path,
) -> None:
    wrong = shots(30).assign(period=11.0)
    wrong.loc[20:, "lat"] = 34.4
    wrong.to_parquet(tmp_path / "wrong.parquet", index=False)
    (tmp_path / "out.parquet").write_bytes(b"old")
    with pytest.raises(ScoringError, match="no row was scored") as caught:
        score(tmp_path / "wrong.parquet", tmp_path / "out.parquet", max_rejected_rows=30)
    text = str(caught.value)
    assert "20 row(s): column period: found 11, expected an integer from 1 to 10" in text
    assert "10 row(s): column lat: found 34.4" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "wrong.parquet"]
    assert (tmp_path / "out.parquet").read_bytes() == b"old"


def test_where_the_output_cannot_take_its_place_the_old_rejects_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace = tmp_path / "out.parquet", Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if target == out:
            raise OSError(errno.EACCES, "Permission denied")
        return replace(path, target)

    path = with_wrong(tmp_path)
    for old in (out, tmp_path / "out_rejects.parquet"):
        old.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="Permission denied"):
        score(path, out, max_rejected_rows=3)
    assert [old.read_bytes() for old in (out, tmp_path / "out_rejects.parquet")] == [b"old", b"old"]
    assert len(list(tmp_path.iterdir())) == 3


def test_what_the_scorer_refuses_and_the_schema_allows_is_not_put_down_to_rows(tmp_path: Path, table: Path) -> None:
    class Refusing(LocalScorer):
        def score(self, values: Floats, **_: object) -> Predictions:
            message = f"I do not like {len(values)} rows"
            raise RejectedRowsError(message, message)

    with pytest.raises(RejectedRowsError, match="I do not like 700 rows"):
        score_table(BatchJob(table, tmp_path / "out.parquet", 9_000, 700), Refusing(None, 1))


# What is counted


def test_labeled_rows_are_counted_once(tmp_path: Path, table: Path) -> None:
    pieces: list[tuple[Floats, Floats]] = []
    score(table, tmp_path / "out.parquet", count=lambda *piece: pieces.append(piece))
    labels, probability = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
    known = pd.read_parquet(tmp_path / "out.parquet").dropna(subset=TARGET)
    assert labels.tolist() == known[TARGET].tolist()
    assert probability.tolist() == known[PROBABILITY].tolist()


def test_rows_that_the_version_was_trained_on_are_marked_and_not_counted(tmp_path: Path, table: Path) -> None:
    sent, counted = [], []

    def mask_of(version: int) -> Callable[[pd.DataFrame], npt.NDArray[np.bool_]]:
        sent.append(version)
        return lambda rows: (rows[SHOT_ID] < 1_000).to_numpy() & rows[TARGET].notna().to_numpy()

    done = score(
        table,
        tmp_path / "out.parquet",
        training_mask_of=mask_of,
        count=lambda labels, _: counted.append(len(labels)),
    )
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert sent == [3]
    assert found[IN_TRAINING].tolist() == ((found[SHOT_ID] < 1_000) & found[TARGET].notna()).tolist()
    assert done.in_training == found[IN_TRAINING].sum()
    assert sum(counted) == (found[TARGET].notna() & ~found[IN_TRAINING]).sum()


@pytest.mark.parametrize("out", ["out.parquet", "out.csv"])
def test_rows_of_a_csv_file_that_the_version_was_trained_on_are_known(tmp_path: Path, out: str) -> None:
    table, counted = shots(100), []
    known = table[table[TARGET].notna()].head(10)
    table[[SHOT_ID, *FEATURES, TARGET]].to_csv(tmp_path / "shots.csv", index=False)
    done = score(
        tmp_path / "shots.csv",
        tmp_path / out,
        training_mask_of=lambda _version: partial(is_among, labels=known),
        count=lambda labels, _: counted.append(len(labels)),
    )
    assert done.in_training == 10
    assert sum(counted) == table[TARGET].notna().sum() - 10
    found = TableReader(tmp_path / out).systematic_sample(1_000)[IN_TRAINING].astype(str).str.lower()
    assert (found == "true").tolist() == table.index.isin(known.index).tolist()


def test_a_version_that_comes_half_way_and_was_trained_on_rows_ends_the_run(tmp_path: Path, table: Path) -> None:
    class Swapped(LocalScorer):
        def score(
            self, values: Floats, *, shot_id: npt.NDArray[np.int64] | None = None, request_id: str = ""
        ) -> Predictions:
            responses = super().score(values, shot_id=shot_id, request_id=request_id)
            assert shot_id is not None
            return responses._replace(version=1 if shot_id[0] < 2_000 else 2)

    def mask_of(version: int) -> Callable[[pd.DataFrame], npt.NDArray[np.bool_]] | None:
        return (lambda rows: np.ones(len(rows), dtype=bool)) if version == 2 else None

    batch, scorer = BatchJob(table, tmp_path / "out.parquet", 0, 700), Swapped(Distance(), 0)
    with pytest.raises(ScoringError, match=r"version 2 during the run.*run this again"):
        score_table(batch, scorer, training_mask_of=mask_of)
    assert not (tmp_path / "out.parquet").exists()
    assert score_table(batch, scorer).versions == (1, 2)


def test_a_version_that_is_not_known_is_null(tmp_path: Path, table: Path) -> None:
    class Silent(LocalScorer):
        def score(self, values: Floats, **_: Any) -> Predictions:  # noqa: ANN401
            return super().score(values)._replace(version=None)

    assert score_table(BatchJob(table, tmp_path / "out.parquet"), Silent(Distance(), 0)).versions == ()
    assert pd.read_parquet(tmp_path / "out.parquet")[MODEL_VERSION].isna().all()


# What goes wrong


def test_a_part_that_cannot_be_read_is_named_and_nothing_is_written(tmp_path: Path, table: Path) -> None:
    folder, out = tmp_path / "folder", tmp_path / "out.parquet"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.parquet").write_bytes(table.read_bytes())
    # The footer is whole, and what it speaks of is not.
    broken = bytearray(table.read_bytes())
    broken[100:30_000] = bytes(29_900)
    (folder / "1.parquet").write_bytes(broken)
    out.write_bytes(b"old")
    with pytest.raises(TableError, match=r"1\.parquet: expected a complete parquet table"):
        score(folder, out)
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "out.parquet", "shots.parquet"]


def test_a_full_disk_is_reported_and_nothing_is_written(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def write(_self: object, piece: pa.Table) -> None:
        written.append(len(piece))
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "out.parquet").write_bytes(b"old")
    monkeypatch.setattr(pq.ParquetWriter, "write_table", write)
    with pytest.raises(DiskFullError, match="is full"):
        score(table, tmp_path / "out.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "shots.parquet"]
    assert (tmp_path / "out.parquet").read_bytes() == b"old"


def test_a_table_without_a_feature_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    shots().drop(columns=FEATURES[0]).to_parquet(tmp_path / "less.parquet", index=False)
    with pytest.raises(KobeShotError, match="missing: lat"):
        score(tmp_path / "less.parquet", tmp_path / "out.parquet")


@pytest.mark.parametrize(
    "text",
    [
        *("2013-10-29", "0001-01-01", "9999-12-31", "2013-10-29 19:30"),
        *("0000-12-31", "2013-02-30", "2013-1-02", "20131029", "2013-10-29T", " 2013-10-29", "", "2013-10-2\u0669"),
    ],
)
def test_a_date_alone_is_checked_as_one_of_a_table_with_all_other_forms(text: str) -> None:
    alone, among = (
        time_problems_of(pa.table({"game_date": pa.array(cells)}), default())
        for cells in (["2013-10-29", None, text], ["03/04/2013", None, text])
    )
    assert (2 in alone) == (2 in among) == (not is_date(text))
    assert 1 not in alone
