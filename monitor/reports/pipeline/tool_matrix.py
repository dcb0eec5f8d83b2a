"""Where in this project each tool serves each purpose; a test looks that every place exists."""

from dataclasses import dataclass

from monitor.store import commands

_SERVER, _APP, _UI = "server", "app", "ui"
_COMMANDS = {_SERVER: commands.serve, _APP: commands.app}


@dataclass(frozen=True)
class Place:
    """A tool at work for a purpose: in which file, and by which entry point, or server, app or UI, one sees it."""

    purpose: str
    tool: str
    how: str
    path: str
    seen_by: str

    @property
    def command(self) -> str:
        """What one types to see it."""
        if self.seen_by == _UI:
            return "mlflow ui"
        return _COMMANDS[self.seen_by]() if self.seen_by in _COMMANDS else commands.command(self.seen_by)


TRACKING, FUNCTIONS, HEALTH, UPDATE, DEPLOYMENT = (
    "Rastreamento de experimentos",
    "Funções de treinamento",
    "Monitoramento da saúde",
    "Atualização do modelo",
    "Provisionamento (deployment)",
)

PLACES = (
    Place(TRACKING, "MLflow", "cada etapa é uma execução com parâmetros, métricas, tags, tabelas e hashes",
          "steps/shared/tracking.py", _UI),
    Place(TRACKING, "PyCaret", "o registro próprio fica desligado; cada ajuste vira uma execução aninhada do MLflow",
          "steps/treinamento.py", "treinamento"),
    Place(TRACKING, "scikit-learn", "define as métricas e as curvas que são registradas",
          "monitor/metrics/binary.py", "treinamento"),
    Place(TRACKING, "Streamlit", "mostra execuções, versões e promoções",
          "monitor/ui/runs_and_registry.py", _APP),
    Place(FUNCTIONS, "MLflow", "guarda cada modelo candidato com parâmetros, métricas e figuras",
          "steps/treinamento.py", "treinamento"),
    Place(FUNCTIONS, "PyCaret", "create_model, tune_model e compare_models buscam hiperparâmetros",
          "steps/training/tuning.py", "treinamento"),
    Place(FUNCTIONS, "scikit-learn", "separação estratificada, validação cruzada e o pipeline final que aprende",
          "data/preparation/split.py", "preparacao"),
    Place(FUNCTIONS, "Streamlit", "compara os candidatos lado a lado",
          "monitor/ui/performance.py", _APP),
    Place(HEALTH, "MLflow", "guarda cada análise: métricas, veredito, monitoring.json e report.html",
          "steps/monitoramento.py", "monitoramento"),
    Place(HEALTH, "PyCaret", "não participa: o monitoramento não precisa dele",
          "monitor/health/status.py", "monitoramento"),
    Place(HEALTH, "scikit-learn", "classificador de domínio, curvas e calibração",
          "monitor/drift/domain_classifier.py", "monitoramento"),
    Place(HEALTH, "Streamlit", "painel com o veredito, o drift e as métricas",
          "monitor/app.py", _APP),
    Place(UPDATE, "MLflow", "o registro move o alias champion e o estágio Production, e sabe voltar",
          "serving/registry/__init__.py", "reverter"),
    Place(UPDATE, "PyCaret", "ajusta o desafiante quando o laço decide retreinar",
          "steps/retreino.py", "retreino"),
    Place(UPDATE, "scikit-learn", "aprende com as linhas antigas e os rótulos que chegaram",
          "steps/retraining/training_set.py", "retreino"),
    Place(UPDATE, "Streamlit", "página do laço: sinais, guardas e decisões",
          "monitor/ui/retraining.py", _APP),
    Place(DEPLOYMENT, "MLflow", "serve o champion por REST",
          "serving/server/subprocesses.py", _SERVER),
    Place(DEPLOYMENT, "PyCaret", "não participa: o modelo servido é um pipeline simples de scikit-learn",
          "serving/model/packaging.py", _SERVER),
    Place(DEPLOYMENT, "scikit-learn", "é o pipeline que responde, salvo com skops, sem pickle",
          "serving/model/scoring_model.py", _SERVER),
    Place(DEPLOYMENT, "Streamlit", "acompanha o servidor: versão que responde, rótulos e log de inferência",
          "monitor/app.py", _APP),
)  # fmt: skip
"""Each purpose with each tool."""
