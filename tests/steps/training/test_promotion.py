from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from data.paths import ROOT
from data.preparation import manifest
from data.preparation.manifest import IDS, TEST, TRAIN
from data.schema import FEATURES, SHOT_ID, TARGET
from data.storage.files import sha256, write_parquet
from monitor.store import run_names
from serving import registry
from serving.model.packaging import predict_probability
from serving.registry import RegistryError
from serving.registry.gate import GateResult
from steps.training.promotion import Challenger, EarlierRows, PromotionOutcome, comparison_rows, promote_if_better
from steps.training.training_set import TrainingData
from steps.treinamento import TreinamentoConfig
from tests.evaluations import TRAINING_ROWS, population
from tests.versions import BAD, GOOD, REJECTED, SAME, LoggedModels, fit_base_rate, fit_pipeline, register_without_files

COLUMNS = [*FEATURES, TARGET]
CHANCE_LEVEL = float(np.log(2))


def rows(first: int, count: int) -> pd.DataFrame:
    """Shots that no logged model was trained on."""
    start = TRAINING_ROWS + first
    return population().iloc[start : start + count][COLUMNS].reset_index(drop=True)


def training_data(train: pd.DataFrame | None = None, test: pd.DataFrame | None = None, /, **tags: str) -> TrainingData:
    given = {f"sha256_{TRAIN}": "a" * 64, f"sha256_{TEST}": "b" * 64, **tags}
    training_rows = population().head(TRAINING_ROWS)[COLUMNS]
    train, test = (training_rows if train is None else train), (rows(0, 1_000) if test is None else test)
    ids = {name: table[SHOT_ID] for name, table in ((TRAIN, train), (TEST, test)) if SHOT_ID in table}
    return TrainingData(train.reindex(columns=COLUMNS), test.reindex(columns=COLUMNS), {}, given, shot_ids=ids)


# Rows that are fair to both


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of prepared tables, with nothing in it."""
    monkeypatch.setattr(manifest, "PROCESSED", tmp_path / "processed")
    return tmp_path / "processed"


def champion_of(folder: Path, train: pd.DataFrame, test: pd.DataFrame, raw: str) -> dict[str, str]:
    """Make a version champion that was trained on a table and tested on another; its tags.

    Where the tables have ``shot_id``, it is kept in files of its own.
    """
    tables = {TRAIN: train[COLUMNS], TEST: test[COLUMNS]}
    if SHOT_ID in train:
        tables |= {IDS[TRAIN]: train[[SHOT_ID]], IDS[TEST]: test[[SHOT_ID]]}
    for name, table in tables.items():
        write_parquet(table, folder / f"{name}.parquet")
    tags = {f"sha256_{name}": sha256(folder / f"{name}.parquet") for name in tables}
    tags["sha256_dataset_kobe_dev"] = raw
    registry.promote(register_without_files(**tags), "better")
    return tags


def challenger(taught: TrainingData) -> Challenger:
    return Challenger("9", taught, fit_pipeline(), fit_base_rate())


def as_set(table: pd.DataFrame) -> set[tuple[float, ...]]:
    return set(table[COLUMNS].astype(float).itertuples(index=False, name=None))


def unlike(first: int, count: int) -> pd.DataFrame:
    """Different shots."""
    table = rows(first, count)
    numbers = {SHOT_ID: np.arange(first, first + count)}
    return table.assign(minutes_remaining=np.linspace(0, 12, len(table)) + first / 1e6, **numbers)


def assert_compared_on_all(taught: TrainingData, words: str = "") -> None:
    found = comparison_rows(challenger(taught))
    assert found.rows is taught.test
    assert words in found.note
    assert bool(words) == bool(found.note)


@pytest.mark.usefixtures("store", "folder")
def test_without_a_champion_a_challenger_is_judged_on_its_own_test_rows() -> None:
    assert_compared_on_all(training_data())


@pytest.mark.usefixtures("store")
def test_tested_on_the_same_rows_both_are_compared_on_them(folder: Path) -> None:
    tags = champion_of(folder, unlike(0, 300), unlike(300, 200), raw="mine")
    assert_compared_on_all(training_data(**tags))


@pytest.mark.usefixtures("store")
def test_of_the_same_raw_file_both_are_compared_on_the_champions_test_rows_that_the_challenger_was_not_trained_on(
    folder: Path,
) -> None:
    every = unlike(0, 500)
    champion_of(folder, every.iloc[:300], every.iloc[300:], raw="mine")
    mine = training_data(every.iloc[:400], every.iloc[400:].assign(playoffs=1.0), sha256_dataset_kobe_dev="mine")
    found = comparison_rows(challenger(mine))
    assert as_set(found.rows) == as_set(every.iloc[400:])
    assert list(found.rows) == COLUMNS
    assert found.note.endswith(
        "on 100 of champion version 1's 200 test rows; the new version was trained on the other 100"
    )


@pytest.mark.usefixtures("store")
def test_of_another_raw_file_both_are_compared_on_the_contenders_test_rows_that_the_champion_was_not_trained_on(
    folder: Path,
) -> None:
    every = unlike(0, 500)
    champion_of(folder, every.iloc[:300], every.iloc[300:], raw="theirs")
    mine = training_data(unlike(600, 100), every.iloc[250:350], sha256_dataset_kobe_dev="mine")
    found = comparison_rows(challenger(mine))
    assert as_set(found.rows) == as_set(every.iloc[300:350])
    assert found.note == "on 50 of the new version's 100 test rows; the champion was trained on the other 50"


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("raw", ["mine", "theirs"])
def test_where_the_champions_tables_are_gone_the_contenders_test_rows_are_used(folder: Path, raw: str) -> None:
    champion_of(folder, unlike(0, 300), unlike(300, 200), raw=raw)
    for name in (TRAIN, TEST):
        (folder / f"{name}.parquet").unlink()
    assert_compared_on_all(
        training_data(sha256_dataset_kobe_dev="mine"),
        "on all 1,000 test rows: the tables of champion version 1 are missing",
    )


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("raw", ["mine", "theirs"])
def test_a_champion_that_did_not_pass_the_gate_does_not_stop_a_training(folder: Path, raw: str) -> None:
    champion_of(folder, unlike(0, 300), unlike(300, 200), raw=raw)
    registry.record_gate_result("1", REJECTED)
    assert_compared_on_all(training_data(sha256_dataset_kobe_dev="mine"))


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("raw", ["mine", "theirs"])
def test_shots_of_the_same_values_are_other_shots(folder: Path, raw: str) -> None:
    # Under the basket many shots are the same in every column; one in five is, in the real files.
    every = unlike(0, 1_000)
    same = every.iloc[np.zeros(250, dtype=int)].assign(**{SHOT_ID: np.arange(5_000, 5_250)})
    everything = pd.concat([every, same], ignore_index=True).sample(frac=1, random_state=0)
    theirs, ours = everything.iloc[:600], everything.iloc[600:]
    champion_of(folder, theirs.iloc[:400], theirs.iloc[400:], raw=raw)
    mine = training_data(ours.iloc[:400], ours.iloc[400:], sha256_dataset_kobe_dev="mine")
    found = comparison_rows(challenger(mine)).rows
    assert len(found) == (200 if raw == "mine" else 250)
    assert as_set(found) == as_set(theirs.iloc[400:] if raw == "mine" else ours.iloc[400:])


@pytest.mark.usefixtures("store")
def test_of_two_disjoint_sets_of_real_games_no_test_row_is_dropped(
    folder: Path, real_raw: dict[str, pd.DataFrame]
) -> None:
    shots = real_raw["dataset_kobe_dev"].rename(columns={"lon": "lng"}).dropna(subset=COLUMNS)
    shots = shots.sample(frac=1, random_state=0).astype({SHOT_ID: "int64"})
    halves = [shots[shots["game_id"] % 2 == remainder][[*COLUMNS, SHOT_ID]] for remainder in (0, 1)]
    (theirs, ours), fifth = halves, len(halves[1]) // 5
    champion_of(folder, theirs.iloc[fifth:], theirs.iloc[:fifth], raw="theirs")
    found = comparison_rows(
        challenger(training_data(ours.iloc[fifth:], ours.iloc[:fifth], sha256_dataset_kobe_dev="mine"))
    )
    pd.testing.assert_frame_equal(found.rows, ours.iloc[:fifth][COLUMNS])
    at_the_hoop = (found.rows["shot_distance"] == 0).mean()
    assert at_the_hoop == (ours.iloc[:fifth]["shot_distance"] == 0).mean() > 0.15


@pytest.mark.usefixtures("store")
def test_sources_that_count_their_shots_from_1_do_not_share_them(folder: Path) -> None:
    theirs, ours = unlike(0, 500), unlike(600, 500).assign(**{SHOT_ID: range(500)})
    champion_of(folder, theirs.iloc[:300], theirs.iloc[300:], raw="theirs")
    mine = training_data(ours.iloc[300:], ours.iloc[:300], sha256_dataset_kobe_dev="mine")
    assert len(comparison_rows(challenger(mine)).rows) == 300


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("raw", ["mine", "theirs"])
@pytest.mark.parametrize("unknown", ["the champion", "the contender"])
def test_without_shot_id_all_test_rows_are_used_with_a_note(folder: Path, raw: str, unknown: str) -> None:
    every = unlike(0, 500)
    theirs, ours = (
        every.drop(columns=SHOT_ID) if each == unknown else every for each in ("the champion", "the contender")
    )
    champion_of(folder, theirs.iloc[:300], theirs.iloc[300:], raw=raw)
    mine = training_data(ours.iloc[:400], ours.iloc[400:], sha256_dataset_kobe_dev="mine")
    who = "champion version 1" if unknown == "the champion" else "the new version"
    found = comparison_rows(challenger(mine))
    assert found.rows is mine.test
    assert f"no run holds the shot_id of the rows that {who} was trained and tested on" in found.note


@pytest.mark.usefixtures("store")
def test_a_repeated_preparation_gives_the_shot_id_of_the_training_rows_of_an_old_version(folder: Path) -> None:
    every = unlike(0, 500)
    tags = champion_of(folder, every.iloc[:300], every.iloc[300:], raw="theirs")
    for name in IDS.values():
        MlflowClient().delete_model_version_tag(registry.model(), "1", f"sha256_{name}")
    with mlflow.start_run(run_name=run_names.PREPARATION):
        mlflow.log_params({name: value for name, value in tags.items() if name.startswith("sha256_base")})
    mine = training_data(unlike(600, 100), every.iloc[250:350], sha256_dataset_kobe_dev="mine")
    assert as_set(comparison_rows(challenger(mine)).rows) == as_set(every.iloc[300:350])


# What becomes of a challenger


def contending(
    store_with_models: LoggedModels, name: str, *, test: pd.DataFrame | None = None, **tags: str
) -> Challenger:
    """A version that was registered and not yet judged."""
    version = store_with_models.register(name, None, **tags)
    return Challenger(
        version, training_data(None, test, **tags), store_with_models.models[name].pipeline, fit_base_rate()
    )


def promote(who: Challenger, on: pd.DataFrame | None = None, *, max_log_loss: float = CHANCE_LEVEL) -> PromotionOutcome:
    return promote_if_better(who, who.training_data.test if on is None else on, seed=0, max_log_loss=max_log_loss)


def stage(version: str) -> str:
    return str(MlflowClient().get_model_version(registry.model(), version).current_stage)


def assert_promoted(who: Challenger, found: PromotionOutcome) -> None:
    assert (found.promoted, found.gate_result.passed) == (True, True)
    assert found.note == "passed the gate and became champion and Production"
    assert registry.number(registry.require_champion()) == who.version
    assert (stage(who.version), registry.tags_of(who.version)["gate"]) == ("Production", "passed")
    assert "archive_reason" not in registry.tags_of(who.version)
    assert_written(who, found.gate_result)


def assert_archived(who: Challenger, found: PromotionOutcome, champion: str | None) -> None:
    assert not found.promoted
    assert found.note.startswith("not promoted")
    now = registry.champion()
    assert (registry.number(now) if now else None) == champion
    assert stage(who.version) == "Archived"
    assert champion is None or stage(champion) == "Production"
    assert registry.tags_of(who.version)["archive_reason"] in found.note
    assert registry.promotions(MlflowClient().get_model_version(registry.model(), who.version)) == []
    assert_written(who, found.gate_result)


def assert_written(who: Challenger, result: GateResult) -> None:
    tags = registry.tags_of(who.version)
    assert tags["gate"] == ("passed" if result.passed else "rejected")
    assert tags["gate_reason"] == result.reason
    for name, value in result.metrics().items():
        assert float(tags[f"gate_{name}"]) == pytest.approx(value, abs=1e-6)


def test_the_first_challenger_has_to_be_better_than_the_base_rate_only(store_with_models: LoggedModels) -> None:
    bad = contending(store_with_models, BAD)
    found = promote(bad)
    assert_archived(bad, found, None)
    assert found.promotion_test is None
    assert "of the base rate" in found.gate_result.reason
    good = contending(store_with_models, GOOD)
    found = promote(good)
    assert_promoted(good, found)
    assert found.promotion_test is None


def constant(share: float = 0.0) -> Pipeline:
    """A model of almost no skill: the base rate, and a little of a real model."""
    table = population().head(TRAINING_ROWS)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=max(share, 1e-9)))
    return model.fit(table[list(FEATURES)].to_numpy(), table[TARGET])


@pytest.mark.parametrize("champion", [None, BAD])
def test_a_challenger_with_almost_constant_predictions_is_not_promoted_and_the_note_states_it(
    store_with_models: LoggedModels, champion: str | None
) -> None:
    if champion:
        registry.promote(store_with_models.register(champion), "the only one")
    who = Challenger(
        store_with_models.register(GOOD, None), training_data(None, rows(0, 20_000)), constant(1e-6), fit_base_rate()
    )
    found = promote(who)
    assert_archived(who, found, "1" if champion else None)
    assert found.gate_result.high < 0
    assert "the predictions are almost constant: P(made) is 0.4" in found.note


def test_a_challenger_that_knows_too_little_to_be_of_use_is_not_the_first_champion(
    store_with_models: LoggedModels,
) -> None:
    who = Challenger(
        store_with_models.register(GOOD, None), training_data(None, rows(0, 20_000)), constant(1e-5), fit_base_rate()
    )
    blunt = promote(who)
    assert not blunt.promoted


def test_a_better_challenger_replaces_the_champion_and_the_history_records_why(store_with_models: LoggedModels) -> None:
    registry.promote(store_with_models.register(BAD), "the only one")
    good = contending(store_with_models, GOOD)
    found = promote(good)
    assert_promoted(good, found)
    assert found.promotion_test is not None
    assert found.promotion_test.result == found.gate_result
    assert "of champion version 1 on the same 1,000 rows" in found.gate_result.reason
    (entry,) = registry.promotions(registry.require_champion())
    assert (entry["why"], entry["instead_of"]) == (found.gate_result.reason, "1")
    assert registry.alias_state().previous_champion == "1"


@pytest.mark.parametrize("name", [SAME, BAD])
def test_a_challenger_that_is_not_better_than_the_champion_is_archived_with_the_reason(
    store_with_models: LoggedModels, name: str
) -> None:
    registry.promote(store_with_models.register(GOOD), "the only one")
    who = contending(store_with_models, name)
    found = promote(who)
    assert_archived(who, found, "1")
    assert found.note.startswith("not promoted, it did not pass the gate: log loss 0.")
    assert not found.gate_result.passed
    assert found.promotion_test is not None


def test_earlier_rows_are_compared_on_with_their_own_predictions(store_with_models: LoggedModels) -> None:
    registry.promote(store_with_models.register(BAD), "the only one")
    good = store_with_models.models[GOOD].pipeline
    before = rows(3_000, 900)
    made = predict_probability(good, before)
    for predictions, promoted in ((made, True), (1 - made, False)):
        who = contending(store_with_models, GOOD)
        earlier = EarlierRows(before, predictions, np.full(900, before[TARGET].mean()))
        found = promote_if_better(who, rows(2_000, 300), seed=0, earlier=earlier)
        assert found.promoted is promoted
        assert found.promotion_test is not None
        by_name = {each.name: each.difference.rows for each in found.promotion_test.criteria}
        assert by_name["champion version 1, all rows"] == 1_200
        assert by_name["champion version 1, temporal hold-out"] == 300
        registry.promote("1", "again")


def test_the_rows_that_are_given_are_those_that_are_compared_on(store_with_models: LoggedModels) -> None:
    registry.promote(store_with_models.register(BAD), "the only one")
    who = contending(store_with_models, GOOD)
    found = promote(who, rows(2_000, 700))
    assert found.promotion_test is not None
    assert found.promotion_test.criteria[0].difference.rows == 700


def test_max_log_loss_is_applied(store_with_models: LoggedModels) -> None:
    registry.promote(store_with_models.register(BAD), "the only one")
    who = contending(store_with_models, GOOD)
    found = promote(who, max_log_loss=0.5)
    assert_archived(who, found, "1")
    assert found.gate_result.reason.endswith("maximum 0.5000")


def test_an_alias_on_a_version_that_did_not_pass_the_gate_is_no_champion_to_be_compared_with(
    store_with_models: LoggedModels,
) -> None:
    store_with_models.register(GOOD, REJECTED)
    MlflowClient().set_registered_model_alias(registry.MODEL, "champion", "1")
    who = contending(store_with_models, SAME)
    found = promote(who)
    assert_promoted(who, found)
    assert found.promotion_test is None


def test_a_champion_that_cannot_be_loaded_is_not_replaced_without_a_comparison(
    store_with_models: LoggedModels,
) -> None:
    registry.promote(register_without_files(), "before its files were lost")
    who = contending(store_with_models, GOOD)
    words = "Champion version 1 cannot be loaded, so nothing was promoted: .*cannot be loaded.*-e reverter"
    with pytest.raises(RegistryError, match=words):
        promote(who)
    assert (registry.alias_state().champion, stage("1"), stage(who.version)) == ("1", "Production", "Archived")
    assert "could not be loaded" in registry.tags_of(who.version)["archive_reason"]


def test_a_challenger_of_real_shots_replaces_a_champion_of_synthetic_ones(store_with_models: LoggedModels) -> None:
    registry.promote(store_with_models.register(GOOD, synthetic="true"), "the only one")
    bad = contending(store_with_models, BAD, synthetic="false")
    assert_archived(bad, promote(bad), "1")
    same = contending(store_with_models, SAME, synthetic="false")
    assert_promoted(same, promote(same))
    why = str(registry.promotions(registry.require_champion())[0]["why"])
    assert why.endswith("; it was trained on real shots, champion version 1 on synthetic ones")


def test_a_challenger_of_synthetic_shots_never_replaces_a_champion_of_real_ones(
    store_with_models: LoggedModels,
) -> None:
    registry.promote(store_with_models.register(BAD, synthetic="false"), "the only one")
    who = contending(store_with_models, GOOD, synthetic="true")
    found = promote(who)
    assert_archived(who, found, "1")
    assert found.note == "not promoted, it was trained on synthetic shots, champion version 1 on real ones"
    # No rollback restores it later either.
    with pytest.raises(RegistryError, match="did not pass the gate"):
        registry.roll_back("a wish", who.version)


def test_two_of_synthetic_shots_are_compared(store_with_models: LoggedModels) -> None:
    registry.promote(store_with_models.register(GOOD, synthetic="true"), "the only one")
    who = contending(store_with_models, SAME, synthetic="true")
    assert_archived(who, promote(who), "1")


@pytest.mark.parametrize(("count", "compared"), [(0, False), (99, False), (100, True)])
def test_too_few_rows_to_compare_on_leave_the_champion_where_it_is(
    store_with_models: LoggedModels, count: int, *, compared: bool
) -> None:
    registry.promote(store_with_models.register(BAD), "the only one")
    who = contending(store_with_models, GOOD)
    found = promote(who, rows(0, count))
    assert (found.promotion_test is not None) is compared
    if not compared:
        assert_archived(who, found, "1")
        assert f"there are {count} rows that neither it nor champion version 1 was trained on; 100" in found.note
        assert not found.gate_result.passed
        assert registry.tags_of(who.version)["gate"] == "rejected"


@pytest.mark.parametrize("against", ["1", ""])
def test_a_challenger_that_was_trained_to_replace_another_champion_is_archived(
    store_with_models: LoggedModels, against: str
) -> None:
    for _ in range(2):
        registry.promote(store_with_models.register(BAD), "better")
    who = contending(store_with_models, GOOD)
    found = promote_if_better(who, who.training_data.test, seed=0, against=against)
    assert_archived(who, found, "2")
    assert "the champion is now 2" in found.note
    assert not found.gate_result.passed


def test_a_challenger_that_was_trained_to_replace_this_champion_is_compared_with_it(
    store_with_models: LoggedModels,
) -> None:
    registry.promote(store_with_models.register(BAD), "the only one")
    who = contending(store_with_models, GOOD)
    assert_promoted(who, promote_if_better(who, who.training_data.test, seed=0, against="1"))


def test_min_improvement_is_applied(store_with_models: LoggedModels) -> None:
    registry.promote(store_with_models.register(BAD), "the only one")
    who = contending(store_with_models, GOOD)
    found = promote_if_better(who, who.training_data.test, seed=0, min_improvement=0.9)
    assert_archived(who, found, "1")
    assert "90.00% is needed" in found.note


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let another process act between the comparison of a challenger and the record of its gate result."""
    judge = registry.record_gate_result

    def judged(version: str, result: GateResult) -> None:
        monkeypatch.setattr(registry, "record_gate_result", judge)
        act()
        judge(version, result)

    monkeypatch.setattr(registry, "record_gate_result", judged)


def test_a_challenger_whose_champion_was_replaced_meanwhile_is_archived(
    store_with_models: LoggedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(store_with_models.register(BAD), "the only one")
    other = store_with_models.register(SAME)
    who = contending(store_with_models, GOOD)
    meanwhile(monkeypatch, lambda: registry.promote(other, "it was quicker"))
    found = promote(who)
    assert_archived(who, found, other)
    assert "version 1; the champion is now version 2" in found.note
    assert found.gate_result.passed


def test_a_first_challenger_that_another_one_was_quicker_than_is_archived(
    store_with_models: LoggedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = store_with_models.register(GOOD)
    who = contending(store_with_models, SAME)
    meanwhile(monkeypatch, lambda: registry.promote(other, "it was quicker"))
    found = promote(who)
    assert_archived(who, found, other)
    assert "none; the champion is now version 1" in found.note


# Approval by a person


def test_with_approval_a_better_challenger_waits_and_production_stays(store_with_models: LoggedModels) -> None:
    registry.promote(store_with_models.register(BAD), "the only one")
    before, who = registry.alias_state(), contending(store_with_models, GOOD)
    found = promote_if_better(who, who.training_data.test, seed=0, approval=True)
    assert (found.outcome, found.promoted, registry.alias_state()) == ("awaiting approval", False, before)
    assert found.note.endswith(f"mlflow run . -e aprovar -P version={who.version}")
    assert registry.tags_of(who.version)["gate"] == "awaiting approval"
    assert stage(who.version) == "None"
    registry.approve(who.version, "checked")
    assert registry.alias_state().champion == who.version


def test_with_approval_a_challenger_that_is_not_better_is_archived_and_does_not_wait(
    store_with_models: LoggedModels,
) -> None:
    registry.promote(store_with_models.register(GOOD), "the only one")
    who = contending(store_with_models, BAD)
    found = promote_if_better(who, who.training_data.test, seed=0, approval=True)
    assert_archived(who, found, "1")
    assert registry.awaiting_approval() == []


def test_with_approval_the_first_model_waits_too_and_what_needs_a_champion_names_it(
    store_with_models: LoggedModels,
) -> None:
    who = contending(store_with_models, GOOD)
    assert promote_if_better(who, who.training_data.test, seed=0, approval=True).outcome == "awaiting approval"
    with pytest.raises(RegistryError, match=f"version {who.version} passed the gate and waits for the approval"):
        registry.require_champion()


@pytest.mark.parametrize(
    ("described", "given", "expected"),
    [("none", "described", False), ("person", "described", True), ("none", "person", True), ("person", "none", False)],
)
def test_the_description_of_the_dataset_or_the_parameter_requires_approval(
    tmp_path: Path, described: str, given: str, *, expected: bool
) -> None:
    text = (ROOT / "data" / "datasets" / "kobe.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(f'{text}\n[promotion]\napproval = "{described}"\n')
    assert TreinamentoConfig.model_validate({"dataset": str(path), "approval": given}).needs_approval is expected
