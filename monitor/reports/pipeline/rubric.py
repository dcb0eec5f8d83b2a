"""The questions of the course project, and the section of the report that covers each."""

from typing import NamedTuple


class Question(NamedTuple):
    """A question, the section that covers it, and a text that this section has."""

    text: str
    section: str
    evidence: str


QUESTIONS = (
    Question("Repositório público, estrutura de pastas do TDSP, requirements.txt", "1. Repositório e estrutura",
             "Sample data"),
    Question("Diagrama de todas as etapas, da aquisição à operação; regressão e classificação", "2. Diagrama",
             "Duas abordagens"),
    Question("Importância dos pipelines de desenvolvimento e de produção", "3. Por que usar pipelines",
             "Pipeline de produção"),
    Question("Streamlit, MLflow, PyCaret e scikit-learn: rastreamento, treinamento, monitoramento, atualização e "
             "provisionamento", "4. Ferramentas", "Provisionamento"),
    Question("Artefatos: composição e finalidade", "5. Artefatos", "Finalidade"),
    Question("PreparacaoDados: colunas, registros ausentes descartados, dimensão resultante",
             "6. Preparação dos dados", "Dimensão"),
    Question("Separação estratificada, efeito da escolha de treino e teste, estratégias contra o viés, parâmetros e "
             "métricas no MLflow", "6. Preparação dos dados", "estratificação"),
    Question("Treinamento: regressão logística com PyCaret e sua log loss", "7. Treinamento", "Regressão logística"),
    Question("Treinamento: algoritmo de classificação justificado, sua log loss e seu F1", "7. Treinamento",
             "Por que uma árvore"),
    Question("Modelo selecionado e justificativa; curvas ROC, matrizes de confusão e mapas de predição",
             "7. Treinamento", "Qual dos dois modelos"),
    Question("PipelineAplicacao: modelo servido por API, tabela de resultados publicada, nova log loss e novo F1",
             "8. Aplicação", "Dez registros"),
    Question("O modelo é aderente à nova base? O que mudou e por quê", "8. Aplicação", "aderente"),
    Question("Monitorar a saúde do modelo com e sem a variável resposta", "9. Monitoramento",
             "Sem a variável resposta"),
    Question("Estratégias reativa e preditiva de retreinamento", "10. Retreinamento", "preditiva"),
    Question("Dashboard de monitoramento da operação em Streamlit", "11. Painel de monitoramento", "Streamlit"),
    Question("Execuções, registro de modelos e forma de executar", "12. Execuções e registro de modelos",
             "PipelineAplicacao"),
)  # fmt: skip
"""In the order of the report."""
