"""The step: the report from a store that a ``main`` has filled, its files, its own figures and its parameters."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from data.cli import config
from data.cli.config import parse_args
from data.errors import KobeShotError
from monitor.reports import split_sensitivity
from monitor.reports.pipeline import collect
from monitor.reports.pipeline.lineage import NoTrainingError
from monitor.store import tags as store_tags
from monitor.store.model_store import current_store
from steps.main import MainConfig
from steps.relatorio import HTML, MARKDOWN, RUN_NAME, RelatorioConfig, run
from tests.report_store import fill, run_named

ARTIFACTS = {f"relatorio/{MARKDOWN}", f"relatorio/{HTML}", "tables/split_sensitivity.csv"}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A store after a ``main``; tests copy it."""
    folder = tmp_path_factory.mktemp("reported")
    path, before = Path(shutil.copy(empty_database, folder / "mlflow.db")), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    try:
        mlflow.create_experiment("tests", artifact_location=str(folder / "artifacts"))
        mlflow.set_experiment("tests")
        fill(folder)
    finally:
        mlflow.set_tracking_uri(before)
    return path


@pytest.fixture
def out(tmp_path: Path, database: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a test, in which a copy of `database` is tracked."""
    assert store
    shutil.copy(database, tmp_path / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tests")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not draw plots, which takes time."""
    monkeypatch.setattr(collect, "_new_plots", lambda *_: {})


def reported(n_resplits: int, out: str = "") -> tuple[str, Run]:
    written = run(RelatorioConfig(n_resplits=n_resplits, out=out))
    return written.markdown.read_text(encoding="utf-8"), run_named(RUN_NAME)


def test_the_report_is_written_to_the_project_and_kept_with_its_run(out: Path) -> None:
    text, found = reported(n_resplits=2)
    plots = {path.name for path in (out / "relatorio_figuras").iterdir()}
    assert {"divisoes.png", "drift.png", "arremessos.png"} <= plots
    named = {f"relatorio/relatorio_figuras/{name}" for name in plots}
    assert set(current_store().artifacts(found.info.run_id)) == ARTIFACTS | named
    assert current_store().download(found.info.run_id, f"relatorio/{MARKDOWN}").decode() == text
    assert found.info.run_id in (out / HTML).read_text(encoding="utf-8")
    assert found.data.tags["reports_Treinamento"] == run_named("Treinamento").info.run_id
    assert (found.data.tags["data_source"], found.info.status) == ("public", "FINISHED")


@pytest.mark.usefixtures("undrawn")
def test_the_spread_over_splits_is_a_figure_of_the_run_and_of_the_report(out: Path) -> None:
    text, found = reported(n_resplits=3, out=str(out))
    metrics = found.data.metrics
    assert metrics["resplit_dt_log_loss_std"] > 0
    shown = [f"{metrics[f'resplit_dt_log_loss_{name}']:.4f}".replace(".", ",") for name in split_sensitivity.STATISTICS]
    assert f"| dt | {shown[0]} ± {shown[1]} ({shown[2]} a {shown[3]}) |" in text
    history = MlflowClient().get_metric_history(found.info.run_id, "split_lr_log_loss")
    assert sorted(point.step for point in history) == [0, 1, 2]
    assert metrics["split_rows"] == 2_000
    assert "nos 2.000 registros filtrados" in text


@pytest.mark.usefixtures("out", "undrawn")
def test_of_a_large_table_a_sample_is_split_and_a_tag_records_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_sensitivity, "MAX_ROWS", 500)
    text, found = reported(n_resplits=1)
    assert found.data.metrics["split_rows"] == 500
    assert "em uma amostra de 500 registros" in text
    assert "resplit_lr_log_loss_std" not in found.data.metrics


@pytest.mark.usefixtures("out", "undrawn")
def test_without_resplits_the_report_states_that_the_spread_was_not_measured() -> None:
    text, found = reported(n_resplits=0)
    assert "**ausente**: a variação entre divisões não foi medida" in text
    assert not [name for name in found.data.metrics if name.startswith("resplit_")]
    assert "divisoes.png" not in text


@pytest.mark.usefixtures("out", "undrawn")
def test_models_that_are_gone_leave_the_rest_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.store.candidates.CANDIDATE_FILE", "gone.skops")
    text, found = reported(n_resplits=2)
    assert "candidate/gone.skops" in found.data.tags["split_sensitivity"]
    assert "a variação entre divisões não foi medida" in text
    assert "## 13. Como reproduzir" in text


@pytest.mark.usefixtures("out", "undrawn")
def test_within_main_the_report_is_about_its_own_runs() -> None:
    main = run_named("main").info.run_id
    with mlflow.start_run(run_name="PipelineAplicacao", tags={"data_source": "public", "model_version": "1"}):
        pass
    with mlflow.start_run(run_id=main):
        text, found = reported(n_resplits=0)
    assert found.data.tags["mlflow.parentRunId"] == main
    assert f"| main | `{main}` | encontrada |" in text
    assert "**ausente**" not in text.partition("| PipelineAplicacao |")[2].partition("\n")[0]


@pytest.mark.usefixtures("undrawn")
def test_plots_of_an_earlier_report_are_removed(out: Path) -> None:
    folder = out / "here" / "relatorio_figuras"
    folder.mkdir(parents=True)
    for name in ("operacao.png", "mine.png"):
        (folder / name).write_bytes(b"old")
    reported(n_resplits=0, out="here")
    assert not (folder / "operacao.png").exists()
    assert (folder / "mine.png").read_bytes() == b"old"
    assert not list(out.rglob(".*.partial"))


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(out: Path) -> None:
    (out / "file").write_text("mine")
    with pytest.raises(KobeShotError, match=r"out=file/below/relatorio.md: expected a writable folder"):
        run(RelatorioConfig(out="file/below"))
    with pytest.raises(KobeShotError, match="out="):
        MainConfig(out="file/below").check()
    with pytest.raises(IndexError):
        run_named(RUN_NAME)


@pytest.mark.usefixtures("out", "undrawn")
def test_without_a_main_the_command_is_built_from_what_the_steps_keep() -> None:
    version = {
        "data_source": "public",
        "synthetic": "false",
        "model_version": "1",
        "predictions": "predictions_prod.parquet",
    }
    with mlflow.start_run(run_name="PipelineAplicacao", tags=version):
        mlflow.log_params({"mode": "rest"})
    text, _ = reported(n_resplits=0)
    assert "As execuções não pertencem todas a um mesmo `main`" in text
    assert "```sh\ngit checkout abc123 && mlflow run . -e main --env-manager local -P models=lr,dt\n" in text
    assert "Os parâmetros `source, test_size, seed` **não são conhecidos**" in text


@pytest.mark.usefixtures("out", "undrawn")
def test_of_a_version_that_was_trained_on_delayed_labels_other_splits_are_not_measured() -> None:
    MlflowClient().set_model_version_tag("kobe_shot", "1", store_tags.TRAINING_LABELS, "100")
    text, found = reported(n_resplits=2)
    assert "trained on delayed labels" in found.data.tags["split_sensitivity"]
    assert "A variação entre divisões não foi medida: a versão 1 foi treinada também com rótulos" in text


@pytest.mark.usefixtures("store")
def test_without_a_training_the_message_names_the_command_to_run_and_the_exit_code_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tests")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["relatorio"])
    with pytest.raises(SystemExit) as caught:
        config.run_command(RelatorioConfig, run)
    assert caught.value.code == 1
    assert "mlflow run . -e main" in capsys.readouterr().err
    assert not (tmp_path / MARKDOWN).exists()
    with pytest.raises(NoTrainingError):
        run(RelatorioConfig())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--n_resplits", "-1"], "n_resplits"), (["--out", __file__], "expected a folder"), (["--ouy", "x"], "ouy")],
)
def test_wrong_parameters_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_args(RelatorioConfig, arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_what_mlflow_run_hands_on_for_nothing_is_the_projects_folder() -> None:
    assert Path(parse_args(RelatorioConfig, ["--out", ""]).out) == Path()


def test_the_report_of_each_dataset_has_a_folder_of_its_own() -> None:
    assert RelatorioConfig().folder == Path()
    assert RelatorioConfig(dataset="kobe_full").folder == Path("relatorio_kobe_full")
    assert RelatorioConfig(dataset="kobe_full", out="mine").folder == Path("mine")
