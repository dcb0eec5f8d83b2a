"""Continuous training by its real commands: killed, in parallel, on a tracking server, rolled back, and backtested."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Run

from data.schema import IN_TRAINING
from data.storage.locks import writer_lock
from serving.batch.in_process import PREDICTIONS_SHA256, prediction_hash
from tests import fork_server
from tests.project import (
    Checkout,
    completed,
    copy_project,
    end_group,
    environment,
    free_port,
    ok,
    publish,
    records,
    run_production_server,
    shot,
    wait_until,
)

FAST = ["--models", "lr", "--n_iter", "1", "--cv_folds", "2"]
FORCED = ["--mode", "force", *FAST]
SHOTS = records(
    *(shot(period=period, shot_distance=distance) for period in range(1, 5) for distance in range(0, 40, 3))
)


@pytest.fixture
def checkout(synthetic_main: tuple[Checkout, str], tmp_path: Path) -> Checkout:
    """A copy of the checkout after ``main``."""
    return synthetic_main[0].copy(tmp_path / "copy")


@pytest.fixture(scope="module")
def for_wrong_parameters(synthetic_main: tuple[Checkout, str], tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the checkout after ``main`` that the tests of wrong parameters share."""
    return synthetic_main[0].copy(tmp_path_factory.mktemp("wrong") / "copy")


def decided(client: MlflowClient) -> list[Run]:
    """The entries of the decision log, the oldest first."""
    experiment = client.get_experiment_by_name("kobe_shot")
    found = client.search_runs([experiment.experiment_id], "tags.decision_number LIKE '%'")
    return sorted(found, key=lambda run: int(run.data.tags["decision_number"]))


def assert_log_is_whole(client: MlflowClient) -> None:
    log = decided(client)
    assert [int(run.data.tags["decision_number"]) for run in log] == list(range(1, len(log) + 1))
    assert "pending" not in {run.data.tags["outcome"] for run in log}


def assert_champion_is_served(client: MlflowClient) -> str:
    """Champion and Production are one version, which passed the gate and has its registered predictions."""
    versions = client.search_model_versions("name = 'kobe_shot'")
    production = [str(version.version) for version in versions if version.current_stage == "Production"]
    champion = client.get_model_version_by_alias("kobe_shot", "champion")
    assert production == [str(champion.version)]
    assert champion.tags["gate"] == "passed"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        assert prediction_hash("models:/kobe_shot/Production") == champion.tags[PREDICTIONS_SHA256]
    finally:
        mlflow.set_tracking_uri(before)
    return str(champion.version)


def test_a_retraining_trains_on_training_labels_and_is_evaluated_on_a_temporal_holdout(checkout: Checkout) -> None:
    printed = ok(checkout.step("retreino", *FORCED))
    run = checkout.run("Retreino")
    assert "Decision 2: retrain (forced)" in printed
    assert run.data.tags["outcome"] in {"promoted", "rejected"}
    assert run.data.tags["outcome_reason"]
    assert "decision.json" in checkout.artifacts(run)
    training = checkout.run("Treinamento")
    assert training.data.tags["mlflow.parentRunId"] == run.info.run_id
    tables = Path(training.info.artifact_uri) / "tables"
    train, test = pd.read_parquet(tables / "base_train.parquet"), pd.read_parquet(tables / "base_test.parquet")
    prod, development = checkout.table("predictions_prod"), checkout.table("base_train")
    labeled = prod[prod["shot_made_flag"].notna()].sort_values("game_date", kind="stable")
    assert len(train) + len(test) == len(development) + len(labeled)
    version = checkout.client().get_model_version("kobe_shot", run.data.tags["model_version"])
    assert (labeled["game_date"] <= version.tags["labels_until"][:10]).sum() == len(train) - len(development)
    assert version.tags["retraining_run"] == run.info.run_id
    assert version.current_stage == ("Production" if run.data.tags["outcome"] == "promoted" else "Archived")
    assert "challenger" not in checkout.client().get_registered_model("kobe_shot").aliases


def test_a_dry_run_prints_the_decision_and_changes_nothing(checkout: Checkout) -> None:
    before = checkout.client().search_model_versions("name = 'kobe_shot'")
    printed = ok(checkout.step("retreino", "--mode", "dry_run"))
    assert "Dry run: nothing was changed" in printed
    assert checkout.client().search_model_versions("name = 'kobe_shot'") == before
    # The first is the dry run of main.
    assert [run.data.tags["outcome"] for run in decided(checkout.client())] == ["nothing to do"] * 2


@pytest.mark.slow
def test_rows_that_a_version_was_trained_on_are_excluded_from_its_metrics(checkout: Checkout) -> None:
    ok(checkout.step("retreino", *FORCED, "--max_log_loss", "9"))
    client = checkout.client()
    version = str(client.get_registered_model("kobe_shot").latest_versions[0].version)
    client.set_model_version_tag("kobe_shot", version, "gate", "passed")
    champion = str(client.get_model_version_by_alias("kobe_shot", "champion").version)
    newest = str(max(int(found.version) for found in client.search_model_versions("name = 'kobe_shot'")))
    if champion != newest:
        client.set_model_version_tag("kobe_shot", newest, "gate", "passed")
        ok(checkout.step("reverter", "--version", newest, "--reason", "for a test"))
    printed = ok(checkout.step("aplicacao"))
    table = checkout.table("predictions_prod")
    in_training = int(client.get_model_version("kobe_shot", newest).tags["training_labels"])
    assert in_training <= table[IN_TRAINING].sum() < in_training + 100
    assert f"{table[IN_TRAINING].sum():,} labeled rows that the version was trained on" in printed
    assert (
        checkout.run("PipelineAplicacao").data.metrics["rows_labeled"]
        == (table["shot_made_flag"].notna() & ~table[IN_TRAINING]).sum()
    )


@pytest.mark.slow
def test_a_killed_retraining_leaves_one_champion_and_a_log_without_gap_or_duplicate(
    checkout: Checkout, pytestconfig: pytest.Config
) -> None:
    command = [sys.executable, "-m", "steps.retreino", *FORCED]
    started = time.monotonic()
    ok(checkout.command(*command))
    longest = time.monotonic() - started
    seed = time.time_ns()
    times = random.Random(seed)  # noqa: S311 nothing secret
    for _ in range(pytestconfig.getoption("--kills")):
        seconds = times.uniform(0.3, longest)
        process = checkout.start(*command)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        completed(process)
        case = f"killed after {seconds:.2f} s of {longest:.1f} s, seed {seed}"
        assert_champion_is_served(checkout.client())
        ok(checkout.command(*command))
        assert_champion_is_served(checkout.client())
        assert_log_is_whole(checkout.client())
        assert {run.info.status for run in checkout.runs()} <= {"FINISHED", "KILLED"}, case


def test_a_retraining_waits_for_the_process_that_writes_to_its_folder_and_a_parallel_one_reports_it(
    checkout: Checkout, tmp_path: Path
) -> None:
    output, command = tmp_path / "output", [sys.executable, "-m", "steps.retreino", *FORCED]
    # What every step holds as long as it runs.
    with output.open("wb") as printed, writer_lock(checkout.folder / "data" / "processed"):
        process = fork_server.start(
            command,
            cwd=checkout.folder,
            env=environment() | {"PYTHONUNBUFFERED": "1"},
            stdout=printed,
            stderr=printed,
        )
        wait_until(lambda: "Waiting for it to end" in output.read_text() or process.poll() is not None, "it to wait")
        assert process.poll() is None, output.read_text()
        assert len(decided(checkout.client())) == 1, "more than the dry run of main"
    wait_until(lambda: "Decision 2" in output.read_text() or process.poll() is not None, "it to decide")
    process.send_signal(signal.SIGSTOP)
    try:
        assert process.poll() is None, output.read_text()
        parallel = checkout.command(*command, KOBE_LOCK_WAIT_SECONDS="0.1")
    finally:
        process.send_signal(signal.SIGCONT)
    assert parallel.returncode == 1, parallel.stdout
    assert "Already running: retreino" in parallel.stderr
    assert completed(process).returncode == 0, output.read_text()
    assert len(decided(checkout.client())) == 2
    assert_log_is_whole(checkout.client())
    assert_champion_is_served(checkout.client())


@contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    """Run ``mlflow server`` on the store of a checkout until the block ends; its URL."""
    port = free_port()
    command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    process = Checkout(folder).start(*command, "--workers", "1", "--host", "127.0.0.1", "--port", str(port))
    url = f"http://127.0.0.1:{port}"

    def responds() -> bool:
        try:
            return requests.get(f"{url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    try:
        wait_until(responds, "the tracking server to respond")
        yield url
    finally:
        end_group(process)


@pytest.mark.slow
def test_on_a_tracking_server_two_folders_retraining_and_one_training_leave_one_winner(
    checkout: Checkout, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("first", "second", "third")]
    for folder in folders:
        copy_project(folder)
        shutil.copytree(checkout.folder / "data", folder / "data", dirs_exist_ok=True)
    commands = (["steps.retreino", *FORCED], ["steps.retreino", *FORCED], ["steps.treinamento", *FAST])
    with tracking_server(checkout.folder) as url:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env=environment() | {"MLFLOW_TRACKING_URI": url, "KOBE_LOCK_WAIT_SECONDS": "5"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for folder, command in zip(folders, commands, strict=True)
        ]
        printed = [completed(process).stdout for process in processes]
        assert sorted(process.returncode for process in processes) == [0, 0, 1], "\n".join(printed)
        client = MlflowClient(url)
        assert_log_is_whole(client)
        assert_champion_is_served(client)
        assert sum("Already running: retreino" in text for text in printed) == 1
        # The first is the dry run of main.
        assert len(decided(client)) == 2


@pytest.mark.slow
def test_after_three_promotions_and_two_rollbacks_the_responses_are_bit_identical(
    tmp_path: Path, shots: pd.DataFrame
) -> None:
    checkout = copy_project(tmp_path)
    then: dict[str, bytes] = {}
    publish(checkout, shots, strength=1e-4)
    with run_production_server(checkout, inference_log="off") as server:

        def served() -> str:
            return str(requests.get(f"{server.url}/model", timeout=5).json()["version"])

        def response() -> bytes:
            return requests.post(f"{server.url}/invocations", json=SHOTS, timeout=30).content

        then["1"] = response()
        for version, strength in (("2", 1e-3), ("3", 1e-2), ("4", 1.0)):
            publish(checkout, shots, strength=strength)
            wait_until(lambda version=version: served() == version, f"version {version} to be served")
            then[version] = response()
        assert len(set(then.values())) == len(then)
        for version in ("3", "2"):
            printed = ok(checkout.mlflow_run("reverter", "-P", "reason=it misses too much"))
            assert "bit-identical" in printed
            wait_until(lambda version=version: served() == version, f"version {version} to be served")
            assert response() == then[version]
        ok(checkout.step("reverter", "--version", "4", "--reason", "it was right after all"))
        wait_until(lambda: served() == "4", "version 4 to be served")
        assert response() == then["4"]
    history = ok(checkout.command(sys.executable, "-m", "monitor.retraining.history"))
    assert history.count("roll back") >= 3
    assert "it was right after all" in " ".join(history.split())


def test_a_backtest_compares_the_policy_with_never_and_always_retraining_without_touching_production(
    checkout: Checkout,
) -> None:
    before = assert_champion_is_served(checkout.client())
    arguments = ["source=synthetic", "synthetic_rows=8000", "models=lr", "n_iter=1", "cv_folds=2", "batch_size=600"]
    printed = ok(checkout.mlflow_run("operacao", *(part for text in arguments for part in ("-P", text))))
    assert assert_champion_is_served(checkout.client()) == before
    run = checkout.run("Operacao")
    found = run.data.metrics
    assert found["requests"] > 0
    assert found["requests_failed"] == 0
    for name in ("policy", "never", "always"):
        assert re.search(rf"{found[f'log_loss_{name}']:.4f}", printed)
    assert {"policy_backtest.json", "plots/policy_backtest.png"} <= checkout.artifacts(run)
    own = [run for run in checkout.runs() if run.data.tags.get("backtest") == run.info.run_id]
    assert not own
    log = [entry for entry in checkout.runs() if entry.data.tags.get("backtest") == run.info.run_id]
    numbers = sorted(int(entry.data.tags["decision_number"]) for entry in log)
    assert numbers == list(range(1, len(log) + 1))
    assert {entry.data.tags["registered_model"] for entry in log} == {"kobe_shot_backtest"}


@pytest.mark.parametrize(
    ("step", "arguments", "words"),
    [
        ("retreino", ["--mode", "maybe"], "'auto', 'dry_run' or 'force'"),
        ("retreino", ["--cooldown", "soon"], "a duration such as 12h or 7d"),
        ("retreino", ["--current", "prod"], "expected application, log, or a .parquet or .csv"),
        ("retreino", ["--min_breached_windows", "4"], "at most windows (3)"),
        ("retreino", ["--models", "knn"], "weighting=uniform with knn"),
        ("retreino", ["--current", "missing.parquet"], "missing.parquet cannot be read"),
        ("operacao", ["--initial_model", "tree"], "expected nothing, or one of lr, dt"),
        (
            "operacao",
            ["--source", "synthetic", "--synthetic_rows", "2000", "--batch_size", "5000"],
            "smaller batch_size",
        ),
        ("reverter", ["--version", "99"], "has no version 99; expected one of 1"),
        ("reverter", [], "no previous champion to restore"),
        ("reverter", ["--reason", " "], "expected a reason"),
    ],
)
def test_a_wrong_parameter_is_reported_and_changes_nothing(
    for_wrong_parameters: Checkout, step: str, arguments: list[str], words: str
) -> None:
    result = for_wrong_parameters.step(step, *arguments)
    assert result.returncode in {1, 2}
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert_champion_is_served(for_wrong_parameters.client())
