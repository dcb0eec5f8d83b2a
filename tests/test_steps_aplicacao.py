from pathlib import Path

import pytest

from data.command import parse
from data.prepared import PREDICTIONS, PROD, prepared_path
from steps.aplicacao import AplicacaoConfig


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(AplicacaoConfig, arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_without_parameters_the_prepared_prod_table_is_scored_over_rest() -> None:
    config = parse(AplicacaoConfig, [])
    assert (config.source, config.target) == (prepared_path(PROD), PREDICTIONS)
    assert config.over_rest


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        ([], 0),
        (["--most_rejected", ""], 0),
        (["--mode", "batch"], 1_000),
        (["--engine", "spark"], 1_000),
        (["--most_rejected", "7"], 7),
        (["--mode", "batch", "--most_rejected", "0"], 0),
    ],
)
def test_large_jobs_go_on_over_some_rows_that_break_the_schema(arguments: list[str], most: int) -> None:
    assert parse(AplicacaoConfig, arguments).rows_rejected_at_most == most


@pytest.mark.parametrize("way", [["--mode", "batch"], ["--engine", "spark"]])
def test_an_endpoint_is_refused_where_no_server_is_asked(way: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    told = refused([*way, "--endpoint", "http://127.0.0.1:5001"], capsys)
    assert "expected endpoint with mode=rest and engine=local only" in told
    assert "Leave out endpoint" in told


@pytest.mark.parametrize("out", ["shots.parquet", "shots.parquet/out.parquet", "./x/../shots.parquet"])
def test_an_output_is_not_written_over_its_table(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "expected out beside table" in refused(["--table", "shots.parquet", "--out", out], capsys)


def test_the_rejects_are_not_written_over_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--table", "out_rejects.parquet", "--out", "out.parquet"]
    assert "expected out beside table" in refused(arguments, capsys)


def test_the_prepared_table_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected out beside table" in refused(["--out", str(prepared_path(PROD))], capsys)


@pytest.mark.parametrize("arguments", [["--table", "a.csv"], ["--out", "b.csv"]])
def test_csv_is_refused_with_spark(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected Parquet for" in refused([*arguments, "--engine", "spark"], capsys)


@pytest.mark.parametrize("name", ["table", "out"])
def test_a_name_of_another_kind_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ends in .parquet or .csv" in refused([f"--{name}", "shots.json"], capsys)
