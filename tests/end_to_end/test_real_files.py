"""``mlflow run . -e main`` on the real files, as a user would run it."""

import re
from pathlib import Path

import numpy as np
import pytest
import requests
from mlflow.entities import Run

from data.paths import ROOT
from data.schema import FEATURES
from monitor.metrics.binary import evaluate
from monitor.reports.model_card.card import MAX_DESCRIPTION
from tests.project import REAL, Checkout, ok, records, run_mlflow_server, shot

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real files are not at {REAL}")

STEPS = ["Aquisicao", "PreparacaoDados", "Treinamento", "PipelineAplicacao", "Monitoramento", "Retreino", "Relatorio"]


@pytest.fixture(scope="module")
def checkout(real_main: tuple[Checkout, str]) -> Checkout:
    return real_main[0]


def children(checkout: Checkout, parent: Run) -> list[str]:
    return sorted(
        str(run.info.run_name)
        for run in checkout.runs()
        if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    )


def test_the_known_dimensions_are_printed(real_main: tuple[Checkout, str]) -> None:
    _, printed = real_main
    for words in ("20285 × 7", "16,228", "4,057", "6,426", "5,412"):
        assert words in printed
    assert "SYNTHETIC" not in printed


def test_the_steps_are_nested_runs_of_main_in_one_experiment(checkout: Checkout) -> None:
    main = checkout.run("main")
    assert "mlflow.parentRunId" not in main.data.tags
    assert children(checkout, main) == sorted(STEPS)
    assert children(checkout, checkout.run("Treinamento")) == [
        "dt: Decision Tree",
        "lr: Logistic Regression",
        "prior: Base rate",
    ]
    assert {run.info.status for run in checkout.runs()} == {"FINISHED"}


def test_preparation_logs_sizes_rates_reasons_files_and_plots(checkout: Checkout) -> None:
    run = checkout.run("PreparacaoDados")
    metrics, params = run.data.metrics, run.data.params
    assert (params["test_size"], params["seed"], params["features"]) == ("0.2", "42", ",".join(FEATURES))
    assert metrics["rows_data_filtered"] == 20_285
    assert (metrics["rows_base_train"], metrics["rows_base_test"]) == (16_228, 4_057)
    assert (metrics["rows_base_prod"], metrics["rows_base_prod_unlabeled"]) == (6_426, 1_014)
    assert metrics["dropped_dev_missing_shot_made_flag"] == 3_986
    assert metrics["share_made_base_train"] == pytest.approx(0.4773, abs=1e-3)
    files = checkout.artifacts(run)
    assert {f"tables/{name}.parquet" for name in ("data_filtered", "base_train", "base_test", "base_prod")} <= files
    plots = {"missing_values_dataset_kobe_dev", "histograms", "shot_map", "rate_by_zone", "rate_by_distance"}
    assert {f"plots/{name}.png" for name in plots} <= files
    assert {value.dataset.name for value in run.inputs.dataset_inputs} >= {"base_train", "dataset_kobe_prod"}
    assert all(len(params[f"sha256_{name}"]) == 64 for name in ("data_filtered", "base_train", "base_test"))


def test_each_candidate_has_its_metrics_and_plots(checkout: Checkout) -> None:
    names = ("log_loss", "f1_score", "roc_auc", "accuracy", "precision", "recall", "brier")
    for run in (checkout.run("lr: Logistic Regression"), checkout.run("dt: Decision Tree")):
        assert {*names, *(f"cv_{name}_{part}" for name in names for part in ("mean", "std"))} <= set(run.data.metrics)
        assert run.data.params
        plots = {"confusion_matrix", "roc", "precision_recall", "calibration", "prediction_map"}
        assert {f"plots/{name}.png" for name in plots} <= checkout.artifacts(run)


def test_the_tuned_tree_is_better_than_068_on_the_test_rows(checkout: Checkout) -> None:
    assert checkout.run("dt: Decision Tree").data.metrics["log_loss"] < 0.68


def test_the_choice_follows_the_cross_validated_figures_and_is_justified_on_the_version(checkout: Checkout) -> None:
    candidates = {name: checkout.run(name) for name in ("lr: Logistic Regression", "dt: Decision Tree")}
    best = min(candidates.values(), key=lambda run: run.data.metrics["cv_log_loss_mean"])
    training, version = checkout.run("Treinamento"), checkout.production()
    assert version is not None
    assert training.data.tags["chosen_model"] == version.tags["model_id"] == best.data.tags["model_id"]
    assert training.data.metrics["log_loss"] == best.data.metrics["log_loss"]
    artifacts = Path(training.info.artifact_uri)
    card = (artifacts / "model_card.md").read_text()
    for text in (version.description, card, (artifacts / "justification.md").read_text()):
        assert "Base rate" in text
        assert "The selection does not use the test rows" in text


def test_the_model_card_has_the_metrics_of_the_run_and_the_command_that_reproduces_them(checkout: Checkout) -> None:
    training, version = checkout.run("Treinamento"), checkout.production()
    assert version is not None
    card = (Path(training.info.artifact_uri) / "model_card.md").read_text()
    loss = f"| {training.data.metrics['log_loss']:.4f} ("
    for text in (version.description, card):
        assert loss in text
        assert "mlflow run . -e main --env-manager local -P source=FOLDER" in text
    # The base-rate baseline predicts no shot made, so it has no precision.
    assert re.search(r"^\| Base rate \|.*\| undefined \|", card, flags=re.MULTILINE)
    assert len(version.description) <= MAX_DESCRIPTION
    assert version.tags["sha256_base_train"] in card


def test_the_version_can_be_traced_to_its_data_and_code(checkout: Checkout) -> None:
    version = checkout.production()
    assert version is not None
    assert version.tags["gate"] == "passed"
    assert {"git_commit", "git_dirty", "test_log_loss", "cv_log_loss"} <= set(version.tags)
    assert version.tags["sha256_base_train"] == checkout.run("PreparacaoDados").data.params["sha256_base_train"]
    assert version.tags["sha256_dataset_kobe_dev"].startswith("3a177adb")
    assert (version.tags["data_source"], version.tags["synthetic"]) == ("public", "false")


def test_the_figures_of_the_readme_are_those_of_the_runs(checkout: Checkout) -> None:
    readme = (ROOT / "README.md").read_text()
    for name, run in (
        ("logistic regression, 4,057 test rows", checkout.run("lr: Logistic Regression")),
        ("tuned tree (selected), 4,057 test rows", checkout.run("dt: Decision Tree")),
        ("tuned tree, 5,412 labeled prod rows", checkout.run("PipelineAplicacao")),
    ):
        metrics = run.data.metrics
        figures = f"{metrics['log_loss']:.4f} | {metrics['f1_score']:.3f} | {metrics['roc_auc']:.3f}"
        assert f"| {name} | {figures} |" in readme


def test_production_is_champion(checkout: Checkout) -> None:
    version = checkout.production()
    assert version is not None
    assert checkout.client().get_model_version_by_alias("kobe_shot", "champion").version == version.version


def test_every_prod_row_is_scored_and_the_labeled_ones_are_evaluated(checkout: Checkout) -> None:
    run, table = checkout.run("PipelineAplicacao"), checkout.table("predictions_prod")
    columns = ["prediction", "probability", "model_version"]
    assert list(table) == ["shot_id", "game_date", *FEATURES, "shot_made_flag", *columns]
    assert len(table) == 6_426
    assert table["shot_id"].is_unique
    assert table["probability"].between(0, 1).all()
    assert set(table["model_version"]) == {1}
    metrics = run.data.metrics
    assert (metrics["rows_scored"], metrics["rows_labeled"], metrics["rows_unlabeled"]) == (6_426, 5_412, 1_014)
    labeled = table.dropna(subset=["shot_made_flag"])
    expected = evaluate(labeled["shot_made_flag"], labeled["probability"])
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert {"tables/predictions_prod.parquet", "plots/prediction_map.png"} <= checkout.artifacts(run)


def test_the_served_model_returns_the_prediction_of_the_table(checkout: Checkout) -> None:
    first = checkout.table("predictions_prod").iloc[:3]
    with run_mlflow_server(checkout) as url:
        response = requests.post(
            f"{url}/invocations", json={"dataframe_records": first[list(FEATURES)].to_dict("records")}, timeout=30
        )
        one = requests.post(f"{url}/invocations", json=records(shot()), timeout=30).json()
    np.testing.assert_allclose([row["probability"] for row in response.json()["predictions"]], first["probability"])
    assert [row["shot_made_flag"] for row in response.json()["predictions"]] == first["prediction"].tolist()
    assert set(one["predictions"][0]) == {"shot_made_flag", "probability"}


def test_retraining_is_recommended_for_prod_and_test_rows_versus_training_rows_are_healthy(
    checkout: Checkout, tmp_path: Path
) -> None:
    prod = checkout.run("Monitoramento").data
    assert prod.tags["health_status"] == "retraining recommended"
    assert {prod.tags[f"check_{code}"] for code in ("K103", "K201", "K204")} == {"failed"}
    assert prod.metrics["out_of_support_rate"] > 0.95
    assert prod.metrics["ks_shot_distance"] > prod.metrics["ks_shot_distance_threshold"]
    assert (
        prod.metrics["current_log_loss_low"] < prod.metrics["current_log_loss"] < prod.metrics["current_log_loss_high"]
    )
    own = checkout.copy(tmp_path / "copy")
    shown = ok(own.step("monitoramento", "--current", "base_test", "--reference", "base_train", "--fail-on", "warning"))
    assert "Status: healthy" in shown


def test_the_report_of_main_has_the_metrics_of_its_runs(checkout: Checkout) -> None:
    text, page = ((checkout.folder / f"relatorio.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    run = checkout.run("Relatorio")
    assert {"relatorio/relatorio.md", "relatorio/relatorio.html"} <= checkout.artifacts(run)
    assert "20.285 registros × 7 colunas" in text
    figures = [run.data.metrics["resplit_dt_log_loss_mean"], checkout.run("PipelineAplicacao").data.metrics["log_loss"]]
    for name in ("dt: Decision Tree", "lr: Logistic Regression"):
        metrics = checkout.run(name).data.metrics
        figures += [metrics[f"{metric}{end}"] for metric in ("log_loss", "f1_score") for end in ("", "_low", "_high")]
    for figure in figures:
        assert f"{figure:.4f}".replace(".", ",") in text
    # Only the policy backtest is missing, which main does not run.
    assert {line for line in text.splitlines() if "**ausente**" in line and "peracao" not in line} == {
        line for line in text.splitlines() if "está marcado como **ausente**" in line
    }
    assert page.count("data:image/png;base64,") == text.count("](relatorio_figuras/") == 17
