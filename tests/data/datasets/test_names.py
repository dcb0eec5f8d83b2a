"""A column may have any name: one that a query, the log or scoring uses for something else is no exception."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sql

from data import datasets
from data.datasets.check import examine
from data.datasets.loader import load
from data.datasets.proposal import propose
from data.storage.dataset_reader import DatasetReader
from serving.inference_log.ground_truth import attach_labels, keys
from serving.inference_log.inference_log import InferenceLogWriter, Request, create_engine
from serving.inference_log.reader import read

ROWS = 300
FEATURES = [
    *(
        "low",
        "high",
        "near",
        "rank",
        "before",
        "is_valid",
        "value",
        "label",
        "of",
        "row",
        "id",
        "number",
        "shot",
        "origin",
    ),
    *("prediction", "Probability", "time", "_hash", "_is_test", "select", "it's", 'Preço "médio"'),
]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    found = pd.DataFrame({name: random.normal(size=ROWS).round(3) for name in FEATURES})
    found.insert(0, "place", np.arange(ROWS) + 5)
    found.insert(1, "_when", pd.date_range("2024-01-01", periods=ROWS).astype(str))
    return found.assign(rows=(random.random(ROWS) < 0.5).astype(int))


@pytest.fixture(scope="module")
def description(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    table.to_csv(folder / "names.csv", index=False)
    text = propose(folder / "names.csv", "names.csv", "rows")
    # An id of these names is often a feature here.
    text = text.replace('role = "pass_through"  # no feature: a name of ids', 'role = "feature"')
    (folder / "names.toml").write_text(text, encoding="utf-8")
    return folder / "names.toml"


def test_a_table_with_any_names_is_prepared(description: Path, tmp_path: Path) -> None:
    dataset = load(description)
    assert (dataset.id.name, dataset.target.name) == ("place", "rows")
    assert len(dataset.features) == len(FEATURES)
    result, _ = examine(dataset, description.with_name("names.csv"), "names.csv", tmp_path)
    assert result.rows["base_prod"] == ROWS // 5


def test_a_feature_with_the_name_of_a_prediction_is_read_from_raw_tables_and_from_scored_ones(
    description: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    dataset = load(description)
    own = {"prediction": "prediction_2", "Probability": "probability_2", "time": "time_2"}
    raw = DatasetReader(description.with_name("names.csv"), dataset=dataset).whole()
    assert raw["prediction_2"].astype(float).tolist() == table["prediction"].tolist()
    assert not {"prediction", "probability", "time"} & set(raw)
    scored = raw.rename(columns={**own, "_when": "time"}).assign(prediction=1, probability=0.5, time="2026-01-02")
    scored.to_parquet(tmp_path / "scored.parquet")
    found = DatasetReader(tmp_path / "scored.parquet", dataset=dataset).whole()
    assert (found["prediction"] == 1).all()
    assert (found["probability"] == 0.5).all()
    assert found["probability_2"].astype(float).tolist() == table["Probability"].tolist()


def test_labels_find_their_rows_whatever_the_features_are_called(description: Path, tmp_path: Path) -> None:
    with datasets.use(str(description)):
        dataset = datasets.current()
        names = dataset.feature_names
        url = f"sqlite:///{tmp_path / 'log.db'}"
        writer = InferenceLogWriter(url, names)
        values, ones = np.arange(2.0 * len(names)).reshape(2, -1), np.ones(2, dtype=np.int64)
        writer.append(Request("request", "1", values, ones, ones / 2, np.array([7, 8]), 1.0))
        assert not writer.close()
        engine: sql.Engine = create_engine(url)
        assert attach_labels(pd.DataFrame({"place": [8], "rows": [1]}), engine).rows == 1
        assert attach_labels(pd.DataFrame({"request_id": ["request"], "row": [0], "rows": [0]}), engine).rows == 1
        assert keys()[-1] == names
        by_features = pd.DataFrame([dict(zip(names, values[1], strict=True)) | {"rows": 0}])
        assert attach_labels(by_features, engine).rows == 1
        assert read(engine, max_rows=9)["rows"].tolist() == [0, 0]
