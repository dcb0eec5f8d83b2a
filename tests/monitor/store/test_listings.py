"""Tables of what MLflow keeps."""

import json
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from monitor.store import listings, model_store
from monitor.store import tags as store_tags
from monitor.store.model_store import current_store
from serving import registry
from serving.registry import StoreError
from tests.versions import promote_versions

READS = (
    lambda: listings.runs_table(current_store()),
    lambda: listings.versions_table(current_store()),
    lambda: listings.promotions_table(current_store()),
    lambda: current_store().artifacts("x"),
)


def log_run(name: str, *, tags: dict[str, str] | None = None, **metrics: float) -> str:
    ours = {"data_source": "public", "synthetic": "false"} if tags is None else tags
    with mlflow.start_run(run_name=name, tags=ours) as run:
        mlflow.log_metrics(metrics)
    return str(run.info.run_id)


@pytest.mark.usefixtures("store")
def test_runs_of_every_experiment_are_listed_newest_first_with_their_metrics() -> None:
    log_run("Treinamento", tags={"data_source": "public", "model_version": "3"}, log_loss=0.67)
    mlflow.set_experiment("another")
    log_run("PipelineAplicacao", log_loss=0.65, rows_scored=10)
    table = listings.runs_table(current_store())
    assert table["name"].tolist() == ["PipelineAplicacao", "Treinamento"]
    assert table["version"].tolist() == [None, "3"]
    assert table["log_loss"].tolist() == [0.65, 0.67]
    assert table["start"].is_monotonic_decreasing
    assert (table["seconds"] >= 0).all()
    assert listings.metric_names(table) == ["log_loss", "rows_scored"]


@pytest.mark.usefixtures("store")
def test_runs_of_other_projects_do_not_count() -> None:
    log_run("Treinamento", tags={"theirs": "true"})
    assert listings.runs_table(current_store()).empty


@pytest.mark.usefixtures("store")
def test_runs_within_a_backtest_are_about_a_model_of_its_own() -> None:
    ours = {"data_source": "public"}
    log_run("Treinamento", tags=ours)
    log_run("Operacao", tags={**ours, store_tags.REGISTERED_MODEL: "kobe_shot"})
    log_run("Retreino", tags={**ours, store_tags.REGISTERED_MODEL: "kobe_shot_backtest"})
    assert listings.runs_table(current_store())["name"].tolist() == ["Operacao", "Treinamento"]
    with registry.use_model_name("kobe_shot_backtest"):
        assert listings.runs_table(current_store())["name"].tolist() == ["Retreino", "Treinamento"]


@pytest.mark.usefixtures("store")
def test_a_run_that_failed_before_it_knew_its_data_is_listed() -> None:
    message = "no raw file"
    with pytest.raises(OSError, match=message), mlflow.start_run(tags={"kobe_shot.workspace": "here"}):
        raise OSError(message)
    assert listings.runs_table(current_store())["status"].tolist() == ["FAILED"]


@pytest.mark.usefixtures("store")
def test_a_nested_run_names_the_run_that_it_is_part_of() -> None:
    ours = {"data_source": "public"}
    with mlflow.start_run(run_name="main", tags=ours), mlflow.start_run(run_name="dt", nested=True, tags=ours):
        assert listings.runs_table(current_store()).set_index("name")["parent"].to_dict() == {
            "dt": "main",
            "main": None,
        }


@pytest.mark.usefixtures("store")
def test_a_trend_has_the_finished_runs_of_a_name_oldest_first_and_their_own_metrics() -> None:
    log_run("Treinamento", log_loss=0.68)
    log_run("Aquisicao", rows=1)
    log_run("Treinamento", log_loss=0.67)
    with mlflow.start_run(run_name="Treinamento", tags={"data_source": "public"}):
        rows = listings.trend_rows(listings.runs_table(current_store()), "Treinamento")
    assert list(rows) == ["time", "run", "version", "log_loss"]
    assert rows["log_loss"].tolist() == [0.68, 0.67]


@pytest.mark.usefixtures("store")
def test_more_runs_than_are_shown_leave_the_oldest_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "MAX_RUNS", 3)
    monkeypatch.setattr(model_store, "_PAGE", 2)
    for number in range(5):
        log_run(f"run {number}")
    assert listings.runs_table(current_store())["name"].tolist() == ["run 4", "run 3", "run 2"]


@pytest.mark.usefixtures("store")
def test_an_empty_store_gives_empty_tables_with_their_columns() -> None:
    assert list(listings.runs_table(current_store())) == list(listings.RUN_COLUMNS)
    assert list(listings.versions_table(current_store())) == list(listings.VERSION_COLUMNS)
    assert listings.promotions_table(current_store()).empty


@pytest.mark.parametrize("read", READS)
def test_a_broken_store_is_reported(read: object, store: str) -> None:
    assert callable(read)
    broken = Path(store.removeprefix("sqlite:///")).with_name("broken.db")
    broken.write_bytes(b"this is no database" * 99)
    mlflow.set_tracking_uri(f"sqlite:///{broken}")
    with pytest.raises(StoreError, match="broken"):
        read()


@pytest.mark.usefixtures("store")
def test_versions_carry_aliases_stage_gate_and_promotions() -> None:
    promote_versions(2)
    MlflowClient().set_model_version_tag(registry.MODEL, "2", "test_log_loss", "0.671")
    registry.roll_back("a check")
    table = listings.versions_table(current_store()).set_index("version")
    assert table["aliases"].to_dict() == {1: ["champion"], 2: []}
    assert table["stage"].to_dict() == {1: "Production", 2: "Archived"}
    assert table["gate"].to_dict() == {1: "passed", 2: "passed"}
    assert table["promotions"].to_dict() == {1: 2, 2: 1}
    assert table["test_log_loss"][2] == 0.671
    promotions = listings.promotions_table(current_store())
    assert promotions["kind"].tolist() == ["roll back", "promotion", "promotion"]
    assert promotions["version"].tolist() == [1, 2, 1]
    assert promotions["instead_of"].tolist() == ["2", "1", None]
    assert promotions["why"].tolist()[0] == "a check"


@pytest.mark.usefixtures("store")
def test_promotions_of_versions_before_rollbacks_had_a_kind_are_listed() -> None:
    promote_versions(1)
    entry = {"when": "2026-01-01T00:00:00+00:00", "who": "me", "where": "here", "why": "rolled back: a wish"}
    MlflowClient().set_model_version_tag(registry.MODEL, "1", "promotions", json.dumps([entry | {"instead_of": None}]))
    assert listings.promotions_table(current_store())["kind"].tolist() == ["promotion"]
    assert registry.champion_history() == ["1"]


@pytest.mark.usefixtures("store")
def test_the_tables_are_about_the_registered_model_that_is_worked_on() -> None:
    promote_versions(2)
    with registry.use_model_name("another"):
        assert listings.versions_table(current_store()).empty
        promote_versions(1)
        assert listings.versions_table(current_store())["aliases"].tolist() == [["champion"]]
        assert len(listings.promotions_table(current_store())) == 1
    assert len(listings.promotions_table(current_store())) == 2


@pytest.mark.usefixtures("store")
def test_the_files_of_a_run_are_listed_and_fetched_one_at_a_time() -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("one", "a.txt")
        mlflow.log_text("two", "folder/below/b.txt")
    assert current_store().artifacts(run.info.run_id) == ["a.txt", "folder/below/b.txt"]
    assert current_store().download(run.info.run_id, "folder/below/b.txt") == b"two"
    with pytest.raises(StoreError):
        current_store().download(run.info.run_id, "gone.txt")


@pytest.mark.usefixtures("store")
def test_details_exclude_the_tags_of_mlflow() -> None:
    with mlflow.start_run(tags={"gate": "passed"}) as run:
        mlflow.log_param("cv_folds", 5)
        mlflow.log_metric("log_loss", 0.67)
    found = listings.run_details(current_store(), run.info.run_id)
    assert (found.params, found.metrics, found.tags) == ({"cv_folds": "5"}, {"log_loss": 0.67}, {"gate": "passed"})


@pytest.mark.usefixtures("store")
def test_a_password_that_a_command_was_given_is_not_shown_with_its_run() -> None:
    with mlflow.start_run(tags={"place": "s3://key:secret@bucket"}) as run:
        mlflow.log_param("log", "postgresql://u:secret@h/d")
    found = listings.run_details(current_store(), run.info.run_id)
    assert found.params == {"log": "postgresql://u:***@h/d"}
    assert found.tags == {"place": "s3://key:***@bucket"}
