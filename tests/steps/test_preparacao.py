import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run

from data.acquisition import provenance
from data.acquisition.raw_tables import DEV_FILE, FILES
from data.errors import KobeShotError, SchemaError, StaleDataError
from data.preparation import manifest
from data.preparation.contract import PreparationParams
from data.preparation.manifest import FILTERED, IDS, PROD, TABLES, TEST, TRAIN, read_manifest, read_prepared
from data.schema import FEATURES, THREE_POINTS, TWO_POINTS
from data.storage.files import DiskFullError
from steps import preparacao
from steps.preparacao import PreparacaoConfig
from steps.shared import data_origin, tracking
from tests.project import REAL
from tests.raw import prepare_locally as prepare

Pair = tuple[pd.DataFrame, pd.DataFrame]
Tables = dict[str, pd.DataFrame]


@pytest.fixture
def pair(shots: pd.DataFrame) -> Pair:
    """The two raw tables."""
    dev, prod = (shots[shots["shot_type"] == points].reset_index(drop=True) for points in (TWO_POINTS, THREE_POINTS))
    return dev, prod


@pytest.fixture
def tables(tmp_path: Path) -> Callable[..., Tables]:
    """What becomes of two raw tables."""

    def make(pair: Pair, test_size: float = 0.2, seed: int = 42) -> Tables:
        write_pair(pair, tmp_path)
        prepare(tmp_path, tmp_path, PreparationParams(test_size, seed))
        return {name: pd.read_parquet(tmp_path / f"{name}.parquet") for name in TABLES}

    return make


def write_pair(pair: Pair, folder: Path) -> None:
    for table, name in zip(pair, FILES, strict=True):
        table.to_parquet(folder / name, index=False)


def test_the_real_files_give_the_known_sizes(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip(f"the real files are not at {REAL}")
    found = prepare(REAL, tmp_path, PreparationParams())
    assert found.rows == {FILTERED: 20_285, TRAIN: 16_228, TEST: 4_057, PROD: 6_426}
    assert found.labeled[PROD] == 6_426 - 1_014


def test_columns_are_the_six_features_and_the_label(pair: Pair, tables: Callable[..., Tables]) -> None:
    found = tables(pair)
    for name in (FILTERED, TRAIN, TEST):
        assert list(found[name]) == [*FEATURES, "shot_made_flag"]
        assert set(found[name][list(FEATURES)].dtypes) == {np.dtype("float64")}
        assert found[name].notna().all(axis=None)
    assert list(found[PROD]) == ["shot_id", "game_date", *FEATURES, "shot_made_flag"]


def test_every_filtered_row_is_in_train_or_test_and_none_in_both(pair: Pair, tables: Callable[..., Tables]) -> None:
    dev, prod = pair
    # Minutes, here different for every row, identify the rows.
    found = tables((dev.assign(minutes_remaining=np.linspace(0, 12, len(dev))), prod))
    filtered, train, test = (set(found[name]["minutes_remaining"]) for name in (FILTERED, TRAIN, TEST))
    assert train.isdisjoint(test)
    assert train | test == filtered


@pytest.mark.parametrize("test_size", [0.1, 0.2, 0.5])
def test_both_parts_have_the_same_positive_rate(pair: Pair, tables: Callable[..., Tables], test_size: float) -> None:
    found = tables(pair, test_size)
    share = found[FILTERED]["shot_made_flag"].mean()
    assert len(found[TEST]) == pytest.approx(test_size * len(found[FILTERED]), abs=1)
    assert found[TRAIN]["shot_made_flag"].mean() == pytest.approx(share, abs=0.001)
    assert found[TEST]["shot_made_flag"].mean() == pytest.approx(share, abs=0.002)


def test_the_split_depends_on_the_seed_alone(pair: Pair, tables: Callable[..., Tables]) -> None:
    pd.testing.assert_frame_equal(tables(pair)[TEST], tables(pair)[TEST])
    assert not tables(pair, seed=1)[TEST].equals(tables(pair)[TEST])


def test_prod_rows_never_reach_the_training_rows(pair: Pair, tables: Callable[..., Tables]) -> None:
    dev, prod = pair
    assert tables((dev, prod.assign(shot_distance=94)))[FILTERED]["shot_distance"].max() < 94


def test_unlabeled_prod_rows_are_kept_with_a_null_label(pair: Pair, tables: Callable[..., Tables]) -> None:
    _, prod = pair
    found = tables(pair)[PROD]
    assert found["shot_id"].tolist() == prod["shot_id"].tolist()
    assert found["shot_made_flag"].isna().sum() == prod["shot_made_flag"].isna().sum() > 0


def test_dropped_rows_are_counted_by_reason(pair: Pair, tmp_path: Path) -> None:
    dev, prod = pair
    dev, prod = dev.copy(), prod.astype({"period": float})
    dev.loc[:2, "lat"] = np.nan
    prod.loc[0, "period"] = np.nan
    write_pair((dev, prod), tmp_path)
    found = prepare(tmp_path, tmp_path, PreparationParams())
    assert found.dropped["dropped_dev_missing_lat"] == 3
    assert found.dropped["dropped_dev_missing_shot_made_flag"] == dev["shot_made_flag"].isna().sum()
    assert found.dropped["dropped_dev_rows"] == len(dev) - found.rows[FILTERED]
    assert found.dropped["dropped_prod_rows"] == found.dropped["dropped_prod_missing_period"] == 1


def test_prod_rows_keep_the_day_of_their_game_where_the_raw_file_has_it(
    pair: Pair, tables: Callable[..., Tables]
) -> None:
    dev, prod = pair
    days = tables(pair)[PROD].set_index("shot_id")["game_date"]
    assert days.to_dict() == prod.set_index("shot_id")["game_date"].to_dict()
    without = tables((dev.drop(columns="game_date"), prod.drop(columns="game_date")))[PROD]
    assert list(without) == ["shot_id", *FEATURES, "shot_made_flag"]
    assert len(without) == len(prod)


def test_too_few_labels_to_split_are_reported(pair: Pair, tables: Callable[..., Tables]) -> None:
    dev, prod = pair
    few = dev.head(3).assign(shot_made_flag=[1.0, 1.0, 0.0])
    for unsplit in (dev.assign(shot_made_flag=np.nan), dev.assign(shot_made_flag=1.0), few):
        with pytest.raises(SchemaError, match=rf"{DEV_FILE} leaves .*too few to split"):
            tables((unsplit, prod))


# The step


@pytest.fixture
def place(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the step: raw and processed tables, and a store."""
    assert store
    folder = tmp_path / "data"
    (folder / "raw").mkdir(parents=True)
    processed = folder / "processed"
    monkeypatch.setattr(preparacao, "RAW", folder / "raw")
    monkeypatch.setattr(preparacao, "PROCESSED", processed)
    monkeypatch.setattr(preparacao, "read_provenance", lambda: provenance.read_provenance(folder / "raw"))
    for module in (manifest, preparacao, data_origin):
        monkeypatch.setattr(module, "prepared_path", lambda name: processed / f"{name}.parquet")
    monkeypatch.setattr(manifest, "MANIFEST", processed / "manifest.json")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tests")
    return folder


def run(**parameters: object) -> Run:
    preparacao.run(PreparacaoConfig.model_validate(parameters))
    found = mlflow.last_active_run()
    assert found is not None
    return mlflow.MlflowClient().get_run(found.info.run_id)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_a_broken_row(pair: Pair) -> Pair:
    dev, prod = pair
    return dev.assign(period=dev["period"].mask(dev.index == 4, 99)), prod


def test_rejects_are_counted_printed_logged_with_the_run_and_removed_by_a_preparation_without(
    place: Path, pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(with_a_broken_row(pair), place / "raw")
    found = run(max_rejected_rows=1)
    assert found.data.metrics["rejected_rows"] == 1
    assert f"1 rows of {DEV_FILE}" in capsys.readouterr().out
    artifacts = {Path(each.path).name for each in mlflow.MlflowClient().list_artifacts(found.info.run_id, "tables")}
    assert "rejects_dev.parquet" in artifacts
    assert {f"{name}.parquet" for name in IDS.values()} <= artifacts
    assert {f"sha256_{name}" for name in IDS.values()} <= found.data.params.keys()
    write_pair(pair, place / "raw")
    run()
    assert sorted(path.stem for path in (place / "processed").iterdir()) == sorted([*TABLES, *IDS.values(), "manifest"])


@pytest.mark.parametrize("failure", ["a broken row", "a full disk"])
def test_a_preparation_that_fails_leaves_the_tables_of_the_one_before(
    place: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    write_pair(pair, place / "raw")
    run()
    before = contents(place / "processed")
    error: type[KobeShotError] = SchemaError
    if failure == "a broken row":
        write_pair(with_a_broken_row(pair), place / "raw")
    else:
        error = DiskFullError

        def write(*_: object) -> None:
            message = "Error writing bytes: No space left on device"
            raise OSError(message)

        monkeypatch.setattr("data.storage.tables.TableWriter.write", write)
    with pytest.raises(error):
        run(seed=1)
    assert contents(place / "processed") == before


def test_tables_in_parts_take_the_place_of_files_and_are_read_as_one(
    place: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(pair, place / "raw")
    run()
    whole = read_prepared(read_manifest(), TRAIN)
    monkeypatch.setattr("data.storage.tables.PART_ROWS", 1_000)
    found = run()
    assert (place / "processed" / "base_train.parquet").is_dir()
    pd.testing.assert_frame_equal(read_prepared(read_manifest(), TRAIN), whole)
    assert found.data.params["sha256_base_train"] == read_manifest().sha256[TRAIN]
    (place / "processed" / "base_train.parquet" / "part-00001.parquet").unlink()
    with pytest.raises(StaleDataError):
        read_prepared(read_manifest(), TRAIN)


def test_by_default_spark_may_reject_more_rows() -> None:
    assert PreparacaoConfig().plan.max_rejected_rows == 0
    assert PreparacaoConfig(engine="spark").plan.max_rejected_rows == 1_000
    assert PreparacaoConfig(engine="spark", max_rejected_rows=0).plan.max_rejected_rows == 0
    empty = PreparacaoConfig.model_validate({"engine": "spark", "max_rejected_rows": ""})
    assert empty.plan.max_rejected_rows == 1_000


def test_a_large_table_is_recorded_by_a_sample_of_it(place: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[int] = []
    monkeypatch.setattr(preparacao, "_SAMPLE_ROWS", 500)
    monkeypatch.setattr(tracking, "_log_dataset", lambda record: recorded.append(len(record.table)))
    for name, table in zip(FILES, pair, strict=True):
        (place / "raw" / name).mkdir()
        for part in range(4):
            table.iloc[part::4].to_parquet(place / "raw" / name / f"{part}.parquet", index=False)
    run()
    assert len(recorded) == 6
    assert max(recorded) < 1_000
    assert json.loads((place / "processed" / "manifest.json").read_text())["sha256"].keys() == {
        *TABLES,
        *IDS.values(),
    }
