"""What each tool does for each purpose, and in which file; a test checks that every file exists."""

from dataclasses import dataclass

from monitor.store import commands

_SERVER, _APP, _UI = "server", "app", "ui"
_COMMANDS = {_SERVER: commands.serve, _APP: commands.app}


@dataclass(frozen=True)
class Place:
    """The use of a tool for a purpose: in which file, and by which entry point, server, app or UI it is seen."""

    purpose: str
    tool: str
    how: str
    path: str
    seen_by: str

    @property
    def command(self) -> str:
        """The command that shows it."""
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
    Place(TRACKING, "MLflow", "registra cada etapa como uma execução com parâmetros, métricas, tags, tabelas e hashes",
          "steps/shared/tracking.py", _UI),
    Place(TRACKING, "PyCaret", "seu próprio rastreamento está desligado; cada ajuste é uma execução aninhada do MLflow",
          "steps/treinamento.py", "treinamento"),
    Place(TRACKING, "scikit-learn", "calcula as métricas e as curvas registradas",
          "monitor/metrics/binary.py", "treinamento"),
    Place(TRACKING, "Streamlit", "mostra execuções, versões e promoções",
          "monitor/ui/runs_and_registry.py", _APP),
    Place(FUNCTIONS, "MLflow", "registra cada modelo candidato com parâmetros, métricas e gráficos",
          "steps/treinamento.py", "treinamento"),
    Place(FUNCTIONS, "PyCaret", "create_model, tune_model e compare_models buscam hiperparâmetros",
          "steps/training/tuning.py", "treinamento"),
    Place(FUNCTIONS, "scikit-learn", "divisão estratificada, validação cruzada e o pipeline final treinado",
          "data/preparation/split.py", "preparacao"),
    Place(FUNCTIONS, "Streamlit", "compara os candidatos lado a lado",
          "monitor/ui/performance.py", _APP),
    Place(HEALTH, "MLflow", "registra cada execução de monitoramento: métricas, status, monitoring.json e report.html",
          "steps/monitoramento.py", "monitoramento"),
    Place(HEALTH, "PyCaret", "não é usado no monitoramento",
          "monitor/health/status.py", "monitoramento"),
    Place(HEALTH, "scikit-learn", "classificador de domínio, curvas e calibração",
          "monitor/drift/domain_classifier.py", "monitoramento"),
    Place(HEALTH, "Streamlit", "painel com o status, o drift e as métricas",
          "monitor/app.py", _APP),
    Place(UPDATE, "MLflow", "o Model Registry guarda o alias champion e o estágio Production, e permite reverter",
          "serving/registry/__init__.py", "reverter"),
    Place(UPDATE, "PyCaret", "ajusta o desafiante quando a decisão é retreinar",
          "steps/retreino.py", "retreino"),
    Place(UPDATE, "scikit-learn", "treina o desafiante com os registros de desenvolvimento e os rótulos da operação",
          "steps/retraining/training_set.py", "retreino"),
    Place(UPDATE, "Streamlit", "página de retreinamento: gatilhos, pré-condições e decisões",
          "monitor/ui/retraining.py", _APP),
    Place(DEPLOYMENT, "MLflow", "serve o campeão por REST",
          "serving/server/subprocesses.py", _SERVER),
    Place(DEPLOYMENT, "PyCaret", "não é usado: o modelo servido é um pipeline simples de scikit-learn",
          "serving/model/packaging.py", _SERVER),
    Place(DEPLOYMENT, "scikit-learn", "pipeline que gera as predições, salvo com skops, sem pickle",
          "serving/model/scoring_model.py", _SERVER),
    Place(DEPLOYMENT, "Streamlit", "mostra a versão servida, os rótulos e o registro de inferências",
          "monitor/app.py", _APP),
)  # fmt: skip
"""Each purpose with each tool."""
