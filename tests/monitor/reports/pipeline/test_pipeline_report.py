"""The report shows the content of the runs, names what is missing, and escapes hostile text."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mlflow
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from data.datasets import VARIABLE, Dataset, current, default
from data.paths import ROOT
from data.schema import FEATURES, TARGET
from monitor import portuguese
from monitor.charts import static
from monitor.health.checks import CHECKS
from monitor.health.status import CheckStatus, run_checks
from monitor.reports.pipeline import (
    artifacts,
    collect,
    evidence,
    figures,
    flow,
    formats,
    lineage,
    plot_texts,
    rendering,
    rubric,
    sources,
)
from monitor.reports.pipeline.collect import ReportContent
from monitor.reports.pipeline.facts import (
    Chain,
    Cover,
    Missing,
    RunFacts,
    VersionFacts,
    adherence,
)
from monitor.reports.pipeline.formats import escaped
from monitor.store import records
from monitor.store import tags as store_tags
from monitor.store.model_store import current_store
from monitor.store.run_names import MONITORING, REPORT
from serving import registry
from serving.model.packaging import encoder_of
from steps.training.pipelines import Inputs, with_preprocessing
from tests.evaluations import batch, evaluation, population
from tests.operation_store import backtest_record, log_backtest, log_decision
from tests.report_store import ORIGIN, STEPS, fill, run_named

HOSTILE = "<script>alert('1')</script> | `x` $y$ *z* [a](http://b)"


@contextmanager
def using(database: Path, experiment: str) -> Iterator[None]:
    """Track in a SQLite file until the block ends."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{database}")
    mlflow.set_experiment(experiment)
    try:
        yield
    finally:
        while mlflow.active_run():
            mlflow.end_run()
        mlflow.set_tracking_uri(before)


def filled_store(folder: Path, empty_database: Path, *, nested: bool) -> Path:
    database = Path(shutil.copy(empty_database, folder / "mlflow.db"))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{database}")
    mlflow.create_experiment("tests", artifact_location=str(folder / "artifacts"))
    mlflow.set_tracking_uri(before)
    with using(database, "tests"):
        fill(folder, nested=nested)
    return database


@pytest.fixture(scope="module")
def of_main(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A store after a ``main``; tests copy it."""
    return filled_store(tmp_path_factory.mktemp("main"), empty_database, nested=True)


@pytest.fixture(scope="module")
def of_steps(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A store after steps that were run one by one; tests copy it."""
    return filled_store(tmp_path_factory.mktemp("steps"), empty_database, nested=False)


@pytest.fixture
def filled(tmp_path: Path, of_main: Path) -> Iterator[Path]:
    """A copy of `of_main`, used until the test ends."""
    with using(Path(shutil.copy(of_main, tmp_path / "filled.db")), "tests"):
        yield tmp_path


@pytest.fixture
def stepwise(tmp_path: Path, of_steps: Path) -> Iterator[Path]:
    """A copy of `of_steps`, used until the test ends."""
    with using(Path(shutil.copy(of_steps, tmp_path / "filled.db")), "tests"):
        yield tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, of_main: Path) -> ReportContent:
    """The content of a report on `of_main`, with its plots."""
    with using(Path(shutil.copy(of_main, tmp_path_factory.mktemp("whole") / "filled.db")), "tests"):
        return collected()


@pytest.fixture(scope="module")
def page(whole: ReportContent) -> str:
    """The report on `of_main` as HTML."""
    return rendering.html(rendering.markdown(whole.facts), whole.plots)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not draw plots or read artifacts, which takes time."""
    monkeypatch.setattr(collect, "_new_plots", lambda *_: {})
    monkeypatch.setattr(collect, "_artifacts", lambda *_: iter(()))


def collected() -> ReportContent:
    with mlflow.start_run(run_name=REPORT) as run:
        store, chain = current_store(), lineage.find_pipeline_runs(current_store())
        found = sources.read(store, chain)
        return collect.collect(store, chain, run.info.run_id, collect.Given(sources=found))


def written() -> tuple[str, str]:
    """The report of the active store, as Markdown and as HTML."""
    found = collected()
    text = rendering.markdown(found.facts)
    return text, rendering.html(text, found.plots)


class Page(HTMLParser):
    """A parsed page: its tags, and its text outside of style sheets."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:  # noqa: D102
        self.text += data


# Every number comes from a run

CHANGES = {
    ("PreparacaoDados", "rows_data_filtered"): (12_345.0, "12.345 registros"),
    ("Treinamento", "f1_score"): (0.34567, "0,3457"),
    ("dt: Decision Tree", "log_loss"): (0.43211, "0,4321"),
    ("lr: Logistic Regression", "f1_score_low"): (0.12344, "0,1234"),
    ("PipelineAplicacao", "base_rate_log_loss"): (0.98765, "0,9877"),
    ("Monitoramento", "psi_shot_distance"): (6.54321, "6,5432"),
}


@pytest.mark.usefixtures("filled", "undrawn")
def test_changed_metrics_change_both_reports() -> None:
    before, _ = written()
    for (run, metric), (value, _) in CHANGES.items():
        MlflowClient().log_metric(run_named(run).info.run_id, metric, value)
    text, page = written()
    for _, shown in CHANGES.values():
        assert shown not in before
        assert shown in text
        assert shown in Page(page).text


def test_a_missing_metric_is_named_with_the_command_that_produces_it(whole: ReportContent) -> None:
    facts = whole.facts
    metrics = {name: value for name, value in facts.application.metrics.items() if name != "f1_score"}
    text = rendering.markdown(replace(facts, application=replace(facts.application, metrics=metrics)))
    expected = (
        "métrica f1_score da execução PipelineAplicacao; para gerar: mlflow run . -e aplicacao --env-manager local"
    )
    assert expected in Page(rendering.html(text, {})).text
    assert "métrica f1\\_score da execução" not in rendering.markdown(facts)


def test_every_run_of_the_report_is_listed(whole: ReportContent) -> None:
    text = rendering.markdown(whole.facts)
    assert len(whole.facts.runs) == 12
    for run in whole.facts.runs:
        assert f"`{run.run_id}`" in text or run.step in {"Operacao", "Retreino"}


def test_the_title_of_the_page_has_no_backslash(page: str) -> None:
    found = re.search("<title>(.*)</title>", page)
    assert found
    assert "kobe_shot" in found[1]


def test_the_candidates_are_named_where_the_parameter_leaves_them_to_the_dataset(whole: ReportContent) -> None:
    training = replace(whole.facts.training, params={**whole.facts.training.params, "models": "auto"})
    section = section_of(changed(whole, training=training), "7. Treinamento")
    assert "treina os candidatos Regressão logística (lr), Árvore de decisão (dt) com" in section


def test_plots_show_every_row_of_the_public_files() -> None:
    assert sources.MAX_ROWS > 24_271


def test_boxes_of_the_tree_do_not_overlap() -> None:
    model = make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=5, random_state=0))
    rows = population()
    figure = figures.tree(model.fit(rows[list(FEATURES)].to_numpy(), rows[TARGET]), default())
    figure.canvas.draw()
    boxes = [
        patch.get_window_extent()
        for text in figure.findobj(Annotation)
        if text.get_text().strip() and (patch := text.get_bbox_patch())
    ]
    assert len(boxes) > 10
    overlapping = [(one, other) for place, one in enumerate(boxes) for other in boxes[:place] if one.overlaps(other)]
    assert overlapping == []


def test_figures_name_the_outcomes_by_the_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    def ticks() -> list[str]:
        drawn = static.confusion_matrices(np.array([0.0, 1.0]), {"lr": np.array([0.2, 0.8])}, 0.5)
        figure = plot_texts.localize(drawn)
        return [label.get_text() for label in figure.axes[0].get_xticklabels()]

    assert ticks() == ["erro", "cesta"]
    tumors = {"positive": "malignant", "negative": "benign", "row": "tumor", "rows": "tumors"}
    for module in (static, plot_texts):
        monkeypatch.setattr(module, "current", lambda: default().model_copy(update=tumors))
    assert ticks() == ["benign", "malignant"]


def test_metrics_of_the_monitoring_have_their_names_in_portuguese(whole: ReportContent) -> None:
    section = section_of(rendering.markdown(whole.facts), "9. Monitoramento")
    assert "| erro de calibração |" in section
    assert re.findall(r"\b(?:roc_auc|f1_score|brier|log_loss)\b", section.replace("\\", "")) == []


@pytest.mark.parametrize(
    "path", ["dataset.json", "artifacts/dataset.json", "artifacts/scoring_config.json", "serving_input_example.json"]
)
def test_an_artifact_has_composition_and_purpose(tmp_path: Path, path: str) -> None:
    file = tmp_path / Path(path).name
    file.write_text("{}\n")
    found = artifacts.describe(file, "PreparacaoDados", path)
    assert found.purpose
    assert not found.composition.startswith("1 linha")


def test_no_number_is_typed_in_the_template() -> None:
    sections = ROOT / "monitor" / "reports" / "pipeline" / "sections"
    for section in sorted(sections.glob("*.jinja")):
        text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", section.read_text(encoding="utf-8"), flags=re.DOTALL)
        text = re.sub(r"^## \d+\.", "##", text, flags=re.MULTILINE)
        assert re.findall(r"\d", re.sub(r"\bF1\b|\bSHA-256\b", "", text)) == [], section.name


def test_a_number_that_no_filter_has_formatted_raises(whole: ReportContent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "number", lambda value, digits=4: value)  # noqa: ARG005
    with pytest.raises(TypeError, match="a number formatted by a filter"):
        rendering.markdown(whole.facts)


def test_artifacts_are_described_by_their_bytes(whole: ReportContent, of_main: Path) -> None:
    (file,) = of_main.parent.rglob("artifacts/tables/data_filtered.parquet")
    found = whole.facts.find_table(whole.facts.preparation, "data_filtered")
    assert not isinstance(found, Missing)
    assert (found.size, found.sha256) == (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    assert found.composition == "tabela, 2.000 registros × 7 colunas"
    assert ("shot_distance", "double") in found.columns
    assert found.sha256 in rendering.markdown(whole.facts)


@pytest.mark.usefixtures("store")
def test_a_table_in_parts_is_one_artifact_and_so_is_an_uncopied_table(tmp_path: Path) -> None:
    folder = tmp_path / "big.parquet"
    folder.mkdir()
    for part in range(2):
        pd.DataFrame({"a": [1, 2, 3]}).to_parquet(folder / f"part-{part}.parquet")
    with mlflow.start_run(run_name="PipelineAplicacao") as run:
        mlflow.log_artifact(str(folder), "tables")
        mlflow.set_tags({"table_huge": "/elsewhere/huge.parquet", "sha256_huge": "f" * 64})
    big, huge = artifacts.of_run(current_store(), lineage.read(current_store(), run.info.run_id, "PipelineAplicacao"))
    assert (big.path, big.composition) == ("tables/big.parquet", "tabela, 6 registros × 1 coluna")
    assert (huge.path, huge.size, huge.sha256) == ("huge.parquet", None, "f" * 64)


# Hostile text


@pytest.mark.usefixtures("filled", "undrawn")
def test_hostile_text_of_runs_is_shown_as_text() -> None:
    MlflowClient().set_tag(run_named("Treinamento").info.run_id, "promotion_note", HOSTILE)
    MlflowClient().set_tag(run_named("Monitoramento").info.run_id, "reasons", HOSTILE)
    MlflowClient().set_tag(run_named("PipelineAplicacao").info.run_id, store_tags.PREDICTIONS, "a`|<b>.parquet")
    text, page = written()
    parsed = Page(page)
    assert parsed.text.count(HOSTILE) == 2
    assert "data/processed/a`|<b>.parquet" in parsed.text
    assert "\n<script" not in text
    assert not {"script", "iframe", "object", "link"} & {tag for tag, _ in parsed.tags}
    headings = {f"#{attributes['id']}" for tag, attributes in parsed.tags if tag == "h2"}
    assert {unquote(attributes["href"] or "") for tag, attributes in parsed.tags if tag == "a"} <= headings


@pytest.mark.parametrize(
    "text", [HOSTILE, "1. one", "- dash", "# head", "a\nb", "\\", "==", "&lt;", "![x](y)", "97.1% x"]
)
def test_escaped_text_is_shown_whole_in_a_line_a_list_and_a_cell(text: str) -> None:
    shown = " ".join(text.split())
    for frame in ("{}", "- {}", "| a | b |\n|---|---|\n| {} | c |"):
        page = rendering.html(f"# t\n\n## h\n\n{frame.format(escaped(text))}\n", {})
        assert shown in Page(page.partition("</nav>")[2]).text


# The files


def test_the_page_is_self_contained(page: str) -> None:
    parsed = Page(page)
    sources = [attributes["src"] or "" for tag, attributes in parsed.tags if tag == "img"]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert not re.search(r"(?:src|href|url\()\s*[=]?\s*[\"']?https?:", page)


def test_every_plot_of_the_markdown_exists(whole: ReportContent) -> None:
    named = re.findall(r"\]\(relatorio_figuras/([\w.]+)\)", rendering.markdown(whole.facts))
    assert sorted(named) == sorted(whole.plots)
    assert {"arremessos.png", "drift.png", "atributos.png"} <= set(named)


def test_the_table_of_contents_leads_to_every_section(page: str) -> None:
    parsed = Page(page)
    ids = [attributes.get("id") for tag, attributes in parsed.tags if tag == "h2"]
    links = [unquote(attributes["href"] or "") for tag, attributes in parsed.tags if tag == "a"]
    assert set(links) == {f"#{name}" for name in ids}
    assert len(set(ids)) == len(ids) == 16


def section_of(text: str, heading: str) -> str:
    assert f"\n## {heading}\n" in text
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("question", rubric.QUESTIONS, ids=lambda question: question.text[:40])
def test_every_question_of_the_course_has_its_section(whole: ReportContent, question: rubric.Question) -> None:
    text = rendering.markdown(whole.facts)
    assert question.evidence in section_of(text, question.section)
    assert f"| [{question.section}](#{rendering.anchor(question.section)}) |" in text


def test_the_report_is_in_portuguese(whole: ReportContent) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", "", rendering.markdown(whole.facts), flags=re.DOTALL)
    english = re.findall(
        r".{0,30}\b(?:the|of|is|are|was|with|from|rows?|labels|better|worse|than|threshold|has|have)\b.{0,30}",
        text,
    )
    assert english == []


@pytest.mark.parametrize("shift", [0.0, 20.0])
def test_every_message_of_the_checks_is_known_in_portuguese(shift: float) -> None:
    shots = batch(400)
    monitored = evaluation(shots.assign(shot_distance=shots["shot_distance"] + shift))
    unknown = [
        result.message
        for result in run_checks(monitored, CHECKS).results
        if portuguese.translate(result.message) is None and result.status != CheckStatus.ERROR
    ]
    assert unknown == []


def test_an_unknown_message_is_shown_in_quotes_and_never_half_translated() -> None:
    assert portuguese.reason_of("rows of the moon") == "“rows of the moon” (texto original da execução)"
    assert portuguese.check_message("K107", "the moon is far").startswith("verifica se há registros suficientes")


def test_two_and_three_point_bases_are_described_in_plain_words(whole: ReportContent) -> None:
    metrics = {**whole.facts.own.metrics, "base_dev_three_rate": 0.0, "base_prod_three_rate": 0.989}
    text = changed(whole, own=replace(whole.facts.own, metrics=metrics))
    assert "só tem **arremessos de dois pontos** e a de produção só tem **arremessos de três pontos**" in text
    assert "arremessos de três pontos**" not in rendering.markdown(whole.facts)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.002, 0.001, "está dentro do ruído**, e com este teste"), (-0.004, -0.001, "também é melhor no teste")],
)
def test_the_selection_is_discussed_against_the_other_candidate(
    whole: ReportContent, low: float, high: float, expected: str
) -> None:
    found = {"compared_lr": -0.001, "compared_lr_low": low, "compared_lr_high": high}
    text = changed(whole, own=replace(whole.facts.own, metrics={**whole.facts.own.metrics, **found}))
    discussed = section_of(text, "7. Treinamento").partition("### Qual dos dois modelos")[2]
    assert expected in discussed
    assert "Na validação cruzada, a diferença média de log loss é de" in discussed


def test_metrics_in_which_the_other_candidate_is_better_are_named(whole: ReportContent) -> None:
    found = {"compared_lr": -0.001, "compared_lr_low": -0.002, "compared_lr_high": 0.001}
    better = tuple(
        replace(run, metrics={**run.metrics, "f1_score": 0.9, "roc_auc": 0.9})
        if run.tags.get("model_id") == "lr"
        else run
        for run in whole.facts.candidates
    )
    own = replace(whole.facts.own, metrics={**whole.facts.own.metrics, **found})
    assert "tem F1 e ROC AUC maiores no teste" in changed(whole, own=own, candidates=better)


def test_the_tree_the_coefficients_and_rows_of_the_predictions_are_shown(whole: ReportContent) -> None:
    text = rendering.markdown(whole.facts)
    assert {"arvore.png", "confusao.png", "importancia.png", "mapa_selecionado.png"} <= set(whole.plots)
    assert len(re.findall(r"^\| \w[\w\\]+ \| -?\d,\d{4} \| × \d+,\d{3} \|$", text, flags=re.MULTILINE)) == 6
    rows = text.partition("### Dez registros")[2].partition("\n!")[0]
    assert rows.count("\n| ") == 11


def test_the_cover_names_what_was_given_and_the_parameters_of_what_was_not(whole: ReportContent) -> None:
    cover = Cover(student="Ana D'Ávila | *Lima*", repository="https://github.com/ana/kobe")
    text = changed(whole, cover=cover)
    assert "| Aluno(a) | Ana D'Ávila \\| \\*Lima\\* |" in text
    assert "| Professor(a) | não informado (parâmetro `professor`) |" in text
    assert "[https://github.com/ana/kobe](https://github.com/ana/kobe)" in text


def test_paths_of_the_machine_are_not_in_the_report(whole: ReportContent) -> None:
    main = replace(whole.facts.main, params={"source": "/home/ana/raw/x", "models": "dt"})
    acquisition = replace(whole.facts.acquisition, params={"source": "/home/ana/raw"})
    text = changed(whole, main=main, acquisition=acquisition)
    assert "/home" not in text
    assert "source = `PASTA`" in text


def test_hashes_are_folded_in_the_appendix(whole: ReportContent, page: str) -> None:
    assert page.count("<details><summary>") == 1
    assert not re.search(r"[0-9a-f]{64}", section_of(rendering.markdown(whole.facts), "5. Artefatos"))


def test_synthetic_shots_are_announced_at_the_top(whole: ReportContent) -> None:
    origin = {"data_source": "synthetic", "synthetic": "true"}
    training = replace(whole.facts.training, tags={**whole.facts.training.tags, **origin})
    text = rendering.markdown(replace(whole.facts, training=training))
    assert "> **ATENÇÃO: OS DADOS SÃO SINTÉTICOS.**" in text
    assert "<blockquote>" in rendering.html(text, {})
    assert "SINTÉTICOS" not in rendering.markdown(whole.facts)


# The diagram


def test_mermaid_and_svg_show_the_same_nodes_and_arrows() -> None:
    text, drawn = flow.mermaid(), str(flow.svg())
    boxes = re.findall(r"^    (\w+)\[", text, flags=re.MULTILINE)
    arrows = re.findall(r"^    (\w+) -\.?->(?:\|\".*\"\|)? (\w+)$", text, flags=re.MULTILINE)
    assert boxes == [node.id for node in flow.NODES] == re.findall(r'data-node="(\w+)"', drawn)
    assert arrows == [tuple(found.split()) for found in re.findall(r'data-edge="([\w ]+)"', drawn)]
    assert len(text.splitlines()) == 1 + len(boxes) + len(arrows)
    assert {name for pair in arrows for name in pair} == set(boxes)


def test_the_arrows_of_the_diagram_are_described_in_sentences() -> None:
    description = str(flow.svg()).partition("</desc>")[0]
    assert description.count("De ") == len(flow.EDGES)
    assert "para Registro kobe_shot champion = Production: sim." in description


def test_every_label_of_the_diagram_is_in_quotes_and_holds_none() -> None:
    for line in flow.mermaid().splitlines()[1:]:
        assert line.count('"') in {0, 2}


def test_no_box_of_the_diagram_lies_on_another() -> None:
    places = [(node.column, node.row) for node in flow.NODES]
    assert len(set(places)) == len(places)


# Tools


def test_every_purpose_is_listed_for_every_tool_with_a_file_that_exists(whole: ReportContent) -> None:
    section = section_of(rendering.markdown(whole.facts), "4. Ferramentas")
    purposes = section.split("\n### ")[1:]
    assert len(purposes) == 5
    for purpose in purposes:
        rows = re.findall(r"^- \*\*([\w-]+)\*\* \(`([^`]+)`\): (.+)$", purpose, flags=re.MULTILINE)
        assert [tool for tool, _, _ in rows] == ["MLflow", "PyCaret", "scikit-learn", "Streamlit"]
        assert [file for _, file, _ in rows if not (ROOT / file).is_file()] == []
        assert all(len(text) > 60 for _, _, text in rows)


# Missing and unexpected values


def changed(whole: ReportContent, **runs: Any) -> str:  # noqa: ANN401 as `replace` takes them
    return rendering.markdown(replace(whole.facts, **runs))


def without(run: RunFacts, prefix: str) -> RunFacts:
    return replace(run, metrics={name: value for name, value in run.metrics.items() if not name.startswith(prefix)})


def test_missing_reasons_for_dropped_rows_are_not_shown_as_no_reason(whole: ReportContent) -> None:
    text = changed(whole, preparation=without(whole.facts.preparation, "dropped_dev_missing_"))
    assert "por valores ausentes em: **ausente**: métricas dropped" in text
    assert "por valores ausentes em: nenhuma variável" not in text
    none = {**whole.facts.preparation.metrics, "dropped_dev_missing_shot_made_flag": 0.0}
    assert "por valores ausentes em: nenhuma variável." in changed(
        whole, preparation=replace(whole.facts.preparation, metrics=none)
    )


@pytest.mark.parametrize("name", ["current_roc_auc_low", "current_log_loss_skill_high", "out_of_support_threshold"])
def test_an_unknown_reason_names_the_missing_metric(whole: ReportContent, name: str) -> None:
    text = changed(whole, monitoring=without(whole.facts.monitoring, name))
    reasons = text.partition("As razões, segundo as métricas")[2].partition("**O que mudou")[0]
    assert f"métrica {escaped(name)} da execução Monitoramento" in reasons


@pytest.mark.parametrize(("skill", "explained"), [(-0.028, True), (0.01, False)])
def test_a_lower_log_loss_than_that_of_the_reference_is_no_improvement_below_the_baseline(
    whole: ReportContent, skill: float, *, explained: bool
) -> None:
    found = {"reference_log_loss": 0.67, "current_log_loss": 0.65, "reference_log_loss_skill": 0.03}
    metrics = {**whole.facts.monitoring.metrics, **found, "current_log_loss_skill": skill}
    text = changed(whole, monitoring=replace(whole.facts.monitoring, metrics=metrics))
    assert ("(0,6500 contra 0,6700), **mas isso não é uma melhora.**" in text) == explained


def test_a_missing_value_is_never_bold_twice(whole: ReportContent) -> None:
    for step in ("preparation", "training", "application", "monitoring"):
        run = getattr(whole.facts, step)
        text = changed(whole, **{step: replace(run, metrics={}, tags={}, params={})})
        assert "**ausente**" in text
        assert "****" not in text


def test_a_metric_without_an_interval_is_shown_alone(whole: ReportContent) -> None:
    tree = whole.facts.selected
    metrics = {name: value for name, value in tree.metrics.items() if not name.endswith(("_low", "_high"))}
    alone = tuple(replace(run, metrics=metrics) if run == tree else run for run in whole.facts.candidates)
    text = rendering.markdown(replace(whole.facts, candidates=alone))
    assert f"{formats.number(metrics['log_loss'])} (sem intervalo)" in text


def test_the_estimate_and_its_interval_are_metrics_of_the_run(whole: ReportContent) -> None:
    metrics = {**whole.facts.monitoring.metrics, "estimated_log_loss": 0.4321, "estimated_log_loss_low": 0.4123}
    assert "| 0,4321 (0,4123 a" in changed(whole, monitoring=replace(whole.facts.monitoring, metrics=metrics))


def test_the_drift_plot_shows_the_metrics_of_the_table(whole: ReportContent) -> None:
    metrics = {**whole.facts.monitoring.metrics, "psi_period": 9.0}
    drawn = collect._distances(replace(whole.facts.monitoring, metrics=metrics))  # noqa: SLF001
    assert {"feature": "period", "statistic": "psi", "value": 9.0}.items() <= drawn[6].items()
    assert len(drawn) == 12


@pytest.mark.usefixtures("store")
def test_an_uncopied_table_is_described_at_its_path(tmp_path: Path) -> None:
    large = tmp_path / "data_filtered.parquet"
    pd.DataFrame({"a": [1, 2], "b": [1.0, 2.0]}).to_parquet(large)
    with mlflow.start_run(run_name="PreparacaoDados") as run:
        mlflow.set_tags({"table_data_filtered": str(large), "sha256_data_filtered": "f" * 64})
    preparation = lineage.read(current_store(), run.info.run_id, "PreparacaoDados")
    (found,) = artifacts.of_run(current_store(), preparation)
    assert (found.size, [name for name, _ in found.columns]) == (large.stat().st_size, ["a", "b"])
    large.unlink()
    (found,) = artifacts.of_run(current_store(), preparation)
    assert (found.size, found.columns) == (None, ())
    assert "não existe mais" in found.composition


def test_a_missing_table_is_named_with_its_run(whole: ReportContent) -> None:
    text = rendering.markdown(replace(whole.facts, artifacts=()))
    assert "tabela data\\_filtered da execução PreparacaoDados; para gerar: `mlflow run . -e preparacao" in text


def test_a_version_trained_on_labels_is_not_described_by_the_split(whole: ReportContent) -> None:
    tags = {**whole.facts.trained.tags, store_tags.TRAINING_LABELS: "2706"}
    version, metrics = VersionFacts("2", tags), dict(whole.facts.monitoring.metrics)
    metrics |= {f"reference_{name}": metrics[f"current_{name}"] for name in ("log_loss", "rate")}
    facts = replace(whole.facts, trained=version, applied=version, reproduction="mlflow run . -e retreino")
    text = rendering.markdown(replace(facts, monitoring=replace(facts.monitoring, metrics=metrics)))
    assert "mais 2.706 rótulos da operação" in text
    assert text.count("são **esses mesmos**") == 2
    assert "```sh\nmlflow run . -e retreino\n" in text
    assert "são **esses mesmos**" not in rendering.markdown(facts)


def test_prod_rows_in_training_are_shown_if_the_run_counts_them(whole: ReportContent) -> None:
    counted = replace(whole.facts.application, metrics={**whole.facts.application.metrics, "rows_in_training": 123.0})
    assert "123 com rótulos usados no treino da versão" in changed(whole, application=counted)
    assert "usados no treino da versão" not in rendering.markdown(whole.facts)


def test_an_endpoint_without_a_known_version_is_described(whole: ReportContent) -> None:
    tags = {**whole.facts.application.tags, "model_version": "unknown: no version in the response"}
    text = changed(whole, application=replace(whole.facts.application, tags=tags))
    assert "O modelo de um endpoint que não informa a sua versão gerou predições" in text
    assert "no version in the response" not in text


@pytest.mark.usefixtures("filled", "undrawn")
def test_after_a_rollback_the_champion_and_the_applied_version_are_named(filled: Path) -> None:
    fill(filled)
    registry.roll_back("the model disappoints")
    text, _ = written()
    assert "o campeão atual (versão 1) não é a versão que gerou as predições da produção (2)" in text
    assert "| 1 | 2 | the model disappoints |" in text


@pytest.mark.usefixtures("filled", "undrawn")
def test_a_deleted_registered_model_is_described() -> None:
    MlflowClient().delete_registered_model("kobe_shot")
    text, _ = written()
    assert "tag git\\_commit da versão registrada, que não foi encontrada" in text
    assert "versão ?" not in text


def test_another_registered_model_is_named_everywhere(whole: ReportContent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOBE_SHOT_MODEL", 'guard "1"')
    text = rendering.markdown(replace(whole.facts, model=registry.model()))
    assert 'registro[("Registro guard #quot;1#quot;<br/>' in text
    assert "Registro guard" in Page(str(flow.svg())).text
    assert "kobe_shot" not in text.partition("## 13.")[2]
    assert "KOBE_SHOT_MODEL='guard \"1\"' mlflow run . -e main --env-manager local -P source=auto" in text


def test_a_source_with_a_blank_is_quoted(whole: ReportContent) -> None:
    main = replace(whole.facts.main, params={"source": "'my shots'", "endpoint": "''", "models": "dt"})
    text = changed(whole, main=main)
    assert "mlflow run . -e main --env-manager local -P 'source=my shots' -P models=dt\n" in text


# Runs of one pipeline


def ids(found: Chain) -> list[str]:
    runs = (found.acquisition, found.preparation, found.training, found.application, found.monitoring)
    return [run.run_id for run in runs]


def test_the_runs_of_one_main_belong_together_also_when_another_one_follows(filled: Path) -> None:
    first = run_named("main").info.run_id
    expected = ids(lineage.find_pipeline_runs(current_store(), first))
    second = fill(filled)
    assert ids(lineage.find_pipeline_runs(current_store(), first)) == expected
    assert all(expected)
    assert lineage.find_pipeline_runs(current_store()).main.run_id == second
    assert not set(ids(lineage.find_pipeline_runs(current_store()))) & set(expected)


@pytest.mark.usefixtures("undrawn")
def test_the_trained_and_the_applied_version_are_named_if_they_differ(filled: Path) -> None:
    fill(filled)
    MlflowClient().set_tag(run_named("PipelineAplicacao").info.run_id, "model_version", "1")
    text, _ = written()
    assert "a versão treinada (2) não é a que foi aplicada à produção (1)" in text


@pytest.mark.usefixtures("stepwise")
def test_separate_runs_are_linked_by_digests_and_tags() -> None:
    expected = [run_named(name).info.run_id for name in STEPS]
    for stray in ("PreparacaoDados", "Aquisicao"):
        with mlflow.start_run(run_name=stray, tags={"data_source": "public", "sha256_dataset_kobe_dev": "0" * 64}):
            mlflow.log_params({"sha256_base_train": "0" * 64})
    found = lineage.find_pipeline_runs(current_store())
    assert ids(found) == expected
    assert not found.main
    assert [run.tags["model_id"] for run in found.candidates] == ["prior", "lr", "dt"]
    assert (found.trained.number, found.applied.number, found.champion.number) == ("1", "1", "1")


@pytest.mark.usefixtures("stepwise", "undrawn")
def test_every_deleted_run_is_shown_as_missing() -> None:
    for count, name in enumerate(gone := ["Monitoramento", "Aquisicao", "PreparacaoDados", "PipelineAplicacao"], 1):
        MlflowClient().delete_run(run_named(name).info.run_id)
        text, _ = written()
        for missing in gone[:count]:
            assert f"| {missing} | — | **ausente**; para gerar: `mlflow run . -e" in text
    assert "**ausente**: a execução PipelineAplicacao; para gerar:" in text


@pytest.mark.usefixtures("stepwise")
def test_a_training_of_a_retraining_decision_is_not_that_of_the_pipeline() -> None:
    expected = run_named("Treinamento").info.run_id
    with (
        mlflow.start_run(run_name="Retreino", tags={"data_source": "public"}),
        mlflow.start_run(run_name="Treinamento", nested=True, tags={"data_source": "public"}),
    ):
        pass
    MlflowClient().delete_run(run_named("PipelineAplicacao").info.run_id)
    MlflowClient().delete_registered_model("kobe_shot")
    assert lineage.find_pipeline_runs(current_store()).training.run_id == expected


@pytest.mark.usefixtures("stepwise")
def test_runs_of_another_registered_model_are_ignored() -> None:
    expected = ids(lineage.find_pipeline_runs(current_store()))
    digests = run_named("PreparacaoDados").data.params
    with mlflow.start_run(run_name="PreparacaoDados", tags={**ORIGIN, store_tags.REGISTERED_MODEL: "guard_shot"}):
        mlflow.log_params(digests)
    with mlflow.start_run(
        run_name="Aquisicao", tags=run_named("Aquisicao").data.tags | {store_tags.REGISTERED_MODEL: "guard_shot"}
    ):
        pass
    with mlflow.start_run(
        run_name="PipelineAplicacao", tags={"data_source": "public", store_tags.REGISTERED_MODEL: "guard_shot"}
    ):
        pass
    with mlflow.start_run(run_name="Operacao", tags={**ORIGIN, store_tags.REGISTERED_MODEL: "guard_shot"}):
        pass
    found = lineage.find_pipeline_runs(current_store())
    assert ids(found) == expected
    assert not found.operation


@pytest.mark.usefixtures("filled")
def test_without_batch_scoring_the_main_of_the_training_is_reported() -> None:
    MlflowClient().delete_run(run_named("PipelineAplicacao").info.run_id)
    found = lineage.find_pipeline_runs(current_store())
    assert found.main.run_id == run_named("main").info.run_id
    assert not found.application


@pytest.mark.usefixtures("store")
def test_without_a_training_the_report_names_the_command_to_run() -> None:
    with pytest.raises(lineage.NoTrainingError, match=r"Run the pipeline first: mlflow run \. -e main"):
        lineage.find_pipeline_runs(current_store())


# Retraining


@pytest.mark.usefixtures("filled", "undrawn")
def test_decisions_and_the_last_backtest_are_shown() -> None:
    before, _ = written()
    assert "Nenhuma decisão foi registrada ainda" in before
    log_decision(1, records.RETRAIN, reasons=["2 of 3 windows breach"], trigger="reactive", outcome="promoted")
    log_backtest(backtest_record())
    foreign, _ = written()
    assert "pode ser medido com um backtest" in foreign
    for name, value in ORIGIN.items():
        MlflowClient().set_tag(run_named("Operacao").info.run_id, name, value)
    MlflowClient().log_metric(run_named("Operacao").info.run_id, "log_loss_policy", 0.63399)
    text, _ = written()
    reason = "“2 of 3 windows breach” (texto original da execução)"
    assert f"| 1 | 22/11/2026 10:00 | retreinar | reativa | {reason} | promovido | 1 | — |" in text
    assert "| com o ciclo de retreinamento | 0,6340 |" in text


# Whether the model fits


def monitored(**changes: float) -> RunFacts:
    skill = {"current_log_loss_skill": 0.02, "current_log_loss_skill_low": 0.01, "current_log_loss_skill_high": 0.03}
    auc = {"current_roc_auc": 0.6, "current_roc_auc_low": 0.58, "current_roc_auc_high": 0.62}
    support = {"out_of_support_rate": 0.001, "out_of_support_threshold": 0.003}
    return RunFacts(MONITORING, "1", MONITORING, {**skill, **auc, **support, **changes})


@pytest.mark.parametrize(
    ("changes", "result", "code"),
    [
        ({}, "yes", "skill_better"),
        ({"current_log_loss_skill_low": -0.03, "current_log_loss_skill_high": -0.01}, "no", "skill_worse"),
        ({"current_log_loss_skill_low": -0.01}, "partly", "skill_equal"),
        ({"current_roc_auc_low": 0.48}, "no", "auc_chance"),
        ({"current_roc_auc_low": 0.4, "current_roc_auc_high": 0.45}, "no", "auc_below"),
        ({"out_of_support_rate": 0.97}, "partly", "support_outside"),
        ({"current_roc_auc_low": float("nan")}, "unknown", "auc_unknown"),
    ],
)
def test_the_model_fit_follows_from_the_metrics(changes: dict[str, float], result: str, code: str) -> None:
    found = adherence(monitored(**changes))
    assert found.result == result
    assert code in {reason.code for reason in found.reasons}


def test_without_monitoring_the_model_fit_is_unknown() -> None:
    assert adherence(RunFacts(MONITORING)).result == "unknown"


# Numbers in the Brazilian format


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.67328, "0,6733"),
        (1234.5, "1.234,5000"),
        ("0.2", "0,2000"),
        (float("nan"), "não definida"),
        (-0.00001, "0,0000"),
    ],
)
def test_numbers_have_a_decimal_comma_and_thousands_points(value: float | str, shown: str) -> None:
    assert formats.number(value) == shown


def test_a_missing_tag_or_parameter_is_a_missing_value() -> None:
    assert isinstance(VersionFacts("3").tag("gate"), Missing)
    assert isinstance(RunFacts(MONITORING).param("current"), Missing)
    assert RunFacts(MONITORING, params={"log": ""}).param("log") == ""


# Another dataset


ORDERS = """
[dataset]
name = "orders"
positive = "returned"
negative = "kept"
row = "order"
rows = "orders"
rate = "return rate"

[production]
column = "season"
since = "2026"

[test]
strategy = "group"

[columns.weight]
role = "feature"
kind = "float"
nullable = true

[columns.channel]
role = "feature"
kind = "category"
categories = ["web", "the store"]

[columns.season]
role = "pass_through"
kind = "string"

[columns.customer]
role = "group"
kind = "string"

[columns.returned]
role = "target"
kind = "boolean"
"""


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A dataset without a court whose test is whole groups, as the one of this process."""
    path = tmp_path / "orders.toml"
    path.write_text(ORDERS, encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(path))
    return current()


@pytest.mark.usefixtures("orders")
def test_a_report_of_another_dataset_holds_what_is_true_of_it(whole: ReportContent) -> None:
    own = {**whole.facts.own.metrics, "games": 9.0, "games_on_both_sides": 0.0, "test_rows_in_shared_games": 0.0}
    text = rendering.markdown(replace(whole.facts, own=replace(whole.facts.own, metrics=own)))
    prepared = section_of(text, "6. Preparação dos dados")
    assert "dos registros filtrados, em grupos inteiros" in prepared
    assert "a **divisão por grupo** não põe registros parecidos" in prepared
    assert "folds, por grupo) usa só" in prepared
    assert "**Grupos de um só lado.**" in prepared
    assert "a produção são os registros com `season` a partir de `2026`" in prepared
    assert "(weight pode ser nula)" in prepared
    assert "`data/processed/orders/data_filtered.parquet`" in prepared
    assert "o registro é returned ou kept?" in text
    of_the_brief = (
        r"estratifica(?!da, efeito)|[Ss]eis variáveis|dataset_kobe|shot_type|[Dd]istância|quadra|por arremesso"
    )
    assert re.findall(of_the_brief, text.partition("## Apêndice")[0].partition("## 1. ")[2]) == []
    assert "development.parquet" in str(flow.svg())
    assert "dataset_kobe" not in str(flow.svg())
    assert "novos orders e rótulos" in str(flow.svg())


@pytest.mark.usefixtures("orders")
def test_plots_of_another_dataset_are_in_its_words() -> None:
    axes = Figure().subplots()
    axes.set(title="Orders by feature and class", xlabel="P(returned)", ylabel="kept (12%)")
    plot_texts.localize(axes.figure)
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == (
        "Orders por variável e resultado",
        "P(returned)",
        "kept (12%)",
    )


@pytest.mark.parametrize(
    ("code", "message", "shown"),
    [
        ("K205", "no row has an unknown category", "nenhum registro tem uma categoria desconhecida"),
        (
            "K205",
            "more unknown categories than on the reference: 9 rows have an unknown category of x: 'to'",
            "mais categorias desconhecidas do que na referência: 9 registros têm uma categoria desconhecida de x: 'to'",
        ),
        (
            "K206",
            "2 rows have a null of home town: not significantly more than on the reference",
            "2 registros têm um valor nulo de home town: não significativamente mais do que na referência",
        ),
        (
            "K201",
            "1 of 3 features have drifted, home town most: Jensen-Shannon distance 0.25",
            "1 de 3 variáveis têm drift, a maior é home town: distância de Jensen-Shannon 0,25",
        ),
        ("K202", "P(returned) has not drifted", "P(cesta) não tem drift"),
    ],
)
def test_messages_about_categories_and_nulls_are_in_portuguese(code: str, message: str, shown: str) -> None:
    assert portuguese.check_message(code, message) == shown
    assert code in portuguese.CHECKS


def test_coefficients_and_the_tree_name_categories_and_nulls(orders: Dataset) -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"weight": random.normal(5, 2, 400), "channel": random.choice(["web", "the store"], 400)})
    rows.loc[::9, "weight"] = np.nan
    returned = (rows["channel"] == "web").to_numpy() & (random.random(400) < 0.8)
    inputs = encoder_of(orders).inputs(rows)
    for model_id, estimator in (("lr", LogisticRegression()), ("dt", DecisionTreeClassifier(max_depth=2))):
        model = with_preprocessing(model_id, estimator, Inputs.of(orders)).fit(inputs, returned)
        if model_id == "lr":
            names = [name for name, _ in evidence.coefficients(model, orders)]
            assert set(names) == {"weight", "weight: nulo", "channel: web", "channel: the store"}
            assert names[0].startswith("channel: ")
        else:
            drawn = {text.get_text() for text in figures.tree(model, orders).axes[0].texts}
            assert any(text.startswith("channel: ") for text in drawn)
        shown = figures.importances(model, rows.assign(returned=returned), orders).axes[0]
        assert [label.get_text() for label in shown.get_yticklabels()] == ["weight", "channel"]
