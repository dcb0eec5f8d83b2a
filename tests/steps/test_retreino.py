import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from data.cli.config import parse_args
from data.errors import TableError
from data.preparation import manifest
from data.preparation.manifest import IDS, TEST, TRAIN
from data.schema import FEATURES, IN_TRAINING, MODEL_VERSION, PREDICTION, PROBABILITY, SHOT_ID, TARGET
from data.storage.files import sha256, write_parquet
from monitor.retraining import decision_log
from monitor.retraining.policy import RetrainingPolicy
from monitor.store import run_names
from monitor.store import tags as store_tags
from monitor.store.labels import is_training_row
from monitor.store.model_store import current_store
from monitor.store.records import FAILED, INTERRUPTED, NO_ACTION, NOTHING_TO_DO, PENDING, PROMOTED, REJECTED, RETRAIN
from monitor.store.tables import TIME
from monitor.store.tags import OUTCOME
from serving import registry
from serving.registry import RegistryError
from steps import retreino
from steps.operacao import OperacaoConfig
from steps.retraining.config import RetrainingConfig, RetreinoConfig
from steps.retraining.interrupted import resolve_interrupted
from steps.retraining.training_set import TrainingSetError, TrainingSets, build_training_sets, label_weights
from steps.retreino import RetrainingResult
from steps.shared.tracking import Artifact, Params, log_records
from steps.training.config import TrainingConfig
from steps.training.promotion import Challenger
from steps.training.training_set import TrainingData
from steps.training.tuning import WITHOUT_WEIGHTS
from tests.evaluations import TRAINING_ROWS, population
from tests.operation_store import log_decision
from tests.versions import (
    BAD,
    GOOD,
    SAME,
    Killed,
    LoggedModels,
    as_kwargs,
    fit_base_rate,
    kill_at,
    promote_versions,
    register_without_files,
)
from tests.versions import REJECTED as REJECTED_RESULT

COLUMNS = [*FEATURES, TARGET]

# Parameters


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--min_breached_windows", "4"], ["expected min_breached_windows of at most windows (3)", "found 4"]),
        (["--windows", "1"], ["expected min_breached_windows of at most windows (1)", "found 2"]),
        (["--models", "lr,knn"], ["expected weighting=uniform with knn, which takes no sample weights"]),
        (["--models", "qda,mlp"], ["expected weighting=uniform with qda, mlp, which takes no sample weights"]),
        (["--models", "xyz"], ["models", "expected auto, or ids of classifiers", "'xyz'"]),
        (["--cooldown", "a while"], ["cooldown", "expected a duration such as 12h or 7d", "'a while'"]),
        (["--cooldown=-1d"], ["cooldown", "expected a duration such as 12h or 7d", "'-1d'"]),
        (["--cooldown", "nat"], ["cooldown", "expected a duration", "'nat'"]),
        (["--cooldown", "99999999999d"], ["cooldown", "expected a duration"]),
        (["--cooldown", "5"], ["cooldown", "expected a duration", "'5'"]),
        (["--cooldown", ""], ["cooldown", "expected a duration", "''"]),
        (["--as_of", "yesterday"], ["as_of", "2026-11-22T08:00", "'yesterday'"]),
        (
            ["--current", "everything"],
            ["current", "expected application, log, or a .parquet or .csv table", "'everything'"],
        ),
        (["--current", "base_test"], ["current", "expected application, log, or a .parquet or .csv table"]),
        (["--log", "sqlite:///mine.db"], ["expected log with current=log only", "found current=application"]),
        (["--current", "log", "--log", "postgresql://me:secret@host/db"], ["log", "without a password"]),
        (["--mode", "always"], ["mode", "'dry_run'", "'always'"]),
        (["--weighting", "heavy"], ["weighting", "'uniform'", "'heavy'"]),
        (["--window_size", "99"], ["window_size", "greater than or equal to 100"]),
        (["--degradation_threshold", "0"], ["degradation_threshold", "greater than 0"]),
        (["--max_labels", "199"], ["max_labels", "greater than or equal to 200"]),
        (["--holdout_size", "1"], ["holdout_size", "less than 1"]),
        (["--min_new_labels", "0"], ["min_new_labels", "greater than or equal to 1"]),
        (["--max_trainings_per_day", "0"], ["max_trainings_per_day", "greater than or equal to 1"]),
        (["--trend_horizon", "0"], ["trend_horizon", "greater than or equal to 1"]),
        (["--max_log_loss", "0"], ["max_log_loss", "greater than 0"]),
        (["--min_improvement", "1"], ["min_improvement", "less than 1"]),
        (["--recent_rows", "99"], ["recent_rows", "greater than or equal to 100"]),
        (["--as_of", "2126-01-01"], ["as_of", "expected a timestamp in the past", "'2126-01-01'"]),
    ],
)
def test_a_wrong_parameter_is_reported_with_what_was_expected_and_nothing_is_done(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_args(RetreinoConfig, arguments)
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    for word in [*words, "Nothing was done"]:
        assert word in shown
    assert "secret" not in shown


@pytest.mark.parametrize("current", ["application", "log", "mine.parquet", "a folder/mine.csv"])
def test_scored_shots_are_taken_from_the_application_the_log_or_a_table(
    current: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    by_name = current if current in {"application", "log"} else str(tmp_path / current)
    assert RetreinoConfig(current=current).source == RetreinoConfig(current=by_name).source == by_name


@pytest.mark.parametrize("cooldown", ["0d", "0", "90min", "1d12h", "1 days 02:00:00"])
def test_a_duration_has_many_spellings(cooldown: str) -> None:
    assert RetreinoConfig(cooldown=cooldown).policy.cooldown < timedelta(days=2)


@pytest.mark.parametrize("model_id", WITHOUT_WEIGHTS)
def test_models_without_sample_weights_are_accepted_with_uniform_weighting(model_id: str) -> None:
    assert RetreinoConfig(models=model_id, weighting="uniform").training.models == model_id


def test_the_configuration_gives_the_policy_and_the_training_parameters() -> None:
    config = RetrainingConfig(
        window_size=101,
        windows=7,
        min_breached_windows=4,
        degradation_threshold=0.2,
        trend_horizon=5,
        min_new_labels=250,
        cooldown="12h",
        max_trainings_per_day=3,
        max_labels=900,
        holdout_size=0.3,
        recent_rows=500,
        models="dt",
        cv_folds=3,
        session_id=7,
    )
    policy = config.policy
    assert (
        policy.window_size,
        policy.windows,
        policy.min_breached_windows,
        policy.degradation_threshold,
        policy.trend_horizon,
    ) == (
        101,
        7,
        4,
        0.2,
        5,
    )
    assert (policy.min_new_labels, policy.cooldown, policy.max_trainings_per_day) == (250, timedelta(hours=12), 3)
    assert (policy.max_labels, policy.holdout_size, policy.recent_rows) == (900, 0.3, 500)
    assert config.training == TrainingConfig(models="dt", cv_folds=3, session_id=7)
    assert RetrainingConfig().policy == RetrainingPolicy()


def test_a_backtest_takes_the_parameters_of_retraining() -> None:
    assert OperacaoConfig(cooldown="7d", windows=4).policy.cooldown == timedelta(days=7)
    with pytest.raises(ValueError, match="expected min_breached_windows of at most windows"):
        OperacaoConfig(min_breached_windows=9)
    with pytest.raises(ValueError, match="expected nothing, or one of lr, dt"):
        OperacaoConfig(initial_model="xyz")


# Training set and hold-out of a challenger


def shots(first: int, count: int) -> pd.DataFrame:
    """Different shots, a minute from one to the next."""
    table = population().iloc[first : first + count][COLUMNS].reset_index(drop=True)
    times = pd.date_range("2026-11-01", periods=count, freq="min")
    return table.assign(minutes_remaining=np.linspace(0, 12, count) + first / 1e6, **{TIME: times})


def in_time(table: pd.DataFrame) -> pd.DataFrame:
    """The same rows, a minute from one to the next."""
    return table.assign(**{TIME: pd.date_range("2026-11-01", periods=len(table), freq="min")})


DEV = shots(0, 400)
LABELS = shots(1_000, 600)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of prepared tables, with nothing in it."""
    monkeypatch.setattr(manifest, "PROCESSED", tmp_path / "processed")
    return tmp_path / "processed"


@pytest.fixture
def champion(store: str, folder: Path) -> ModelVersion:
    """A champion that was trained on dev rows."""
    del store
    path = folder / f"{TRAIN}.parquet"
    write_parquet(DEV[COLUMNS].astype({TARGET: "int64"}), path)
    tags = {
        f"sha256_{TRAIN}": sha256(path),
        "sha256_dataset_kobe_dev": "d" * 64,
        "sha256_dataset_kobe_prod": "e" * 64,
        "data_source": "public",
        "synthetic": "false",
        "git_commit": "f" * 40,
        "test_log_loss": "0.67",
    }
    registry.promote(register_without_files(**tags), "better")
    return current_store().require_champion()


def built(labels: pd.DataFrame, champion: ModelVersion, into: Path, **options: object) -> TrainingData:
    return all_built(labels, champion, into, **options).challenger


def all_built(labels: pd.DataFrame, champion: ModelVersion, into: Path, **options: object) -> TrainingSets:
    into.mkdir(exist_ok=True)
    config = RetrainingConfig.model_validate({"holdout_size": 0.5, **options})
    return build_training_sets(
        labels,
        champion,
        into,
        "a" * 32,
        max_labels=config.max_labels,
        holdout_size=config.holdout_size,
        n_origins=config.n_origins,
        weighting=config.weighting,
    )


def values(table: pd.DataFrame) -> list[tuple[float, ...]]:
    return [tuple(row) for row in table[COLUMNS].astype(float).to_numpy().tolist()]


def test_a_challenger_is_trained_on_dev_rows_and_training_labels_and_evaluated_on_the_temporal_holdout(
    champion: ModelVersion, tmp_path: Path
) -> None:
    found = built(LABELS, champion, tmp_path / "new")
    assert values(found.train) == [*values(DEV), *values(LABELS.iloc[:300])]
    assert values(found.test) == values(LABELS.iloc[300:])
    for table in (found.train, found.test):
        assert list(table) == COLUMNS
        assert table[TARGET].dtype == np.int64
        assert table.index.tolist() == list(range(len(table)))


def test_the_training_sets_of_the_origins_before_the_hold_out_are_as_those_of_challengers_at_that_time(
    champion: ModelVersion, tmp_path: Path
) -> None:
    found = all_built(LABELS, champion, tmp_path / "new")
    assert [(len(each.train) - 400, len(each.test)) for each in found.earlier] == [(100, 67), (167, 67), (234, 66)]
    for each in found.earlier:
        labels = len(each.train) - 400
        assert values(each.train) == [*values(DEV), *values(LABELS.head(labels))]
        assert values(each.test) == values(LABELS.iloc[labels : labels + len(each.test)])
        assert each.compared_on is not None
        assert each.compared_on.tolist() == [False] * 400 + [True] * labels
        assert each.weights is not None
        assert set(each.weights[400:]) == {min(400 / labels, 5)}
    assert {path.stem for path in (tmp_path / "new").iterdir()} == set(found.challenger.files)


def test_labels_have_the_same_total_sample_weight_as_the_dev_rows_and_models_are_compared_on_them(
    champion: ModelVersion, tmp_path: Path
) -> None:
    found = built(LABELS, champion, tmp_path / "new")
    assert found.weights is not None
    assert found.compared_on is not None
    assert found.compared_on.tolist() == [False] * 400 + [True] * 300
    assert found.weights[:400].sum() == pytest.approx(found.weights[400:].sum())
    assert len(set(found.weights.tolist())) == 2
    uniform = built(LABELS, champion, tmp_path / "new", weighting="uniform")
    assert uniform.weights is None
    assert uniform.compared_on is not None
    assert uniform.compared_on.sum() == 300


def test_the_parameters_set_the_holdout_size_and_the_number_of_labels(champion: ModelVersion, tmp_path: Path) -> None:
    found = built(LABELS, champion, tmp_path / "new", holdout_size=0.3)
    assert (len(found.train) - 400, len(found.test)) == (420, 180)
    latest = built(LABELS, champion, tmp_path / "new", max_labels=400)
    assert values(latest.train.tail(200)) == values(LABELS.iloc[200:400])
    assert values(latest.test) == values(LABELS.iloc[400:])


def test_labels_that_the_champion_was_trained_on_are_no_holdout_rows(champion: ModelVersion, tmp_path: Path) -> None:
    in_training = LABELS.assign(**{IN_TRAINING: np.arange(600) < 450})
    found = built(in_training, champion, tmp_path / "new")
    assert values(found.test) == values(LABELS.iloc[450:])
    assert values(found.train) == [*values(DEV), *values(LABELS.iloc[:300])]


def test_a_training_set_can_be_traced_to_its_files_its_decision_and_its_raw_data(
    champion: ModelVersion, tmp_path: Path, folder: Path
) -> None:
    found = built(LABELS, champion, tmp_path / "new")
    for name, table in ((TRAIN, found.train), (TEST, found.test)):
        assert found.files[name] == tmp_path / "new" / f"{name}.parquet"
        assert found.tags[f"sha256_{name}"] == sha256(found.files[name])
        pd.testing.assert_frame_equal(pd.read_parquet(found.files[name]), table)
    assert found.tags[store_tags.DEVELOPMENT_SHA256] == sha256(folder / f"{TRAIN}.parquet")
    assert found.tags[store_tags.RETRAINING_RUN] == "a" * 32
    assert (found.tags[store_tags.LABELS_UNTIL], found.tags[store_tags.TRAINING_LABELS]) == (
        LABELS[TIME].iloc[299].isoformat(),
        "300",
    )
    assert found.tags["sha256_dataset_kobe_dev"] == "d" * 64
    assert found.tags["sha256_dataset_kobe_prod"] == "e" * 64
    assert (found.tags["data_source"], found.tags["synthetic"], found.is_synthetic) == ("public", "false", False)
    assert not {"git_commit", "test_log_loss", "gate", "promotions"} & set(found.tags)


def test_the_challenger_of_a_challenger_is_trained_on_the_same_dev_rows_and_once_on_each_label(
    champion: ModelVersion, tmp_path: Path
) -> None:
    first = built(LABELS, champion, tmp_path / "first")
    registry.promote(register_without_files(**first.tags), "better")
    second = built(LABELS, current_store().require_champion(), tmp_path / "second", holdout_size=0.25)
    assert values(second.train) == [*values(DEV), *values(LABELS.iloc[:450])]
    assert second.tags[store_tags.DEVELOPMENT_SHA256] == first.tags[store_tags.DEVELOPMENT_SHA256]


@pytest.mark.parametrize(
    ("labels", "older", "later"),
    [
        pytest.param(LABELS.assign(**{TIME: LABELS[TIME].iloc[0]}), 600, 0, id="all of one time"),
        pytest.param(LABELS.assign(**{IN_TRAINING: True}), 300, 0, id="all in training"),
        pytest.param(LABELS.head(0), 0, 0, id="none"),
    ],
)
def test_labels_that_cannot_be_split_are_reported_with_their_counts(
    champion: ModelVersion, tmp_path: Path, labels: pd.DataFrame, older: int, later: int
) -> None:
    with pytest.raises(TrainingSetError, match=f"{older}.* and {later}.*Wait for more labels, or give another"):
        built(labels, champion, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_missing_dev_rows_are_reported(champion: ModelVersion, tmp_path: Path, folder: Path) -> None:
    (folder / f"{TRAIN}.parquet").unlink()
    with pytest.raises(TableError, match="no run holds it"):
        built(LABELS, champion, tmp_path / "new")


@pytest.mark.parametrize(("development", "arrived"), [(1_500, 300), (300, 16_000), (5, 5)])
def test_sample_weights_balance_for_any_counts(development: int, arrived: int) -> None:
    is_arrived, weights = label_weights(development, arrived, "balanced")
    assert weights is not None
    assert (is_arrived.sum(), (~is_arrived).sum()) == (arrived, development)
    assert not is_arrived[:development].any()
    assert weights[is_arrived].sum() == pytest.approx(weights[~is_arrived].sum())
    assert label_weights(development, arrived, "uniform")[1] is None


def test_the_sample_weight_of_a_label_is_at_most_that_of_five_dev_rows() -> None:
    is_arrived, weights = label_weights(16_000, 300, "balanced")
    assert weights is not None
    assert set(weights[is_arrived]) == {5.0}
    assert set(weights[~is_arrived]) == {1.0}


def test_labels_that_are_dev_rows_are_refused(champion: ModelVersion, tmp_path: Path) -> None:
    few = pd.concat([DEV.head(290), LABELS.head(310)], ignore_index=True)
    assert len(built(in_time(few), champion, tmp_path / "new").test) == 300
    many = pd.concat([DEV.head(310), LABELS.head(290)], ignore_index=True)
    with pytest.raises(TrainingSetError, match="expected labels of shots in operation; 52% of these are dev rows"):
        built(in_time(many), champion, tmp_path / "many")


def test_labels_that_a_version_was_trained_on_are_recognized_by_shot_id_which_is_in_a_file_of_its_own(
    champion: ModelVersion, tmp_path: Path
) -> None:
    numbered = LABELS.assign(**{SHOT_ID: range(600)})
    found = built(numbered, champion, tmp_path / "new")
    ids = {name: pd.read_parquet(found.files[table])[SHOT_ID] for name, table in IDS.items()}
    assert ids[TRAIN].tail(300).tolist() == list(range(300))
    assert ids[TRAIN].head(400).isna().all()
    assert ids[TEST].tolist() == list(range(300, 600))
    assert all(found.tags[f"sha256_{IDS[name]}"] == sha256(found.files[IDS[name]]) for name in IDS)
    assert all(list(pd.read_parquet(found.files[name])) == COLUMNS for name in IDS)
    keep(found)
    assert is_training_row(current_store(), numbered, "2").tolist() == [True] * 300 + [False] * 300
    # The same values at the same time, and another shot.
    assert not is_training_row(current_store(), numbered.assign(**{SHOT_ID: range(600, 1_200)}), "2").any()


def test_labels_without_shot_id_are_recognized_by_their_time_and_values_together(
    champion: ModelVersion, tmp_path: Path
) -> None:
    keep(built(LABELS, champion, tmp_path / "new"))
    assert is_training_row(current_store(), LABELS, "2").tolist() == [True] * 300 + [False] * 300
    later = LABELS.assign(**{TIME: LABELS[TIME] + pd.Timedelta("1d")})
    assert not is_training_row(current_store(), later, "2").any()
    assert not is_training_row(current_store(), LABELS.drop(columns=TIME), "2").any()


def keep(found: TrainingData) -> None:
    """Promote a version of a training set, and put its tables where the store expects them."""
    registry.promote(register_without_files(**found.tags), "better")
    for name, path in found.files.items():
        write_parquet(pd.read_parquet(path), manifest.prepared_path(name))


def test_the_dev_rows_of_a_champion_keep_their_shot_id_in_its_challengers(
    champion: ModelVersion, tmp_path: Path, folder: Path
) -> None:
    write_parquet(pd.DataFrame({SHOT_ID: range(5_000, 5_400)}), folder / f"{IDS[TRAIN]}.parquet")
    digests = {f"sha256_{name}": sha256(folder / f"{name}.parquet") for name in (TRAIN, IDS[TRAIN])}
    with mlflow.start_run(run_name=run_names.PREPARATION):
        mlflow.log_params(digests)
    found = built(LABELS.assign(**{SHOT_ID: range(600)}), champion, tmp_path / "new")
    assert found.shot_ids[TRAIN].tolist() == [*range(5_000, 5_400), *range(300)]


def test_labels_that_only_look_like_dev_rows_are_not_refused(
    champion: ModelVersion, tmp_path: Path, folder: Path
) -> None:
    write_parquet(pd.DataFrame({SHOT_ID: range(5_000, 5_400)}), folder / f"{IDS[TRAIN]}.parquet")
    with mlflow.start_run(run_name=run_names.PREPARATION):
        mlflow.log_params({f"sha256_{name}": sha256(folder / f"{name}.parquet") for name in (TRAIN, IDS[TRAIN])})
    alike = in_time(pd.concat([DEV.head(310), LABELS.head(290)], ignore_index=True))
    assert len(built(alike.assign(**{SHOT_ID: range(600)}), champion, tmp_path / "new").test) == 300
    same = alike.assign(**{SHOT_ID: [*range(5_000, 5_310), *range(290)]})
    with pytest.raises(TrainingSetError, match="52% of these are dev rows"):
        built(same, champion, tmp_path / "same")


# Decisions of a killed process


def pending(**tags: str) -> str:
    """Log a decision to retrain whose outcome is pending; its run."""
    return log_decision(1, RETRAIN, **as_kwargs({OUTCOME: PENDING, **tags}))


def outcome() -> tuple[str, str]:
    found = current_store().decisions()[0]
    return found.outcome, found.challenger


def stage(version: str) -> str:
    return str(MlflowClient().get_model_version(registry.model(), version).current_stage)


@pytest.mark.usefixtures("store")
def test_a_process_that_was_killed_before_a_challenger_was_registered_was_interrupted() -> None:
    promote_versions(1)
    pending()
    resolve_interrupted()
    assert outcome() == (INTERRUPTED, "")
    assert current_store().decisions()[0].outcome_reason == "its process ended before a challenger was registered"


@pytest.mark.usefixtures("store")
def test_a_challenger_without_a_gate_result_is_archived() -> None:
    promote_versions(1)
    run_id = pending()
    version = register_without_files(None, **{store_tags.RETRAINING_RUN: run_id})
    resolve_interrupted()
    assert outcome() == (INTERRUPTED, version)
    assert stage(version) == "Archived"
    assert registry.tags_of(version)["archive_reason"] == "its process ended before the challenger was promoted"
    assert registry.alias_state().champion == "1"


@pytest.mark.parametrize("value", ["rejected", "refused"], ids=["today", "0.1.0"])
@pytest.mark.parametrize("archived", [True, False])
@pytest.mark.usefixtures("store")
def test_a_rejected_challenger_stays_rejected(value: str, *, archived: bool) -> None:
    promote_versions(1)
    run_id = pending()
    version = register_without_files(REJECTED_RESULT, **{store_tags.RETRAINING_RUN: run_id})
    MlflowClient().set_model_version_tag(registry.MODEL, version, "gate", value)
    if archived:
        registry.archive(version, "worse")
    resolve_interrupted()
    assert outcome() == (REJECTED, version)
    assert current_store().decisions()[0].outcome_reason == "worse"
    assert stage(version) == "Archived"


@pytest.mark.parametrize("place", range(6))
@pytest.mark.usefixtures("store")
def test_a_challenger_whose_promotion_was_killed_anywhere_is_champion_or_archived_and_the_log_records_which(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    promote_versions(1)
    version = register_without_files(**{store_tags.RETRAINING_RUN: pending()})
    with monkeypatch.context() as patch:
        kill_at(patch, place)
        with pytest.raises(Killed):
            registry.promote(version, "better")
    registry.reconcile()
    resolve_interrupted()
    champion = registry.alias_state().champion
    assert outcome() == (PROMOTED if champion == version else INTERRUPTED, version)
    assert stage(version) == ("Production" if champion == version else "Archived")
    assert "challenger" not in MlflowClient().get_registered_model(registry.MODEL).aliases


@pytest.mark.usefixtures("store")
def test_a_challenger_that_was_champion_since_was_promoted() -> None:
    promote_versions(1)
    version = register_without_files(**{store_tags.RETRAINING_RUN: pending()})
    registry.promote(version, "better")
    registry.roll_back("it misses layups")
    resolve_interrupted()
    assert outcome() == (PROMOTED, version)
    assert current_store().decisions()[0].outcome_reason == "better"


@pytest.mark.usefixtures("store")
def test_a_challenger_whose_promotion_was_rolled_back_was_not_promoted() -> None:
    promote_versions(1)
    version = register_without_files(**{store_tags.RETRAINING_RUN: pending()})

    def promoted_in_vain() -> None:
        with registry.rollback_on_failure():
            registry.promote(version, "better")
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011 raised just above
        promoted_in_vain()
    resolve_interrupted()
    assert outcome()[0] != PROMOTED
    assert registry.alias_state().champion == "1"


@pytest.mark.usefixtures("store")
def test_resolved_decisions_and_the_own_one_do_not_change() -> None:
    promote_versions(1)
    for number, settled in enumerate((PROMOTED, REJECTED, INTERRUPTED, FAILED, NOTHING_TO_DO), 1):
        log_decision(number, RETRAIN, **as_kwargs({OUTCOME: settled}))
    own = log_decision(6, RETRAIN, **as_kwargs({OUTCOME: PENDING}))
    with registry.use_model_name("another"):
        register_without_files()
        log_decision(1, RETRAIN, **as_kwargs({OUTCOME: PENDING}))
    resolve_interrupted(own)
    log = current_store().decisions()
    assert [entry.outcome for entry in log] == [PENDING, NOTHING_TO_DO, FAILED, INTERRUPTED, REJECTED, PROMOTED]
    with registry.use_model_name("another"):
        assert outcome() == (PENDING, "")


@pytest.mark.usefixtures("store")
def test_a_decision_that_another_machine_is_processing_does_not_change() -> None:
    promote_versions(1)
    client = MlflowClient()
    run_id = pending()
    client.update_run(run_id, "RUNNING")
    client.set_tag(run_id, "kobe_shot.workspace", "another-machine:/elsewhere")
    version = register_without_files(None, **{store_tags.RETRAINING_RUN: run_id})
    resolve_interrupted()
    assert (outcome(), stage(version)) == ((PENDING, ""), "None")
    client.set_terminated(run_id, "FAILED")
    resolve_interrupted()
    assert (outcome(), stage(version)) == ((INTERRUPTED, version), "Archived")


@pytest.mark.usefixtures("store")
def test_a_resolved_decision_does_not_change() -> None:
    promote_versions(1)
    version = register_without_files(None, **{store_tags.RETRAINING_RUN: pending()})
    resolve_interrupted()
    before = current_store().decisions(), registry.tags_of(version)
    resolve_interrupted()
    assert (current_store().decisions(), registry.tags_of(version)) == before


# Decision and outcome, with a challenger that was trained before


@dataclass(frozen=True)
class RetrainingSetup:
    """A champion that is worse than the base rate, and shots that it has scored."""

    store_with_models: LoggedModels
    table: Path
    training_sets: list[TrainingData]

    def run(self, mode: str = "auto", **options: object) -> RetrainingResult:
        """Decide and act; compared on the temporal hold-out only."""
        given = {"mode": mode, "current": str(self.table), "holdout_size": 0.5, "n_origins": 1, **options}
        return retreino.run(RetreinoConfig.model_validate(given))


@pytest.fixture
def setup(
    store_with_models: LoggedModels, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RetrainingSetup:
    """A setup before its first decision."""
    monkeypatch.chdir(tmp_path)
    in_training, tested = population().head(TRAINING_ROWS), population().iloc[TRAINING_ROWS : TRAINING_ROWS + 1_000]
    tags = {"data_source": "public", "synthetic": "false"}
    for name, rows in ((TRAIN, in_training), (TEST, tested)):
        write_parquet(rows[COLUMNS].astype({TARGET: "int64"}), folder / f"{name}.parquet")
        tags[f"sha256_{name}"] = sha256(folder / f"{name}.parquet")
    registry.promote(store_with_models.register(BAD, **tags), "the only one")
    rows = population().iloc[10_000:11_200][COLUMNS].reset_index(drop=True)
    made = store_with_models.models[BAD].pipeline.predict_proba(rows[list(FEATURES)].to_numpy())[:, 1]
    days = pd.date_range("2000-01-01", periods=len(rows)).strftime("%Y-%m-%d")
    predictions = {PREDICTION: (made >= 0.5).astype("int64"), PROBABILITY: made, MODEL_VERSION: 1}
    rows.assign(game_date=days, **predictions).to_parquet(tmp_path / "arrived.parquet", index=False)
    return RetrainingSetup(store_with_models, tmp_path / "arrived.parquet", [])


def train_at_once(setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """Let the training end with a logged model at once."""

    def train_and_register(_config: TrainingConfig, training_data: TrainingData) -> tuple[Challenger, None]:
        setup.training_sets.append(training_data)
        log_records([Params({f"sha256_{name}": training_data.tags[f"sha256_{name}"] for name in (TRAIN, TEST)})])
        log_records(Artifact(path) for path in training_data.files.values())
        version = setup.store_with_models.register(model, None, **training_data.tags)
        return Challenger(version, training_data, setup.store_with_models.models[model].pipeline, fit_base_rate()), None

    monkeypatch.setattr(retreino, "train_and_register", train_and_register)


def fail_in_training(error: BaseException) -> Callable[..., None]:
    def train_and_register(*_: object) -> None:
        raise error

    return train_and_register


def test_a_champion_worse_than_the_base_rate_is_replaced_by_a_better_challenger(
    setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_at_once(setup, monkeypatch, GOOD)
    found = setup.run()
    assert (found.number, found.outcome, found.decision.trigger) == (1, PROMOTED, "reactive")
    assert found.promotion is not None
    assert found.promotion.promoted
    assert registry.alias_state().champion == "2"
    (entry,) = current_store().decisions()
    assert (entry.decision, entry.outcome, entry.champion, entry.challenger) == (RETRAIN, PROMOTED, "1", "2")
    assert (entry.labels, entry.new_labels, entry.source) == (1_200, 1_200, str(setup.table))
    assert entry.labels_until == datetime(2003, 4, 14)  # noqa: DTZ001 UTC without a zone
    assert entry.outcome_reason == found.promotion.gate_result.reason
    tags = registry.tags_of("2")
    assert (tags[store_tags.RETRAINING_RUN], tags["synthetic"], tags["gate"]) == (entry.run_id, "false", "passed")
    (training_data,) = setup.training_sets
    assert (len(training_data.train), len(training_data.test)) == (TRAINING_ROWS + 600, 600)


def test_a_challenger_that_is_not_better_is_archived_and_the_log_records_why(
    setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_at_once(setup, monkeypatch, BAD)
    found = setup.run()
    assert found.outcome == REJECTED
    (entry,) = current_store().decisions()
    assert (entry.outcome, entry.challenger) == (REJECTED, "2")
    assert "did not pass the gate" in entry.outcome_reason
    assert (registry.alias_state().champion, stage("2")) == ("1", "Archived")
    again = setup.run()
    assert (again.number, again.outcome, again.decision.decision) == (2, NOTHING_TO_DO, NO_ACTION)
    assert any("0 new labeled rows" in reason for reason in again.decision.reasons)


def test_a_dry_run_prints_the_decision_and_changes_nothing(
    setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(retreino, "train_and_register", lambda *_: pytest.fail("it trained"))
    before = registry.alias_state()
    found = setup.run("dry_run")
    assert (found.decision.decision, found.outcome, found.promotion) == (RETRAIN, NOTHING_TO_DO, None)
    assert registry.alias_state() == before
    printed = " ".join(capsys.readouterr().out.split())
    assert "Decision 1: retrain (reactive)" in printed
    assert "Dry run: nothing was changed" in printed
    (entry,) = current_store().decisions()
    assert (entry.decision, entry.mode, entry.outcome, entry.outcome_reason) == (
        RETRAIN,
        "dry_run",
        NOTHING_TO_DO,
        "dry run",
    )
    assert not entry.trained


def test_the_record_of_a_decision_is_an_artifact_of_its_run(setup: RetrainingSetup) -> None:
    found = setup.run("dry_run")
    (entry,) = current_store().decisions()
    assert decision_log.record(current_store(), entry.run_id) == json.loads(json.dumps(found.decision.to_dict()))
    run = MlflowClient().get_run(entry.run_id)
    assert (run.info.run_name, run.info.status) == ("Retreino", "FINISHED")
    assert (run.data.tags["data_source"], run.data.tags["synthetic"]) == ("public", "false")
    assert run.data.metrics["labels"] == 1_200
    losses = MlflowClient().get_metric_history(entry.run_id, "window_log_loss")
    assert [each.value for each in losses] == [window.log_loss for window in found.decision.windows]


def test_who_forces_a_training_gets_one(setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    train_at_once(setup, monkeypatch, GOOD)
    found = setup.run("force", min_new_labels=10**6)
    assert (found.decision.trigger, found.outcome) == ("forced", PROMOTED)


def test_a_training_that_fails_is_in_the_log_and_changes_nothing(
    setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = registry.alias_state()
    monkeypatch.setattr(retreino, "train_and_register", fail_in_training(ValueError("no more memory")))
    with pytest.raises(ValueError, match="no more memory"):
        setup.run()
    (entry,) = current_store().decisions()
    assert (entry.outcome, entry.outcome_reason) == (FAILED, "ValueError: no more memory")
    assert MlflowClient().get_run(entry.run_id).info.status == "FAILED"
    assert registry.alias_state() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_a_training_that_is_interrupted_is_in_the_log(
    setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(retreino, "train_and_register", fail_in_training(error))
    with pytest.raises(type(error)):
        setup.run()
    entry = current_store().decisions()[0]
    assert (entry.outcome, entry.outcome_reason) == (INTERRUPTED, "it was stopped before its end")


def test_a_promotion_is_rolled_back_when_a_later_step_fails(
    setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_at_once(setup, monkeypatch, GOOD)
    message = "the store is full"

    def full(_settled: object) -> None:
        raise OSError(message)

    monkeypatch.setattr(retreino, "promotion_records", full)
    with pytest.raises(OSError, match=message):
        setup.run()
    assert registry.alias_state().champion == "1"
    assert (stage("1"), stage("2")) == ("Production", "Archived")
    assert "revoked" in registry.tags_of("2")
    (entry,) = current_store().decisions()
    assert (entry.outcome, entry.challenger) == (FAILED, "2")


def test_a_challenger_of_a_training_that_failed_later_is_archived(
    setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_and_register(_config: TrainingConfig, training_data: TrainingData) -> None:
        setup.store_with_models.register(GOOD, None, **training_data.tags)
        message = "no more space"
        raise OSError(message)

    monkeypatch.setattr(retreino, "train_and_register", train_and_register)
    with pytest.raises(OSError, match="no more space"):
        setup.run()
    assert (registry.alias_state().champion, stage("2")) == ("1", "Archived")
    assert registry.tags_of("2")["archive_reason"] == "OSError: no more space"


def test_a_champion_that_changed_during_the_training_is_not_replaced(
    setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_at_once(setup, monkeypatch, GOOD)
    quick = vars(retreino)["train_and_register"]

    def train_and_register(config: TrainingConfig, training_data: TrainingData) -> object:
        registry.promote(setup.store_with_models.register(SAME), "it was quicker")
        return quick(config, training_data)

    monkeypatch.setattr(retreino, "train_and_register", train_and_register)
    found = setup.run()
    assert found.outcome == REJECTED
    assert found.promotion is not None
    assert "it was trained to replace champion version 1; the champion is now 2" in found.promotion.note
    assert (registry.alias_state().champion, stage("3")) == ("2", "Archived")


def test_what_an_earlier_process_left_is_settled_before_the_next_decision(
    setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = pending()
    version = setup.store_with_models.register(SAME, None, **{store_tags.RETRAINING_RUN: left})
    train_at_once(setup, monkeypatch, GOOD)
    found = setup.run()
    assert (found.number, found.outcome) == (2, PROMOTED)
    newest, oldest = current_store().decisions()
    assert (newest.outcome, oldest.outcome, oldest.challenger) == (PROMOTED, INTERRUPTED, version)
    assert stage(version) == "Archived"


def test_a_new_champion_is_not_evaluated_on_the_predictions_of_the_old_one(
    setup: RetrainingSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_at_once(setup, monkeypatch, GOOD)
    setup.run()
    found = setup.run()
    assert (found.decision.decision, found.outcome, found.decision.windows) == (NO_ACTION, NOTHING_TO_DO, ())
    assert any("the champion has not scored any row yet" in reason for reason in found.decision.reasons)
    assert found.decision.label_counts.labels == 1_200


def test_a_backtested_decision_does_not_use_rows_after_it(setup: RetrainingSetup) -> None:
    found = setup.run("dry_run", as_of="2002-01-31T23:59")
    (entry,) = current_store().decisions()
    assert entry.decided_at == datetime(2002, 1, 31, 23, 59, tzinfo=UTC)
    assert entry.labels_until == datetime(2002, 1, 31)  # noqa: DTZ001 UTC without a zone
    assert found.decision.label_counts.labels == 762
    assert found.decision.windows[-1].end.startswith("2002-01-31")


def test_a_shot_that_was_scored_twice_counts_once(setup: RetrainingSetup) -> None:
    table = pd.read_parquet(setup.table).assign(**{SHOT_ID: range(1_200)})
    pd.concat([table, table.head(500)]).to_parquet(setup.table, index=False)
    assert setup.run("dry_run").decision.label_counts.labels == 1_200


def test_shots_without_shot_id_all_count(setup: RetrainingSetup) -> None:
    table = pd.read_parquet(setup.table).assign(**{SHOT_ID: pd.array([None] * 1_200, dtype="Int64")})
    table.to_parquet(setup.table, index=False)
    assert setup.run("dry_run").decision.label_counts.labels == 1_200


@pytest.mark.parametrize(("synthetic", "words"), [("true", "scored synthetic shots"), ("false", "")])
def test_models_of_real_shots_are_not_trained_on_synthetic_shots(
    setup: RetrainingSetup, tmp_path: Path, synthetic: str, words: str
) -> None:
    path = tmp_path / "predictions_prod.parquet"
    path.write_bytes(setup.table.read_bytes())
    with mlflow.start_run(run_name="PipelineAplicacao", tags={"data_source": "public", "synthetic": synthetic}):
        mlflow.log_artifact(str(path), "tables")
    config = RetreinoConfig(mode="dry_run")
    if words:
        with pytest.raises(TrainingSetError, match=f"{words}, champion version 1 was trained on real ones"):
            retreino.run(config)
        assert current_store().decisions() == []
    else:
        assert retreino.run(config).decision.label_counts.labels == 1_200


@pytest.mark.usefixtures("store")
def test_without_a_champion_there_is_nothing_to_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegistryError, match=r"has no champion yet.*mlflow run \. -e treinamento"):
        retreino.run(RetreinoConfig())
    assert current_store().decisions() == []
