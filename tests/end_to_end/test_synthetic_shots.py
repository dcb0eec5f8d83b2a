"""The real commands, on synthetic shots, in a fresh copy of the project."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import requests

from data.paths import ROOT
from data.simulation import synthetic
from tests.project import (
    FAST,
    Checkout,
    completed,
    copy_project,
    end_group,
    environment,
    free_port,
    ok,
    records,
    run_mlflow_server,
    run_production_server,
    shot,
)

STEPS = ["Aquisicao", "PreparacaoDados", "Treinamento", "PipelineAplicacao"]
FAST_OPTIONS = [
    "--source",
    "synthetic",
    "--synthetic_rows",
    "20000",
    "--n_iter",
    "1",
    "--cv_folds",
    "2",
    "--n_resplits",
    "1",
]


@pytest.fixture
def checkout(synthetic_main: tuple[Checkout, str], tmp_path: Path) -> Checkout:
    """A copy of the checkout after ``main``, for tests that change it."""
    return synthetic_main[0].copy(tmp_path / "copy")


def test_synthetic_shots_are_announced_so_that_no_one_can_miss_it(synthetic_main: tuple[Checkout, str]) -> None:
    checkout, printed = synthetic_main
    assert printed.count("SIMULATED") == 2
    assert printed.count("SYNTHETIC DATA:") == 4
    assert all(run.data.tags["synthetic"] == "true" for run in checkout.runs())
    production = checkout.production()
    assert production is not None
    assert production.tags["synthetic"] == "true"
    assert production.tags["data_source"] == "synthetic"


def test_main_prints_a_screen_and_a_half_and_ends_with_one_table_what_was_decided_and_what_to_do_next(
    synthetic_main: tuple[Checkout, str],
) -> None:
    checkout, printed = synthetic_main
    assert len(printed.splitlines()) <= 60
    assert printed.count("┏") == 1
    assert "findfont" not in printed
    words = ("main: done", "Base-rate baseline", "(selected)", "Decision: kobe_shot version 1", "Status:", "Next: make")
    for word in (*words, str(checkout.folder)):
        assert word in printed.replace("\n", "")


def test_each_step_can_run_alone_and_again(checkout: Checkout) -> None:
    before = checkout.table("base_train")
    for step, arguments in (
        ("aquisicao", ["--source", "synthetic", "--synthetic_rows", "20000"]),
        ("preparacao", []),
        ("treinamento", ["--n_iter", "1", "--cv_folds", "2"]),
        ("aplicacao", []),
    ):
        ok(checkout.step(step, *arguments))
    pd.testing.assert_frame_equal(checkout.table("base_train"), before)
    # The same model of the same rows is not better than the champion.
    assert checkout.production().version == 1  # type: ignore[union-attr]
    again = checkout.client().get_model_version("kobe_shot", "2")
    assert (again.current_stage, again.tags["gate"]) == ("Archived", "rejected")
    assert "not promoted, it did not pass the gate: " in checkout.run("Treinamento").data.tags["promotion_note"]
    assert checkout.run("PipelineAplicacao").data.tags["model_version"] == "1"
    assert "mlflow.parentRunId" not in checkout.run("Treinamento").data.tags


def test_a_step_reports_which_step_must_run_before_it(tmp_path: Path) -> None:
    checkout = copy_project(tmp_path)
    for step, words in (
        ("preparacao", "mlflow run . -e aquisicao"),
        ("treinamento", "mlflow run . -e preparacao"),
        ("aplicacao", "mlflow run . -e preparacao"),
    ):
        result = checkout.step(step)
        assert result.returncode == 1
        assert words in result.stderr
        assert "Traceback" not in result.stderr


def test_tables_that_changed_since_they_were_prepared_are_refused(checkout: Checkout) -> None:
    checkout.table("base_test").to_parquet(checkout.folder / "data" / "processed" / "base_train.parquet")
    result = checkout.step("treinamento")
    assert result.returncode == 1
    assert "base_train.parquet is not the file of the last preparation" in result.stderr


def test_a_step_that_fails_stops_main_and_leaves_production_as_it_was(checkout: Checkout) -> None:
    raw = checkout.folder / "data" / "raw"
    broken = checkout.folder / "broken"
    shutil.copytree(raw, broken)
    table = pd.read_parquet(broken / "dataset_kobe_dev.parquet")
    table.assign(period=99).to_parquet(broken / "dataset_kobe_dev.parquet", index=False)
    processed = checkout.table("base_train")
    result = checkout.step("main", *FAST_OPTIONS[2:], "--source", str(broken))
    assert result.returncode != 0
    assert "dataset_kobe_dev.parquet violates the schema" in result.stdout + result.stderr
    assert "row 0, column period: found 99, expected an integer from 1 to 10" in result.stdout + result.stderr
    newest = checkout.runs()[:2]
    assert {run.info.run_name: run.info.status for run in newest} == {"main": "FAILED", "Aquisicao": "FAILED"}
    assert checkout.production().version == 1  # type: ignore[union-attr]
    pd.testing.assert_frame_equal(checkout.table("base_train"), processed)


def test_a_model_that_does_not_pass_the_gate_ends_main_with_the_gates_reason(
    tmp_path: Path, empty_database: Path
) -> None:
    checkout = copy_project(tmp_path, empty_database)
    few = ["--source", "synthetic", "--synthetic_rows", "2000", "--n_iter", "1", "--cv_folds", "2", "--models", "nb"]
    result = checkout.step("main", *few)
    assert result.returncode == 1
    assert "did not pass the gate: log loss" in result.stderr
    assert checkout.run("main").info.status == "FAILED"
    assert checkout.production() is None
    assert checkout.client().get_model_version("kobe_shot", "1").tags["gate"] == "rejected"


@pytest.mark.slow
def test_figures_of_a_given_endpoint_are_not_put_down_to_the_new_version(checkout: Checkout) -> None:
    with run_mlflow_server(checkout) as url:
        printed = ok(checkout.step("main", *FAST_OPTIONS, "--endpoint", url))
    assert "by the model of the endpoint" in printed
    tags = checkout.run("main").data.tags
    assert tags["trained_version"] == "2"
    assert tags["applied_version"].startswith("unknown")


def test_the_version_that_an_endpoint_returns_is_used(checkout: Checkout) -> None:
    with run_production_server(checkout) as server:
        ok(checkout.step("aplicacao", "--endpoint", server.url))
    assert checkout.run("PipelineAplicacao").data.tags["model_version"] == "1"
    assert set(checkout.table("predictions_prod")["model_version"]) == {1}


@pytest.mark.parametrize("uri", ["sqlite:////proc/no/such/mlflow.db", "nonsense://nowhere"])
def test_an_unusable_tracking_store_is_reported_without_a_traceback(tmp_path: Path, uri: str) -> None:
    checkout = copy_project(tmp_path)
    result = checkout.step("aquisicao", "--source", "synthetic", MLFLOW_TRACKING_URI=uri)
    assert result.returncode == 1
    assert f"tracking store {uri}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_deleted_experiment_is_reported_without_a_traceback(checkout: Checkout) -> None:
    client = checkout.client()
    client.delete_experiment(client.get_experiment_by_name("kobe_shot").experiment_id)
    result = checkout.step("preparacao")
    assert result.returncode == 1
    assert "deleted experiment" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_mlflow_run_builds_the_environment_with_uv(tmp_path: Path) -> None:
    checkout = copy_project(tmp_path / "project")
    # Without the lock file MLflow takes conda.yaml, as it does for a project that it fetched from elsewhere.
    (checkout.folder / "uv.lock").unlink()
    result = subprocess.run(
        ["mlflow", "run", ".", "-e", "aquisicao", "--env-manager", "uv", "-P", "source=synthetic"],
        cwd=checkout.folder,
        env=environment() | {"MLFLOW_ENV_ROOT": str(tmp_path / "environments")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Raw files:" in ok(result)
    assert list((tmp_path / "environments").rglob("site-packages/pycaret"))


def test_a_missing_endpoint_is_reported_before_any_work(checkout: Checkout) -> None:
    result = checkout.step("main", *FAST_OPTIONS, "--endpoint", f"http://127.0.0.1:{free_port()}")
    assert result.returncode == 1
    assert "No scoring server responds" in result.stderr
    assert checkout.runs()[0].info.run_name == "main"
    assert checkout.runs()[0].info.status == "FAILED"


def test_a_wrong_parameter_of_mlflow_run_ends_before_any_work(checkout: Checkout) -> None:
    result = checkout.mlflow_run("main", "-P", "models=lr,my <b> model", "-P", "test_size=1.5")
    assert result.returncode != 0
    assert "'my <b> model'" in result.stderr
    assert "test_size" in result.stderr
    assert len([run for run in checkout.runs() if run.info.run_name == "Aquisicao"]) == 1


def test_a_given_endpoint_is_used_and_left_running(checkout: Checkout) -> None:
    own = checkout.table("predictions_prod")
    with run_mlflow_server(checkout) as url:
        ok(checkout.step("aplicacao", "--endpoint", f"{url}/invocations"))
        assert requests.get(f"{url}/ping", timeout=5).ok
    given = checkout.table("predictions_prod")
    pd.testing.assert_series_equal(given["probability"], own["probability"])
    assert given["model_version"].isna().all()


def test_no_server_outlives_the_application(synthetic_main: tuple[Checkout, str]) -> None:
    checkout, _ = synthetic_main
    ours = [p for p in psutil.process_iter(["cwd", "cmdline"]) if p.info["cwd"] == str(checkout.folder)]
    assert [process.info["cmdline"] for process in ours] == []


def test_a_model_of_real_shots_is_not_replaced_by_one_of_synthetic_shots(checkout: Checkout) -> None:
    checkout.client().set_model_version_tag("kobe_shot", "1", "synthetic", "false")
    printed = ok(checkout.step("treinamento", "--n_iter", "1", "--cv_folds", "2"))
    assert "not promoted, it was trained on synthetic shots" in printed
    assert checkout.production().version == 1  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_project_runs_on_a_given_table_from_a_git_url_in_an_empty_folder(tmp_path: Path) -> None:
    source, empty, own = tmp_path / "source", tmp_path / "empty", tmp_path / "data.csv"
    copy_project(source)
    empty.mkdir()
    # A CSV file does not record that its shots are synthetic.
    synthetic.shots(20_000, seed=42).to_csv(own, index=False)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, "-C", str(source), *command], check=True)
    checkout = Checkout(empty)
    url = f"file://{source}"
    arguments = ["-P", f"source={own}", *FAST]
    printed = ok(checkout.command("mlflow", "run", url, "-e", "main", "--env-manager", "local", *arguments))
    assert "main: done" in printed
    assert f"Next: cd {empty} && mlflow ui" in printed
    assert "SYNTHETIC" not in printed
    assert {run.info.run_name for run in checkout.runs()} >= {"main", *STEPS}
    assert checkout.run("PipelineAplicacao").data.tags["data_source"] == "table"
    scored = checkout.run("PipelineAplicacao").info.run_id
    assert checkout.run("Monitoramento").data.tags["batch_scoring_run"] == scored
    version = checkout.production()
    assert version is not None
    assert version.tags["synthetic"] == "false"
    assert len(version.tags["git_commit"]) == 40
    with run_mlflow_server(checkout) as live:
        response = requests.post(f"{live}/invocations", json=records(shot()), timeout=30)
    assert set(response.json()["predictions"][0]) == {"shot_made_flag", "probability"}


@pytest.mark.slow
def test_main_killed_at_random_times_succeeds_when_run_again(
    tmp_path: Path, pytestconfig: pytest.Config, synthetic_main: tuple[Checkout, str]
) -> None:
    checkout = copy_project(tmp_path)
    command = [sys.executable, "-m", "steps.main", *FAST_OPTIONS]
    longest = _seconds_of_main(synthetic_main[0])
    seed = time.time_ns()
    times = random.Random(seed)  # noqa: S311 nothing secret
    for _ in range(pytestconfig.getoption("--kills")):
        seconds = times.uniform(0.5, longest)
        process = checkout.start(*command)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        completed(process)
        for path in (checkout.folder / "data").rglob("[!.]*.parquet"):
            if not any(part.startswith(".") for part in path.relative_to(checkout.folder).parts):
                pd.read_parquet(path)
        _assert_production_passed(checkout)
        ok(checkout.step("main", *FAST_OPTIONS))
        _assert_production_passed(checkout)
        assert not list((checkout.folder / "data").rglob(".*.partial")), f"killed after {seconds:.2f} s, seed {seed}"
        assert {run.info.status for run in checkout.runs()} <= {"FINISHED", "KILLED"}, (
            f"killed after {seconds:.2f} s, seed {seed}"
        )


def _seconds_of_main(checkout: Checkout) -> float:
    run = checkout.run("main").info
    # The imports before the run starts, and a little more than its end.
    return float((run.end_time - run.start_time) / 1000 + 4)


def _assert_production_passed(checkout: Checkout) -> None:
    if not (checkout.folder / "mlflow.db").exists():
        return
    production = checkout.production()
    if production:
        assert production.tags["gate"] == "passed"


def test_two_mains_at_once_wait_for_each_other(checkout: Checkout) -> None:
    command = [sys.executable, "-m", "steps.preparacao"]
    processes = [checkout.start(*command) for _ in range(2)]
    try:
        assert [completed(process).returncode for process in processes] == [0, 0]
    finally:
        for process in processes:
            end_group(process, signal.SIGKILL)


def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("env", "main", "test", "lint", "bench", "serve", "monitor", "ui", "clean"):
        assert f"make {target} " in shown
