"""The report as text: Markdown from one template, and the same Markdown as an HTML file that needs nothing else.

What a template shows goes through `_shown`: words are escaped for Markdown, what is missing is said to be, and a number
that no filter has put into the Brazilian form is refused.
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
from monitor.reports.pipeline.facts import Figure, Missing, PipelineFacts, RunFacts, Words, adherence
from monitor.reports.pipeline.tool_matrix import PLACES
from monitor.store import commands

PICTURES = "relatorio_figuras"
"""Folder beside the Markdown that holds its pictures."""

_FOLDER = Path(__file__).parent
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|$~&])")
_FIRST = re.compile(r"^(\d+)([.)])(?=\s|$)|^([-+=:])")
_HASH = re.compile(r"[0-9a-f]{64}")
_UNITS = ("B", "KiB", "MiB", "GiB")
_KIBI = 1024

_VERDICTS = {"healthy": "saudável", "warning": "atenção", "retraining recommended": "retreinar"}
_STATUSES = {
    "passed": "✓ em ordem",
    "warning": "▲ alerta",
    "failed": "▲ reprovado",
    "error": "✗ erro",
    "skipped": "· não se aplica",
}
_GATES = {"passed": "passou", "refused": "foi recusado"}
_SOURCES = {
    "public": "públicos (arremessos reais)",
    "synthetic": "**SINTÉTICOS (simulados)**",
    "folder": "arquivos de uma pasta",
    "table": "uma tabela dada",
    "url": "um endereço dado",
    "address": "um endereço dado",
}
_OUTCOMES = {
    "pending": "em curso",
    "promoted": "promovido",
    "rejected": "recusado",
    "interrupted": "interrompido",
    "failed": "falhou",
    "nothing to do": "nada a fazer",
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
    """The report as Markdown; its pictures are files in the folder ``PICTURES``."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.filters |= {
        "n": _number,
        "pct": _percent,
        "inteiro": _whole,
        "bytes": _bytes,
        "data": _moment,
        "codigo": _code,
        "commit": _commit,
        "cru": Markup,
        "comando": _command,
        "dado": _given,
        "forte": _strong,
        "lista": _listed,
        "veredito": _translated(_VERDICTS),
        "situacao": _translated(_STATUSES),
        "portao": _translated(_GATES),
        "origem": _translated(_SOURCES),
    }
    environment.tests["faltando"] = lambda value: isinstance(value, Missing)
    template = environment.from_string((_FOLDER / "relatorio.md.jinja").read_text(encoding="utf-8"))
    return template.render(
        f=facts,
        abrir=_in_fence(commands.app()),
        aderencia=adherence(facts.monitoring),
        de_novo=_in_fence(facts.again),
        atributos=FEATURES,
        com_intervalo=_with_interval,
        confianca=CONFIDENCE,
        criterio=facts.training.params.get("criterion", "log_loss"),
        divisoes=_splits(facts.preparation),
        espalhada=_spread_of(facts.own),
        fins=_OUTCOMES,
        mermaid=flow.mermaid(),
        parametros=[(getattr(facts, name), names) for name, names in _PARAMETERS.items()],
        places=PLACES,
        rotulo=TARGET,
        servir=_in_fence(commands.serve()),
    )


def html(text: str, pictures: Mapping[str, bytes]) -> str:
    """The Markdown of `markdown` as one HTML file, pictures and diagram in it.

    Parameters
    ----------
    text : str
        HTML in it is shown as text.
    pictures : mapping of str to bytes
        PNG by the name of its file.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    renderer = parser.renderer
    assert isinstance(renderer, RendererHTML)  # noqa: S101 the only kind that MarkdownIt makes
    rules: Any = renderer.rules
    fence, plain_image = rules["fence"], rules["image"]

    def drawn_fence(tokens: Sequence[Token], place: int, *rest: Any) -> str:  # noqa: ANN401 markdown-it's own
        return str(flow.svg()) if tokens[place].info.strip() == "mermaid" else str(fence(tokens, place, *rest))

    def image(tokens: Sequence[Token], place: int, *rest: Any) -> str:  # noqa: ANN401
        name = str(tokens[place].attrGet("src")).rpartition("/")[2]
        if name not in pictures:
            return str(plain_image(tokens, place, *rest))
        data = base64.b64encode(pictures[name]).decode()
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
        words = tokens[place + 1].content
        if token.tag == "h1":
            title = words
        if token.tag == "h2":
            first = min(first, place)
            contents.append((f"s{len(contents)}", words))
            token.attrSet("id", contents[-1][0])
    head, body = (renderer.render(part, parser.options, {}) for part in (tokens[:first], tokens[first:]))
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (_FOLDER / "relatorio.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(title=title, head=Markup(head), body=Markup(body), contents=contents)  # noqa: S704 markdown-it has escaped it


def escaped(text: str) -> Markup:
    r"""Words as Markdown that shows them as they are, in a line and in a cell of a table.

    Examples
    --------
    >>> print(escaped("a | b\n<script>"))
    a \| b \<script\>
    """
    line = _SPECIAL.sub(r"\\\1", re.sub(r"\s+", " ", text))
    return Markup(_FIRST.sub(lambda found: f"{found[1]}\\{found[2]}" if found[1] else f"\\{found[3]}", line))  # noqa: S704


def _shown(value: object) -> Markup:
    if isinstance(value, Missing):
        what = escaped(" ".join(filter(None, [value.what, value.holder])))
        return Markup(f"**faltando**: {what}; produz: {_code(value.command)}")  # noqa: S704
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, jinja2.Undefined):
        return Markup(str(value))  # noqa: S704 it raises
    message = f"expected words, or a figure that a filter has written; found {value!r} of type {type(value).__name__}"
    raise TypeError(message)


def _strong(value: Words) -> Markup:
    """Words in bold, unless something in them is, such as that it is missing."""
    shown = _shown(value)
    return shown if "**" in shown else Markup(f"**{shown}**")  # noqa: S704 it is escaped


def _brazilian(text: str) -> str:
    return text.translate(str.maketrans(",.", ".,"))


def _figure(value: Figure | str | None, form: str, scale: float = 1.0, unit: str = "") -> Markup:
    if isinstance(value, Missing):
        return _shown(value)
    if isinstance(value, str):
        try:
            return _figure(float(value), form, scale, unit)
        except ValueError:
            return escaped(value)
    if value is None or math.isnan(value):
        return Markup("não definida")
    written = f"{value * scale:{form}}"
    # A small negative figure that is rounded to nothing has no sign.
    written = written.removeprefix("-") if not any(digit in written for digit in "123456789") else written
    return Markup(_brazilian(written) + unit)  # noqa: S704 digits


def _number(value: Figure | str | None, digits: int = 4) -> Markup:
    return _figure(value, f",.{digits}f")


def _percent(value: Figure | str | None, digits: int = 1) -> Markup:
    return _figure(value, f",.{digits}f", 100, " %")


def _whole(value: Figure | str | None) -> Markup:
    return _figure(value, ",.0f")


def _bytes(size: int | None) -> Markup:
    if size is None:
        return Markup("—")
    amount, unit = float(size), 0
    while amount >= _KIBI and unit < len(_UNITS) - 1:
        amount, unit = amount / _KIBI, unit + 1
    return Markup(f"{thousands(size)} B" if unit == 0 else f"{_brazilian(f'{amount:,.1f}')} {_UNITS[unit]}")  # noqa: S704


def _moment(moment: datetime) -> Markup:
    return Markup(f"{moment:%d/%m/%Y %H:%M}")  # noqa: S704


def _code(text: Words) -> Markup:
    if isinstance(text, Missing):
        return _shown(text)
    if not text or set(text) & set("`|\n\r$\\"):
        return escaped(text) or Markup("(vazio)")
    return Markup(f"`{text}`")  # noqa: S704 nothing in it ends the code


def _commit(found: Words) -> Markup:
    return Markup("desconhecido (a pasta não era um repositório git)") if found == "unknown" else _code(found)


def _command(entry_point: str, params: Mapping[str, str] | None = None) -> Markup:
    return _in_fence(commands.command(entry_point, commands.given(params or {})))


def _given(value: Words) -> Words:
    return value if isinstance(value, Missing) else commands.unquoted(value)


def _in_fence(line: str) -> Markup:
    """A command as a line of a fence, which only a line of its own could end."""
    return Markup(" ".join(line.splitlines()))  # noqa: S704


def _with_interval(run: RunFacts, name: str, value: Figure | None = None, digits: int = 4) -> Markup:
    """A metric of a run, or the same as another run holds it, with the run's interval."""
    value = run.metric(name) if value is None else value
    ends = [run.metric(f"{name}{end}") for end in ("_low", "_high")]
    if not isinstance(value, Missing) and all(isinstance(end, Missing) for end in ends):
        # Of many rows a training measures no intervals, and of some figures there is none.
        return Markup(f"{_number(value, digits)} (sem intervalo)")  # noqa: S704
    low, high = (_number(end, digits) for end in ends)
    return Markup(f"{_number(value, digits)} ({low} a {high})")  # noqa: S704


def _listed(words: Words) -> str | Missing:
    return words if isinstance(words, Missing) else ", ".join(words.split(","))


def _translated(words: Mapping[str, str]) -> Any:  # noqa: ANN401 a filter
    def translate(value: Words) -> str | Missing | Markup:
        if isinstance(value, Missing) or value not in words:
            return value
        return Markup(words[value])  # noqa: S704 ours

    return translate


def _splits(preparation: RunFacts) -> list[dict[str, object]]:
    size = preparation.params.get("test_size")
    return (
        [{"way": way, "words": figures.SPLITS[way.name]} for way in split_sensitivity.ways(float(size))] if size else []
    )


def _spread_of(own: RunFacts) -> Any:  # noqa: ANN401 a function of the template
    def told(split: str, model: str, measure: str) -> Markup:
        mean, deviation, low, high = (
            own.metric(split_sensitivity.metric_name(split, model, measure, name))
            for name in split_sensitivity.STATISTICS
        )
        if isinstance(deviation, Missing) and low == mean == high:
            # Of a single split there is no spread.
            return _number(mean)
        return Markup(f"{_number(mean)} ± {_number(deviation)} ({_number(low)} a {_number(high)})")  # noqa: S704

    return told
