"""Where the monitor's tables, models and runs come from: tables, scored, candidates, shots and operation."""

import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from data.datasets import default
from data.errors import StaleDataError, TableError
from data.preparation import manifest as prepared
from data.schema import FEATURES, FORMER_IN_TRAINING, IN_TRAINING, MODEL_VERSION, PREDICTION, PROBABILITY, TARGET
from data.simulation import synthetic
from data.storage.files import sha256
from monitor import scored_tables
from monitor.health.baseline import baseline as reference_data
from monitor.scored_tables import read_scored
from monitor.store import model_store, shots, tables
from monitor.store import tags as store_tags
from monitor.store.candidates import CANDIDATE_FILE, CANDIDATE_FOLDER, candidates
from monitor.store.model_store import current_store
from serving import registry
from serving.batch import in_process
from serving.batch.in_process import ScoredError
from serving.model import model_files
from serving.model.packaging import save_pipeline
from serving.registry import RegistryError
from tests.project import Checkout, publish

DEV, PROD = "dataset_kobe_dev.parquet", "dataset_kobe_prod.parquet"
ELSEWHERE = "0" * 64


@dataclass(frozen=True)
class World:
    """A store with a champion, and the runs that it came from."""

    folder: Path
    experiment: str
    pipeline: Pipeline

    @property
    def client(self) -> MlflowClient:
        """Client of the store."""
        return MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")

    def made(self, file: str) -> Path:
        """A file that the runs have written."""
        return self.folder / "made" / file

    def run(
        self,
        name: str,
        files: Mapping[str, str] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        status: str = "FINISHED",
    ) -> str:
        """Log a run, its files by their folder; its id."""
        run = self.client.create_run(self.experiment, run_name=name, tags={"data_source": "tests", **(tags or {})})
        for key, value in (params or {}).items():
            self.client.log_param(run.info.run_id, key, value)
        for file, folder in (files or {}).items():
            self.client.log_artifact(run.info.run_id, str(self.made(file)), folder)
        self.client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    table = synthetic.shots(1_500, seed=5)
    table.attrs.clear()
    return table


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, raw: pd.DataFrame, empty_database: Path) -> World:
    folder = tmp_path_factory.mktemp("world")
    shutil.copy(empty_database, folder / "mlflow.db")
    pipeline = publish(Checkout(folder), raw)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = World(folder, client.get_experiment_by_name("published").experiment_id, pipeline)
    found.made("x").parent.mkdir()
    table = features(raw).assign(**{TARGET: raw[TARGET].fillna(0.0)})
    table.head(800).to_parquet(found.made("base_train.parquet"), index=False)
    table.tail(700).to_parquet(found.made("base_test.parquet"), index=False)
    two = raw["shot_type"].str.startswith("2")
    raw[two].to_parquet(found.made(DEV), index=False)
    raw[~two].to_parquet(found.made(PROD), index=False)
    scored = features(raw[~two]).assign(shot_id=raw["shot_id"], prediction=1, probability=0.5, model_version=1)
    scored.to_parquet(found.made("predictions_prod.parquet"), index=False)
    for name in ("base_train", "base_test"):
        client.set_model_version_tag("kobe_shot", "1", f"sha256_{name}", sha256(found.made(f"{name}.parquet")))
    return found


@pytest.fixture(autouse=True)
def in_the_world(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use that store, in a folder without raw and prepared files."""
    monkeypatch.setattr(prepared, "PROCESSED", tmp_path / "processed")
    monkeypatch.setattr(shots, "RAW", tmp_path / "raw")
    for folder in ("processed", "raw"):
        (tmp_path / folder).mkdir()
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{world.folder / 'mlflow.db'}")
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture
def forgotten(world: World) -> Iterator[Callable[..., str]]:
    """Log runs that are deleted when the test ends."""
    logged: list[str] = []

    def log(*arguments: object, **options: object) -> str:
        logged.append(world.run(*arguments, **options))  # type: ignore[arg-type]
        return logged[-1]

    yield log
    for run_id in logged:
        world.client.delete_run(run_id)


@pytest.fixture
def prepared_run(world: World, forgotten: Callable[..., str]) -> str:
    """A finished preparation that wrote the champion's tables."""
    return prepare(world, forgotten)


def prepare(world: World, log: Callable[..., str], *, status: str = "FINISHED", files: bool = True) -> str:
    names = ("base_train", "base_test")
    held = {f"{name}.parquet": "tables" for name in names} if files else {}
    digests = {f"sha256_{name}": sha256(world.made(f"{name}.parquet")) for name in names}
    return log("PreparacaoDados", held, params=digests, status=status)


def features(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"lon": "lng"})[list(FEATURES)].astype(float)


@contextmanager
def broken(path: Path, content: bytes | None) -> Iterator[None]:
    """A file with another content, or none, until the block ends."""
    before = path.read_bytes()
    path.unlink() if content is None else path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def artifact_of(world: World, run_id: str, path: str) -> Path:
    return Path(world.client.get_run(run_id).info.artifact_uri) / path


# The champion's tables


def test_a_local_table_is_used_if_it_is_the_champions(world: World, tmp_path: Path, prepared_run: str) -> None:
    del prepared_run
    local = tmp_path / "processed" / "base_test.parquet"
    local.write_bytes(world.made("base_test.parquet").read_bytes())
    assert tables.prepared_table(current_store(), "base_test") == local


@pytest.mark.parametrize("there", [True, False])
def test_a_local_table_of_another_preparation_is_not_used_but_that_of_the_run(
    world: World, tmp_path: Path, prepared_run: str, *, there: bool
) -> None:
    if there:
        world.made("base_test.parquet").with_name("x").write_bytes(world.made("base_train.parquet").read_bytes())
        (tmp_path / "processed" / "base_test.parquet").write_bytes(world.made("base_train.parquet").read_bytes())
    found = tables.prepared_table(current_store(), "base_test")
    assert found == artifact_of(world, prepared_run, "tables/base_test.parquet")
    assert sha256(found) == sha256(world.made("base_test.parquet"))


def test_of_many_preparations_the_one_that_wrote_the_champions_table_is_read(
    world: World, prepared_run: str, forgotten: Callable[..., str]
) -> None:
    forgotten("PreparacaoDados", {"base_train.parquet": "tables"}, params={"sha256_base_train": ELSEWHERE})
    assert prepared_run in str(tables.prepared_table(current_store(), "base_train"))
    assert (
        world.made("base_train.parquet").read_bytes()
        == tables.prepared_table(current_store(), "base_train").read_bytes()
    )


def test_a_preparation_that_was_killed_before_it_kept_its_tables_is_passed_over(
    world: World, prepared_run: str, forgotten: Callable[..., str]
) -> None:
    prepare(world, forgotten, status="KILLED", files=False)
    assert prepared_run in str(tables.prepared_table(current_store(), "base_train"))


def test_a_table_that_no_run_holds_is_reported_with_what_to_do(world: World, tmp_path: Path) -> None:
    (tmp_path / "processed" / "base_test.parquet").write_bytes(world.made("base_train.parquet").read_bytes())
    words = (
        "base_test.parquet is not the table that (champion )?version 1 was made with, and no run holds it.*make main"
    )
    with pytest.raises(TableError, match=words):
        tables.prepared_table(current_store(), "base_test")


@pytest.mark.parametrize("digest", ["", "x' or params.a = 'b"])
def test_a_champion_that_does_not_know_its_tables_is_reported(world: World, prepared_run: str, digest: str) -> None:
    del prepared_run
    before = sha256(world.made("base_test.parquet"))
    world.client.set_model_version_tag("kobe_shot", "1", "sha256_base_test", digest)
    try:
        with pytest.raises(TableError, match="no run holds it"):
            tables.prepared_table(current_store(), "base_test")
    finally:
        world.client.set_model_version_tag("kobe_shot", "1", "sha256_base_test", before)


def test_an_artifact_on_this_machine_is_used_where_it_is_and_not_copied(world: World, prepared_run: str) -> None:
    path = f"{prepared_run}/artifacts/tables/base_test.parquet"
    assert (
        current_store().artifact(prepared_run, "tables/base_test.parquet")
        == world.folder / "mlruns" / "published" / path
    )


def test_an_artifact_that_is_gone_is_reported_with_its_run(world: World, prepared_run: str) -> None:
    path = "tables/base_test.parquet"
    with (
        broken(artifact_of(world, prepared_run, path), None),
        pytest.raises(TableError, match=rf"run {prepared_run} does not hold {path}.*Run its step"),
    ):
        current_store().artifact(prepared_run, path)
    with pytest.raises(TableError, match="run nosuchrun does not hold tables/x"):
        current_store().artifact("nosuchrun", "tables/x")
    with pytest.raises(TableError, match=r"does not hold tables/none\.parquet"):
        current_store().artifact(prepared_run, "tables/none.parquet")
    # A folder is a table in parts.
    assert current_store().artifact(prepared_run, "tables").is_dir()


def test_an_artifact_of_0_1_0_is_read_by_its_path_of_today(prepared_run: str) -> None:
    path = f"{store_tags.PLOTS}/of_0_1_0.png"
    with pytest.raises(TableError, match=f"does not hold {path}"):
        current_store().artifact(prepared_run, path)
    MlflowClient().log_text(prepared_run, "before", store_tags.former_path(path))
    assert current_store().artifact(prepared_run, path).read_text(encoding="utf-8") == "before"
    MlflowClient().log_text(prepared_run, "today", path)
    assert current_store().artifact(prepared_run, path).read_text(encoding="utf-8") == "today"


def test_a_table_that_one_run_has_lost_is_taken_from_another_that_holds_it(
    world: World, prepared_run: str, forgotten: Callable[..., str]
) -> None:
    newest = prepare(world, forgotten)
    path = "tables/base_test.parquet"
    assert tables.prepared_table(current_store(), "base_test") == artifact_of(world, newest, path)
    with broken(artifact_of(world, newest, path), None):
        assert tables.prepared_table(current_store(), "base_test") == artifact_of(world, prepared_run, path)


def test_the_tables_of_a_champion_of_continuous_training_are_held_by_its_training(
    world: World, forgotten: Callable[..., str]
) -> None:
    digests = {f"sha256_{name}": sha256(world.made(f"{name}.parquet")) for name in ("base_train", "base_test")}
    training = forgotten("Treinamento", {"base_test.parquet": "tables"}, params=digests)
    assert tables.prepared_table(current_store(), "base_test") == artifact_of(
        world, training, "tables/base_test.parquet"
    )


def test_the_dev_rows_of_a_champion_are_its_training_rows_or_those_of_its_digest(
    world: World, prepared_run: str
) -> None:
    of_preparation = artifact_of(world, prepared_run, "tables/base_train.parquet")
    assert (
        tables.development_table(current_store())
        == tables.prepared_table(current_store(), "base_train")
        == of_preparation
    )
    # A retrained one was trained on more than the dev rows.
    client, both = world.client, {"sha256_base_train": ELSEWHERE, "sha256_development_rows": sha256(of_preparation)}
    for name, value in both.items():
        client.set_model_version_tag("kobe_shot", "1", name, value)
    try:
        assert tables.development_table(current_store()) == of_preparation
        with pytest.raises(TableError, match="no run holds it"):
            tables.prepared_table(current_store(), "base_train")
    finally:
        client.delete_model_version_tag("kobe_shot", "1", "sha256_development_rows")
        client.set_model_version_tag("kobe_shot", "1", "sha256_base_train", sha256(of_preparation))


def test_the_baseline_is_the_champions_tables_scored_by_the_version(world: World, prepared_run: str) -> None:
    del prepared_run
    for reference, rows in (("base_test", 700), ("base_train", 800)):
        found = reference_data(current_store(), "1", reference)
        assert (found.name, found.threshold, len(found.training), len(found.table)) == (reference, 0.5, 800, rows)
        expected = world.pipeline.predict_proba(found.table[list(FEATURES)].to_numpy())[:, 1]
        np.testing.assert_allclose(found.table[PROBABILITY], expected)
        assert set(found.table[MODEL_VERSION]) == {1}
    with pytest.raises(TableError, match="is not the table that version 99 was made with"):
        reference_data(current_store(), "99")


def test_the_table_of_the_last_finished_batch_scoring_is_read(world: World, forgotten: Callable[..., str]) -> None:
    with pytest.raises(TableError, match=r"no run has scored the prod table yet.*mlflow run \. -e aplicacao"):
        tables.scored_table(current_store(), tables.last_batch_scoring(current_store()).run_id)
    forgotten("PipelineAplicacao", {"predictions_prod.parquet": "tables"})
    last = forgotten("PipelineAplicacao", {"predictions_prod.parquet": "tables"}, tags={"synthetic": "true"})
    forgotten("PipelineAplicacao", status="FAILED")
    run = tables.last_batch_scoring(current_store())
    path = tables.scored_table(current_store(), run.run_id)
    assert (run.run_id, run.synthetic) == (last, True)
    assert path == artifact_of(world, last, "tables/predictions_prod.parquet")
    with broken(path, None), pytest.raises(TableError, match=r"does not hold tables/predictions_prod\.parquet"):
        tables.scored_table(current_store(), tables.last_batch_scoring(current_store()).run_id)


def test_batch_scoring_of_a_given_table_is_not_that_of_prod(forgotten: Callable[..., str]) -> None:
    given = {"data_source": "table", "synthetic": "unknown", "table": "/somewhere/mine.parquet"}
    forgotten("PipelineAplicacao", tags=given)
    assert current_store().last_batch_scoring_run() is None
    with pytest.raises(TableError, match="no run has scored the prod table yet"):
        tables.last_batch_scoring(current_store())
    of_prod = forgotten("PipelineAplicacao", {"predictions_prod.parquet": "tables"})
    for _ in range(3):
        forgotten("PipelineAplicacao", tags=given)
    assert tables.last_batch_scoring(current_store()).run_id == of_prod


def test_prod_that_came_as_one_table_is_prod(forgotten: Callable[..., str]) -> None:
    of_prod = forgotten("PipelineAplicacao", tags={"data_source": "table", "predictions": "predictions_prod.parquet"})
    assert tables.last_batch_scoring(current_store()).run_id == of_prod


def test_runs_of_another_registered_model_are_ignored(forgotten: Callable[..., str]) -> None:
    of_guard = {store_tags.REGISTERED_MODEL: "guard_shot"}
    held = {"source": "application", "reference": "base_test"}
    first, own = forgotten("PipelineAplicacao"), forgotten("Monitoramento", tags=held)
    last = forgotten("PipelineAplicacao", tags=of_guard)
    monitored = [forgotten("Monitoramento", tags={**held, **of_guard}) for _ in range(3)]
    # Runs of before the tag are about the default model.
    assert tables.last_batch_scoring(current_store()).run_id == first
    assert [run.run_id for run in current_store().monitoring_runs("application", 1)] == [own]
    with registry.use_model_name("guard_shot"):
        assert tables.last_batch_scoring(current_store()).run_id == last
        assert [run.run_id for run in current_store().monitoring_runs("application", 2)] == monitored[:0:-1]
    with registry.use_model_name("another"):
        assert current_store().monitoring_runs("application") == []
        with pytest.raises(TableError, match="no run has scored the prod table yet with another"):
            tables.last_batch_scoring(current_store())


def test_batch_scoring_is_found_however_many_runs_of_given_tables_follow(
    forgotten: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_store, "_PAGE", 2)
    of_prod = forgotten("PipelineAplicacao")
    for _ in range(5):
        forgotten("PipelineAplicacao", tags={"table": "/somewhere/mine.parquet"})
    assert tables.last_batch_scoring(current_store()).run_id == of_prod


def test_the_predictions_for_prod_are_found_by_any_file_name(world: World, forgotten: Callable[..., str]) -> None:
    mine = world.made("mine.parquet")
    mine.write_bytes(world.made("predictions_prod.parquet").read_bytes())
    named = {"predictions": "mine.parquet"}
    run_id = forgotten("PipelineAplicacao", {"mine.parquet": "tables"}, tags=named)
    assert tables.scored_table(current_store(), run_id) == artifact_of(world, run_id, "tables/mine.parquet")
    left = {"table_mine": str(mine), "sha256_mine": sha256(mine), **named}
    assert tables.scored_table(current_store(), forgotten("PipelineAplicacao", tags=left)) == mine


# What the last preparation wrote


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"provenance": {}, "sha256": {}}', '{"provenance": 1}'])
def test_a_manifest_that_is_gone_or_damaged_names_the_step_that_prepares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    monkeypatch.setattr(prepared, "MANIFEST", tmp_path / "manifest.json")
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StaleDataError, match=r"contains no prepared tables.*mlflow run \. -e preparacao"):
        prepared.read_manifest()


def test_a_prepared_table_is_read_only_if_it_is_the_one_that_was_written(world: World, tmp_path: Path) -> None:
    manifest = prepared.Manifest(Mock(), {"base_test": sha256(world.made("base_test.parquet"))})
    local = tmp_path / "processed" / "base_test.parquet"
    with pytest.raises(StaleDataError, match=r"base_test\.parquet is not the file of the last preparation"):
        prepared.read_prepared(manifest, "base_test")
    local.write_bytes(world.made("base_test.parquet").read_bytes())
    assert len(prepared.read_prepared(manifest, "base_test")) == 700
    local.write_bytes(world.made("base_train.parquet").read_bytes())
    with pytest.raises(StaleDataError, match="is not the file"):
        prepared.read_prepared(manifest, "base_test")


# Tables of shots


@pytest.fixture
def written(tmp_path: Path) -> Callable[[pd.DataFrame, str], Path]:
    """Write a table to a file of a kind; the file."""

    def write(table: pd.DataFrame, kind: str = "parquet") -> Path:
        path = tmp_path / f"mine.{kind}"
        table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path, index=False)
        return path

    return write


Written = Callable[..., Path]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_table_is_read_with_the_types_of_a_scored_table(written: Written, raw: pd.DataFrame, kind: str) -> None:
    when = pd.Timestamp("2026-11-20 10:30:00.25")
    table = raw.head(50).assign(prediction=1, probability=0.25, model_version=3, time=when)
    found = read_scored(written(table, kind), default())
    np.testing.assert_allclose(found[list(FEATURES)], features(raw.head(50)))
    np.testing.assert_array_equal(found[TARGET], raw[TARGET].head(50))
    kinds = {name: str(found[name].dtype) for name in (*FEATURES, TARGET, PROBABILITY, PREDICTION, MODEL_VERSION)}
    expected = dict.fromkeys((*FEATURES, TARGET, PROBABILITY), "float64")
    assert kinds == {**expected, PREDICTION: "int64", MODEL_VERSION: "Int64"}
    assert found["time"].tolist() == [when] * 50
    assert str(found["time"].dtype).startswith("datetime64[")


def test_versions_that_a_file_holds_as_doubles_are_integers_again(written: Written, raw: pd.DataFrame) -> None:
    table = raw.head(3).assign(model_version=[2.0, None, 2.0])
    for kind in ("parquet", "csv"):
        assert read_scored(written(table, kind), default())[MODEL_VERSION].tolist() == [2, pd.NA, 2]


def test_times_with_a_zone_are_converted_to_utc(written: Written, raw: pd.DataFrame) -> None:
    times = pd.to_datetime(["2026-11-20T10:00:00-03:00"] * 3)
    found = read_scored(written(raw.head(3).assign(time=times)), default())
    assert found["time"].tolist() == [pd.Timestamp("2026-11-20 13:00")] * 3


def test_unknown_labels_are_null_whether_the_column_is_there_or_not(written: Written, raw: pd.DataFrame) -> None:
    for table in (raw.head(5).drop(columns=TARGET), raw.head(5).assign(**{TARGET: None})):
        found = read_scored(written(table), default())[TARGET]
        assert found.isna().all()
        assert str(found.dtype) == "float64"


def test_numbers_in_columns_of_text_are_numbers(written: Written, raw: pd.DataFrame) -> None:
    found = read_scored(written(raw.head(5).assign(lat=raw["lat"].head(5).astype(str))), default())
    np.testing.assert_allclose(found["lat"], raw["lat"].head(5))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lat": "north"}, "expected numbers in the columns lat.*'north'"),
        ({"lat": pd.Timestamp("2026-01-01")}, "expected numbers in the columns lat"),
        ({PROBABILITY: "high"}, f"expected numbers in the columns .*{PROBABILITY}.*'high'"),
        ({"period": None}, "expected a number in each of .*period.*; 40 rows have a missing value"),
        ({PROBABILITY: np.nan}, f"expected a number in each of .*{PROBABILITY}; 40 rows have a missing value"),
        ({PROBABILITY: 1.01}, f"expected P.made. from 0 to 1 in {PROBABILITY}; found 1.01"),
        ({PROBABILITY: -0.1}, f"expected P.made. from 0 to 1 in {PROBABILITY}; found -0.1"),
        ({"lat": np.inf}, "expected a float from 33.1568 to 34.0968 in lat; found inf"),
        ({"shot_distance": 1e300}, "expected a float from 0 to 94 in shot_distance; found 1e.300"),
        ({"period": -1}, "expected an integer from 1 to 10 in period; found -1"),
        ({"time": "yesterday"}, "expected numbers in model_version and timestamps in time"),
        ({MODEL_VERSION: "newest"}, "expected numbers in model_version"),
        ({MODEL_VERSION: 1.5}, "expected numbers in model_version"),
    ],
)
def test_invalid_values_are_rejected_with_a_message(
    written: Written, raw: pd.DataFrame, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(TableError, match=rf"mine\.parquet: {words}"):
        read_scored(written(raw.head(40).assign(**changes)), default())


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_labels_in_any_spelling_are_read_and_others_are_null(written: Written, raw: pd.DataFrame, kind: str) -> None:
    labels: list[object] = ["yes", "0", "Missed", None, "2", "0.5"]
    found = read_scored(written(raw.head(6).assign(**{TARGET: labels}), kind), default())[TARGET]
    np.testing.assert_array_equal(found, [1, 0, 0, np.nan, np.nan, np.nan])
    for number in (2.0, 0.5):
        assert read_scored(written(raw.head(6).assign(**{TARGET: number}), kind), default())[TARGET].isna().all()


def test_a_single_wrong_row_among_many_is_found(written: Written, raw: pd.DataFrame) -> None:
    table = raw.head(100).assign(probability=0.5)
    table.loc[77, "probability"] = 1.5
    with pytest.raises(TableError, match=r"found 1\.5"):
        read_scored(written(table), default())
    table.loc[77, "probability"] = np.nan
    with pytest.raises(TableError, match="1 rows have a missing value"):
        read_scored(written(table, "csv"), default())


def test_missing_columns_and_missing_rows_are_reported_with_what_is_there(written: Written, raw: pd.DataFrame) -> None:
    expected = "expected rows with the columns lat, lng, minutes_remaining, period, playoffs, shot_distance"
    missing = (
        r"Missing: lng, minutes_remaining, playoffs, shot_distance\. If the description has changed since, train again"
    )
    with pytest.raises(TableError, match=rf"{expected}; found 9 with lat, period\. {missing}"):
        read_scored(written(raw.head(9)[["lat", "period"]]), default())
    with pytest.raises(TableError, match=f"{expected}; found 0 with lat, lng"):
        read_scored(written(features(raw).head(0)), default())
    with pytest.raises(TableError, match=expected):
        read_scored(written(features(raw).head(0), "csv"), default())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.parquet", b""),
        ("text.parquet", b"lat,lng\n1,2\n"),
        ("empty.csv", b""),
        ("binary.csv", b"\x00\xff\xfe" * 99),
        ("ragged.csv", b"lat,lng\n1,2\n1,2,3,4\n"),
    ],
)
def test_what_is_no_table_is_reported(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=rf"{name} cannot be read: expected a Parquet or CSV table of shots; \w+: ."):
        read_scored(tmp_path / name, default())


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"absent\.parquet cannot be read"):
        read_scored(tmp_path / "absent.parquet", default())


def test_a_parquet_file_that_is_damaged_anywhere_is_read_or_reported(written: Written, raw: pd.DataFrame) -> None:
    path = written(raw.head(100))
    whole, stream = path.read_bytes(), np.random.default_rng(0)
    rejected = 0
    for _ in range(300):
        damaged = bytearray(whole)
        # The end of the file describes its content.
        damaged[-int(stream.integers(1, 9_000))] = int(stream.integers(256))
        path.write_bytes(bytes(damaged))
        try:
            read_scored(path, default())
        except TableError:
            rejected += 1
    assert rejected > 100


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_training_rows_of_a_table_of_0_1_0_are_read_by_the_column_of_today(
    written: Written, raw: pd.DataFrame, kind: str
) -> None:
    marks = (raw.index % 2 == 0).tolist()
    scored = raw.assign(probability=0.25, **{FORMER_IN_TRAINING: marks})
    found = read_scored(written(scored, kind), default())
    assert found[IN_TRAINING].tolist() == marks
    assert found[IN_TRAINING].dtype == bool
    assert FORMER_IN_TRAINING not in found
    both = read_scored(written(scored.assign(**{IN_TRAINING: False}), kind), default())
    assert not both[IN_TRAINING].any()


# Large tables


def part(raw: pd.DataFrame, folder: Path, ends: tuple[int, ...] = (500, 900)) -> Path:
    folder.mkdir()
    for first, last in zip((0, *ends), (*ends, len(raw)), strict=True):
        raw.iloc[first:last].to_parquet(folder / f"part-{first:05d}.parquet", index=False)
    return folder


@pytest.mark.parametrize("kind", ["parquet", "csv", "folder"])
def test_a_large_table_is_sampled_and_all_its_rows_are_counted(
    written: Written, raw: pd.DataFrame, tmp_path: Path, kind: str
) -> None:
    table = raw.assign(probability=0.25, prediction=1, **{IN_TRAINING: raw.index % 2 == 0}, model_version=2)
    path = part(table, tmp_path / "parts") if kind == "folder" else written(table, kind)
    found, rows = scored_tables.read_sample(path, 100, default())
    assert rows == 1_500
    assert 90 <= len(found) <= 120
    assert found["shot_id"].is_monotonic_increasing
    assert abs(found["shot_id"].mean() / table["shot_id"].mean() - 1) < 0.05
    expected = table.set_index("shot_id").loc[found["shot_id"]]
    np.testing.assert_allclose(found["lng"], expected["lon"])
    assert found[IN_TRAINING].tolist() == expected[IN_TRAINING].tolist()
    assert set(found[MODEL_VERSION]) == {2}
    for most in (None, 1_500):
        whole, rows = scored_tables.read_sample(path, most, default())
        assert (len(whole), rows) == (1_500, 1_500)
        assert whole["shot_id"].tolist() == raw["shot_id"].tolist()
    assert read_scored(path, default()).equals(whole)


@pytest.mark.parametrize("kind", ["parquet", "csv", "folder"])
def test_the_pieces_of_a_table_are_all_its_rows_in_their_order(
    written: Written, raw: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(scored_tables, "CHUNK_ROWS", 400)
    table = raw.assign(probability=0.25)
    path = part(table, tmp_path / "parts") if kind == "folder" else written(table, kind)
    found = list(scored_tables.pieces(path, default()))
    assert [len(piece) for piece in found] == [400, 400, 400, 300]
    every = pd.concat(found, ignore_index=True)
    np.testing.assert_allclose(every[list(FEATURES)], features(raw))
    assert pd.to_numeric(every["shot_id"]).tolist() == raw["shot_id"].tolist()
    assert set(every[PROBABILITY]) == {0.25}


def test_a_wrong_row_far_into_a_large_table_is_found_when_it_is_counted(
    written: Written, raw: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scored_tables, "CHUNK_ROWS", 400)
    table = raw.copy()
    table.loc[1_234, "shot_distance"] = 95
    path = written(table)
    assert len(scored_tables.read_sample(path, 100, default()).table) < 120
    with pytest.raises(TableError, match=r"mine\.parquet: expected a float from 0 to 94 in shot_distance; found 95"):
        list(scored_tables.pieces(path, default()))


def test_a_folder_that_is_no_table_is_reported(tmp_path: Path, raw: pd.DataFrame) -> None:
    (tmp_path / "nothing").mkdir()
    folder = part(raw, tmp_path / "parts")
    (folder / "part-00500.parquet").write_bytes(b"PAR1 and no more")
    for name, words in (("nothing", "expected a folder of Parquet files"), ("parts", r"part-00500\.parquet")):
        with pytest.raises(
            TableError, match=f"{name} cannot be read: expected a Parquet or CSV table of shots.*{words}"
        ):
            read_scored(tmp_path / name, default())


def test_a_table_that_its_run_kept_no_copy_of_is_read_where_it_was_written(
    raw: pd.DataFrame, tmp_path: Path, forgotten: Callable[..., str]
) -> None:
    folder = part(raw, tmp_path / "predictions_prod.parquet")
    tags = {"table_predictions_prod": str(folder), "sha256_predictions_prod": sha256(folder)}
    for given in ({"tags": tags}, {"tags": {"table_predictions_prod": str(folder)}, "params": {**tags}}):
        assert tables.scored_table(current_store(), forgotten("PipelineAplicacao", **given)) == folder
    run_id = forgotten("PipelineAplicacao", tags=tags)
    part(raw.head(9), folder / "more", ())
    with pytest.raises(
        TableError, match=f"run {run_id} wrote the table to {folder}.* found another table.*-e aplicacao"
    ):
        tables.scored_table(current_store(), run_id)
    gone = forgotten("PipelineAplicacao", tags={**tags, "table_predictions_prod": str(tmp_path / "gone")})
    with pytest.raises(TableError, match=r"expected it there, found none\. Score it again"):
        tables.scored_table(current_store(), gone)
    with pytest.raises(TableError, match="there is no run nosuchrun"):
        tables.scored_table(current_store(), "nosuchrun")


def test_a_prepared_table_that_its_run_kept_no_copy_of_is_read_where_it_was_written(
    world: World, tmp_path: Path, forgotten: Callable[..., str]
) -> None:
    path = tmp_path / "elsewhere" / "base_train.parquet"
    path.parent.mkdir()
    path.write_bytes(world.made("base_train.parquet").read_bytes())
    digest = {"sha256_base_train": sha256(path)}
    forgotten("PreparacaoDados", params=digest, tags={"table_base_train": str(path), **digest})
    assert tables.prepared_table(current_store(), "base_train") == tables.development_table(current_store()) == path
    path.write_bytes(world.made("base_test.parquet").read_bytes())
    with pytest.raises(TableError, match=r"no run holds it\. Prepare and train again: make main"):
        tables.prepared_table(current_store(), "base_train")


# What a version predicts


def test_a_table_is_scored_as_the_version_predicts(world: World, raw: pd.DataFrame) -> None:
    table = features(raw).set_index(np.arange(len(raw))[::-1])
    found = in_process.predict(table, "1")
    expected = world.pipeline.predict_proba(table.to_numpy())[:, 1]
    np.testing.assert_allclose(found[PROBABILITY], expected)
    np.testing.assert_array_equal(found[PREDICTION], (expected >= 0.5).astype(int))
    assert set(found[MODEL_VERSION]) == {1}
    kinds = [str(found[name].dtype) for name in (PREDICTION, PROBABILITY, MODEL_VERSION)]
    assert kinds == ["int64", "float64", "Int64"]
    pd.testing.assert_frame_equal(found[list(FEATURES)], table)
    assert list(table) == list(FEATURES)
    assert in_process.threshold_of("1") == 0.5
    assert in_process.predict(table.head(0), "1").empty


def test_a_row_that_the_version_rejects_is_reported_with_its_row_and_column(raw: pd.DataFrame) -> None:
    table = features(raw.head(9))
    table.loc[4, "period"] = 2.5
    with pytest.raises(ScoredError, match=r"version 1 of kobe_shot rejects a row: .*row 4, column period: found 2\.5"):
        in_process.predict(table, "1")


@pytest.mark.parametrize("version", ["99", "nosuch"])
def test_a_version_that_is_not_there_is_reported(raw: pd.DataFrame, version: str) -> None:
    with pytest.raises(ScoredError, match=rf"models:/kobe_shot/{version} cannot be loaded: MlflowException"):
        in_process.predict(features(raw), version)


@pytest.mark.parametrize("file", ["artifacts/pipeline.skops", "MLmodel", "scoring_model.py"])
@pytest.mark.parametrize("content", [b"\xff" * 99, None], ids=["damaged", "gone"])
def test_a_version_whose_files_are_damaged_is_reported(world: World, file: str, content: bytes | None) -> None:
    folder = Path(world.client.get_model_version_download_uri("kobe_shot", "1"))
    in_process._model.cache_clear()  # noqa: SLF001
    with broken(folder / file, content), pytest.raises(ScoredError, match="models:/kobe_shot/1 cannot be loaded: "):
        in_process.threshold_of("1")
    assert in_process.threshold_of("1") == 0.5


def test_a_version_is_loaded_once_and_its_number_in_another_store_is_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    runs = {"1": "a", "2": "b"}
    monkeypatch.setattr(registry, "run_of", lambda version: f"{runs[version]} of {mlflow.get_tracking_uri()}")

    def load(uri: str) -> Mock:
        loaded.append(f"{uri} of {mlflow.get_tracking_uri()}")
        return Mock(unwrap_python_model=lambda: Mock(threshold=len(loaded) / 10))

    in_process._model.cache_clear()  # noqa: SLF001
    monkeypatch.setattr(model_files, "load", load)
    assert [in_process.threshold_of(version) for version in ("1", "1", "2")] == [0.1, 0.1, 0.2]
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'other.db'}")
    assert in_process.threshold_of("1") == 0.3
    assert len(set(loaded)) == 3
    in_process._model.cache_clear()  # noqa: SLF001


# The candidates


@pytest.fixture
def trained(world: World, raw: pd.DataFrame, forgotten: Callable[..., str]) -> Iterator[dict[str, str]]:
    """Runs of the candidates of the champion's training by id; the last one is the champion."""
    training = str(registry.require_champion().run_id)
    made: dict[str, str] = {}
    rows, labels = features(raw).to_numpy(), raw[TARGET].fillna(0)
    for place, (name, status) in enumerate([("prior", "FINISHED"), ("dt", "FINISHED"), ("nb", "FAILED")]):
        save_pipeline(make_pipeline(LogisticRegression(C=10.0**-place).fit(rows, labels)), world.made(CANDIDATE_FILE))
        tags = {"mlflow.parentRunId": training, "model_id": name}
        made[name] = forgotten(f"{name}: A {name}", {CANDIDATE_FILE: CANDIDATE_FOLDER}, tags=tags, status=status)
    save_pipeline(world.pipeline, world.made(CANDIDATE_FILE))
    tags = {"mlflow.parentRunId": training, "model_id": "lr"}
    made["lr"] = forgotten("lr: Logistic Regression", {CANDIDATE_FILE: CANDIDATE_FOLDER}, tags=tags)
    forgotten("lr: Of another training", tags={"mlflow.parentRunId": ELSEWHERE, "model_id": "lr"})
    forgotten("Treinamento", tags={"mlflow.parentRunId": training})
    world.client.set_model_version_tag("kobe_shot", "1", "model_id", "lr")
    yield made
    world.client.delete_model_version_tag("kobe_shot", "1", "model_id")


@pytest.mark.usefixtures("trained")
def test_candidates_are_the_tuned_models_of_the_champions_training_the_selected_one_first(raw: pd.DataFrame) -> None:
    found = candidates(current_store(), "1")
    assert [(each.id, each.name, each.selected) for each in found] == [
        ("lr", "Logistic Regression", True),
        ("dt", "A dt", False),
    ]
    table = features(raw)
    np.testing.assert_allclose(found[0].probability(table), in_process.predict(table, "1")[PROBABILITY])
    shuffled = table[list(reversed(FEATURES))].assign(more=1)
    np.testing.assert_array_equal(found[1].probability(shuffled), found[1].probability(table))


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "does not hold candidate/model.skops"), (b"\xff" * 99, "is no pipeline")],
    ids=["gone", "damaged"],
)
def test_a_candidate_whose_pipeline_is_gone_or_damaged_is_reported(
    world: World, trained: dict[str, str], content: bytes | None, words: str
) -> None:
    path = artifact_of(world, trained["dt"], f"{CANDIDATE_FOLDER}/{CANDIDATE_FILE}")
    with broken(path, content), pytest.raises(TableError, match=words):
        candidates(current_store(), "1")


def test_a_champion_without_runs_of_candidates_has_none() -> None:
    assert candidates(current_store(), "1") == []


# Shots with their season


def lay(world: World, tmp_path: Path) -> None:
    for file in (DEV, PROD):
        (tmp_path / "raw" / file).write_bytes(world.made(file).read_bytes())


def test_development_shots_are_labeled_complete_and_know_their_season(
    world: World, tmp_path: Path, raw: pd.DataFrame
) -> None:
    lay(world, tmp_path)
    dev = pd.read_parquet(world.made(DEV))
    dev.loc[dev.index[0], "lat"] = np.nan
    dev.loc[dev.index[1], "season"] = None
    dev.to_parquet(tmp_path / "raw" / DEV)
    found = shots.development_shots(current_store())
    complete = dev[dev["lat"].notna() & dev[TARGET].notna()]
    assert found["shot_id"].tolist() == complete["shot_id"].tolist()
    assert found["season"].tolist() == complete["season"].fillna("unknown").tolist()
    np.testing.assert_allclose(found[list(FEATURES)], features(complete))
    assert not found[[*FEATURES, TARGET]].isna().any(axis=None)
    assert raw["shot_type"].str.startswith("2").sum() > len(found) > 500


def test_seasons_are_found_by_shot_in_both_raw_files(world: World, tmp_path: Path, raw: pd.DataFrame) -> None:
    lay(world, tmp_path)
    table = pd.DataFrame({"shot_id": pd.array([*raw["shot_id"].tail(400), 10**9, None], dtype="Int64")})
    found = shots.with_season(current_store(), table)
    assert found["season"].tolist() == [*raw["season"].tail(400), "unknown", "unknown"]
    assert "season" not in table


def test_shots_without_a_number_or_of_files_without_a_season_have_an_unknown_one(world: World, tmp_path: Path) -> None:
    assert set(shots.with_season(current_store(), pd.DataFrame({"lat": [1.0, 2.0]}))["season"]) == {"unknown"}
    for file in (DEV, PROD):
        pd.read_parquet(world.made(file)).drop(columns="season").to_parquet(tmp_path / "raw" / file)
    assert set(shots.with_season(current_store(), pd.DataFrame({"shot_id": [1, 2]}))["season"]) == {"unknown"}
    assert set(shots.development_shots(current_store())["season"]) == {"unknown"}


def test_raw_files_that_changed_are_read_again(world: World, tmp_path: Path) -> None:
    lay(world, tmp_path)
    rows = len(shots.development_shots(current_store()))
    pd.read_parquet(tmp_path / "raw" / DEV).head(100).to_parquet(tmp_path / "raw" / DEV)
    assert len(shots.development_shots(current_store())) < min(rows, 101)


def test_seasons_of_a_large_raw_table_are_all_known(
    world: World, tmp_path: Path, raw: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shots, "_MAX_SHOTS", 50)
    monkeypatch.setattr(shots, "_CHUNK_ROWS", 100)
    lay(world, tmp_path)
    (tmp_path / "raw" / DEV).unlink()
    part(pd.read_parquet(world.made(DEV)), tmp_path / "raw" / DEV, (300, 600))
    found = shots.with_season(current_store(), raw[["shot_id"]])
    assert found["season"].tolist() == raw["season"].tolist()
    assert len(shots.development_shots(current_store())) < 100


def test_a_raw_table_is_read_again_when_a_part_was_written_again(world: World, tmp_path: Path) -> None:
    folder = part(pd.read_parquet(world.made(DEV)), tmp_path / "raw" / DEV, (300,))
    rows = len(shots.development_shots(current_store()))
    changed = folder / "part-00300.parquet"
    with changed.open("r+b") as opened:  # In its place: the folder does not change.
        fewer = io.BytesIO()
        pd.read_parquet(changed).head(10).to_parquet(fewer)
        opened.truncate(0)
        opened.write(fewer.getvalue())
    assert len(shots.development_shots(current_store())) < min(rows, 311)


def test_raw_files_come_from_the_last_acquisition_where_the_folder_is_empty(forgotten: Callable[..., str]) -> None:
    with pytest.raises(TableError, match=r"neither in data/raw nor in a run.*mlflow run \. -e aquisicao"):
        shots.development_shots(current_store())
    forgotten("Aquisicao", {DEV: "raw", PROD: "raw"})
    assert len(shots.development_shots(current_store())) > 500
    assert set(shots.with_season(current_store(), pd.DataFrame({"shot_id": [1, 2]}))["season"]) != {"unknown"}


def test_a_raw_file_that_is_damaged_is_reported(tmp_path: Path) -> None:
    (tmp_path / "raw" / DEV).write_bytes(b"PAR1 and no more")
    with pytest.raises(TableError, match=rf"{DEV} cannot be read: .*mlflow run . -e aquisicao"):
        shots.development_shots(current_store())


# The operation


def test_the_last_run_is_the_newest_finished_one_of_this_project(world: World, forgotten: Callable[..., str]) -> None:
    assert current_store().last_run("Treinamento") is None
    forgotten("Treinamento", tags={"synthetic": "true"})
    last = forgotten("Treinamento", tags={"synthetic": "false"}, params={"seed": "1"})
    failed = forgotten("Treinamento", status="FAILED")
    foreign = world.client.create_run(world.experiment, run_name="Treinamento")
    world.client.set_terminated(foreign.info.run_id)
    world.client.log_metric(last, "log_loss", 0.67)
    found = current_store().last_run("Treinamento")
    assert found is not None
    assert (found.run_id, found.metrics, found.synthetic) == (last, {"log_loss": 0.67}, False)
    assert found.started.tzinfo == UTC
    assert abs((datetime.now(UTC) - found.started).total_seconds()) < 600
    for condition, expected in (("params.seed = '1'", last), ("attributes.status = 'FAILED'", failed)):
        one = current_store().last_run("Treinamento", condition)
        assert one is not None
        assert one.run_id == expected
    assert current_store().last_run("Treinamento", "params.seed = '2'") is None
    world.client.delete_run(foreign.info.run_id)


def test_monitoring_runs_of_a_source_versus_the_test_rows_are_newest_first(forgotten: Callable[..., str]) -> None:
    of_prod = {"source": "application", "reference": "base_test"}
    first = forgotten("Monitoramento", tags={**of_prod, "health_status": "healthy"})
    # `mlflow run` marks its run as failed when `fail_on` ends the command with an exit code.
    second = forgotten("Monitoramento", tags={**of_prod, "health_status": "retrain"}, status="FAILED")
    failed = forgotten("Monitoramento", tags=of_prod, status="FAILED")
    of_log = forgotten("Monitoramento", tags={**of_prod, "source": "log", "health_status": "watch"})
    forgotten("Monitoramento", tags={**of_prod, "source": "table", "current": "prod", "health_status": "healthy"})
    forgotten("Monitoramento", tags={**of_prod, "reference": "base_train", "health_status": "healthy"})
    forgotten("main", tags={**of_prod, "health_status": "retrain"})
    assert [run.run_id for run in current_store().monitoring_runs("application")] == [failed, second, first]
    assert [run.status for run in current_store().monitoring_runs("application", 2)] == ["FAILED", "FAILED"]
    assert [run.run_id for run in current_store().monitoring_runs("log")] == [of_log]


def test_the_champion_is_described_as_the_registry_has_it(world: World) -> None:
    world.client.set_model_version_tag("kobe_shot", "1", "test_log_loss", "0.671")
    found = current_store().champion()
    assert found is not None
    assert (found.version, found.synthetic, found.gate_reason, found.description) == ("1", True, "better", "for a test")
    assert found.test_metrics["log_loss"] == 0.671
    assert found.promoted_at is not None
    assert found.promoted_at.tzinfo is not None


def test_an_empty_store_is_reported_and_does_not_fail(store: str) -> None:
    del store
    assert current_store().champion() is None
    assert current_store().last_run("main") is None
    assert current_store().monitoring_runs("application") == []
    assert candidates(current_store(), "1") == []
    with pytest.raises(RegistryError, match="has no champion yet"):
        tables.prepared_table(current_store(), "base_test")
    with pytest.raises(TableError, match="is not the table that version 1 was made with"):
        reference_data(current_store(), "1")
    with pytest.raises(TableError, match="no run has scored"):
        tables.scored_table(current_store(), tables.last_batch_scoring(current_store()).run_id)
    with pytest.raises(TableError, match="nor in a run"):
        shots.development_shots(current_store())
