"""Brazilian Portuguese for the texts and numbers of Matplotlib's figures."""

import re
from collections.abc import Mapping
from functools import lru_cache

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, ScalarFormatter

from data.datasets import Dataset, current, default, worded, worded_in_portuguese
from monitor.portuguese import numbers

ZONES: Mapping[str, str] = {
    "Restricted Area": "Área restrita",
    "In The Paint (Non-RA)": "Garrafão",
    "Mid-Range": "Média distância",
    "Left Corner 3": "Canto esquerdo, três pontos",
    "Right Corner 3": "Canto direito, três pontos",
    "Above the Break 3": "Frente do arco, três pontos",
    "Backcourt": "Quadra de defesa",
}

_PLOT_TEXTS: Mapping[str, str] = {
    r"Shots by class": "Arremessos por resultado",
    r"Shots by feature and class": "Arremessos por variável e resultado",
    r"missed \((.+)\)": r"erro (\1)",
    r"made \((.+)\)": r"cesta (\1)",
    r"missed": "erro",
    r"made": "cesta",
    r"shots": "arremessos",
    r"distance from the hoop, feet": "distância da cesta, pés",
    r"[\d.]+%": r"\g<0>",
    r"(.+), degrees": r"\1, graus",
    r"(.+), minutes": r"\1, minutos",
    r"(.+), feet": r"\1, pés",
    r"(.+), tenths of a foot": r"\1, décimos de pé",
    r"(.+), seconds": r"\1, segundos",
    r"(.+), days": r"\1, dias",
    r"(.+), years": r"\1, anos",
    r"FG% by zone": "Proporção de cestas por zona",
    r"FG% by distance": "Proporção de cestas por distância",
    r"FG%": "proporção de cestas",
    r"([\d,]+) shots": r"\1 arremessos",
    r"groups with fewer than (\d+) shots not drawn \(1 shots\)":
        r"grupos com menos de \1 arremessos não aparecem (1 arremesso)",
    r"groups with fewer than (\d+) shots not drawn \((\d+) shots\)":
        r"grupos com menos de \1 arremessos não aparecem (\2 arremessos)",
    r"([\d,]+) shots from the backcourt not drawn": r"\1 arremessos da quadra de defesa não aparecem",
    r"missing values, %": "valores ausentes, %",
    r"no missing values": "sem valores ausentes",
    r"Missing values, (.+)": r"Valores ausentes, \1",
    r"rows, %": "registros, %",
    r"FG% minus expected, percentage points": "cestas menos o esperado, pontos percentuais",
    r"few to many": "poucos a muitos",
    r"faded: may be chance": "esmaecido: pode ser acaso",
    r"hatched: no training shots there": "hachurado: sem arremessos de treino",
    r"hatched: no training shots there · ([\d,]+) farther shots not drawn":
        r"hachurado: sem arremessos de treino · \1 mais distantes não aparecem",
    r"of ([\d,]+), expected ([\d.]+%)": r"de \1, esperado \2",
    r"no shots": "sem arremessos",
    r"P\(made\)": "P(cesta)",
    r"mean P\(made\)": "P(cesta) média",
    r"perfectly calibrated": "calibração perfeita",
    r"model": "modelo",
    r"chance": "acaso",
    r"False Positive Rate \(Positive label: 1\)": "taxa de falsos positivos",
    r"True Positive Rate \(Positive label: 1\)": "taxa de verdadeiros positivos",
    r"(.+) \(AUC = ([\d.]+)\)": r"\1: AUC \2",
    r"True label": "Resultado observado",
    r"Predicted label": "Resultado predito",
    r"log loss of the batch": "log loss do lote",
    r"prequential log loss": "log loss acumulada",
    r"batch, and the month of its last game": "lote, e o mês do seu último jogo",
    r"Policy backtest, ([\d,]+) shots a batch": r"Backtest da política, \1 arremessos por lote",
    r"retraining policy: ([\d.]+), trainings: (\d+)": r"política de retreinamento: \1, treinamentos: \2",
    r"never retrain: ([\d.]+), trainings: (\d+)": r"nunca retreinar: \1, treinamentos: \2",
    r"always retrain: ([\d.]+), trainings: (\d+)": r"sempre retreinar: \1, treinamentos: \2",
    r"alarm": "alerta",
    r"training": "treinamento",
    r"promotion": "promoção",
    r"rejection": "não promovido",
}  # fmt: skip
_NOTE = "grupos com menos de"
_BRAZILIAN = FuncFormatter(lambda value, _: f"{value:g}".replace(".", ",").replace("-", "\N{MINUS SIGN}"))


def localize(figure: Figure) -> Figure:
    """Write the texts and numbers of a figure in Brazilian Portuguese, in place."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if type(axis.get_major_formatter()) is ScalarFormatter:
                axis.set_major_formatter(_BRAZILIAN)
            if labels := [label.get_text() for label in axis.get_ticklabels()]:
                known = [ZONES.get(label, _plot_text(label)) for label in labels]
                if known != labels:
                    axis.set_ticks(axis.get_ticklocs(), known)
    for text in figure.findobj(Text):
        text.set_text(_plot_text(text.get_text()))
        if text.get_text().startswith(_NOTE):
            # Below the title, which is longer than in English.
            text.set(position=(1, 0.99), va="top")
    return figure


def _plot_text(text: str) -> str:
    for pattern, replacement in _plot_texts(current()):
        if re.fullmatch(pattern, text):
            return numbers(re.sub(rf"^{pattern}$", replacement, text))
    return text


@lru_cache(maxsize=8)
def _plot_texts(dataset: Dataset) -> list[tuple[str, str]]:
    """Patterns and replacements in the words of a dataset."""
    escaped = dataset.model_copy(
        update={name: re.escape(getattr(dataset, name)) for name in ("positive", "negative", "row", "rows", "rate")}
    )
    negative = "erro" if dataset.rows == default().rows else dataset.negative
    return [
        (worded(pattern, escaped), worded_in_portuguese(re.sub(r"^erro\b", negative, replacement), dataset))
        for pattern, replacement in _PLOT_TEXTS.items()
    ]
