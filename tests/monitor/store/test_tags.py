import pytest

from monitor.retraining import backtest
from monitor.store import tags


@pytest.mark.parametrize(("former", "today"), tags.FORMER_TAGS.items())
def test_tags_of_0_1_0_are_read_by_the_names_of_today(former: str, today: str) -> None:
    assert tags.current_tags({former: "2", "theirs": "kept"}) == {today: "2", "theirs": "kept"}
    assert former in tags.former_names(today)


@pytest.mark.parametrize(("former", "today"), tags.FORMER_TAGS.items())
def test_a_tag_by_its_name_of_today_takes_precedence_over_a_former_name(former: str, today: str) -> None:
    held = {today: "today", former: "before"}
    assert tags.current_tags(held) == {today: "today"}
    assert tags.current_tags(dict(reversed(held.items()))) == {today: "today"}


@pytest.mark.parametrize("name", tags.FORMER_VALUES)
def test_values_of_0_1_0_are_read_as_those_of_today(name: str) -> None:
    for former, today in tags.FORMER_VALUES[name].items():
        assert tags.current_tags({name: former}) == tags.current_tags({name: today}) == {name: today}
        assert tags.current_tags({"theirs": former}) == {"theirs": former}


@pytest.mark.parametrize(("former", "today"), tags.FORMER_PARAMS.items())
def test_parameters_of_0_1_0_are_read_by_the_names_of_today(former: str, today: str) -> None:
    assert tags.current_params({former: "1", "seed": "42"}) == {today: "1", "seed": "42"}


@pytest.mark.parametrize(("former", "today"), tags.FORMER_METRICS.items())
def test_metrics_of_0_1_0_are_read_by_the_names_of_today(former: str, today: str) -> None:
    assert tags.current_metrics({former: 1.0, "log_loss": 0.6}) == {today: 1.0, "log_loss": 0.6}


@pytest.mark.parametrize(("today", "former"), tags.FORMER_PATHS.items())
def test_an_artifact_has_a_path_of_0_1_0(today: str, former: str) -> None:
    assert tags.former_path(f"{today}/{today}.png") == f"{former}/{former}.png"
    assert tags.former_path("tables/predictions.parquet") == "tables/predictions.parquet"


@pytest.mark.parametrize(("former", "today"), [*tags.FORMER_DECISION_KEYS.items(), *tags.FORMER_BACKTEST_KEYS.items()])
def test_records_of_0_1_0_are_read_by_the_keys_of_today(former: str, today: str) -> None:
    held = {"kept": [{former: {former: 1}}, 2, None]}
    assert tags.current_record(held, {former: today}, {}) == {"kept": [{today: {today: 1}}, 2, None]}
    assert tags.current_record({today: "today", former: "before"}, {former: today}, {}) == {today: "today"}


@pytest.mark.parametrize("values", [tags.FORMER_DECISION_VALUES, tags.FORMER_BACKTEST_VALUES])
def test_values_of_records_of_0_1_0_are_read_as_those_of_today(values: dict[str, dict[str, str]]) -> None:
    for key, former in values.items():
        for before, today in former.items():
            assert tags.current_record([{key: before, "theirs": before}], {}, values) == [
                {key: today, "theirs": before}
            ]


@pytest.mark.parametrize("metric", ["log_loss", "batch_log_loss", "trainings"])
def test_metrics_of_the_strategies_of_0_1_0_are_read_by_the_names_of_today(metric: str) -> None:
    strategies = {former: today for former, today in tags.FORMER_BACKTEST_KEYS.items() if today in backtest.STRATEGIES}
    assert set(strategies.values()) == {backtest.POLICY, backtest.ALWAYS}
    for former, today in strategies.items():
        assert tags.current_metrics({f"{metric}_{former}": 0.6}) == {f"{metric}_{today}": 0.6}


def test_metrics_of_other_splits_are_read_by_the_names_of_today() -> None:
    assert tags.current_metrics({"spread_dt_log_loss_mean": 0.6}) == {"resplit_dt_log_loss_mean": 0.6}
