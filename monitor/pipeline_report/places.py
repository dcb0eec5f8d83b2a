"""Where in this project each tool serves each purpose; a test looks that every place exists."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A tool at work for a purpose: in which file, and by which command one sees it."""

    purpose: str
    tool: str
    how: str
    path: str
    command: str


TRACKING, FUNCTIONS, HEALTH, UPDATE, DEPLOYMENT = (
    "Rastreamento de experimentos",
    "Funções de treinamento",
    "Monitoramento da saúde",
    "Atualização do modelo",
    "Provisionamento (deployment)",
)

PLACES = (
    Place(TRACKING, "MLflow", "cada etapa é uma execução com parâmetros, métricas, tags, tabelas e hashes",
          "steps/tracking.py", "mlflow ui"),
    Place(TRACKING, "PyCaret", "o registro próprio fica desligado; cada ajuste vira uma execução aninhada do MLflow",
          "steps/treinamento.py", "mlflow run . -e treinamento"),
    Place(TRACKING, "scikit-learn", "define as métricas e as curvas que são registradas",
          "monitor/metrics.py", "mlflow run . -e treinamento"),
    Place(TRACKING, "Streamlit", "mostra execuções, versões e promoções",
          "monitor/screens/operation.py", "streamlit run monitor/app.py"),
    Place(FUNCTIONS, "MLflow", "guarda cada modelo candidato com parâmetros, métricas e figuras",
          "steps/treinamento.py", "mlflow run . -e treinamento"),
    Place(FUNCTIONS, "PyCaret", "create_model, tune_model e compare_models buscam hiperparâmetros",
          "steps/candidates.py", "mlflow run . -e treinamento"),
    Place(FUNCTIONS, "scikit-learn", "separação estratificada, validação cruzada e o pipeline final que aprende",
          "data/split.py", "mlflow run . -e preparacao"),
    Place(FUNCTIONS, "Streamlit", "compara os candidatos lado a lado",
          "monitor/screens/performance.py", "streamlit run monitor/app.py"),
    Place(HEALTH, "MLflow", "guarda cada análise: métricas, veredito, monitoring.json e report.html",
          "steps/monitoramento.py", "mlflow run . -e monitoramento"),
    Place(HEALTH, "PyCaret", "não participa: o monitoramento não precisa dele",
          "monitor/health.py", "mlflow run . -e monitoramento"),
    Place(HEALTH, "scikit-learn", "classificador de domínio, curvas e calibração",
          "monitor/domain_classifier.py", "mlflow run . -e monitoramento"),
    Place(HEALTH, "Streamlit", "painel com o veredito, o drift e as métricas",
          "monitor/app.py", "streamlit run monitor/app.py"),
    Place(UPDATE, "MLflow", "o registro move o alias champion e o estágio Production, e sabe voltar",
          "serving/registry.py", "mlflow run . -e reverter"),
    Place(UPDATE, "PyCaret", "ajusta o desafiante quando o laço decide retreinar",
          "steps/retreino.py", "mlflow run . -e retreino"),
    Place(UPDATE, "scikit-learn", "aprende com as linhas antigas e os rótulos que chegaram",
          "steps/labels_lesson.py", "mlflow run . -e retreino"),
    Place(UPDATE, "Streamlit", "página do laço: sinais, guardas e decisões",
          "monitor/screens/loop.py", "streamlit run monitor/app.py"),
    Place(DEPLOYMENT, "MLflow", "serve o champion por REST",
          "serving/mlflow_server.py", "mlflow models serve -m models:/kobe_shot/Production"),
    Place(DEPLOYMENT, "PyCaret", "não participa: o modelo servido é um pipeline simples de scikit-learn",
          "serving/packaging.py", "mlflow models serve -m models:/kobe_shot/Production"),
    Place(DEPLOYMENT, "scikit-learn", "é o pipeline que responde, salvo com skops, sem pickle",
          "serving/scoring_model.py", "mlflow models serve -m models:/kobe_shot/Production"),
    Place(DEPLOYMENT, "Streamlit", "acompanha o servidor: versão que responde, rótulos e log de inferência",
          "monitor/app.py", "streamlit run monitor/app.py"),
)  # fmt: skip
"""Each purpose with each tool."""
