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

from data.preparation import manifest
from data.preparation.manifest import IDS, TEST, TRAIN
from data.schema import FEATURES, SHOT_ID, TARGET
from data.storage.files import sha256, write_parquet
from monitor.store import runs
from serving import registry
from serving.registry import RegistryError
from serving.registry.gate import GateResult
from steps.training.promotion import Challenger, PromotionOutcome, comparison_rows, promote_if_better
from steps.training.training_set import TrainingData
from tests.looks import TRAINING_ROWS, population
from tests.versions import BAD, GOOD, REFUSED, SAME, Stock, bare, fitted, prior

COLUMNS = [*FEATURES, TARGET]
COIN = float(np.log(2))


def rows(first: int, count: int) -> pd.DataFrame:
    """Shots that no logged model has learned from."""
    start = TRAINING_ROWS + first
    return population().iloc[start : start + count][COLUMNS].reset_index(drop=True)


def lesson(train: pd.DataFrame | None = None, test: pd.DataFrame | None = None, /, **tags: str) -> TrainingData:
    given = {f"sha256_{TRAIN}": "a" * 64, f"sha256_{TEST}": "b" * 64, **tags}
    learned = population().head(TRAINING_ROWS)[COLUMNS]
    train, test = (learned if train is None else train), (rows(0, 1_000) if test is None else test)
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

    Which shots they are is kept where the tables have it, beside them.
    """
    tables = {TRAIN: train[COLUMNS], TEST: test[COLUMNS]}
    if SHOT_ID in train:
        tables |= {IDS[TRAIN]: train[[SHOT_ID]], IDS[TEST]: test[[SHOT_ID]]}
    for name, table in tables.items():
        write_parquet(table, folder / f"{name}.parquet")
    tags = {f"sha256_{name}": sha256(folder / f"{name}.parquet") for name in tables}
    tags["sha256_dataset_kobe_dev"] = raw
    registry.promote(bare(**tags), "better")
    return tags


def contender(taught: TrainingData) -> Challenger:
    return Challenger("9", taught, fitted(), prior())


def as_set(table: pd.DataFrame) -> set[tuple[float, ...]]:
    return set(table[COLUMNS].astype(float).itertuples(index=False, name=None))


def unlike(first: int, count: int) -> pd.DataFrame:
    """Shots no two of which are the same."""
    table = rows(first, count)
    numbers = {SHOT_ID: np.arange(first, first + count)}
    return table.assign(minutes_remaining=np.linspace(0, 12, len(table)) + first / 1e6, **numbers)


def assert_compared_on_all(taught: TrainingData, words: str = "") -> None:
    found = comparison_rows(contender(taught))
    assert found.rows is taught.test
    assert words in found.note
    assert bool(words) == bool(found.note)


@pytest.mark.usefixtures("store", "folder")
def test_without_a_champion_a_contender_is_judged_on_its_own_test_rows() -> None:
    assert_compared_on_all(lesson())


@pytest.mark.usefixtures("store")
def test_tested_on_the_same_rows_both_are_compared_on_them(folder: Path) -> None:
    tags = champion_of(folder, unlike(0, 300), unlike(300, 200), raw="mine")
    assert_compared_on_all(lesson(**tags))


@pytest.mark.usefixtures("store")
def test_of_the_same_raw_file_both_are_compared_on_the_champions_test_rows_that_the_contender_was_not_trained_on(
    folder: Path,
) -> None:
    every = unlike(0, 500)
    champion_of(folder, every.iloc[:300], every.iloc[300:], raw="mine")
    mine = lesson(every.iloc[:400], every.iloc[400:].assign(playoffs=1.0), sha256_dataset_kobe_dev="mine")
    found = comparison_rows(contender(mine))
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
    mine = lesson(unlike(600, 100), every.iloc[250:350], sha256_dataset_kobe_dev="mine")
    found = comparison_rows(contender(mine))
    assert as_set(found.rows) == as_set(every.iloc[300:350])
    assert found.note == "on 50 of the new version's 100 test rows; the champion was trained on the other 50"


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("raw", ["mine", "theirs"])
def test_where_the_champions_tables_are_gone_the_contenders_test_rows_are_used(folder: Path, raw: str) -> None:
    champion_of(folder, unlike(0, 300), unlike(300, 200), raw=raw)
    for name in (TRAIN, TEST):
        (folder / f"{name}.parquet").unlink()
    assert_compared_on_all(
        lesson(sha256_dataset_kobe_dev="mine"), "on all 1,000 test rows: the tables of champion version 1 are gone"
    )


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("raw", ["mine", "theirs"])
def test_a_champion_that_did_not_pass_the_gate_does_not_stop_a_training(folder: Path, raw: str) -> None:
    champion_of(folder, unlike(0, 300), unlike(300, 200), raw=raw)
    registry.record_gate_result("1", REFUSED)
    assert_compared_on_all(lesson(sha256_dataset_kobe_dev="mine"))


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("raw", ["mine", "theirs"])
def test_shots_of_the_same_values_are_other_shots(folder: Path, raw: str) -> None:
    # Under the basket many shots are the same in every column; one in five is, in the real files.
    every = unlike(0, 1_000)
    same = every.iloc[np.zeros(250, dtype=int)].assign(**{SHOT_ID: np.arange(5_000, 5_250)})
    everything = pd.concat([every, same], ignore_index=True).sample(frac=1, random_state=0)
    theirs, ours = everything.iloc[:600], everything.iloc[600:]
    champion_of(folder, theirs.iloc[:400], theirs.iloc[400:], raw=raw)
    mine = lesson(ours.iloc[:400], ours.iloc[400:], sha256_dataset_kobe_dev="mine")
    found = comparison_rows(contender(mine)).rows
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
    found = comparison_rows(contender(lesson(ours.iloc[fifth:], ours.iloc[:fifth], sha256_dataset_kobe_dev="mine")))
    pd.testing.assert_frame_equal(found.rows, ours.iloc[:fifth][COLUMNS])
    at_the_hoop = (found.rows["shot_distance"] == 0).mean()
    assert at_the_hoop == (ours.iloc[:fifth]["shot_distance"] == 0).mean() > 0.15


@pytest.mark.usefixtures("store")
def test_sources_that_count_their_shots_from_1_do_not_share_them(folder: Path) -> None:
    theirs, ours = unlike(0, 500), unlike(600, 500).assign(**{SHOT_ID: range(500)})
    champion_of(folder, theirs.iloc[:300], theirs.iloc[300:], raw="theirs")
    mine = lesson(ours.iloc[300:], ours.iloc[:300], sha256_dataset_kobe_dev="mine")
    assert len(comparison_rows(contender(mine)).rows) == 300


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("raw", ["mine", "theirs"])
@pytest.mark.parametrize("unknown", ["the champion", "the contender"])
def test_where_nobody_knows_which_shots_they_are_all_test_rows_are_used_and_it_is_said(
    folder: Path, raw: str, unknown: str
) -> None:
    every = unlike(0, 500)
    theirs, ours = (
        every.drop(columns=SHOT_ID) if each == unknown else every for each in ("the champion", "the contender")
    )
    champion_of(folder, theirs.iloc[:300], theirs.iloc[300:], raw=raw)
    mine = lesson(ours.iloc[:400], ours.iloc[400:], sha256_dataset_kobe_dev="mine")
    who = "champion version 1" if unknown == "the champion" else "the new version"
    found = comparison_rows(contender(mine))
    assert found.rows is mine.test
    assert f"no run says by shot_id which shots {who} was trained and tested on" in found.note


@pytest.mark.usefixtures("store")
def test_a_preparation_that_makes_a_table_again_says_which_shots_an_old_version_was_trained_on(folder: Path) -> None:
    every = unlike(0, 500)
    tags = champion_of(folder, every.iloc[:300], every.iloc[300:], raw="theirs")
    for name in IDS.values():
        MlflowClient().delete_model_version_tag(registry.model(), "1", f"sha256_{name}")
    with mlflow.start_run(run_name=runs.PREPARATION):
        mlflow.log_params({name: value for name, value in tags.items() if name.startswith("sha256_base")})
    mine = lesson(unlike(600, 100), every.iloc[250:350], sha256_dataset_kobe_dev="mine")
    assert as_set(comparison_rows(contender(mine)).rows) == as_set(every.iloc[300:350])


# What becomes of a contender


def contending(stocked: Stock, name: str, *, test: pd.DataFrame | None = None, **tags: str) -> Challenger:
    """A version that was registered and not yet judged."""
    version = stocked.register(name, None, **tags)
    return Challenger(version, lesson(None, test, **tags), stocked.models[name].pipeline, prior())


def settled(who: Challenger, on: pd.DataFrame | None = None, *, max_log_loss: float = COIN) -> PromotionOutcome:
    return promote_if_better(who, who.lesson.test if on is None else on, seed=0, max_log_loss=max_log_loss)


def stage(version: str) -> str:
    return str(MlflowClient().get_model_version(registry.model(), version).current_stage)


def assert_promoted(who: Challenger, found: PromotionOutcome) -> None:
    assert (found.promoted, found.verdict.passed) == (True, True)
    assert found.note == "passed the gate and became champion and Production"
    assert registry.number(registry.require_champion()) == who.version
    assert (stage(who.version), registry.tags_of(who.version)["gate"]) == ("Production", "passed")
    assert "archived_because" not in registry.tags_of(who.version)
    assert_written(who, found.verdict)


def assert_archived(who: Challenger, found: PromotionOutcome, champion: str | None) -> None:
    assert not found.promoted
    assert found.note.startswith("not promoted")
    now = registry.champion()
    assert (registry.number(now) if now else None) == champion
    assert stage(who.version) == "Archived"
    assert champion is None or stage(champion) == "Production"
    assert registry.tags_of(who.version)["archived_because"] in found.note
    assert registry.promotions(MlflowClient().get_model_version(registry.model(), who.version)) == []
    assert_written(who, found.verdict)


def assert_written(who: Challenger, verdict: GateResult) -> None:
    tags = registry.tags_of(who.version)
    assert tags["gate"] == ("passed" if verdict.passed else "refused")
    assert tags["gate_reason"] == verdict.reason
    for name, value in verdict.figures().items():
        assert float(tags[f"gate_{name}"]) == pytest.approx(value, abs=1e-6)


def test_the_first_contender_has_to_be_better_than_the_class_prior_alone(stocked: Stock) -> None:
    bad = contending(stocked, BAD)
    found = settled(bad)
    assert_archived(bad, found, None)
    assert found.challenge is None
    assert "of the class prior" in found.verdict.reason
    good = contending(stocked, GOOD)
    found = settled(good)
    assert_promoted(good, found)
    assert found.challenge is None


def constant(share: float = 0.0) -> Pipeline:
    """A model that knows next to nothing: the class prior, and a little of what a real one knows."""
    table = population().head(TRAINING_ROWS)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=max(share, 1e-9)))
    return model.fit(table[list(FEATURES)].to_numpy(), table[TARGET])


@pytest.mark.parametrize("champion", [None, BAD])
def test_a_contender_that_answers_almost_the_same_to_every_shot_is_not_promoted_and_said_to_be_so(
    stocked: Stock, champion: str | None
) -> None:
    if champion:
        registry.promote(stocked.register(champion), "the only one")
    who = Challenger(stocked.register(GOOD, None), lesson(None, rows(0, 20_000)), constant(1e-6), prior())
    found = settled(who)
    assert_archived(who, found, "1" if champion else None)
    assert found.verdict.high < 0
    assert "the answers are almost constant: P(made) is 0.4" in found.note


def test_a_contender_that_knows_too_little_to_be_of_use_is_not_the_first_champion(stocked: Stock) -> None:
    who = Challenger(stocked.register(GOOD, None), lesson(None, rows(0, 20_000)), constant(1e-5), prior())
    blunt = settled(who)
    assert not blunt.promoted


def test_a_contender_that_is_better_than_the_champion_takes_its_place_and_the_history_says_why(stocked: Stock) -> None:
    registry.promote(stocked.register(BAD), "the only one")
    good = contending(stocked, GOOD)
    found = settled(good)
    assert_promoted(good, found)
    assert found.challenge is not None
    assert found.challenge.verdict == found.verdict
    assert "of champion version 1 on the same 1,000 rows" in found.verdict.reason
    (entry,) = registry.promotions(registry.require_champion())
    assert (entry["why"], entry["instead_of"]) == (found.verdict.reason, "1")
    assert registry.standing().previous_champion == "1"


@pytest.mark.parametrize("name", [SAME, BAD])
def test_a_contender_that_is_not_better_than_the_champion_is_put_away_with_the_reason(
    stocked: Stock, name: str
) -> None:
    registry.promote(stocked.register(GOOD), "the only one")
    who = contending(stocked, name)
    found = settled(who)
    assert_archived(who, found, "1")
    assert found.note.startswith("not promoted, it did not pass the gate: log loss 0.")
    assert not found.verdict.passed
    assert found.challenge is not None


def test_the_rows_that_are_given_are_those_that_are_compared_on(stocked: Stock) -> None:
    registry.promote(stocked.register(BAD), "the only one")
    who = contending(stocked, GOOD)
    found = settled(who, rows(2_000, 700))
    assert found.challenge is not None
    assert found.challenge.comparisons[0].difference.rows == 700


def test_a_limit_that_is_asked_for_is_kept(stocked: Stock) -> None:
    registry.promote(stocked.register(BAD), "the only one")
    who = contending(stocked, GOOD)
    found = settled(who, max_log_loss=0.5)
    assert_archived(who, found, "1")
    assert found.verdict.reason.endswith("limit 0.5000")


def test_an_alias_on_a_version_that_did_not_pass_the_gate_is_no_champion_to_be_compared_with(stocked: Stock) -> None:
    stocked.register(GOOD, REFUSED)
    MlflowClient().set_registered_model_alias(registry.MODEL, "champion", "1")
    who = contending(stocked, SAME)
    found = settled(who)
    assert_promoted(who, found)
    assert found.challenge is None


def test_a_champion_that_cannot_be_loaded_is_not_replaced_by_one_that_nobody_compared_with_it(
    stocked: Stock,
) -> None:
    registry.promote(bare(), "before its files were lost")
    who = contending(stocked, GOOD)
    words = "Champion version 1 cannot be compared with, so nothing was promoted: .*cannot be loaded.*-e reverter"
    with pytest.raises(RegistryError, match=words):
        settled(who)
    assert (registry.standing().champion, stage("1"), stage(who.version)) == ("1", "Production", "Archived")
    assert "could not be loaded" in registry.tags_of(who.version)["archived_because"]


def test_a_contender_of_real_shots_replaces_a_champion_of_synthetic_ones(stocked: Stock) -> None:
    registry.promote(stocked.register(GOOD, synthetic="true"), "the only one")
    bad = contending(stocked, BAD, synthetic="false")
    assert_archived(bad, settled(bad), "1")
    same = contending(stocked, SAME, synthetic="false")
    assert_promoted(same, settled(same))
    why = str(registry.promotions(registry.require_champion())[0]["why"])
    assert why.endswith("; it learned from real shots, champion version 1 from synthetic ones")


def test_a_contender_of_synthetic_shots_never_replaces_a_champion_of_real_ones(stocked: Stock) -> None:
    registry.promote(stocked.register(BAD, synthetic="false"), "the only one")
    who = contending(stocked, GOOD, synthetic="true")
    found = settled(who)
    assert_archived(who, found, "1")
    assert found.note == "not promoted, it learned from synthetic shots, champion version 1 from real ones"
    # Nobody brings it back later either.
    with pytest.raises(RegistryError, match="did not pass the gate"):
        registry.roll_back("a wish", who.version)


def test_two_of_synthetic_shots_are_compared(stocked: Stock) -> None:
    registry.promote(stocked.register(GOOD, synthetic="true"), "the only one")
    who = contending(stocked, SAME, synthetic="true")
    assert_archived(who, settled(who), "1")


@pytest.mark.parametrize(("count", "compared"), [(0, False), (99, False), (100, True)])
def test_too_few_rows_to_compare_on_leave_the_champion_where_it_is(
    stocked: Stock, count: int, *, compared: bool
) -> None:
    registry.promote(stocked.register(BAD), "the only one")
    who = contending(stocked, GOOD)
    found = settled(who, rows(0, count))
    assert (found.challenge is not None) is compared
    if not compared:
        assert_archived(who, found, "1")
        assert f"there are {count} rows that neither it nor champion version 1 has learned from; 100" in found.note
        assert not found.verdict.passed
        assert registry.tags_of(who.version)["gate"] == "refused"


@pytest.mark.parametrize("against", ["1", ""])
def test_a_contender_that_was_trained_to_replace_another_champion_is_put_away(stocked: Stock, against: str) -> None:
    for _ in range(2):
        registry.promote(stocked.register(BAD), "better")
    who = contending(stocked, GOOD)
    found = promote_if_better(who, who.lesson.test, seed=0, against=against)
    assert_archived(who, found, "2")
    assert "the champion is now 2" in found.note
    assert not found.verdict.passed


def test_a_contender_that_was_trained_to_replace_this_champion_is_compared_with_it(stocked: Stock) -> None:
    registry.promote(stocked.register(BAD), "the only one")
    who = contending(stocked, GOOD)
    assert_promoted(who, promote_if_better(who, who.lesson.test, seed=0, against="1"))


def test_a_gain_that_is_asked_for_is_asked_for(stocked: Stock) -> None:
    registry.promote(stocked.register(BAD), "the only one")
    who = contending(stocked, GOOD)
    found = promote_if_better(who, who.lesson.test, seed=0, min_improvement=0.9)
    assert_archived(who, found, "1")
    assert "90.00% is needed" in found.note


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let another process act after a contender was compared and before its verdict is written."""
    judge = registry.record_gate_result

    def judged(version: str, verdict: GateResult) -> None:
        monkeypatch.setattr(registry, "record_gate_result", judge)
        act()
        judge(version, verdict)

    monkeypatch.setattr(registry, "record_gate_result", judged)


def test_a_contender_whose_champion_was_replaced_meanwhile_is_put_away(
    stocked: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(stocked.register(BAD), "the only one")
    other = stocked.register(SAME)
    who = contending(stocked, GOOD)
    meanwhile(monkeypatch, lambda: registry.promote(other, "it was quicker"))
    found = settled(who)
    assert_archived(who, found, other)
    assert "version 1; the champion is now version 2" in found.note
    assert found.verdict.passed


def test_a_first_contender_that_another_one_was_quicker_than_is_put_away(
    stocked: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = stocked.register(GOOD)
    who = contending(stocked, SAME)
    meanwhile(monkeypatch, lambda: registry.promote(other, "it was quicker"))
    found = settled(who)
    assert_archived(who, found, other)
    assert "none; the champion is now version 1" in found.note
