import itertools
import json
import re
import runpy
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt
from mlflow import MlflowClient

from data.cli.config import parse_args
from data.datasets import default
from data.paths import ROOT
from data.schema import FEATURES, PROBABILITY, TARGET, feature_column
from data.storage.files import write_parquet
from monitor.metrics.binary import METRICS, evaluate
from monitor.metrics.calibration import calibration_curve
from monitor.metrics.intervals import evaluate_with_intervals, metrics_by_slice
from monitor.reports.model_card import card as model_card
from monitor.reports.model_card.card import (
    FILE,
    MAX_DESCRIPTION,
    Data,
    ModelCard,
    ModelFacts,
    description,
    render,
)
from monitor.reports.model_card.evaluation import TestEvaluation, evaluate_on_test
from monitor.store import tags as store_tags
from monitor.store.candidates import BASE_RATE
from serving import registry
from steps.main import MainConfig
from steps.operacao import OperacaoConfig
from steps.retraining.config import RetreinoConfig
from steps.training import selection
from steps.training.config import TrainingConfig
from steps.training.pipelines import OWN_MODELS
from steps.training.reproduction import reproduction
from steps.training.training_set import TrainingData
from steps.training.tuning import MODEL_NAMES, Candidate
from tests.evaluations import TRAINING_ROWS, population
from tests.versions import GOOD, Killed, LoggedModels, fit_base_rate, fit_pipeline

COLUMNS = [*FEATURES, TARGET]
SELECTION = "**Logistic Regression** (`lr`) was selected. The selection did not use the test rows."
HASHES = {"base_train": "a" * 64, "base_test": "b" * 64, "dataset_kobe_dev": "c" * 64}


def training() -> pd.DataFrame:
    return population().head(TRAINING_ROWS)[COLUMNS]


def fresh(count: int = 1_000) -> pd.DataFrame:
    return population().iloc[TRAINING_ROWS : TRAINING_ROWS + count][COLUMNS].reset_index(drop=True)


def predictions(table: pd.DataFrame) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return np.asarray(fit_pipeline().predict_proba(table[list(FEATURES)].to_numpy())[:, 1])


def measured(test: pd.DataFrame, train: pd.DataFrame | None = None) -> TestEvaluation:
    train = training() if train is None else train
    return evaluate_on_test(train, test, predictions(test), np.full(len(test), train[TARGET].mean()), default())


def data(**changes: object) -> Data:
    known = Data("public", "https://example.org/data", False, 0, 1.0, "", HASHES, "d" * 40, False)
    return replace(known, **changes)  # type: ignore[arg-type]


def candidates_table(count: int) -> str:
    header = f"| model | cross-validated log_loss | {' | '.join(METRICS)} |\n{'|---' * (len(METRICS) + 2)}|\n"
    names = [*MODEL_NAMES.values()][:count]
    return header + "\n".join(f"| {name} | 0.6770 ± 0.0036 |{' 0.6700 |' * len(METRICS)}" for name in names)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    example = {name: float(training()[name].iloc[0]) for name in FEATURES}
    return ModelCard(
        model="kobe_shot",
        version="3",
        uri="models:/kobe_shot/3",
        name="Logistic Regression",
        model_id="lr",
        run_id="e" * 32,
        data=data(),
        measured=measured(fresh()),
        selection=SELECTION,
        candidates=candidates_table(3),
        example=example,
        prediction=float(predictions(training().head(1))[0]),
        command="git checkout dddd && mlflow run . -e main --env-manager local -P source=auto",
        remarks=("`base_train` must get the same SHA-256.",),
    )


def tables(markdown: str) -> list[list[list[str]]]:
    """The text of each cell of each table, as a Markdown parser reads it."""
    found: list[list[list[str]]] = []
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)
    for before, token in itertools.pairwise(tokens):
        if before.type == "table_open":
            found.append([])
        if before.type == "tr_open":
            found[-1].append([])
        if before.type in {"th_open", "td_open"}:
            found[-1][-1].append("".join(child.content for child in token.children or ()))
    return found


def blocks(markdown: str, language: str) -> list[str]:
    """The code blocks in a language."""
    return [token.content.strip() for token in MarkdownIt().parse(markdown) if token.info == language]


def row(markdown: str, *first: str) -> list[str]:
    """The row of a table that starts with these cells."""
    return next(cells for table in tables(markdown) for cells in table if cells[: len(first)] == list(first))


# Metrics


def test_every_metric_is_shown_with_its_interval_next_to_that_of_the_base_rate(card: ModelCard) -> None:
    rows, markdown = fresh(), render(card)
    of_prior = np.full(len(rows), training()[TARGET].mean())
    for made, place in ((predictions(rows), 3), (of_prior, 4)):
        metrics, found = evaluate(rows[TARGET], made), evaluate_with_intervals(rows[TARGET], made)
        for name, interval in found.intervals().items():
            expected = f"{metrics[name]:z.4f} ({interval.low:z.4f} to {interval.high:z.4f})"
            assert row(markdown, name)[place] == (expected if found.counts[name] else "undefined")


def test_the_front_matter_is_that_of_hugging_face_without_text_of_runs(card: ModelCard) -> None:
    front, rest = render(replace(card, model="a: b\n---")).split("\n---\n", 1)
    metadata = yaml.safe_load(front.removeprefix("---\n"))
    assert (metadata["license"], metadata["pipeline_tag"]) == ("apache-2.0", "tabular-classification")
    [result] = metadata["model-index"][0]["results"]
    shown = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert shown["log_loss"] == pytest.approx(card.measured.model.metrics["log_loss"], abs=1e-4)
    assert rest.lstrip().startswith("# ")
    assert not description(card).startswith("---")


COMMAND = "mlflow run . -e main -P 'dataset=/home/ana/my tables/shots.toml' -P source=/home/ana/raw -P seed=1"
"""A command with paths of a machine."""


def test_what_the_model_is_has_its_sections_and_no_path_of_the_machine(card: ModelCard) -> None:
    facts = ModelFacts(
        "Ana", "2026-11-27", ("StandardScaler", "DecisionTreeClassifier"), "|--- lat <= 1",
        {"Python": "3.11.7"}, 1_234, {"ROC curve": "plots/card_roc.png"},
        "its compiled form: tree; largest difference 0 on 9 rows",
    )  # fmt: skip
    text = render(replace(card, facts=facts, command=COMMAND, data=data(source="folder", url="/home/ana/raw")))
    for expected in (
        "| Owner | Ana |", "StandardScaler --> DecisionTreeClassifier", "|--- lat <= 1",
        "| A single row is scored by | its compiled form: tree; largest difference 0 on 9 rows |",
        "Python 3.11.7", "1,234 bytes", "![ROC curve](plots/card_roc.png)",
        "Ethical considerations", "Source: `folder`.",
        "mlflow run . -e main -P dataset=DESCRIPTION -P source=FOLDER -P seed=1",
    ):  # fmt: skip
        assert expected in text
    assert "/home" not in text


def test_a_metric_that_changes_changes_the_card_and_the_description(card: ModelCard) -> None:
    flipped = fresh().assign(**{TARGET: lambda rows: 1 - rows[TARGET]})
    changed = replace(card, measured=measured(flipped))
    expected = f"{evaluate(flipped[TARGET], predictions(flipped))['log_loss']:.4f}"
    for write in (render, description):
        assert row(write(card), "log_loss")[-2] != row(write(changed), "log_loss")[-2]
        assert row(write(changed), "log_loss")[-2].startswith(expected)


def test_every_slice_is_shown_with_its_rows_and_log_loss(card: ModelCard) -> None:
    rows = fresh()
    expected = metrics_by_slice(rows.assign(**{PROBABILITY: predictions(rows)}), default())
    markdown = render(card)
    for found in expected.to_dict("records"):
        cells = row(markdown, found["slice"], found["value"])
        assert cells[2] == f"{found['rows']:,}"
        assert cells[5].startswith("not measured" if np.isnan(found["log_loss"]) else f"{found['log_loss']:.4f} (")


def test_the_gaps_of_the_calibration_table_add_up_to_the_calibration_error(card: ModelCard) -> None:
    rows = fresh()
    # A tree has few distinct values; equal ones are in one bin.
    for made in (predictions(rows), predictions(rows).round(1)):
        bins = calibration_curve(rows[TARGET].to_numpy(), made)
        gaps = (bins["predicted"] - bins["made"]).abs()
        assert float((gaps * bins["rows"]).sum() / len(rows)) == pytest.approx(
            evaluate(rows[TARGET], made)["calibration_error"]
        )
        assert bins["rows"].sum() == len(rows)
        assert ((bins["low"] <= bins["made"]) & (bins["made"] <= bins["high"])).all()
    shown = next(table for table in tables(render(card)) if table[0][0] == "mean P(made)")
    assert len(shown) - 1 == len(calibration_curve(rows[TARGET].to_numpy(), predictions(rows)))


def test_out_of_support_rows_predicted_made_shots_and_three_pointers_are_counted(card: ModelCard) -> None:
    markdown, found = render(card), card.measured
    assert f"{found.predicted_made:,} of 1,000 test rows reach P(made) 0.5" in markdown
    assert f"{found.threes:,} of {len(training()):,} are three-pointers" in markdown
    assert f"{found.out_of_support_rate:.1%} of the test rows are out of support" in markdown


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [("dt", "constant of a leaf"), ("lr", "extrapolates"), ("knn", "nearest training shots"), ("mlp", "is not known")],
)
def test_the_behavior_outside_the_support_depends_on_the_kind_of_model(
    card: ModelCard, model_id: str, expected: str
) -> None:
    for write in (render, description):
        assert expected in write(replace(card, model_id=model_id))


def test_every_kind_of_model_has_a_name() -> None:
    assert {*model_card.TREES, *model_card.LINEAR, model_card.NEIGHBORS} < {*MODEL_NAMES, *OWN_MODELS}


@pytest.mark.parametrize("write", [render, description])
def test_every_feature_is_shown_with_its_allowed_range_and_its_training_range(
    card: ModelCard, write: Callable[[ModelCard], str]
) -> None:
    markdown, train = write(card), training()
    for name in FEATURES:
        column, cells = feature_column(name), row(markdown, name)
        assert column.unit in cells
        assert any(cell in column.constraint_text and f"{column.maximum:.8g}" in cell for cell in cells[1:])
        assert cells[-1] == f"{train[name].min():.8g} to {train[name].max():.8g}"


def test_an_undefined_metric_is_shown_as_undefined(card: ModelCard) -> None:
    made_only = fresh(200).assign(**{TARGET: 1.0})
    for test in (made_only, made_only.head(1)):
        markdown = render(replace(card, measured=measured(test)))
        assert row(markdown, "roc_auc")[-2:] == ["undefined"] * 2
        assert row(markdown, "log_loss_skill")[-2] == "undefined"
        assert "not comparable with the base rate: all test rows have the same label" in markdown
        assert "nan" not in markdown.replace("Nance", "")
    lone = measured(fresh(40), training().head(1))
    assert "An undefined share of the test rows are out of support" in render(replace(card, measured=lone))


def test_a_very_large_test_set_is_sampled_and_the_card_states_it(
    card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.reports.model_card.evaluation.MAX_TEST_ROWS", 400)
    markdown = render(replace(card, measured=measured(fresh())))
    assert "On 1,000 test rows (evaluated on a random sample of 400)" in markdown


# Where it comes from


@pytest.mark.parametrize("write", [render, description])
def test_synthetic_shots_are_announced_at_the_top(card: ModelCard, write: Callable[[ModelCard], str]) -> None:
    assert "SYNTHETIC" not in write(card)
    synthetic = write(replace(card, data=data(source="synthetic", synthetic=True)))
    assert "> **SYNTHETIC DATA.**" in synthetic.split("###")[0]


def test_files_commit_and_labels_are_shown(card: ModelCard) -> None:
    retrained = data(labels=700, label_weight=5.0, labels_until="2016-04-13T00:00:00", dirty=True)
    markdown = render(replace(card, data=retrained))
    for name, digest in HASHES.items():
        assert row(markdown, name) == [name, digest]
    assert f"`{'d' * 40}`, with uncommitted changes" in markdown
    assert "3,300 dev rows and 700 delayed labels" in markdown
    assert "the most recent from 2016-04-13T00:00:00. Each label has the sample weight of 5 dev rows" in markdown
    assert "the Git commit is not known" in render(replace(card, data=data(commit="unknown")))


# How to get predictions


@pytest.mark.usefixtures("store_with_models")
@pytest.mark.parametrize("write", [render, description])
def test_the_request_of_the_card_gets_the_response_of_the_card(
    card: ModelCard, write: Callable[[ModelCard], str], logged_models: LoggedModels
) -> None:
    curl = next(block for block in blocks(write(card), "sh") if block.startswith("curl"))
    body = json.loads(shlex.split(curl)[-1])
    model = mlflow.pyfunc.load_model(logged_models.models[GOOD].uri)
    found = model.predict(pd.DataFrame(body["dataframe_records"])).to_dict("records")
    assert found == json.loads(blocks(write(card), "json")[0])["predictions"]


@pytest.mark.usefixtures("store_with_models")
def test_the_python_of_the_card_runs(
    card: ModelCard, logged_models: LoggedModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "call.py"
    script.write_text(blocks(render(replace(card, uri=logged_models.models[GOOD].uri)), "python")[0])
    runpy.run_path(str(script))
    assert f"{card.prediction:.4f}"[:5] in capsys.readouterr().out


def test_the_card_of_another_registered_model_rolls_back_that_model(card: ModelCard) -> None:
    back = "mlflow run . -e reverter --env-manager local -P version=3"
    assert back in blocks(render(card), "sh")
    assert f"KOBE_SHOT_MODEL=kobe_shot_backtest {back}" in blocks(
        render(replace(card, model="kobe_shot_backtest")), "sh"
    )


# Its length, and what is in it


def test_a_usual_description_omits_no_section(card: ModelCard) -> None:
    text = description(card)
    assert len(text) <= MAX_DESCRIPTION
    assert "omitted" not in text
    assert SELECTION in text
    assert f"The whole card is `{FILE}`, an artifact of run `{card.run_id}`." in text


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": candidates_table(16)},
        {"data": data(url="https://example.org/" + "long/" * 900)},
        {"command": "mlflow run . -P source=" + "x" * 6_000, "candidates": candidates_table(16)},
        {"selection": "why " * 2_000},
        {"remarks": ("what " * 2_000,)},
    ],
)
def test_a_description_fits_and_has_whole_sections_only(card: ModelCard, changes: dict[str, object]) -> None:
    long = replace(card, **changes)  # type: ignore[arg-type]
    text = description(long)
    assert len(text) <= MAX_DESCRIPTION
    omitted = text.split("Sections omitted here because of the length limit: ")[1].rstrip(".\n").split(", ")
    whole = model_card.sections(long, short=True)
    for name, section in whole.items():
        assert (section in text) == (name not in omitted) or not section
    # Every character belongs to a whole section.
    rest = text
    for section in whole.values():
        rest = rest.replace(section, "", 1)
    assert rest.strip().startswith("The whole card is")
    assert "metrics" not in omitted


@pytest.mark.parametrize("write", [render, description])
def test_hostile_names_neither_break_a_table_nor_become_html(
    card: ModelCard, write: Callable[[ModelCard], str]
) -> None:
    hostile = "a|b `c` ```\n| d | <script>alert(1)</script> **e** [f](javascript:g) $h$"
    source = data(source=hostile, url=f"https://{hostile}", sha256={hostile: "a" * 64}, labels=1, labels_until=hostile)
    changed = replace(card, name=hostile, model=hostile, data=source, command=f"mlflow run . -P source='{hostile}'")
    markdown = write(changed)
    assert "<script>" not in MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    assert "javascript:" not in re.findall(r'href="([^"]*)"', MarkdownIt().enable("table").render(markdown))
    if write is render:
        assert len(tables(markdown)) == len(tables(write(card)))
        # A Markdown parser cuts a row at the width of its table: the cells after a name must still be there.
        assert any(cells[-1] == "a" * 64 for table in tables(markdown) for cells in table)
        assert any(changed.command in block for block in blocks(markdown, "sh"))
    assert row(markdown, "log_loss")[-1] == row(write(card), "log_loss")[-1]


# The command that trains it again


def defaults(entry_point: str) -> dict[str, str]:
    parameters = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"][entry_point]["parameters"]
    return {name: str(parameter["default"]) for name, parameter in parameters.items()}


def parameters(command: str) -> tuple[str, dict[str, str]]:
    """The entry point that a command runs, and all of its parameters."""
    words = shlex.split(command.rpartition("&& ")[2])
    start = words.index("mlflow")
    assert words[start : start + 4] == ["mlflow", "run", ".", "-e"]
    entry_point, rest = words[start + 4], words[start + 5 :]
    assert rest[:2] == ["--env-manager", "local"]
    assert set(rest[2::2]) <= {"-P"}
    given = dict(word.split("=", 1) for word in rest[3::2])
    assert given.keys() <= defaults(entry_point).keys()
    return entry_point, defaults(entry_point) | given


TAGS = {"sha256_base_train": "a" * 64, "git_commit": "f" * 40, "git_dirty": "false"}
RAW = {"dataset_kobe_dev.parquet": "1" * 64, "dataset_kobe_prod.parquet": "2" * 64}
TRAINING = TrainingConfig(models="dt", cv_folds=3).model_dump()


def acquired(source: str, kind: str = "folder", url: str = "/somewhere", **params: object) -> None:
    """Log the runs of an acquisition and a preparation."""
    tags = {"data_source": kind, **{f"sha256_{name.partition('.')[0]}": value for name, value in RAW.items()}}
    with mlflow.start_run(run_name="Aquisicao", tags=tags):
        mlflow.log_params({"source": source, "synthetic_rows": 9_000, "synthetic_seed": 7})
    with mlflow.start_run(run_name="PreparacaoDados", tags={"data_source": kind}):
        split = {"test_size": 0.25, "seed": 42, "engine": "local", "master": "", "max_rejected_rows": None}
        mlflow.log_params({**split, "sha256_base_train": "a" * 64, **params})
        provenance = {"kind": kind, "location": url, "sha256": RAW, "previous_sha256": {}}
        mlflow.log_dict({"provenance": provenance, "sha256": {}}, "tables/manifest.json")


def trained(root: str = "main", tags: dict[str, str] | None = None, **params: object) -> str:
    """Log the run of a training within another; its id."""
    with mlflow.start_run(run_name=root, tags={store_tags.REGISTERED_MODEL: "kobe_shot", **(tags or {})}):
        mlflow.log_params(params)
        with mlflow.start_run(run_name="Treinamento", nested=True) as run:
            return str(run.info.run_id)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("source", "kind", "url", "expected"),
    [
        ("/a folder/it's", "folder", "/a folder/it's", "/a folder/it's"),
        ("'/as mlflow run keeps it'", "folder", "/as mlflow run keeps it", "/as mlflow run keeps it"),
        ("auto", "public", "https://example.org/data", "https://example.org/data"),
        ("auto", "synthetic", "rows=9000 seed=7", "synthetic"),
        ("$(rm -rf /);`x`", "table", "/y", "$(rm -rf /);`x`"),
    ],
)
def test_main_is_run_again_with_the_parameters_of_the_runs(source: str, kind: str, url: str, expected: str) -> None:
    acquired(source, kind, url)
    found = reproduction(trained(), TAGS, TRAINING)
    assert found.command.startswith(f"git checkout {'f' * 40} && mlflow run . -e main")
    entry_point, values = parameters(found.command)
    changed = {"source": expected, "synthetic_rows": "9000", "synthetic_seed": "7", "test_size": "0.25"}
    assert values == {**defaults(entry_point), **changed, "models": "dt", "cv_folds": "3"}
    assert found.source_url == url
    assert not any("Not known" in remark or "differed" in remark for remark in found.remarks)


def arguments(values: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


@pytest.mark.usefixtures("store")
def test_the_entry_point_accepts_the_command() -> None:
    acquired("synthetic", "synthetic", "rows=9000 seed=7", most_rejected_="ignored")
    entry_point, values = parameters(reproduction(trained(), TAGS, TRAINING).command)
    config = parse_args(MainConfig, arguments(values))
    assert entry_point == "main"
    assert (config.source, config.synthetic_rows, config.synthetic_seed) == ("synthetic", 9_000, 7)
    assert (config.test_size, config.models, config.cv_folds) == (0.25, "dt", 3)


@pytest.mark.usefixtures("store")
def test_a_challenger_is_trained_again_by_retreino_as_of_its_decision_versus_its_champion() -> None:
    acquired("auto")
    tags = {store_tags.DECIDED_AT: "2026-11-22T10:00:00+00:00", "champion": "4"}
    run_id = trained("Retreino", tags, log="''", window_size=150, mode="auto", models="lr")
    found = reproduction(run_id, {**TAGS, "sha256_development_rows": "a" * 64, "sha256_base_train": "9" * 64}, TRAINING)
    entry_point, values = parameters(found.command)
    assert entry_point == "retreino"
    config = parse_args(RetreinoConfig, arguments(values))
    assert (config.mode, config.as_of, config.window_size, config.models) == (
        "force",
        tags[store_tags.DECIDED_AT],
        150,
        "lr",
    )
    assert "while version 4 is champion" in found.remarks[0]


@pytest.mark.usefixtures("store")
def test_a_version_of_a_backtest_is_trained_again_by_the_backtest() -> None:
    acquired("synthetic", "synthetic", "rows=9000 seed=7")
    run_id = trained("Operacao", {store_tags.REGISTERED_MODEL: "mine"}, batch_size=250, source="auto", models="lr")
    found = reproduction(run_id, TAGS, TRAINING)
    assert "&& KOBE_SHOT_MODEL=mine mlflow run . -e operacao" in found.command
    config = parse_args(OperacaoConfig, arguments(parameters(found.command)[1]))
    assert (config.batch_size, config.source, config.models, config.test_size) == (250, "synthetic", "lr", 0.25)


@pytest.mark.usefixtures("store")
def test_unknown_parameters_are_listed() -> None:
    found = reproduction(trained("Treinamento"), {"sha256_base_train": "a" * 64}, TRAINING)
    assert parameters(found.command) == ("main", {**defaults("main"), "models": "dt", "cv_folds": "3"})
    remarks = " ".join(found.remarks)
    assert "`source`, `test_size`, `seed`" in remarks
    assert "The Git commit of the code is unknown." in remarks
    assert found.source_url == ""
    dirty = reproduction(trained(), {**TAGS, "git_dirty": "true"}, TRAINING)
    assert any("Files differed from that commit" in remark for remark in dirty.remarks)


# Where it is stored


class PreparedTuner:
    """Returns fitted models, without training."""

    is_sampled = False

    def __init__(self, train: pd.DataFrame, **options: object) -> None:
        del train, options

    def prior(self) -> Candidate:
        """The base-rate baseline."""
        return candidate(BASE_RATE, "Base rate")

    def ids(self, models: str) -> list[str]:
        """The given ids."""
        return models.split(",")

    def tune(self, model_id: str) -> Candidate:
        """A fitted model."""
        return candidate(model_id, MODEL_NAMES[model_id])


def candidate(model_id: str, name: str) -> Candidate:
    pipeline = fit_base_rate() if model_id == BASE_RATE else fit_pipeline()
    return Candidate(model_id, name, pipeline, {}, dict.fromkeys(METRICS, (0.67, 0.01)))


@pytest.fixture
def training_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingData:
    """Dev rows and labels, and a training that takes no time."""
    monkeypatch.setattr(selection, "Tuner", PreparedTuner)
    monkeypatch.setattr(selection, "_candidate_records", lambda *_: iter(()))
    tables_ = {"base_train": training(), "base_test": fresh(300)}
    files = {name: tmp_path / f"{name}.parquet" for name in tables_}
    for name, table in tables_.items():
        write_parquet(table, files[name])
    tags = {
        "data_source": "synthetic",
        "synthetic": "true",
        store_tags.TRAINING_LABELS: "500",
        store_tags.LABELS_UNTIL: "2016-04-13",
    }
    hashes = {f"sha256_{name}": letter * 64 for name, letter in zip(files, "ab", strict=True)}
    is_label = np.arange(TRAINING_ROWS) >= TRAINING_ROWS - 500
    weights = np.where(is_label, 4.0, 1.0)
    return TrainingData(tables_["base_train"], tables_["base_test"], files, {**tags, **hashes}, weights, is_label)


def stored(run_id: str) -> str:
    """The card that a run holds."""
    return str(mlflow.artifacts.load_text(f"runs:/{run_id}/{FILE}"))


@pytest.mark.usefixtures("store")
def test_a_version_is_registered_with_a_description_and_its_run_holds_the_whole_card(
    training_set: TrainingData,
) -> None:
    with mlflow.start_run() as run:
        challenger, selected = selection.train_and_register(TrainingConfig(models="lr"), training_set)
    version = MlflowClient().get_model_version("kobe_shot", challenger.version)
    whole = stored(version.run_id)
    assert version.run_id == run.info.run_id
    assert len(version.description) <= MAX_DESCRIPTION
    for text in (version.description, whole):
        assert "`kobe_shot` version 1: Logistic Regression" in text
        assert "mlflow models serve -m models:/kobe_shot/1 --env-manager local" in blocks(text, "sh")
        assert f"{selected.metrics['log_loss']:.4f} (" in row(text, "log_loss")[-2]
        assert "3,500 dev rows and 500 delayed labels" in text
        assert "Each label has the sample weight of 4 dev rows" in text
        assert "| Base rate |" in text
    assert selected.justification.strip().partition("\n\n")[2] in whole


@pytest.mark.usefixtures("store")
def test_a_kill_before_the_version_knows_its_number_leaves_a_whole_card(
    training_set: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(version: str, text: str) -> None:
        del version, text
        raise Killed

    monkeypatch.setattr(registry, "describe", killed)
    with pytest.raises(Killed), mlflow.start_run():
        selection.train_and_register(TrainingConfig(models="lr"), training_set)
    version = MlflowClient().get_model_version("kobe_shot", "1")
    for text in (version.description, stored(version.run_id)):
        serve = next(block for block in blocks(text, "sh") if block.startswith("mlflow models serve"))
        assert re.search(r"-m models:/m-[0-9a-f]{32} ", serve)
        assert "run `reverter` with its number" in text
        assert len(tables(text)) >= 2
