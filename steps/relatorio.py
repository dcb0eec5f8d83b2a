"""Entry point ``relatorio``: the report of the whole pipeline, in Brazilian Portuguese, from what its runs hold."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import AfterValidator, Field

from data.cli.console import console, info
from data.cli.progress import progress_bar
from data.datasets import current
from data.datasets.loader import DEFAULT
from data.errors import KobeShotError
from data.preparation.manifest import FILTERED
from data.storage.files import atomic_write, display_path, write_text
from data.storage.output_paths import ensure_writable
from data.storage.tables import TableReader
from monitor.reports import chromium, split_sensitivity
from monitor.reports.games import Games
from monitor.reports.pipeline import collect, rendering, screens, sources
from monitor.reports.pipeline import figures as drawing
from monitor.reports.pipeline.facts import Chain, Cover, Exchange
from monitor.reports.pipeline.lineage import find_pipeline_runs
from monitor.reports.pipeline.sources import Sources
from monitor.store import commands, run_names, tables
from monitor.store import tags as store_tags
from monitor.store.candidates import BASE_RATE, candidate_pipeline
from monitor.store.model_store import ModelStore, current_store
from monitor.store.records import is_synthetic
from serving import registry
from steps.shared.command import StepConfig, run_command
from steps.shared.data_origin import origin_tags, print_synthetic_warning
from steps.shared.tracking import (
    Artifact,
    Metrics,
    Record,
    Tags,
    git_state,
    log_records,
    repository_url,
    step_run,
)
from steps.training.reproduction import reproduction

RUN_NAME = run_names.REPORT
MARKDOWN, HTML, PDF = "relatorio.md", "relatorio.html", "relatorio.pdf"

_FOLDER = "relatorio"
_TABLE = "split_sensitivity.csv"
_SEEDS = 2**32
_MAX_NAME = 200


def check_folder(out: str) -> str:
    """Refuse a path that exists and is not a folder; a ValueError has what was found."""
    if Path(out).exists() and not Path(out).is_dir():
        message = f"expected a folder; found the file {out}"
        raise ValueError(message)
    return out


def check_name(name: str) -> str:
    """Refuse a name that is no line of text; a ValueError has what was found."""
    found = " ".join(name.split())
    if len(found) > _MAX_NAME or not found.isprintable():
        message = f"expected a name of up to {_MAX_NAME} printable characters; found {name[: _MAX_NAME + 1]!r}"
        raise ValueError(message)
    return found


Name = Annotated[str, AfterValidator(check_name)]


class RelatorioConfig(StepConfig):
    """Write relatorio.md and relatorio.html, in Brazilian Portuguese, from the runs of the pipeline."""

    aluno: Name = Field(default="", description="name of the student, for the cover of the report")
    disciplina: Name = Field(default="", description="name of the course, for the cover of the report")
    professor: Name = Field(default="", description="name of the teacher, for the cover of the report")

    n_resplits: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="repeated splits, of each of four kinds, that the models are trained and tested on to measure how "
        "much the metrics depend on the split; 0 does not measure it",
    )
    screenshots: Literal["no", "yes"] = Field(
        default="no",
        description="also take images of the app and of MLflow's pages, request a prediction from a server, and write "
        "relatorio.pdf; images and PDF need Chromium",
    )
    out: Annotated[str, AfterValidator(check_folder)] = Field(
        default="",
        description="folder that the report is written to; empty is the project's, or relatorio_NAME there for another "
        "dataset than kobe",
    )

    @property
    def folder(self) -> Path:
        """The folder of the report: each dataset has its own."""
        name = self.description.name
        return Path(self.out or ("" if name == DEFAULT else f"relatorio_{name}"))

    def check_out(self) -> None:
        """Refuse a folder that is not writable, before anything is done.

        Raises
        ------
        KobeShotError
            If it is not.
        """
        for folder in (self.folder, self.folder / rendering.PLOTS_FOLDER):
            ensure_writable(folder / MARKDOWN)


@dataclass(frozen=True)
class ReportResult:
    """Paths of the report; ``pdf`` is None where none was written."""

    markdown: Path
    html: Path
    pdf: Path | None = None


def run(config: RelatorioConfig) -> ReportResult:
    """Report, in a run of its own: within ``main`` on its other steps, else on the latest pipeline."""
    config.check_out()
    with step_run(RUN_NAME, config) as active:
        registry.report_problems()
        store = current_store()
        chain = find_pipeline_runs(store, store.run(active.info.run_id).parent)
        print_synthetic_warning(synthetic=is_synthetic(chain.training.tags))
        log_records(_origin(chain))
        found = sources.read(store, chain)
        log_records([Metrics(found.measure())])
        studied = _study(chain, found, config.n_resplits)
        drawn = {}
        if studied is not None:
            log_records(_study_records(studied))
            drawn[collect.RESPLITS] = drawing.resplits(studied)
        images: dict[str, bytes] = {}
        exchange: Exchange | None = None
        if config.screenshots == "yes":
            images, exchange = _screens(store, chain, found, active.info.experiment_id)
        command, unknown = _reproduction(chain)
        cover = Cover(config.aluno, config.disciplina, config.professor, repository_url())
        with console.status("writing the report"):
            given = collect.Given(cover, found, drawn, images, exchange, command, unknown)
            content = collect.collect(store, chain, active.info.run_id, given)
            written = _write_files(config.folder, rendering.markdown(content.facts), content.plots)
            if config.screenshots == "yes":
                written = _with_pdf(written)
            log_records(_artifacts(written, content.plots))
        paths = [display_path(path) for path in (written.html, written.markdown, written.pdf) if path]
        info("Report:", f"{', '.join(paths)}; also artifacts of run {RUN_NAME}")
    return written


def _screens(
    store: ModelStore, chain: Chain, found: Sources, experiment_id: str
) -> tuple[dict[str, bytes], Exchange | None]:
    """Images of pages, and a request to the applied version with its response; a tag records what is missing."""
    exchange: Exchange | None = None
    images: dict[str, bytes] = {}
    shot = collect.example(found)
    problems: list[str] = []
    if shot is not None and chain.applied:
        try:
            with console.status("requesting a prediction from a server"):
                exchange = screens.exchange(chain.applied.number, shot)
        except KobeShotError as error:
            problems.append(str(error))
    try:
        with console.status("taking images of the app"):
            images.update(screens.images(store, experiment_id, chain))
    except KobeShotError as error:
        problems.append(str(error))
    if problems:
        info("No image:", "; ".join(problems), style="bold yellow")
        log_records([Tags({"screenshots": "; ".join(problems)})])
    return images, exchange


def _with_pdf(written: ReportResult) -> ReportResult:
    path = written.html.with_suffix(".pdf")
    try:
        with console.status("writing the PDF"):
            content = screens.pdf(written.html)
    except chromium.BrowserError as error:
        # An older PDF would be of another report.
        path.unlink(missing_ok=True)
        info("No PDF:", f"{error}. Print {display_path(written.html)} to PDF in a browser.", style="bold yellow")
        return written
    with atomic_write(path) as partial:
        partial.write_bytes(content)
    return ReportResult(written.markdown, written.html, path)


def _origin(chain: Chain) -> Iterator[Record]:
    yield origin_tags(chain.training.tags)
    yield Tags(git_state())
    runs = {
        run.step: run.run_id
        for run in (chain.acquisition, chain.preparation, chain.training, chain.application, chain.monitoring)
    }
    yield Tags({f"reports_{step}": run_id or "missing" for step, run_id in runs.items()})


def _reproduction(chain: Chain) -> tuple[str, tuple[str, ...]]:
    """The command that reproduces the version, and its missing parameters; empty where that of its ``main`` does."""
    if chain.main and not chain.trained.trained_on_labels:
        return "", ()
    training = chain.training
    tags = {**training.params, **training.tags, **chain.trained.tags}
    found = reproduction(training.run_id, tags, commands.given(training.params))
    return found.command, found.unknown


def _study(chain: Chain, found: Sources, seeds: int) -> pd.DataFrame | None:
    """The models on other splits; None if that is off, or a table or a model is missing, which a tag records."""
    if not seeds:
        return None
    if chain.trained.trained_on_labels:
        reason = "the version was trained on delayed labels too: other splits of the dev rows give another training set"
        _not_measured(reason)
        return None
    dataset = found.dataset or current()
    if dataset.test.strategy == "time":
        _not_measured("the test is the last rows by time, and a split at random is of another kind")
        return None
    try:
        size, seed = float(chain.preparation.params["test_size"]), int(chain.preparation.params["seed"])
        table, games, rows = _split_rows(chain, found)
        models = {
            run.model_id: candidate_pipeline(current_store(), run)
            for run in current_store().candidate_runs(chain.training.run_id)
            if run.model_id != BASE_RATE
        }
        by_group = dataset.test.strategy == "group"
        if by_group and games is None:
            _not_measured("the groups of the training and test rows are not known")
            return None
    except (KobeShotError, KeyError, ValueError) as error:
        _not_measured(f"{type(error).__name__}: {error}")
        return None
    sampled = {"split_sampled": "true"} if rows > len(table) else {}
    log_records([Metrics({"split_rows": float(len(table))}), Tags(sampled)])
    others = [(seed + place) % _SEEDS for place in range(1, seeds + 1)]
    has_games = games is not None
    fits = split_sensitivity.count_fits(size, seeds, len(models), has_games=has_games, by_group=by_group)
    with progress_bar("training on other splits", fits) as advance:
        return split_sensitivity.study(
            table, models, test_size=size, seeds=others, games=games, dataset=dataset, advance=advance
        )


def _split_rows(chain: Chain, found: Sources) -> tuple[pd.DataFrame, Games | None, int]:
    """Rows to split, their games if they are known, and the number of rows that they are a sample of."""
    if found.rows is not None:
        return found.rows, found.games, len(found.rows)
    digest = chain.preparation.params.get(f"sha256_{FILTERED}", "")
    reader = TableReader(
        tables.find_table(current_store(), FILTERED, digest, chain.trained.number),
        [*current().feature_names, current().target.name],
    )
    table = reader.systematic_sample(split_sensitivity.MAX_ROWS)
    return table, None, reader.rows or len(table)


def _not_measured(reason: str) -> None:
    info("Not measured:", f"other splits ({reason})", style="bold yellow")
    log_records([Tags({store_tags.SPLITS_NOT_MEASURED: reason})])


def _study_records(studied: pd.DataFrame) -> Iterator[Record]:
    yield Metrics(split_sensitivity.summary(studied))
    for place, figures in split_sensitivity.series(studied):
        yield Metrics(figures, place)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _TABLE
        studied.to_csv(path, index=False)
        yield Artifact(path)


def _write_files(folder: Path, text: str, plots: dict[str, bytes]) -> ReportResult:
    written = ReportResult(folder / MARKDOWN, folder / HTML)
    folder_of_plots = folder / rendering.PLOTS_FOLDER
    for name, plot in plots.items():
        with atomic_write(folder_of_plots / name) as partial:
            partial.write_bytes(plot)
    for name in collect.PLOT_FILES - set(plots):
        (folder_of_plots / name).unlink(missing_ok=True)
    write_text(text, written.markdown)
    write_text(rendering.html(text, plots), written.html)
    return written


def _artifacts(written: ReportResult, plots: dict[str, bytes]) -> Iterator[Record]:
    yield Artifact(written.markdown, _FOLDER)
    yield Artifact(written.html, _FOLDER)
    if written.pdf:
        yield Artifact(written.pdf, _FOLDER)
    for name in sorted(plots):
        folder = rendering.PLOTS_FOLDER
        yield Artifact(written.markdown.parent / folder / name, f"{_FOLDER}/{folder}")


if __name__ == "__main__":
    run_command(RelatorioConfig, run)
