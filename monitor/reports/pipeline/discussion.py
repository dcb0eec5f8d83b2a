"""Sentences of the report that depend on what the runs measured."""

import math

from markupsafe import Markup

from monitor import portuguese
from monitor.metrics.intervals import CONFIDENCE
from monitor.reports import split_sensitivity
from monitor.reports.pipeline import formats
from monitor.reports.pipeline.facts import PipelineFacts, RunFacts
from monitor.store import tags

_THREE_RATES = (0.02, 0.98)
"""Share of three-pointers below and above which a base is of two-point and of three-point shots."""


def is_two_and_three(own: RunFacts) -> bool:
    """Whether the dev base is of two-point shots and the prod base of three-point shots."""
    dev, prod = (own.metrics.get(f"base_{name}_three_rate", math.nan) for name in ("dev", "prod"))
    return dev < _THREE_RATES[0] and prod > _THREE_RATES[1]


def other_splits(facts: PipelineFacts) -> list[Markup]:
    """What the splits by game and by time change, as a sentence per model."""
    sentences = []
    for run in facts.tuned:
        model = run.tags.get("model_id", "")
        used, deviation, game, time = (
            facts.own.metrics.get(split_sensitivity.metric_name(split, model, "log_loss", statistic))
            for split, statistic in (
                (split_sensitivity.USED, "mean"),
                (split_sensitivity.USED, "std"),
                (split_sensitivity.GAME, "mean"),
                (split_sensitivity.TIME, "mean"),
            )
        )
        if used is None or deviation is None or game is None or time is None:
            continue
        same = abs(game - used) <= 2 * deviation
        place = "fica dentro da variação entre sorteios" if same else "fica fora da variação entre sorteios"
        effect = "reconhecer o jogo não ajuda o modelo" if same else "arremessos de um mesmo jogo não são independentes"
        drift = (
            "piora" if time > used + 2 * deviation else "melhora" if time < used - 2 * deviation else "quase não muda"
        )
        by_game, drawn, by_time, change = map(formats.number, (game, used, time, game - used))
        sentences.append(
            Markup(  # noqa: S704 numbers, and a name of the registry that is escaped
                f"{formats.escaped(_name(run))}: por jogo, a log loss média é {by_game}, contra {drawn} na divisão "
                f"sorteada (diferença de {change}): {place}, isto é, {effect}. Treinando com os mais antigos e "
                f"testando com os arremessos mais recentes, a log loss {drift}: {by_time}."
            )
        )
    return sentences


def other_candidates(facts: PipelineFacts) -> list[Markup]:
    """Discuss the selection against each other candidate."""
    selected, sentences = facts.selected, []
    for run in facts.tuned:
        model = run.tags.get("model_id", "")
        ends = [facts.own.metrics.get(f"compared_{model}{end}") for end in ("", "_low", "_high")]
        if run.run_id == selected.run_id or any(end is None for end in ends):
            continue
        value, low, high = (end for end in ends if end is not None)
        is_noise = low <= 0 <= high
        wins = [
            label
            for name, label in (("f1_score", "F1"), ("roc_auc", "ROC AUC"))
            if run.metrics.get(name, -math.inf) > selected.metrics.get(name, math.inf)
        ]
        names = [formats.escaped(_name(each)) for each in (selected, run)]
        text = _on_folds(selected, run) + (
            f"No teste, a diferença de log loss entre {names[0]} e {names[1]}, "
            f"registro a registro, é de {formats.number(value)} (intervalo de {formats.percent(CONFIDENCE, 0)}: "
            f"{formats.number(low)} a {formats.number(high)}). "
        )
        if is_noise:
            text += "O intervalo contém o zero: **a diferença está dentro do ruído**, e com este teste não se pode "
            text += "afirmar que um modelo é melhor do que o outro em log loss. "
        elif value < 0:
            text += "O intervalo não contém o zero: o modelo selecionado também é melhor no teste. "
        else:
            text += "O intervalo não contém o zero: no teste, o outro modelo é melhor do que o selecionado. "
        if wins:
            won = " e ".join(wins)
            text += (
                f"{names[1]} tem {won} {'maiores' if len(wins) > 1 else 'maior'} no teste. "
                "Se o uso pedisse a classe (F1) ou a ordem dos arremessos (ROC AUC), e não a probabilidade, a "
                "escolha poderia ser outra; o parâmetro `criterion` muda a métrica da seleção. "
            )
        text += (
            "A seleção segue a regra definida antes de ver o teste, a melhor média na validação cruzada, porque "
            "escolher pelo teste tornaria otimista a métrica publicada."
        )
        sentences.append(Markup(text))  # noqa: S704 its parts are formats.escaped
    return sentences


def _on_folds(selected: RunFacts, other: RunFacts) -> str:
    """Compare the cross-validated means with their deviation over the folds."""
    means = [run.metrics.get("cv_log_loss_mean") for run in (selected, other)]
    deviations = [run.metrics.get("cv_log_loss_std") for run in (selected, other)]
    if means[0] is None or means[1] is None or deviations[0] is None or deviations[1] is None:
        return ""
    difference, deviation = abs(means[1] - means[0]), max(deviations[0], deviations[1])
    text = f"Na validação cruzada, a diferença média de log loss é de {formats.number(difference)}, e o desvio padrão "
    text += f"entre os folds, de {formats.number(deviation)}: "
    if difference < deviation:
        return text + "a diferença **está dentro do ruído** dos folds. "
    return text + "a diferença é maior do que o ruído dos folds. "


def _name(run: RunFacts) -> str:
    return portuguese.model_name(run.tags.get(tags.MODEL_ID, ""), run.name)
