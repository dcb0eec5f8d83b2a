"""Brazilian Portuguese for what runs hold in English: checks, results and reasons.

A text that is not known as a whole is not translated word by word: the report shows its own sentence instead.
"""

import re
from collections.abc import Mapping, Sequence

from monitor.health.checks import ALL_CHECKS

CHECKS: Mapping[str, tuple[str, str]] = {
    "K101": ("Degradação do desempenho", "compara log loss, Brier, ROC AUC, F1 e acurácia com a referência"),
    "K102": ("Degradação do skill score", "compara com a referência o ganho sobre o baseline (taxa média)"),
    "K103": ("Melhor do que o baseline", "verifica se o modelo é pior do que a taxa média dos mesmos registros"),
    "K104": ("Recall, especificidade e precisão", "compara recall, especificidade e precisão com a referência"),
    "K105": ("Calibração", "compara P(cesta) com a proporção de cestas observada"),
    "K106": ("Cobertura de rótulos", "mede a proporção de registros sem rótulo"),
    "K107": ("Tamanho da amostra", "verifica se há registros suficientes"),
    "K108": ("Registros novos", "verifica se os registros são novos para o modelo"),
    "K201": ("Drift das variáveis", "compara a distribuição de cada variável com a referência"),
    "K202": ("Drift das predições", "compara a distribuição de P(cesta) com a referência"),
    "K203": ("Classificador de domínio", "verifica se um classificador distingue as duas bases"),
    "K204": ("Registros fora da região coberta pelo treino", "mede a proporção desses registros"),
    "K205": ("Categorias desconhecidas", "mede as categorias que o treino não tem"),
    "K206": ("Valores nulos", "mede a proporção de valores nulos e a compara com a referência"),
    "K301": ("Desempenho estimado", "estima as métricas sem rótulos e as compara com a referência"),
    "K401": ("Idade do modelo", "mede o tempo desde a promoção do campeão"),
    "K402": ("Saúde do endpoint", "verifica se o servidor responde"),
    "K403": ("Versão servida", "verifica se a versão servida é a campeã"),
    "K404": ("Versão que gerou as predições", "verifica se o campeão gerou as predições"),
}
"""Title and purpose of each check, by its code."""

MODELS: Mapping[str, str] = {
    "prior": "Baseline (taxa média)",
    "lr": "Regressão logística",
    "dt": "Árvore de decisão",
    "rf": "Floresta aleatória",
    "et": "Árvores extremamente aleatórias",
    "gbc": "Gradient boosting",
    "hgbc": "Gradient boosting com histogramas",
    "ada": "AdaBoost",
    "lightgbm": "LightGBM",
    "knn": "K vizinhos mais próximos",
    "nb": "Naive Bayes",
    "mlp": "Rede neural (MLP)",
}
"""Names of models by PyCaret's id."""

METRICS: Mapping[str, str] = {
    "log_loss": "log loss",
    "log_loss_skill": "skill score da log loss",
    "brier": "Brier",
    "brier_skill": "skill score do Brier",
    "roc_auc": "ROC AUC",
    "f1_score": "F1",
    "accuracy": "acurácia",
    "precision": "precisão",
    "recall": "recall",
    "specificity": "especificidade",
    "calibration_error": "erro de calibração",
}
"""Names of metrics by the name that runs have."""

_NUMBER = re.compile(r"(?<![\w.,/:])(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w|/|:\d|[.,]\d)")
_ENGLISH = re.compile(
    r"\b(the|of|is|are|was|were|has|have|from|worse|better|than|not|with|by|on|needed|needs|for|and|its|been|does|"
    r"rows?|labels?|version|yet|most|against|which|where|all|one|few|fewer|windows?|hours|days|same|champion)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_RULES: Sequence[tuple[str, str]] = (
    # The base-rate baseline.
    (r"the model is worse than the base rate", "o modelo é pior do que o baseline (taxa média)"),
    (r"the model is better than the base rate", "o modelo é melhor do que o baseline (taxa média)"),
    (r"the model is not distinguishable from the base rate", "o modelo não se distingue do baseline (taxa média)"),
    (r"\bworse than the base rate", "pior do que o baseline (taxa média)"),
    (r"(\d+%) interval ([+-]?[\d.]+%?) to ([+-]?[\d.]+%?)", r"intervalo de \1: \2 a \3"),
    (r"base-rate baseline \(([\d.]+)\) on the same rows ([\d.]+)", r"baseline (\1) nos mesmos registros: \2"),
    (r"(\d) labeled rows, compared with ([\d,]+)", r"\1 registros rotulados, comparados com \2"),
    (r"\b([\d,]+) labeled rows", r"\1 registros rotulados"),
    (r"\d+% CI: ([\d.-]+) to ([\d.-]+)", r"intervalo: \1 a \2"),
    (r"(?<=\d) to (?=[-+]?\d)", " para "),
    # Checks.
    *((rf"\b{name}\b(?= (?:is worse|fell))", label) for name, label in METRICS.items()),
    (r"([\w ()]+) is worse by", r"\1 piorou"),
    (r"([\w ()]+) fell from ([-+\d.%]+) (?:to|para)", r"\1 caiu de \2 para"),
    (r"none of (\d+) metrics is significantly worse, by more than (\d+%)",
     r"nenhuma das \1 métricas piorou mais de \2 com significância estatística"),
    (r"calibration error", "erro de calibração"),
    (r", not above the null threshold", ", dentro do limite do acaso"),
    (r"null threshold ([\d.]+) on (the test set|\w+)", r"limite do acaso \1 em \2"),
    (r"null threshold", "limite do acaso"),
    (r"mean P\([^()]+\)", "P(cesta) média"),
    (r"FG%", "proporção de cestas"),
    (r"([\d,]+) of ([\d,]+) rows older than (\d+) days have no label",
     r"\1 de \2 registros com mais de \3 dias não têm rótulo"),
    (r"([\d,]+) of ([\d,]+) rows have no label", r"\1 de \2 registros não têm rótulo"),
    (r"no row is older than (\d+) days: no label is expected yet",
     r"nenhum registro tem mais de \1 dias: ainda não se esperam rótulos"),
    (r"([\d,]+) rows are too few; (\d+) are needed", r"\1 registros são poucos; são necessários \2"),
    (r"; drift uses all of them, the other checks use a systematic sample of ([\d,]+)",
     r"; o drift usa todos, as outras verificações uma amostra sistemática de \1"),
    (r"all rows are new", "todos os registros são novos"),
    (r"([\d,]+) of ([\d,]+) rows are training or reference rows", r"\1 de \2 registros são do treino ou da referência"),
    (r"([\d,]+) of ([\d,]+) rows are not new to the model: they are training rows or rows of (the test set|\w+)",
     r"\1 de \2 registros não são novos para o modelo: são do treino ou de \3"),
    (r"\. Score new rows", ". Gere predições para registros novos"),
    (r"(\d+) of (\d+) features have drifted, (.+?) most: Jensen-Shannon distance",
     r"\1 de \2 variáveis têm drift, a maior é \3: distância de Jensen-Shannon"),
    (r"(\d+) checks passed", r"\1 verificações aprovadas"),
    (r"; (\d+) were skipped", r"; \1 não se aplicam"),
    (r"none of (\d+) features has drifted", r"nenhuma das \1 variáveis tem drift"),
    (r"(\d+) of (\d+) features have drifted, (.+?) most: shifted by ([\d.e+-]+) feet",
     r"\1 de \2 variáveis têm drift, a maior é \3: deslocamento de \4 pés"),
    (r"(\d+) of (\d+) features have drifted, (.+?) most: shifted by ([\d.e+-]+) degrees",
     r"\1 de \2 variáveis têm drift, a maior é \3: deslocamento de \4 grau"),
    (r"(\d+) of (\d+) features have drifted, (.+?) most: shifted by ([\d.e+-]+) minutes",
     r"\1 de \2 variáveis têm drift, a maior é \3: deslocamento de \4 minutos"),
    (r"(\d+) of (\d+) features have drifted, (.+?) most: shifted by",
     r"\1 de \2 variáveis têm drift, a maior é \3: deslocamento de"),
    (r"\(threshold ([\d.e+-]+)\)", r"(limite \1)"),
    (r"P\([^()]+\) has not drifted", "P(cesta) não tem drift"),
    (r"P\([^()]+\) has drifted: shifted by ([-+\d.]+) on average", r"P(cesta) tem drift: deslocamento médio de \1"),
    (r"a classifier discriminates current rows from reference rows",
     "um classificador distingue os registros atuais dos da referência"),
    (r"a classifier does not discriminate current rows from reference rows",
     "um classificador não distingue os registros atuais dos da referência"),
    (r"([\d.]+%) of the rows are out of support", r"\1 dos registros estão fora da região coberta pelo treino"),
    (r"([\d,]+) of ([\d,]+) rows \((\d+%)\) are out of support: their performance cannot be estimated without labels",
     r"\1 de \2 registros (\3) estão fora da região coberta pelo treino: sem rótulos, não há estimativa"),
    (r"([\d,]+) of ([\d,]+) rows are in support; an estimate needs (\d+)",
     r"\1 de \2 registros estão na região coberta pelo treino; a estimativa precisa de \3"),
    (r"no row has an unknown category", "nenhum registro tem uma categoria desconhecida"),
    (r"no row has a null", "nenhum registro tem um valor nulo"),
    (r"([\d,]+) rows have an unknown category of", r"\1 registros têm uma categoria desconhecida de"),
    (r"([\d,]+) rows have a null of", r"\1 registros têm um valor nulo de"),
    (r"more unknown categories than on the reference", "mais categorias desconhecidas do que na referência"),
    (r"more nulls than on the reference", "mais valores nulos do que na referência"),
    (r": not significantly more than on the reference", ": não significativamente mais do que na referência"),
    (r"([\d.]+%) of ([\d,]+) rows \(reference ([\d.]+%), null threshold ([\d.]+%)\)",
     r"\1 de \2 registros (referência \3, limite do acaso \4)"),
    (r" and ([\d,]+) more\b", r" e mais \1"),
    (r"no feature is a category", "nenhuma variável é categórica"),
    (r"no feature may be null", "nenhuma variável admite valores nulos"),
    (r"the domain classifier needs (\d+) rows on each side",
     r"o classificador de domínio precisa de \1 registros de cada lado"),
    (r", and (\d+) groups", r", e de \1 grupos"),
    (r"(\w+) has shifted by ([\d.e+-]+) days, which is expected of a date and no alarm",
     r"\1 deslocou-se \2 dias, o que se espera de uma data e não é um alarme"),
    (r"none of these metrics covers (\d+) rows on each side and is non-zero on the reference",
     r"nenhuma destas métricas cobre \1 registros de cada lado e é diferente de zero na referência"),
    (r"fewer than (\d+) rows have a label that can be evaluated:",
     r"menos de \1 registros têm um rótulo que possa ser avaliado:"),
    (r"([\d,]+) are rows of (the test set|\w+) and ([\d,]+) are training rows", r"\1 são de \2 e \3 são do treino"),
    (r"([\d,]+) are rows of (the test set|\w+)", r"\1 são de \2"),
    (r"([\d,]+) are training rows", r"\1 são do treino"),
    (r"no response from (\S+); start the server: ", r"\1 não responde; inicie o servidor: "),
    (r"(\S+) does not report its version", r"\1 não informa a sua versão"),
    (r"(https?://\S+) responds", r"\1 responde"),
    (r"no estimated metric is worse than on the reference", "nenhuma métrica estimada é pior do que na referência"),
    (r"estimated without labels:", "estimado sem rótulos:"),
    (r"version (\d+) was promoted (\d+) days ago", r"a versão \1 foi promovida há \2 dias"),
    (r"; a champion is stale after (\d+) days", r"; um campeão é antigo depois de \1 dias"),
    (r"there is no champion", "não há campeão"),
    (r"the version that scored the rows is unknown", "não se sabe que versão gerou as predições"),
    (r"the promotion date of version (\d+) is unknown", r"não se sabe quando a versão \1 foi promovida"),
    (r"version (\d+) scored these rows, and all results are about it; the champion is version (\d+)",
     r"a versão \1 gerou estas predições, e todos os resultados são dela; a campeã é a \2"),
    (r"\. Score the rows again with the champion", ". Gere as predições de novo com a campeã"),
    (r"version (\d+) is served; the champion is (?:version )?(\w+)", r"a versão \1 é servida; a campeã é a \2"),
    (r"no endpoint was given", "nenhum endpoint foi informado"),
    (r"no endpoint responded", "nenhum endpoint respondeu"),
    (r"all rows were scored by the champion, version (\d+)",
     r"o campeão, versão \1, gerou as predições de todos os registros"),
    (r"the rows were scored by the champion, version (\d+)", r"o campeão, versão \1, gerou as predições dos registros"),
    (r"version (\d+) is served and is the champion", r"a versão \1 é servida e é a campeã"),
    (r"fewer than (\d+) rows have a label", r"menos de \1 registros têm rótulo"),
    (r"the skill score on the reference is not positive either", "o skill score da referência também não é positivo"),
    (r"all labels are the same", "todos os rótulos são iguais"),
    # The gate and the promotion.
    (r"log loss ([\d.]+) against ([\d.]+) of the base rate on the same ([\d,]+) rows",
     r"log loss \1 contra \2 do baseline (taxa média) nos mesmos \3 registros"),
    (r"log loss ([\d.]+) against ([\d.]+) of champion version (\d+) on the same ([\d,]+) rows",
     r"log loss \1 contra \2 do campeão (versão \3) nos mesmos \4 registros"),
    (r"difference ([-+][\d.]+)", r"diferença de \1"),
    (r"not significantly better", "não é significativamente melhor"),
    (r"significantly better", "significativamente melhor"),
    (r"improvement ([\d.]+%), minimum ([\d.]+%)", r"melhora de \1, mínimo de \2"),
    (r"the champion's log loss improves by (-?[\d.]+%), ([\d.]+%) is needed",
     r"a log loss do campeão melhora \1, é preciso \2"),
    (r"temporal hold-out: log loss ([\d.]+), champion version (\d+) ([\d.]+) on ([\d,]+) rows, significantly worse",
     r"hold-out temporal: log loss de \1, a do campeão (versão \2) é \3, em \4 registros; significativamente pior"),
    (r"passed the gate and became champion and Production",
     "foi aprovado no critério de promoção e passou a ser o campeão, no estágio Production"),
    (r"not promoted, it did not pass the gate:", "não promovido, reprovado no critério de promoção:"),
    (r"it did not pass the gate:", "reprovado no critério de promoção:"),
    # The retraining policy.
    (r"no trigger fires", "nenhum gatilho disparou"),
    (r"retraining is forced \(mode=force\)", "retreinamento forçado (mode=force)"),
    (r"precondition not met:", "pré-condição não atendida:"),
    (r"([\d,]+) windows of ([\d,]+) (?:labeled rows|registros rotulados) are available; (\d+) are needed",
     r"há \1 janelas de \2 registros rotulados; são necessárias \3"),
    (r"(\d+) of the latest (\d+) windows breach a threshold", r"\1 das últimas \2 janelas passam do limite"),
    (r", including the latest", ", inclusive a última"),
    (r", not the latest", ", mas não a última"),
    (r"log loss rose by (\d+%), from ([\d.]+) (?:to|para)", r"log loss subiu \1, de \2 para"),
    (r"F1 fell by (\d+%), from ([\d.]+) (?:to|para)", r"F1 caiu \1, de \2 para"),
    (r"([\d,]+) windows; a trend needs (\d+)", r"\1 janelas; uma tendência precisa de \2"),
    (r"the extrapolated log loss in (\d+) windows is ([\d.]+), lower (\d+%) bound ([\d.]+); the threshold is ([\d.]+)",
     r"a log loss extrapolada para daqui a \1 janelas é \2 (limite inferior de \3: \4); o limiar é \5"),
    (r"the champion has not scored any row yet", "o campeão ainda não gerou predições"),
    (r"([\d,]+) new registros rotulados, ([\d,]+) needed", r"\1 rótulos novos, são necessários \2"),
    (r"([\d,]+) new labeled rows, ([\d,]+) needed", r"\1 rótulos novos, são necessários \2"),
    (r", doubled after each rejected challenger \((\d+) in a row\)",
     r", o dobro depois de cada desafiante não promovido (\1 seguidos)"),
    (r"no training yet", "ainda não houve treinamento"),
    (r"the latest training was ([\d.]+) hours ago, the cooldown is ([\d.]+) hours",
     r"o último treinamento foi há \1 horas, o intervalo mínimo é de \2 horas"),
    (r"the latest training was ([\d.]+) days ago, the cooldown is ([\d.]+) hours",
     r"o último treinamento foi há \1 dias, o intervalo mínimo é de \2 horas"),
    (r"(\d+) trainings within 24 hours, at most (\d+)", r"\1 treinamentos em 24 horas, no máximo \2"),
    (r"; (\d+) failed or interrupted, at most (\d+)", r"; \1 falharam ou foram interrompidos, no máximo \2"),
    (r"([\d,]+) training labels and ([\d,]+) hold-out labels, with ([\d,]+) or more of each class; ",
     r"\1 rótulos para o treino e \2 para a avaliação, com pelo menos \3 de cada classe; "),
    (r"(\d+) of each part and (\d+) of each class are needed\. ",
     r"são necessários \1 de cada parte e \2 de cada classe. "),
    (r"The hold-out excludes training rows of the champion, and rows with equal times stay together",
     "A avaliação não usa registros de treino do campeão"),
    (r"it was stopped before its end", "foi interrompido antes do fim"),
    (r"no retraining is needed", "não é preciso retreinar"),
    (r"\bdry run\b", "simulação (dry run): a decisão foi registrada e nada foi treinado"),
    (r"\bLabeled windows\b", "Janelas rotuladas"),
    (r"\bTrend of log loss\b", "Tendência da log loss"),
    (r"\bTraining and hold-out labels\b", "Rótulos para treino e avaliação"),
    (r"\bNew labels\b", "Rótulos novos"),
    (r"\bCooldown\b", "Intervalo entre treinamentos"),
    (r"\bTrainings per day\b", "Treinamentos por dia"),
    (r"\b([\d,]+) rows\b", r"\1 registros"),
    (r"\bem the test set\b", "no conjunto de teste"),
    (r"\bde the test set\b", "do conjunto de teste"),
)  # fmt: skip
_COMPILED = [(re.compile(pattern), replacement) for pattern, replacement in _RULES]


def numbers(text: str) -> str:
    """Write the numbers of a text as in Brazil; those of URLs, versions and times, and 0,971 stay as they are.

    Examples
    --------
    >>> numbers("5,412 of 6,426: 84.2%, K101, (0.971), -0.15, http://127.0.0.1:5001, 3.14.0, 2026-11-27 13:24")
    '5.412 of 6.426: 84,2%, K101, (0,971), -0,15, http://127.0.0.1:5001, 3.14.0, 2026-11-27 13:24'
    >>> numbers(numbers("0.971"))
    '0,971'
    """
    return _NUMBER.sub(lambda found: found.group().translate(str.maketrans(",.", ".,")), text)


def translate(text: str) -> str | None:
    """Translate a message of a check, of the gate or of the retraining policy; None if it is not known.

    Its numbers are those of Brazil.

    Examples
    --------
    >>> translate("97.1% of the rows are out of support")
    '97,1% dos registros estão fora da região coberta pelo treino'
    >>> translate("the hoop is lower than the table") is None
    True
    """
    found = sentence(text)
    return None if found is None else numbers(found)


def sentence(text: str) -> str | None:
    """Translate as `translate` does, and leave the numbers as they are.

    Examples
    --------
    >>> sentence("97.1% of the rows are out of support")
    '97.1% dos registros estão fora da região coberta pelo treino'
    """
    for check in ALL_CHECKS:
        title = re.escape(check.title)
        named = rf"(?:\b{check.code} )?\b{title}\b(?=:)|^{check.code} {title}$"
        text = re.sub(named, CHECKS[check.code][0], text)
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    # Names of categories are not translated.
    return None if _ENGLISH.search(_QUOTED.sub("", text)) else text


def check_title(code: str, title: str) -> str:
    """Title of a check."""
    return CHECKS[code][0] if code in CHECKS else title


def check_message(code: str, message: str) -> str:
    """Message of a check; its purpose where the message is not known."""
    purpose = CHECKS.get(code, ("", "verificação do monitoramento"))[1]
    return translate(message) or f"{purpose}; a mensagem está em monitoring.json"


def reason_of(text: str) -> str:
    """A reason of the status, of the gate or of a decision; where it is not known, the original in quotes."""
    return translate(text) or f"“{text}” (texto original da execução)"


def model_name(model_id: str, name: str) -> str:
    """Name of a candidate, with PyCaret's id.

    Examples
    --------
    >>> model_name("dt", "dt: Decision Tree"), model_name("qda", "qda: Quadratic Discriminant Analysis")
    ('Árvore de decisão (dt)', 'Quadratic Discriminant Analysis (qda)')
    """
    return f"{MODELS.get(model_id, name.partition(': ')[2] or name)} ({model_id})" if model_id else name


def trigger_name(name: str) -> str:
    """Name of a trigger or a precondition of the retraining policy."""
    code, _, title = name.partition(" ")
    return f"{code} {check_title(code, title)}" if code in CHECKS else translate(name) or name
