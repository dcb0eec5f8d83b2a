"""Renders the report: Markdown from one template, and the same Markdown as one self-contained HTML file.

Every value of a template goes through `_format`: text is escaped for Markdown, a missing value is named with the
command that produces it, and a number that no filter has converted to the Brazilian format raises an error.
"""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

from data.schema import FEATURES, TARGET
from monitor.metrics.intervals import CONFIDENCE
from monitor.reports import split_sensitivity
from monitor.reports.pipeline import figures, flow
from monitor.reports.pipeline.artifacts import thousands
from monitor.reports.pipeline.facts import Missing, Number, PipelineFacts, RunFacts, Text, adherence
from monitor.store import commands

PLOTS_FOLDER = "relatorio_figuras"
"""Folder with the plots, next to the Markdown file."""

_FOLDER = Path(__file__).parent
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|$~&])")
_FIRST = re.compile(r"^(\d+)([.)])(?=\s|$)|^([-+=:])")
_HASH = re.compile(r"[0-9a-f]{64}")
_UNITS = ("B", "KiB", "MiB", "GiB")
_KIBI = 1024

_HEALTH = {"healthy": "saudável", "warning": "atenção", "retraining recommended": "retreinamento recomendado"}
_CHECK_STATUSES = {
    "passed": "✓ aprovada",
    "warning": "▲ alerta",
    "failed": "▲ reprovada",
    "error": "✗ erro",
    "skipped": "· não se aplica",
}
_GATES = {"passed": "o modelo foi aprovado", "rejected": "o modelo foi reprovado"}
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
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_format
    )
    environment.filters |= {
        "n": _number,
        "pct": _percent,
        "inteiro": _integer,
        "bytes": _bytes,
        "data": _datetime,
        "codigo": _code,
        "commit": _commit,
        "cru": Markup,
        "comando": _command,
        "dado": _unquoted,
        "forte": _strong,
        "lista": _listed,
        "status": _translated(_HEALTH),
        "situacao": _translated(_CHECK_STATUSES),
        "criterio_de_promocao": _translated(_GATES),
        "origem": _translated(_SOURCES),
    }
    environment.tests["ausente"] = lambda value: isinstance(value, Missing)
    template = environment.from_string((_FOLDER / "relatorio.md.jinja").read_text(encoding="utf-8"))
    return template.render(
        f=facts,
        abrir=_in_fence(commands.app()),
        aderencia=adherence(facts.monitoring),
        reproduzir=_in_fence(facts.reproduction),
        atributos=FEATURES,
        com_intervalo=_with_interval,
        confianca=CONFIDENCE,
        criterio=facts.training.params.get("criterion", "log_loss"),
        divisoes=_splits(facts.preparation),
        decisoes=_DECISIONS,
        mermaid=flow.mermaid(),
        parametros=[(getattr(facts, name), names) for name, names in _PARAMETERS.items()],
        resultados=_OUTCOMES,
        rotulo=TARGET,
        servir=_in_fence(commands.serve()),
        variacao=_variation_in(facts.own),
    )


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
    tokens = parser.parse(text)
    contents: list[tuple[str, str]] = []
    title, first = "", len(tokens)
    for place, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        heading = tokens[place + 1].content
        if token.tag == "h1":
            title = heading
        if token.tag == "h2":
            first = min(first, place)
            contents.append((f"s{len(contents)}", heading))
            token.attrSet("id", contents[-1][0])
    head, body = (renderer.render(part, parser.options, {}) for part in (tokens[:first], tokens[first:]))
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (_FOLDER / "relatorio.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(title=title, head=Markup(head), body=Markup(body), contents=contents)  # noqa: S704 markdown-it has escaped it


def escaped(text: str) -> Markup:
    r"""Escape a text for Markdown, for a line and for a cell of a table.

    Examples
    --------
    >>> print(escaped("a | b\n<script>"))
    a \| b \<script\>
    """
    line = _SPECIAL.sub(r"\\\1", re.sub(r"\s+", " ", text))
    return Markup(_FIRST.sub(lambda found: f"{found[1]}\\{found[2]}" if found[1] else f"\\{found[3]}", line))  # noqa: S704


def _format(value: object) -> Markup:
    if isinstance(value, Missing):
        what = escaped(" ".join(filter(None, [value.what, value.holder])))
        return Markup(f"**ausente**: {what}; para gerar: {_code(value.command)}")  # noqa: S704
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, jinja2.Undefined):
        return Markup(str(value))  # noqa: S704 it raises
    message = f"expected text, or a number formatted by a filter; found {value!r} of type {type(value).__name__}"
    raise TypeError(message)


def _strong(value: Text) -> Markup:
    """Format a text in bold, unless a part of it is bold already, as a missing value is."""
    text = _format(value)
    return text if "**" in text else Markup(f"**{text}**")  # noqa: S704 it is escaped


def _brazilian(text: str) -> str:
    return text.translate(str.maketrans(",.", ".,"))


def _decimal(value: Number | str | None, form: str, scale: float = 1.0, unit: str = "") -> Markup:
    if isinstance(value, Missing):
        return _format(value)
    if isinstance(value, str):
        try:
            return _decimal(float(value), form, scale, unit)
        except ValueError:
            return escaped(value)
    if value is None or math.isnan(value):
        return Markup("não definida")
    text = f"{value * scale:{form}}"
    # A small negative number that is rounded to zero has no sign.
    text = text.removeprefix("-") if not any(digit in text for digit in "123456789") else text
    return Markup(_brazilian(text) + unit)  # noqa: S704 digits


def _number(value: Number | str | None, digits: int = 4) -> Markup:
    return _decimal(value, f",.{digits}f")


def _percent(value: Number | str | None, digits: int = 1) -> Markup:
    return _decimal(value, f",.{digits}f", 100, "%")


def _integer(value: Number | str | None) -> Markup:
    return _decimal(value, ",.0f")


def _bytes(size: int | None) -> Markup:
    if size is None:
        return Markup("—")
    amount, unit = float(size), 0
    while amount >= _KIBI and unit < len(_UNITS) - 1:
        amount, unit = amount / _KIBI, unit + 1
    return Markup(f"{thousands(size)} B" if unit == 0 else f"{_brazilian(f'{amount:,.1f}')} {_UNITS[unit]}")  # noqa: S704


def _datetime(value: datetime) -> Markup:
    return Markup(f"{value:%d/%m/%Y %H:%M}")  # noqa: S704


def _code(text: Text) -> Markup:
    if isinstance(text, Missing):
        return _format(text)
    if not text or set(text) & set("`|\n\r$\\"):
        return escaped(text) or Markup("(vazio)")
    return Markup(f"`{text}`")  # noqa: S704 nothing in it ends the code


def _commit(commit: Text) -> Markup:
    return Markup("desconhecido (a pasta não era um repositório git)") if commit == "unknown" else _code(commit)


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
        return Markup(f"{_number(value, digits)} (sem intervalo)")  # noqa: S704
    low, high = (_number(end, digits) for end in ends)
    return Markup(f"{_number(value, digits)} ({low} a {high})")  # noqa: S704


def _listed(names: Text) -> str | Missing:
    return names if isinstance(names, Missing) else ", ".join(names.split(","))


def _translated(translations: Mapping[str, str]) -> Any:  # noqa: ANN401 a filter
    def translate(value: Text) -> str | Missing | Markup:
        if isinstance(value, Missing) or value not in translations:
            return value
        return Markup(translations[value])  # noqa: S704 ours

    return translate


def _splits(preparation: RunFacts) -> list[dict[str, object]]:
    size = preparation.params.get("test_size")
    return (
        [{"scheme": each, "label": figures.SPLITS[each.name]} for each in split_sensitivity.split_schemes(float(size))]
        if size
        else []
    )


def _variation_in(own: RunFacts) -> Any:  # noqa: ANN401 a function of the template
    def variation(split: str, model: str, measure: str) -> Markup:
        mean, deviation, low, high = (
            own.metric(split_sensitivity.metric_name(split, model, measure, name))
            for name in split_sensitivity.STATISTICS
        )
        if isinstance(deviation, Missing) and low == mean == high:
            # A single split has no standard deviation.
            return _number(mean)
        return Markup(f"{_number(mean)} ± {_number(deviation)} ({_number(low)} a {_number(high)})")  # noqa: S704

    return variation
