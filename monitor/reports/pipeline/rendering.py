"""Renders the report: Markdown from its sections, and the same Markdown as one self-contained HTML file.

Every value of a template goes through `_format`: text is escaped for Markdown, a missing value is named with the
command that produces it, and a number that no filter has converted to the Brazilian format raises an error.
"""

import base64
import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

from data.datasets import Dataset, Rows, current, default, processed_folder, raw_folder, worded_in_portuguese
from data.datasets.loader import DEFAULT
from data.paths import ROOT
from monitor import portuguese
from monitor.metrics.intervals import CONFIDENCE
from monitor.reports import split_sensitivity
from monitor.reports.pipeline import discussion, figures, flow, formats, rubric
from monitor.reports.pipeline.facts import ArtifactFacts, Missing, Number, PipelineFacts, RunFacts, Text, adherence
from monitor.reports.pipeline.screens import APP, REGISTRY, RUNS
from monitor.reports.pipeline.sources import MAX_ROWS
from monitor.store import commands
from monitor.store import tags as store_tags

PLOTS_FOLDER = "relatorio_figuras"
"""Folder with the plots, next to the Markdown file."""

APP_PAGES = dict(
    zip(
        APP,
        (
            ("Painel: hoje", "O status do modelo, a sua causa, o que a política vai fazer e a log loss no tempo."),
            ("Painel: quadra", "Os arremessos por lugar, com filtros, e a tabela por zona."),
            ("Painel: por quê", "Cada verificação com o seu resultado e a sua evidência, e o histórico de alertas."),
            ("Painel: campeões", "As decisões de retreinamento, com gatilhos, pré-condições e janelas, e as versões."),
            ("Painel: sistema", "A versão servida, o servidor, as execuções e o log de inferências."),
        ),
        strict=True,
    )
)  # fmt: skip
MLFLOW_PAGES = {
    RUNS: ("Execuções no MLflow", "As execuções da interface do MLflow, com as métricas de teste e de produção."),
    REGISTRY: (
        "Versão registrada no MLflow",
        "A versão no registro, com o alias, o estágio e o model card.",
    ),
}
"""Caption of each image of a page, and what the page shows."""

_FOLDER = Path(__file__).parent
_MAX_COEFFICIENTS = 25
_HASH = re.compile(r"[0-9a-f]{64}")
_DETAILS = re.compile(r"<details><summary>[\w .,-]*</summary>|</details>")
_URL = re.compile(r"https://[\w.-]+(?::\d+)?/[\w./~-]+")
_PATH = re.compile(r"(?<![\w.:/-])(?:/[^\s/'\"]+){2,}/?")

_GROUPS = {"png": "gráficos", "py": "arquivos de código do modelo servido"}
"""Files of a run that are one row of the table of artifacts, by suffix."""
_HEALTH = {"healthy": "saudável", "warning": "atenção", "retraining recommended": "retreinamento recomendado"}
_CHECK_STATUSES = {
    "passed": "✓ aprovada",
    "warning": "▲ alerta",
    "failed": "▲ reprovada",
    "error": "✗ erro",
    "skipped": "· não se aplica",
}
_GATES = {
    "passed": "o modelo foi aprovado",
    "rejected": "o modelo foi reprovado",
    "awaiting approval": "o modelo passou e aguarda a aprovação de uma pessoa",
}
_SOURCES = {
    "public": "públicos (arremessos reais)",
    "synthetic": "**SINTÉTICOS (simulados)**",
    "folder": "arquivos de uma pasta",
    "table": "uma tabela do usuário",
    "url": "uma URL",
}
_DECISIONS = {"retrain": "retreinar", "no action": "nenhuma ação"}
_OUTCOMES = {
    "pending": "em andamento",
    "awaiting approval": "aguarda a aprovação de uma pessoa",
    "promoted": "promovido",
    "rejected": "não promovido",
    "interrupted": "interrompido",
    "failed": "falhou",
    "no action": "nenhuma ação",
    "nothing to do": "nenhuma ação",
}
_PARAMETERS = {
    "acquisition": ("source", "synthetic_rows", "synthetic_seed"),
    "preparation": ("test_size", "seed", "engine"),
    "training": ("models", "cv_folds", "n_iter", "session_id", "criterion"),
    "application": ("mode", "engine", "endpoint"),
    "monitoring": ("current", "reference"),
    "own": ("n_resplits",),
}


def markdown(facts: PipelineFacts) -> str:
    """Render the report as Markdown; its plots are files in the folder ``PLOTS_FOLDER``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "sections"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=formats.formatted,
    )
    environment.filters |= {
        "n": formats.number,
        "pct": formats.percent,
        "inteiro": formats.integer,
        "bytes": formats.size,
        "data": formats.timestamp,
        "codigo": formats.code,
        "commit": formats.commit,
        "cru": Markup,
        "comando": _command,
        "dado": _unquoted,
        "forte": formats.strong,
        "lista": _listed,
        "status": _translated(_HEALTH),
        "situacao": _translated(_CHECK_STATUSES),
        "criterio_de_promocao": _translated(_GATES),
        "origem": _translated(_SOURCES),
        "celula": _cell,
        "endereco": _link,
        "exp": math.exp,
        "informado": _given,
        "modelo": _model,
        "mensagem": lambda check: portuguese.check_message(check["code"], check["message"]),
        "nome_do_gatilho": portuguese.trigger_name,
        "razao": _reason,
        "secao": _section,
        "sem_caminho": _without_path,
        "verificacao": lambda check: portuguese.check_title(check["code"], check["title"]),
    }
    environment.tests["ausente"] = lambda value: isinstance(value, Missing)
    exchange = facts.exchange
    text = environment.get_template("relatorio.md.jinja").render(
        f=facts,
        abrir=_in_fence(commands.app()),
        aderencia=adherence(facts.monitoring),
        artefatos=_grouped,
        dois_e_tres=discussion.is_two_and_three(facts.own),
        jogos_e_tempo=discussion.other_splits(facts),
        outros=discussion.other_candidates(facts),
        paginas=APP_PAGES,
        perguntas=rubric.QUESTIONS,
        requisitar=_in_fence(_curl(exchange.request)) if exchange else "",
        telas_do_mlflow=MLFLOW_PAGES,
        reproduzir=_in_fence(facts.reproduction),
        atributos=current().feature_names,
        com_intervalo=_with_interval,
        confianca=CONFIDENCE,
        criterio=facts.training.params.get("criterion", "log_loss"),
        amostra=MAX_ROWS,
        divisoes=_splits(facts.preparation, facts.own),
        decisoes=_DECISIONS,
        mermaid=flow.mermaid(),
        metricas=portuguese.METRICS,
        parametros=[(getattr(facts, name), names) for name, names in _PARAMETERS.items()],
        resultados=_OUTCOMES,
        rotulo=current().target.name,
        brutos=[Path(name).stem for name in current().raw_tables],
        categorias=[column.name for column in current().categorical],
        tem_quadra=current().court is not None,
        **_words(current()),
        titulo=_title(current()),
        servir=_in_fence(commands.serve()),
        variacao=_variation_in(facts.own),
    )
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    return text if current().rows == default().rows else worded_in_portuguese(text)


def _words(dataset: Dataset) -> dict[str, object]:
    """The words and facts of the sections that are of this dataset only."""
    has_court = dataset.court is not None
    return {
        "e_o_enunciado": dataset.name == DEFAULT,
        "divisao_do_teste": dataset.test.strategy,
        "tem_grupos": dataset.group is not None,
        "grupo": "jogo" if has_court else "grupo",
        "grupos": "jogos" if has_court else "grupos",
        "tem_distancia": dataset.court is not None and dataset.court.distance in dataset.feature_names,
        "positivo": "cesta" if dataset.rows == default().rows else dataset.positive,
        "negativo": "erro" if dataset.rows == default().rows else dataset.negative,
        "opcionais": [column.name for column in dataset.features if column.nullable],
        "partes": _parts(dataset),
        "pasta_bruta": raw_folder().relative_to(ROOT).as_posix(),
        "pasta_preparada": processed_folder().relative_to(ROOT).as_posix(),
        "max_coeficientes": _MAX_COEFFICIENTS,
    }


def _parts(dataset: Dataset) -> Markup:
    """Which rows are production, and which are development."""
    for part, names in (
        (dataset.production, ("a produção", "o desenvolvimento")),
        (dataset.development, ("o desenvolvimento", "a produção")),
    ):
        if part.column:
            return Markup(f"{names[0]} são os registros com {_selection(part)}; {names[1]} são os outros")  # noqa: S704 escaped
    share = formats.percent(dataset.production.share or 0.2, 0)
    which = f"os {share} mais recentes dos registros" if dataset.time else f"{share} dos registros, sorteados"
    return Markup(f"a produção são {which}; o desenvolvimento são os outros")  # noqa: S704 digits


def _selection(rows: Rows) -> Markup:
    texts = [Markup(" ou ").join(formats.code(str(value)) for value in rows.values)] if rows.values else []
    for words, end in (("a partir de", rows.since), ("antes de", rows.until)):
        if end is not None:
            texts.append(Markup("{} {}").format(words, formats.code(str(end))))
    return formats.code(rows.column) + " " + Markup(", ").join(texts)


def _title(dataset: Dataset) -> str:
    return "Kobe Bryant: o arremesso entra?" if dataset.title == default().title else f"{dataset.title}."


def html(text: str, plots: Mapping[str, bytes]) -> str:
    """Convert the Markdown of `markdown` to one HTML file with its plots and its diagram.

    Parameters
    ----------
    text : str
        Markdown; HTML in it is shown as text.
    plots : mapping of str to bytes
        PNG by the name of its file.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    renderer = parser.renderer
    assert isinstance(renderer, RendererHTML)  # noqa: S101 the only kind that MarkdownIt has
    rules: Any = renderer.rules
    fence, plain_image = rules["fence"], rules["image"]

    def drawn_fence(tokens: Sequence[Token], place: int, *rest: Any) -> str:  # noqa: ANN401 markdown-it's own
        return str(flow.svg()) if tokens[place].info.strip() == "mermaid" else str(fence(tokens, place, *rest))

    def image(tokens: Sequence[Token], place: int, *rest: Any) -> str:  # noqa: ANN401
        name = str(tokens[place].attrGet("src")).rpartition("/")[2]
        if name not in plots:
            return str(plain_image(tokens, place, *rest))
        data = base64.b64encode(plots[name]).decode()
        return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(tokens[place].content, data)

    def code(tokens: Sequence[Token], place: int, *_: Any) -> str:  # noqa: ANN401
        kind = Markup(' class="hash"') if _HASH.fullmatch(tokens[place].content) else ""
        return Markup("<code{}>{}</code>").format(kind, tokens[place].content)

    rules["fence"], rules["image"], rules["code_inline"] = drawn_fence, image, code
    rules["table_open"] = lambda *_: '<div class="table"><table>'
    rules["table_close"] = lambda *_: "</table></div>"
    tokens = list(_folded(parser.parse(text)))
    contents: list[tuple[str, str]] = []
    title, first = "", len(tokens)
    for place, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        # Without the backslashes of Markdown.
        heading = "".join(child.content for child in tokens[place + 1].children or [])
        if token.tag == "h1":
            title = heading
        if token.tag == "h2":
            first = min(first, place)
            contents.append((anchor(heading), heading))
            token.attrSet("id", contents[-1][0])
    head, body = (renderer.render(part, parser.options, {}) for part in (tokens[:first], tokens[first:]))
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (_FOLDER / "relatorio.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(title=title, head=Markup(head), body=Markup(body), contents=contents)  # noqa: S704 markdown-it has escaped it


def anchor(heading: str) -> str:
    """Name of a heading in links, as GitHub has it.

    Examples
    --------
    >>> anchor("6. Preparação dos dados")
    '6-preparação-dos-dados'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _folded(tokens: Sequence[Token]) -> Iterator[Token]:
    """Let the lines of `_DETAILS` through as HTML; text from runs never is one, because it is escaped."""
    for place, token in enumerate(tokens):
        line = tokens[place + 1].content if token.type == "paragraph_open" else ""
        if _DETAILS.fullmatch(line):
            yield Token("html_block", "", 0, content=f"{line}\n")
        elif not (
            (token.type == "inline" and _DETAILS.fullmatch(token.content))
            or (token.type == "paragraph_close" and _DETAILS.fullmatch(tokens[place - 1].content))
        ):
            yield token


def _command(entry_point: str, params: Mapping[str, str] | None = None) -> Markup:
    return _in_fence(commands.command(entry_point, commands.given(params or {})))


def _unquoted(value: Text) -> Text:
    return value if isinstance(value, Missing) else commands.unquoted(value)


def _in_fence(line: str) -> Markup:
    """Format a command as one line of a code fence, which only a line of its own can end."""
    return Markup(" ".join(line.splitlines()))  # noqa: S704


def _with_interval(run: RunFacts, name: str, value: Number | None = None, digits: int = 4) -> Markup:
    """Format a metric with the interval that a run holds; `value` replaces the metric of the run."""
    value = run.metric(name) if value is None else value
    ends = [run.metric(f"{name}{end}") for end in ("_low", "_high")]
    if not isinstance(value, Missing) and all(isinstance(end, Missing) for end in ends):
        # Some metrics have no interval, and with many rows a training computes none.
        return Markup(f"{formats.number(value, digits)} (sem intervalo)")  # noqa: S704
    low, high = (formats.number(end, digits) for end in ends)
    return Markup(f"{formats.number(value, digits)} ({low} a {high})")  # noqa: S704


def _listed(names: Text) -> str | Missing:
    return names if isinstance(names, Missing) else ", ".join(names.split(","))


def _translated(translations: Mapping[str, str]) -> Any:  # noqa: ANN401 a filter
    def translate(value: Text) -> str | Missing | Markup:
        if isinstance(value, Missing) or value not in translations:
            return value
        return Markup(translations[value])  # noqa: S704 ours

    return translate


def _splits(preparation: RunFacts, own: RunFacts) -> list[dict[str, object]]:
    size = preparation.params.get("test_size")
    if not size:
        return []
    has_games, by_group = bool(own.metrics_like("resplit_time_")), current().test.strategy == "group"
    schemes = split_sensitivity.split_schemes(float(size), has_games=has_games, by_group=by_group)
    return [{"scheme": each, "label": figures.split_label(each.name)} for each in schemes]


def _reason(text: Text) -> Text:
    return text if isinstance(text, Missing) else portuguese.reason_of(text)


def _model(run: RunFacts) -> str:
    return portuguese.model_name(run.tags.get(store_tags.MODEL_ID, ""), run.name)


def _given(value: str, parameter: str) -> Markup:
    return formats.escaped(value) if value else Markup(f"não informado (parâmetro `{parameter}`)")  # noqa: S704 ours


def _link(url: str) -> Markup:
    """Format the URL of the repository as a link, if it is one."""
    if _URL.fullmatch(url):
        return Markup(f"[{url}]({url})")  # noqa: S704 nothing in it ends the link
    return formats.escaped(url) if url else Markup("sem endereço remoto (`git remote add origin URL`)")


def _section(heading: str) -> Markup:
    return Markup(f"[{heading}](#{anchor(heading)})")  # noqa: S704 ours


def _without_path(line: Text) -> Text:
    """Replace the paths of this machine in a command or a parameter by PASTA."""
    if isinstance(line, Missing):
        return line
    found = _PATH.sub("PASTA", line)
    return Markup(found) if isinstance(line, Markup) else found  # noqa: S704 it was escaped


def _cell(value: object, name: str) -> Markup:
    """Format a value of the table of predictions."""
    if isinstance(value, datetime | date):
        return Markup(f"{value:%d/%m/%Y}")  # noqa: S704
    if isinstance(value, str):
        return formats.escaped(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Markup("—")
    number = float(str(value))
    if name == current().id.name:
        return Markup(f"{number:.0f}")  # noqa: S704
    return formats.integer(number) if number.is_integer() else formats.number(number)


def _curl(body: str) -> str:
    url = "http://127.0.0.1:5000/invocations"
    return f"curl {url} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(json.loads(body)))}"


def _grouped(found: Sequence[ArtifactFacts]) -> Iterator[ArtifactFacts]:
    """One row per artifact; the plots of a run are one, and so is the code of a version."""

    def kind(each: ArtifactFacts) -> tuple[str, str]:
        suffix = each.path.rpartition(".")[2]
        return each.run, suffix if suffix in _GROUPS else each.path

    places: dict[tuple[str, str], int] = {}
    for each in found:
        places.setdefault(kind(each), len(places))
    for (run, suffix), rows in groupby(sorted(found, key=lambda each: places[kind(each)]), key=kind):
        group = list(rows)
        if group[1:]:
            folder = group[0].path.rpartition("/")[0]
            files = (each.path.rpartition("/")[2].removesuffix(f".{suffix}") for each in group)
            names = ", ".join(name for name in files if name != "__init__")
            size = sum(each.size or 0 for each in group)
            path = f"{folder}/*.{suffix}" if suffix == "png" else f"*.{suffix}"
            composition = f"{len(group)} {_GROUPS[suffix]}: {names}"
            yield ArtifactFacts(run, path, composition, size, "", purpose=group[0].purpose)
        else:
            yield from group


def _variation_in(own: RunFacts) -> Any:  # noqa: ANN401 a function of the template
    def variation(split: str, model: str, measure: str) -> Markup:
        mean, deviation, low, high = (
            own.metric(split_sensitivity.metric_name(split, model, measure, name))
            for name in split_sensitivity.STATISTICS
        )
        if isinstance(deviation, Missing) and low == mean == high:
            # A single split has no standard deviation.
            return formats.number(mean)
        return Markup(  # noqa: S704 digits
            f"{formats.number(mean)} ± {formats.number(deviation)} ({formats.number(low)} a {formats.number(high)})"
        )

    return variation
