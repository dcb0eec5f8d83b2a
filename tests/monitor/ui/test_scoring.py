"""Scoring requests of the page Playground."""

import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.pipeline import Pipeline

from data.errors import TableError
from data.preparation import manifest
from data.schema import FEATURES, feature_column
from monitor.metrics.binary import evaluate
from monitor.ui import scoring
from monitor.ui.scoring import read_shots, score_shot, score_shots
from serving.client.endpoint import RejectedRowsError, ScoringError
from tests.project import Checkout, ProductionServer, free_port, shot

SHOT = {name: float(str(value)) for name, value in shot().items()}


def csv(table: pd.DataFrame) -> bytes:
    return bytes(table.to_csv(index=False).encode())


def parquet(table: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    table.to_parquet(sink, index=False)
    return sink.getvalue()


def table(**changes: object) -> pd.DataFrame:
    return pd.DataFrame([shot(), shot(lat=34.0, shot_distance=8)]).assign(**changes)


def test_features_of_a_location_are_rounded_down_and_within_their_ranges() -> None:
    assert scoring.features_at(0, 0) == {"lat": 34.0443, "lng": -118.2698, "shot_distance": 0}
    assert scoring.features_at(-3, 4.99)["shot_distance"] == 5
    for name, value in scoring.features_at(-25, 900).items():
        column = feature_column(name)
        assert float(column.minimum or 0) <= value <= float(column.maximum or 0)


def test_one_shot_gets_the_prediction_of_the_model(
    production_server: ProductionServer, served_checkout: tuple[Checkout, Pipeline]
) -> None:
    prediction = score_shot(SHOT, production_server.url)
    expected = served_checkout[1].predict_proba([[SHOT[name] for name in FEATURES]])[0, 1]
    assert prediction.probability == pytest.approx(expected)
    assert prediction.made == (expected >= 0.5)
    assert prediction.version == "1"
    assert 0 < prediction.milliseconds < 60_000


def test_the_curl_command_gets_the_same_response(production_server: ProductionServer) -> None:
    prediction = score_shot(SHOT, production_server.url)
    done = subprocess.run(["sh", "-c", prediction.curl], capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout) == prediction.response


def test_the_error_of_a_rejected_shot_holds_the_reason(production_server: ProductionServer) -> None:
    with pytest.raises(RejectedRowsError) as rejected:
        score_shot(SHOT | {"period": 11.0}, production_server.url)
    assert "column period: found 11, expected an integer from 1 to 10" in rejected.value.reason


@pytest.mark.parametrize("url", ["", "foo", "http://", "http://["])
def test_an_invalid_url_is_an_error(url: str) -> None:
    with pytest.raises(ScoringError, match="expected "):
        score_shot(SHOT, url)


def test_a_server_that_is_down_is_an_error(production_server: ProductionServer) -> None:
    del production_server
    with pytest.raises(ScoringError, match=r"http://127\.0\.0\.1:"):
        score_shot(SHOT, f"http://127.0.0.1:{free_port()}", patience=0)


@pytest.mark.parametrize(("name", "write"), [("my.csv", csv), ("my.parquet", parquet), ("MY.CSV", csv)])
def test_a_file_with_raw_names_and_extra_columns_is_scored_and_passed_through(
    name: str, write: object, production_server: ProductionServer
) -> None:
    assert callable(write)
    mine = table(shot_made_flag=[1, None], shot_id=[7, 8], season="2000-01", mood=["good", "bad"])
    mine = mine.rename(columns={"lng": "lon"})
    shots = read_shots(name, write(mine))
    assert shots.extra_columns == ("mood",)
    progress: list[int] = []
    scored = score_shots(shots, production_server.url, on_progress=progress.append)
    assert sum(progress) == 2
    pd.testing.assert_frame_equal(scored.table[list(mine)], mine, check_dtype=False)
    assert scored.labeled == 1
    assert scored.metrics == evaluate([1], scored.table["probability"][:1])
    assert scored.versions == "1"
    assert scored.mean_probability == pytest.approx(scored.table["probability"].mean())
    downloaded = pd.read_csv(io.BytesIO(scored.csv)), pd.read_parquet(io.BytesIO(scored.parquet))
    for again in downloaded:
        assert again["probability"].tolist() == pytest.approx(scored.table["probability"].tolist())


def test_a_downloaded_table_may_be_scored_again(production_server: ProductionServer) -> None:
    first = score_shots(read_shots("a.csv", csv(table())), production_server.url, on_progress=lambda _: None)
    again = read_shots("a.csv", first.csv)
    assert again.extra_columns == ()
    second = score_shots(again, production_server.url, on_progress=lambda _: None)
    assert list(second.table) == list(first.table)


def test_without_labels_there_are_no_metrics(production_server: ProductionServer) -> None:
    for mine in (table(), table(shot_made_flag=[None, None])):
        scored = score_shots(read_shots("a.csv", csv(mine)), production_server.url, on_progress=lambda _: None)
        assert (scored.labeled, scored.metrics) == (0, {})


DUPLICATE_COLUMN = io.BytesIO()
pq.write_table(pa.table([pa.array([1.0])] * 7, names=[*FEATURES, "lat"]), DUPLICATE_COLUMN)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"PAR1 not a table", "expected a complete parquet table; it cannot be read"),
        ("a.parquet", b"", "expected a complete parquet table; it cannot be read"),
        ("a.csv", b"", "expected a complete csv table; it cannot be read"),
        ("a.csv", b"\xff\xfe\x00", "a.csv"),
        ("a.csv", csv(table()) + b"1,2,3\n", "expected a complete csv table; it cannot be read"),
        ("a.xlsx", b"", "found an empty file"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "found an Excel file. Save it as CSV or Parquet"),
        ("a.csv", csv(table().drop(columns=["period", "lng"])), "missing: lng, period"),
        ("a.parquet", DUPLICATE_COLUMN.getvalue(), "duplicate: lat"),
        ("a.csv", csv(table().head(0)), "has no rows"),
        ("a.csv", csv(table(period=["first", 2])), "row 0, column period: found 'first', expected an integer"),
        ("a.csv", csv(table(period=[None, 2])), "row 0, column period: found null"),
        ("a.parquet", parquet(table(lat=[34.0, 99.0])), "row 1, column lat: found 99, expected a float from"),
    ],
)
def test_a_file_that_is_not_a_table_of_shots_is_an_error(name: str, content: bytes, message: str) -> None:
    with pytest.raises(TableError) as raised:
        read_shots(name, content)
    assert message in str(raised.value)


def test_labels_in_any_spelling_are_read_and_others_are_unknown() -> None:
    shots = read_shots("a.csv", csv(table(shot_made_flag=["Made", "late"])))
    np.testing.assert_array_equal(shots.labels, [1, np.nan])
    assert "1 value(s) of shot_made_flag in a.csv cannot be read, such as 'late'" in shots.warning


def test_of_many_invalid_rows_the_first_are_listed_and_all_are_counted() -> None:
    mine = pd.concat([table(period=11)] * 20)
    with pytest.raises(TableError) as raised:
        read_shots("a.csv", csv(mine))
    assert "40 row(s)" in str(raised.value)
    assert str(raised.value).count("column period") == 10
    assert "and 30 more rows" in str(raised.value)


def test_without_prepared_tables_the_error_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "PROCESSED", tmp_path)
    with pytest.raises(TableError, match="make main"):
        scoring.production_set()
    assert scoring.historical_shots() is None
    (tmp_path / "base_prod.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(TableError, match="make main"):
        scoring.historical_shots()
    with pytest.raises(TableError, match="cannot be read"):
        scoring.production_set()


def test_the_production_set_and_the_history_are_those_of_the_last_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PROCESSED", tmp_path)
    table(shot_made_flag=[1, None]).to_parquet(tmp_path / "base_prod.parquet")
    assert len(scoring.production_set().sent) == 2
    table(shot_made_flag=[1, 0]).to_parquet(tmp_path / "data_filtered.parquet")
    history = scoring.historical_shots()
    assert history is not None
    assert history.shape == (4, 2)
