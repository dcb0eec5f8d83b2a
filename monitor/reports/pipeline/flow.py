"""The diagram of the pipeline, defined once and drawn as Mermaid text and as an SVG without scripts."""

import itertools
import math
from dataclasses import dataclass

from markupsafe import Markup

from data.datasets import current, worded_in_portuguese
from serving import registry

STEP, FILE = "step", "file"
"""Kinds of nodes: a step, and the files that it writes."""

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 196, 58, 68, 46, 34
_UNIT_X, _UNIT_Y = _WIDTH + _GAP_X, _HEIGHT + _GAP_Y
_LINE = 17
_CYLINDER = 7
_SHORT = 12
_MODEL, _DEV, _PROD = "{model}", "{dev}", "{prod}"
"""Placeholders for the names of the registered model and of the raw tables."""


@dataclass(frozen=True)
class Node:
    """A step or its files, at a place of the grid; the first line is its name."""

    id: str
    lines: tuple[str, ...]
    kind: str
    column: int
    row: int


@dataclass(frozen=True)
class Edge:
    """An arrow between two nodes; one that loops leads back to an earlier step, and is drawn dashed."""

    source: str
    target: str
    label: str = ""
    loops: bool = False

    @property
    def text(self) -> str:
        """The label in the words of the dataset."""
        return worded_in_portuguese(self.label)


NODES = (
    Node("aquisicao", ("Aquisicao", "obtém e verifica os arquivos"), STEP, 0, 0),
    Node("brutos", (_DEV, _PROD), FILE, 1, 0),
    Node("preparacao", ("PreparacaoDados", "seleciona, filtra, separa"), STEP, 0, 1),
    Node("tabelas", ("data_filtered, base_train,", "base_test, base_prod"), FILE, 1, 1),
    Node("treinamento", ("Treinamento", "PyCaret e scikit-learn"), STEP, 0, 2),
    Node("candidatos", ("candidate/model.skops", "modelo de cada candidato"), FILE, 1, 2),
    Node("selecao", ("Seleção", "pela validação cruzada"), STEP, 0, 3),
    Node("justificativa", ("justification.md", "por que este modelo"), FILE, 1, 3),
    Node("criterio", ("Critério de promoção", "significativamente melhor?"), STEP, 0, 4),
    Node("registro", (f"Registro {_MODEL}", "champion = Production"), FILE, 1, 4),
    Node("servidor", ("Servidor", "mlflow models serve"), STEP, 2, 0),
    Node("rest", ("POST /invocations", "JSON, CSV ou Parquet"), FILE, 3, 0),
    Node("aplicacao", ("PipelineAplicacao", "gera as predições"), STEP, 2, 1),
    Node("predicoes", ("predictions_prod.parquet", "classe predita e P(cesta)"), FILE, 3, 1),
    Node("monitoramento", ("Monitoramento", "com e sem rótulos"), STEP, 2, 2),
    Node("registros_do_monitor", ("monitoring.json", "report.html"), FILE, 3, 2),
    Node("retreino", ("Retreino", "reativo ou preditivo: decide"), STEP, 2, 3),
    Node("decisao", ("decision.json", "gatilhos, pré-condições"), FILE, 3, 3),
    Node("reverter", ("Reverter", "desfaz uma promoção"), STEP, 2, 4),
    Node("operacao", ("Operacao", "backtest e painel Streamlit"), STEP, 2, 5),
    Node("relatorio", ("Relatorio", "relatorio.md, relatorio.html"), STEP, 3, 5),
)

EDGES = (
    Edge("aquisicao", "brutos"),
    Edge("aquisicao", "preparacao"),
    Edge("preparacao", "tabelas"),
    Edge("preparacao", "treinamento"),
    Edge("treinamento", "candidatos"),
    Edge("treinamento", "selecao"),
    Edge("selecao", "justificativa"),
    Edge("selecao", "criterio"),
    Edge("criterio", "registro", "sim"),
    Edge("registro", "servidor"),
    Edge("tabelas", "aplicacao", "base_prod"),
    Edge("servidor", "rest"),
    Edge("servidor", "aplicacao"),
    Edge("aplicacao", "predicoes"),
    Edge("aplicacao", "monitoramento"),
    Edge("monitoramento", "registros_do_monitor"),
    Edge("monitoramento", "retreino"),
    Edge("retreino", "decisao"),
    Edge("retreino", "treinamento", "gatilho ativo: retreinar", loops=True),
    Edge("retreino", "reverter", "se o desempenho cai"),
    Edge("reverter", "registro", "restaura o anterior", loops=True),
    Edge("reverter", "operacao", "a operação segue"),
    Edge("registros_do_monitor", "relatorio"),
    Edge("operacao", "servidor", "novos arremessos e rótulos", loops=True),
)


def mermaid() -> str:
    """Draw the diagram as a Mermaid flowchart."""
    lines = ["flowchart TD"]
    for node in NODES:
        label = "<br/>".join(_lines(node)).replace('"', "#quot;")
        opening, closing = ("[", "]") if node.kind == STEP else ("[(", ")]")
        lines.append(f'    {node.id}{opening}"{label}"{closing}')
    for edge in EDGES:
        arrow = "-.->" if edge.loops else "-->"
        label = f'|"{edge.text}"|' if edge.text else ""
        lines.append(f"    {edge.source} {arrow}{label} {edge.target}")
    return "\n".join(lines)


def svg() -> Markup:
    """Draw the diagram as an SVG for a page with styles for ``step``, ``file``, ``loop``, ``line`` and ``label``."""
    width = 2 * _MARGIN + _UNIT_X * (1 + max(node.column for node in NODES)) - _GAP_X // 2
    height = 2 * _MARGIN + _UNIT_Y * (1 + max(node.row for node in NODES)) - _GAP_Y // 2
    places = {node.id: node for node in NODES}
    drawn = (
        [_arrow(edge, places) for edge in EDGES]
        + [_box(node) for node in NODES]
        + [_label(edge, places) for edge in EDGES]
    )
    return Markup(
        '<svg class="flow" role="img" aria-labelledby="flow-title" aria-describedby="flow-edges" viewBox="0 0 {} {}">'
        '<title id="flow-title">Fluxo do projeto</title><desc id="flow-edges">{}</desc>'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="tip" d="M0 0 L8 4 L0 8 z"/></marker></defs>{}</svg>'
    ).format(width, height, _description(places), Markup("").join(drawn))


def _lines(node: Node) -> list[str]:
    dev, prod = current().raw_tables
    names = {_MODEL: registry.model(), _DEV: dev, _PROD: prod}
    return [" ".join(names[line].split()) if line in names else _line(line) for line in node.lines]


def _line(line: str) -> str:
    return " ".join(worded_in_portuguese(line).replace(_MODEL, registry.model()).split())


def _description(places: dict[str, Node]) -> str:
    """Describe the arrows in sentences, for screen readers."""
    sentences = []
    for edge in EDGES:
        source, target = (" ".join(_lines(places[node])) for node in (edge.source, edge.target))
        back = " de volta" if edge.loops else ""
        sentences.append(f"De {source}{back} para {target}{f': {edge.text}' if edge.text else ''}.")
    return " ".join(sentences)


def _place(x: float, y: float) -> tuple[float, float]:
    return round(_MARGIN + x * _UNIT_X, 1), round(_MARGIN + y * _UNIT_Y, 1)


def _box(node: Node) -> Markup:
    x, y = _place(node.column, node.row)
    shape = Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="8"/>').format(x, y, _WIDTH, _HEIGHT)
    if node.kind == FILE:
        shape = Markup('<path d="M{0} {1} a{2} {3} 0 0 1 {4} 0 v{5} a{2} {3} 0 0 1 -{4} 0 z"/>'
                       '<path class="rim" d="M{0} {1} a{2} {3} 0 0 0 {4} 0"/>').format(
            x, y + _CYLINDER, _WIDTH / 2, _CYLINDER, _WIDTH, _HEIGHT - 2 * _CYLINDER
        )  # fmt: skip
    top = y + _HEIGHT / 2 + (_CYLINDER if node.kind == FILE else 5) - _LINE * (len(node.lines) - 1) / 2
    texts = Markup("").join(
        Markup('<text class="{}" x="{}" y="{}">{}</text>').format(
            "name" if place == 0 else "more", x + _WIDTH / 2, top + place * _LINE, line
        )
        for place, line in enumerate(_lines(node))
    )
    return Markup('<g class="{}" data-node="{}">{}{}</g>').format(node.kind, node.id, shape, texts)


def _arrow(edge: Edge, places: dict[str, Node]) -> Markup:
    line = " L".join(f"{x} {y}" for x, y in itertools.starmap(_place, _corners(edge, places)))
    kind = "line loop" if edge.loops else "line"
    return Markup('<path class="{}" data-edge="{} {}" d="M{}" marker-end="url(#tip)"/>').format(
        kind, edge.source, edge.target, line
    )


def _corners(edge: Edge, places: dict[str, Node]) -> list[tuple[float, float]]:
    """Corners of an arrow, in units of `_place`: straight to a neighbor, else through the gap next to its source."""
    source, target = places[edge.source], places[edge.target]
    across, down = target.column - source.column, target.row - source.row
    width, height = _WIDTH / _UNIT_X, _HEIGHT / _UNIT_Y
    if not down:
        y = source.row + height / 2
        return [(source.column + width * (across > 0), y), (target.column + width * (across < 0), y)]
    if not across and down == 1:
        x = source.column + width / 2
        return [(x, source.row + height), (x, target.row)]
    start, gap = (source.column, width - 1) if across < 0 else (source.column + width, 1 - width)
    turn, y = start + gap / (3 if edge.loops else 2), source.row + 0.75 * height
    if across < 0:
        below, x = target.row + (1 + height) / 2, target.column + 0.75 * width
        return [(start, y), (turn, y), (turn, below), (x, below), (x, target.row + height)]
    end = target.column + width * (not across), target.row + 0.25 * height
    return [(start, y), (turn, y), (turn, end[1]), end]


def _label(edge: Edge, places: dict[str, Node]) -> Markup:
    """The label in the middle of the longest part of its arrow, between two rows of boxes where it is a long one."""
    if not edge.text:
        return Markup("")
    parts = itertools.pairwise(_corners(edge, places))
    (x0, y0), (x1, y1) = max(parts, key=lambda part: math.dist(*part))
    middle = (y0 + y1) / 2
    x, y = _place((x0 + x1) / 2, middle - 0.04 if len(edge.text) < _SHORT else math.floor(middle) + 0.8)
    return Markup('<text class="label" x="{}" y="{}">{}</text>').format(x, y, edge.text)
