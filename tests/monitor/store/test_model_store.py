"""The store on a fake of MLflow's client: what it finds, and what it ignores."""

import json

import pytest

from data.errors import TableError
from monitor.store import run_names, tags
from monitor.store.model_store import OF_BATCH_SCORING, OF_LOG
from monitor.store.records import NO_ACTION, RETRAIN
from serving import registry
from tests.fake_store import FakeClient, fake_store

OURS = {tags.DATA_SOURCE: "public", tags.SYNTHETIC: "false"}
MONITORING = {**OURS, tags.SOURCE: OF_BATCH_SCORING, tags.REFERENCE: "base_test"}


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def add_decision(client: FakeClient, number: int, **held: str) -> str:
    given = {
        tags.NUMBER: str(number),
        tags.DECIDED_AT: "2026-11-22T12:00:00+00:00",
        tags.DECISION: NO_ACTION,
        tags.DECISION_MODEL: registry.MODEL,
        tags.DECISION_MODEL_CREATED: fake_store(client).created(),
        **held,
    }
    return client.add_run(run_names.RETRAINING, given)


# Versions


def test_an_empty_store_has_no_version_and_no_run(client: FakeClient) -> None:
    store = fake_store(client)
    assert (store.champion(), store.version("1"), store.last_batch_scoring_run()) == (None, None, None)
    assert (store.versions(), store.decisions(), store.backtests(), store.monitoring_runs(OF_LOG)) == ([], [], [], [])
    assert store.created() == ""


def test_versions_are_the_newest_first_with_their_aliases(client: FakeClient) -> None:
    for alias in ("previous_champion", "", "champion"):
        client.add_version({tags.MODEL_ID: "lr", **OURS}, alias=alias)
    found = fake_store(client).versions()
    assert [(version.version, version.aliases) for version in found] == [
        ("3", ("champion",)),
        ("2", ()),
        ("1", ("previous_champion",)),
    ]


def test_the_champion_is_what_the_alias_names(client: FakeClient) -> None:
    history = [{"when": "2026-11-01T00:00:00+00:00", "who": "me", "where": "here", "why": "better"}]
    client.add_version(
        {tags.MODEL_ID: "lr", "test_log_loss": "0.67", "promotions": json.dumps(history)}, alias="champion"
    )
    client.add_version()
    found = fake_store(client).champion()
    assert found is not None
    assert (found.version, found.model_id, found.test_metrics) == ("1", "lr", {"log_loss": 0.67})
    assert found.promotions[0].kind == registry.PROMOTION
    assert found.promoted_at == found.promotions[0].when


def test_a_store_of_another_model_has_no_version_of_this_one(client: FakeClient) -> None:
    client.add_version(alias="champion")
    assert fake_store(client, "another").champion() is None
    assert fake_store(client, "another").versions() == []


def test_a_version_that_was_revoked_gives_the_reason_of_that(client: FakeClient) -> None:
    client.add_version({tags.GATE_REASON: "better", tags.REVOKED: "what followed failed"})
    assert fake_store(client).versions()[0].gate_reason == "what followed failed"


def test_a_champion_that_has_not_passed_the_gate_is_not_usable(client: FakeClient) -> None:
    for gate, is_usable in (("passed", True), ("refused", False), ("", False)):
        client.add_version({tags.GATE: gate}, alias="champion")
        assert bool(fake_store(client).usable_champion()) is is_usable


def test_the_version_of_a_decision_is_the_newest_with_its_run(client: FakeClient) -> None:
    assert fake_store(client).version_of_decision("a") is None
    for run in (*"ababccccccc", "a"):
        client.add_version({tags.RETRAINING_RUN: run})
    found = fake_store(client).version_of_decision("a")
    assert found is not None
    assert found.version == "12"
    assert fake_store(client).version_of_decision("d") is None


def test_stores_of_one_place_and_model_are_equal(client: FakeClient) -> None:
    assert len({fake_store(client), fake_store(client)}) == 1
    assert fake_store(client) != fake_store(client, "another")
    assert fake_store(client) != fake_store(FakeClient())


# Runs


def test_the_last_batch_scoring_run_scored_the_prod_table_for_the_registered_model(client: FakeClient) -> None:
    wanted = client.add_run(run_names.BATCH_SCORING, {**OURS, tags.MODEL_VERSION: "4"})
    client.add_run(run_names.BATCH_SCORING, {**OURS, tags.GIVEN_TABLE: "/a/table.csv"})
    client.add_run(run_names.BATCH_SCORING, {**OURS, tags.REGISTERED_MODEL: "another"})
    client.add_run(run_names.BATCH_SCORING, OURS, status="FAILED")
    client.add_run(run_names.BATCH_SCORING, {"theirs": "true"})
    found = fake_store(client).last_batch_scoring_run()
    assert found is not None
    assert (found.run_id, found.model_version) == (wanted, "4")


def test_monitoring_runs_are_of_one_source_and_one_model_newest_first(client: FakeClient) -> None:
    first = client.add_run(run_names.MONITORING, {**MONITORING, tags.HEALTH: "healthy", tags.REASONS: "one\ntwo"})
    client.add_run(run_names.MONITORING, {**MONITORING, tags.SOURCE: OF_LOG})
    client.add_run(run_names.MONITORING, {**MONITORING, tags.REFERENCE: "base_train"})
    client.add_run(run_names.MONITORING, {**MONITORING, tags.REGISTERED_MODEL: "another"})
    last = client.add_run(run_names.MONITORING, MONITORING, status="FAILED")
    failed, found = fake_store(client).monitoring_runs(OF_BATCH_SCORING)
    assert (failed.run_id, failed.health, failed.status) == (last, "", "FAILED")
    assert (found.run_id, found.health, found.reasons) == (first, "healthy", ("one", "two"))
    assert [run.run_id for run in fake_store(client).monitoring_runs(OF_BATCH_SCORING, limit=1)] == [last]


def test_runs_within_a_run_are_the_oldest_first(client: FakeClient) -> None:
    main = client.add_run(run_names.MAIN, OURS)
    first = client.add_run(run_names.PREPARATION, OURS, parent=main)
    client.add_run(run_names.TRAINING, OURS, parent=main, status="FAILED")
    second = client.add_run(run_names.TRAINING, OURS, parent=main)
    client.add_run(run_names.TRAINING, OURS)
    assert [run.run_id for run in fake_store(client).runs_within(main)] == [first, second]


def test_params_are_read_by_the_names_of_today(client: FakeClient) -> None:
    client.add_run(run_names.RETRAINING, params=dict.fromkeys(tags.FORMER_PARAMS, "1"))
    (found,) = fake_store(client).find_runs(run_names.RETRAINING)
    assert found.params == dict.fromkeys(tags.FORMER_PARAMS.values(), "1")


# Decisions


def test_decisions_are_about_the_registered_model_as_it_was_created_last(client: FakeClient) -> None:
    client.add_version()
    add_decision(client, 1)
    add_decision(client, 2, **{tags.DECISION: RETRAIN})
    add_decision(client, 3, **{tags.DECISION_MODEL_CREATED: "1"})
    add_decision(client, 4, **{tags.DECISION_MODEL: "another"})
    assert [decision.number for decision in fake_store(client).decisions()] == [2, 1]
    assert [decision.number for decision in fake_store(client).decisions(limit=1)] == [2]


@pytest.mark.parametrize("tag", tags.former_names(tags.BACKTEST))
def test_decisions_of_a_backtest_are_found_by_its_run(client: FakeClient, tag: str) -> None:
    client.add_version()
    add_decision(client, 1, **{tag: "first"})
    add_decision(client, 2, **{tag: "second"})
    assert [decision.number for decision in fake_store(client).decisions(backtest="second")] == [2]


def test_a_decision_whose_tags_are_damaged_names_the_run_to_delete(client: FakeClient) -> None:
    client.add_version()
    run_id = add_decision(client, 1, **{tags.DECIDED_AT: "yesterday"})
    with pytest.raises(TableError, match=rf"decision 1 cannot be read .*Delete run {run_id}"):
        fake_store(client).decisions()


def test_tags_are_written_all_at_once(client: FakeClient) -> None:
    client.add_version()
    run_id = add_decision(client, 1)
    fake_store(client).set_tags(run_id, {tags.OUTCOME: "promoted", tags.MODEL_VERSION: "2"})
    (found,) = fake_store(client).decisions()
    assert (found.outcome, found.challenger, found.trained) == ("promoted", "2", True)
