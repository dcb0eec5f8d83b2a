"""Names, prose, templates and screens use the words of MLflow, scikit-learn, Evidently, NannyML and Prometheus.

``python -m tests.test_words [PATH ...]`` lists what is left, with lines.
"""
# ruff: noqa: E501 a line of the table holds the patterns of one entry of the glossary

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pytest

from data.paths import ROOT

EXEMPT = {
    "tests/test_words.py",
    "LICENSE",
    "conda.yaml",
    "docs/openapi.json",
    "requirements.txt",
    "tools/uv.txt",
    "uv.lock",
}
"""This table, and generated files."""

PORTUGUESE = ("README.pt-BR.md", "monitor/reports/pipeline/")
"""Files and folders for readers of Portuguese."""

ALLOWED = re.compile(
    r"""
    application/[\w.+*-]+ | \bevent[ ]loop | \blook(s|ed|ing)?[ -]?(up|like|for)\b | https?://[^\s)]+
    | \bIP(v[46])?[ ]address(es)?\b | \be-?mail[ ]address(es)?\b | ipaddress | \b(client|server)[ _]address\b | (?-i:\bBEGIN\b|\bNOBODY\b) | \bas[ ]nobody\b
    | \bstands?[ ](out|for)\b | mlflow\.pyfunc\.scoring_server | ^\|.*`python[ ]-m[ ].*\|$
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Right uses of words that are otherwise kept out: of other projects, of the network, of SQL."""

ALLOWED_IN: dict[str, str] = {
    "CHANGELOG.md": r"^\|.*\|.*\|$",
    "serving/registry/versions.py": r'^"(taken_back|answers_\w*sha256)"$',
    "tests/serving/registry/test_registry.py": '"taken back"',
    ".streamlit/config.toml": "^address",
    "monitor/store/tags.py": r'^f?"[\w{}]+"$',
    "tests/monitor/health/test_record.py": r'^"(verdict|labelled|fine|finding|realised)"$',
    "monitor/health/record.py": r'^f?"[\w{}]+"$',
    "deploy/compose.yaml": "--server.address",
    "Makefile": "--server.address",
    "docs/retrain.workflow.yml": "cancelled",
    "data/acquisition/provenance.py": r'"address"',
    "data/schema.py": r'^"learned"$',
    "data/nba_charts/column_mapping.py": "Simulated Shot Chart Detail",
    "tests/data/nba_charts/test_chart.py": "Simulated Shot Chart Detail",
}
"""By file: what it may contain that other files may not, such as former names in the changelog, and tags of 0.1.0 where they are read."""

WORDS: dict[str, str] = {
    # How sentences go.
    r"\bof which\b": "two sentences",
    r"\b(nobody|somebody)\b": "who does what",
    r"\b(stands?|stood|standing)\b(?!-)": "is, was, is named",
    r"\bworth\b": "value, performance, or better than",
    r"\d %(?!\w|[-(])": "95%",
    r"\b(artefacts?|colours?|coloured|colouring|behaviours?|favour\w*|neighbour\w*|honour\w*)\b": "American spelling",
    r"\b((un)?labell(ed|ing|er)|modell(ed|ing)|cancell(ed|ing)|travell(ed|ing|ers?)|cent(re|red|res))\b": "American spelling",
    r"\b(normal|real|organ|optim|minim|maxim|standard|summar|general|recogn|serial|initial|categor|visual|final|util)is(e|es|ed|ing|ation)\b": "American spelling: -ize",
    # Monitoring.
    r"\blook(s|ed|ing)?\b": "monitoring run, evaluate, inspect, check",
    r"\bverdicts?\b": "status, or result of the gate",
    r"\b(fine|findings?)\b(?!-)": "passed; failed or warning",
    r"\bin words\b": "summary",
    r"\bbeyond\b": "above, outside, more than",
    r"\b((has|have|had) moved|moved by)\b": "drifted, shifted by",
    r"\bby chance\b": "statistically significant, null threshold",
    r"\bpromised\b": "nominal (rate), guaranteed",
    r"\bestimates? that holds?\b": "interval coverage",
    r"\bis off by\b": "calibration error of",
    r"\bstrange\b": "out of support",
    r"\breali[sz]ed\b": "actual",
    r"\bevenly spread\b": "systematic sample",
    r"(?<!ground )(?<!ground-)\btruth\b": "ground truth",
    r"\b(labels?|truth) (that )?(arrives?|arrived)\b": "delayed labels, label coverage",
    r"\b(is|are|was|were) due\b": "expected",
    r"\b(tells?|told|telling) (\w+ )?apart\b": "domain classifier, discriminate",
    # Checks and pages.
    r"(?-i:\bLabel metrics\b|\bSkill against\b|\bWorth more than\b|\bControl sample\b|\bLabels arrive\b)": "the glossary's name of the check",
    r"(?-i:\bEnough rows\b|\bTraining support\b|\bEstimate without labels\b|\bAge of the model\b|\bVersion (served|that scored)\b)": "the glossary's name of the check",
    r"(?-i:(^#+ |[\"'*|] ?)Without labels\b)": "Estimated performance",
    r"\b(the|this|a) loop\b|(?-i:\bLoop\b)": "continuous training; the page Retraining",
    r"\bsimulators?\b": "Playground",
    r"\b(real against predicted|both candidates|most confident errors)\b|(?-i:\bDensities\b)": "the glossary's heading of the page",
    r"\b(what was checked|alarms over time|what it said|what came of it|only said|not said|i am sure)\b": "the glossary's heading of the page",
    # Metrics.
    r"\b(own rate|class priors?)\b": "base-rate baseline",
    r"\b(than|against|of|as) (a|the|that|every) constant\b": "base-rate baseline",
    r"\bcoin('s)?\b": "chance level",
    r"\b(surprise|nats)\b": "log loss",
    r"\bshares? (that is |that are )?(made|of made)\b": "field-goal percentage, positive rate",
    r"\bsaves? [\d.{}]+ ?%": "skill score of x%",
    r"\bpictures?\b": "plots, figures, images",
    # Training and retraining.
    r"\b(learns|learned|learnt)\b|\blearn(ing)? (from|on)\b": "train on, training rows",
    r"\blessons?\b": "training set",
    r"\b(choose|chooses|choosing|chose|chosen)\b": "select",
    r"\bweigh(s|ed|ing)?\b": "sample weight",
    r"\b(older labels|later rows)\b": "training labels, temporal hold-out",
    r"\bsignals? (fires?|fired|is on)\b": "trigger fires",
    r"\bguards? (holds?|held)\b": "precondition met",
    r"\bwindows? (that )?violat(es?|ed|ing)\b|\bviolating windows?\b": "window breaches",
    r"\brefused challengers?\b|\bchallengers? (is|was|that was|were) refused\b": "rejected",
    r"\b(put|puts|putting|comes?|came|taken?|takes|took|go|goes|went) (it |them |that |this )?back\b": "roll back, restore, revoke",
    r"\breplay(s|ed|ing)?\b": "policy backtest",
    r"\bbeside\b": "next to, versus, with",
    r"\banother one (is )?at it\b": "already running",
    # Serving.
    r"\bdoors?\b": "MLflow server, production server",
    r"\b(asks?|asked|asking)\b": "requests, requires",
    r"\b(answers?|answered|answering)\b": "responds, response, prediction",
    r"\bcallers?\b": "clients",
    r"\bfollows the registry\b": "reloads on promotion",
    r"\b(changes?|changed) over\b|\bin the same moment\b": "switches atomically",
    r"\b(dies|died|dying)\b": "crashes",
    r"\bthat no shot can be\b": "invalid row",
    r"\bto the byte\b": "bit-identical",
    # Data.
    r"\b(an|each|every|last|latest) applications?\b": "batch scoring",
    r"\bbreaks? the schema\b": "violates the schema",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bwhole numbers?\b": "integer",
    r"\b(left|leaves?|leaving|leave) (\w+ )?out\b|\b(kept|keeps|set) (\w+ )?aside\b|\bcarr(y|ies|ied) along\b": "excluded, dropped, passed through",
    r"\binvented\b|\bsimulated (shots?|rows?|data|tables?|files?|seasons?)\b": "synthetic",
    # Engineering.
    r"\bfloors?\b": "layer",
    r"\bhouse\b": "codebase",
    r"\b(part of|import|in) (a )?circles?\b": "circular import",
    r"\b(told|tells?|telling|says?|said|saying)\b": "reports, logs, raises, shows",
    r"(?<!_)\baddress(es)?\b(?!_)": "URL",
    r"\b(begin|begins|began|begun|beginning)\b": "start",
    r"\bmoments?\b": "timestamp, time",
    r"\bspans? of time\b|\ba span\b": "duration",
    r"\bby the clock\b|\bkeeps? the schedule\b": "on a schedule, scheduler is running",
    r"(?-i:\bTwo commands\b|\bYour own shots\b)|^#+ (Figures|Map|Limits)$": "Quick start, Results, Project layout, Bring your own data, Limitations",
}
"""Prose, and names once they are spelled as prose: what to keep out, and what to write instead."""


IN_PAGES: dict[str, str] = {
    r"\bfigures\b": "metrics, results",
    r"\w →": "a sentence",
}
"""What pages and templates keep out as well; in Python a figure is Plotly's."""

EM_PORTUGUES: dict[str, str] = {
    r"\bport(ão|ões)\b": "critério de promoção (quality gate)",
    r"\blaços?\b": "ciclo de retreinamento",
    r"\b(as?|uma|cada|das?) guardas?\b": "pré-condição",
    r"\bsina(l|is)\b": "gatilho",
    r"\balém do acaso\b": "estatisticamente significativo",
    r"\bsuporte do treino\b": "região coberta pelo treino",
    r"\bpontu(ar|a|am|ou|ada|adas|ado|ados)\b": "gerar predições",
    r"\blinhas?\b(?! de (comando|texto))": "registros",
    r"\bconstantes?\b": "baseline (taxa média)",
    r"\bmoedas?\b": "acaso",
    r"\bapren(der|de|deu|deram|dido) com\b": "treinar com",
    r"\boperação repetida\b": "backtest da política",
    r"\b(um|o|cada|último|próximo|novo) olhar\b": "execução de monitoramento",
    r"\bfaltando\b": "ausente",
    r"\bachados?\b": "alerta",
    r"\bem palavras\b": "descrição",
    r"\bfiguras\b": "valores",
    r"\bvoltas? atrás\b": "reversão (rollback)",
    r"\bmais (velh|nov)[oa]s?\b": "mais antigo, mais recente",
    r"\bsabor(es)?\b": "flavor",
    r"\bportas? operadas?\b": "servidor de produção",
    r"\bandares?\b": "camadas",
    r"\bpasseios?\b": "tutorial",
    r"\btoda a vida do modelo\b": "todo o ciclo de vida",
}
"""The same in Portuguese."""

NAMES = dict(
    re.findall(
        r"(\w+)=(\w+)",
        """
    most_rejected=max_rejected_rows most_rows=max_rows most_per_day=max_trainings_per_day most_log_loss=max_log_loss
    least_gain=min_improvement minimum_new_labels=min_new_labels in_flight=concurrency rows_per_request=batch_size
    batch_rows=batch_size window_rows=window_size look_rows=recent_rows label_window=max_labels
    label_test_size=holdout_size split_seeds=n_resplits
    rows_learned=rows_in_training learned_until=labels_until answers_sha256=predictions_sha256 taken_back=revoked
    archived_because=archive_reason requests_lost=requests_failed
    Advance=ProgressCallback is_three=is_three_pointer check_sums=verify_checksums parse_sums=parse_checksums
    check_address=validate_url check_span=validate_duration disk_full_told=translate_disk_full
    sole_writer=writer_lock only_one=single_instance BusyError=AlreadyRunningError check_writable=ensure_writable
    Prepared=PreparationResult checked_path=verified_path hashes_of=file_hashes
    HalfAcquiredError=IncompleteAcquisitionError check_pair=validate_pair check_not_shared=validate_disjoint
    Findings=FailureSummary write_shots=convert_charts LEFT_OUT=EXCLUDED_GAME_TYPES to_shots=map_columns
    game_kind=game_type rows_of=collect_rows class_sizes=test_rows_per_class kind_of=file_format
    check_table=validate_table_path schema_of=arrow_schema Door=ScoringApp Scored=BatchResult
    InProcess=LocalScorer IsLearned=TrainingRowMask too_many=too_many_rejects_error Learned=TrainingLabels
    Counted=ScoreCounts Done=ScoringSummary RefusedError=RejectedRowsError base_address=base_url
    SteadyCaller=LoadProbe better_than=compare Recorder=InferenceLogWriter spool_of=spool_dir
    make_tables=create_tables read_newest=read_latest log_address=log_url Joined=LabelJoinResult
    Standing=AliasState taken_back_on_failure=rollback_on_failure OvertakenError=ConcurrentPromotionError
    store_errors_told=translate_store_errors roll_back_target=rollback_target
    refuse_what_is_no_number=reject_non_numeric Usual=FastPathTable read_usual=parse_fast_path table_of=extract_table
    without_trace=strip_stack_trace served_ranges=feature_constraints served_packages=model_requirements
    ServedVersion=LoadedModel operated_server=run_production_server scoring_server=run_mlflow_server Rhythm=Cadence
    NextLook=NextMonitoringRun in_order=sort_by_time is_learned=is_training_row labels_learned=training_labels
    with_learned=flag_training_rows LEAST_GAIN=MIN_IMPROVEMENT FEWEST_OF_A_RESULT=MIN_ROWS_PER_CLASS
    enough_rows=sample_size scored_by=scoring_version gathered=rebin tell_apart=fit_domain_classifier
    LoggedDecision=DecisionRecord Guard=Precondition Arrived=LabelCounts Tally=ScoreCounts
    TallyBuilder=StreamingCounts by_slice=metrics_by_slice relative_loss=relative_degradation Measured=TestEvaluation
    KnownRun=RunInfo runs_named=find_runs Served=EndpointInfo metrics_of=flatten_metrics model_of=load_model
    shot_from=features_at without_rows=empty_figure make_lesson=build_training_set LoopConfig=RetrainingConfig
    Contender=Challenger common_ground=comparison_rows moment_of=parse_timestamp
    settle_interrupted=resolve_interrupted source_state=git_state Replay=PolicyBacktest
        """,
    )
)
"""Names of 0.1.0 that are gone, and their new ones: no definition has one, and no text if it is of two words."""


class Left(NamedTuple):
    """An old word: where, what, and what to write instead."""

    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        """The word as a line of a list."""
        return f"line {self.line}: {self.found!r}; use: {self.instead}"


@cache
def tracked() -> list[str]:
    """Files of the project that people write."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(file for file in set(files) - EXEMPT if (ROOT / file).is_file())


@cache
def patterns(file: str) -> list[tuple[re.Pattern[str], str]]:
    """What the file keeps out, and what to write instead."""
    in_page = {} if file.endswith(".py") else IN_PAGES
    in_portuguese = EM_PORTUGUES if file.startswith(PORTUGUESE) else {}
    return [(re.compile(word, re.IGNORECASE), use) for word, use in (WORDS | in_page | in_portuguese).items()]


OLD_NAME = re.compile(rf"(?<!\w)(?:{'|'.join(name for name in NAMES if re.search('_|[a-z][A-Z]', name))})(?!\w)")


def spelled(name: str) -> str:
    """A name as prose: ``_NextLook`` is ``Next Look``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+", " ", name).strip()


def definitions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines and names of everything that a module names: functions, classes, parameters, variables, attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Lines of a module's strings and comments."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in {tokenize.STRING, tokenize.COMMENT}:
            yield from enumerate(token.string.splitlines(), token.start[0])


def left_in_text(file: str, text: str) -> Iterator[tuple[str, str]]:
    """Old words of a line, and what to write instead."""
    text = ALLOWED.sub("", text)
    text = re.sub(ALLOWED_IN[file], "", text) if file in ALLOWED_IN else text
    for pattern, use in patterns(file):
        for found in pattern.finditer(text):
            yield found.group(), use
    for found in OLD_NAME.finditer(text):
        yield found.group(), NAMES[found.group()]


def left_in_name(file: str, name: str) -> Iterator[tuple[str, str]]:
    """Old words of a name, and what to write instead."""
    if name in NAMES:
        yield name, NAMES[name]
    elif re.match("_?(MOST|FEWEST|LEAST)_", name):
        yield name, "MAX_, MIN_"
    else:
        yield from ((f"{found} (in {name})", use) for found, use in left_in_text(file, spelled(name)))


def left(file: str, source: str) -> list[Left]:
    """Old words of a file, in the order of its lines; those of its path come as line 0."""
    found = [Left(0, *each) for part in file.split("/") for each in left_in_name(file, part.partition(".")[0])]
    if file.endswith(".py"):
        found += [Left(line, *each) for line, text in prose(source) for each in left_in_text(file, text)]
        for line, name in definitions(ast.parse(source)):
            found += [Left(line, *each) for each in left_in_name(file, name)]
    else:
        for line, text in enumerate(source.splitlines(), 1):
            found += [Left(line, *each) for each in left_in_text(file, text)]
    return sorted(set(found))


def left_in_file(file: str) -> list[Left]:
    try:
        source = (ROOT / file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        source = ""  # of an image only the path is read
    return left(file, source)


@pytest.mark.parametrize("file", tracked())
def test_a_file_has_no_old_word(file: str) -> None:
    found = left_in_file(file)
    assert not found, "\n".join([file, *map(str, found)])


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("steps/treino.py", "def make_lesson() -> None: ..."),
        ("steps/treino.py", "MOST_ROWS = 1"),
        ("steps/treino.py", "class NextLook: ..."),
        ("steps/treino.py", "def run(most_rejected: int) -> None: ..."),
        ("steps/treino.py", "self.verdict = 1"),
        ("steps/treino.py", "print(f'{count} rows beside the others')"),
        ("steps/treino.py", 'def run() -> None:\n    """Tell who asks."""'),
        ("steps/treino.py", "x = 1  # nobody learns from it"),
        ("steps/lesson.py", ""),
        ("monitor/report.html.jinja", "<p>97 % of the rows</p>"),
        ("monitor/report.html.jinja", "<h2>Figures and pictures</h2>"),
        ("docs/serving.md", "Both doors answer."),
        ("docs/serving.md", "`serving.client --in_flight 8`"),
        ("docs/tour.md", "## Two commands"),
        ("Makefile", "serve: env ## Serve what has learned"),
        ("README.pt-BR.md", "Um portão de qualidade."),
    ],
)
def test_an_old_word_that_is_put_back_is_found(file: str, source: str) -> None:
    assert left(file, source)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("steps/treino.py", "def look_up(applications: int) -> None: ..."),
        ("steps/treino.py", "# application/json; see https://example.com/answers for what it looks like"),
        ("steps/treino.py", "figures = [go.Figure()]"),
        ("steps/treino.py", "execute('BEGIN IMMEDIATE')"),
        ("docs/serving.md", "The event loop closes a connection of an IP address that does not send."),
        ("CHANGELOG.md", "| `--most_rejected` | `--max_rejected_rows` |"),
        ("README.md", "Uma guarda."),
        ("README.pt-BR.md", "O disco guarda os arquivos."),
    ],
)
def test_a_right_use_of_a_word_is_left_alone(file: str, source: str) -> None:
    assert not left(file, source)


if __name__ == "__main__":
    for path in tracked():
        if path.startswith(tuple(sys.argv[1:]) or "") and (rest := left_in_file(path)):
            print(path, *rest, sep="\n  ")  # noqa: T201
