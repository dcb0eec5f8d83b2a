"""Artifacts of runs and versions, with a description, size and SHA-256 of each file."""

import struct
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from data.storage.files import sha256, size_bytes
from data.storage.tables import TableReader
from monitor.reports.pipeline.facts import ArtifactFacts, RunFacts
from monitor.retraining import backtest, promotion_test
from monitor.store import tags
from monitor.store.model_store import ModelStore
from serving import registry
from serving.model import model_files
from serving.model.manifest import META

_TABLE = ".parquet"
_TEXTS = (".json", ".md", ".html", ".yaml", ".yml", ".txt", ".py", ".csv", "MLmodel")
_INDEX = "__index_level_"
_PNG_HEADER = 24

_DESCRIPTIONS = (
    ("*dataset.json", "descrição da tabela: colunas, papéis, tipos, faixas e divisões",
     "validar os dados e a requisição, e servir e monitorar a versão com a mesma descrição"),
    ("*scoring_config.json", "colunas, faixas e categorias aceitas; registros que conferem a forma compilada",
     "validar a requisição no servidor"),
    ("*/manifest.json", "origem dos dados e SHA-256 de cada tabela", "ligar os dados preparados aos brutos"),
    ("candidate/model.skops", "pipeline do candidato (padronização e estimador), sem pickle",
     "comparar os candidatos e treiná-los de novo em outras divisões"),
    ("justification.md", "texto e tabela com a seleção do modelo", "explicar por que este modelo foi selecionado"),
    (promotion_test.FILE, "comparação com o campeão, métrica por métrica", "justificar a promoção ou a recusa"),
    ("monitoring.json", "todas as verificações e métricas do monitoramento", "alimentar o painel e os alertas"),
    ("report.html", "relatório do monitoramento", "ler o resultado do monitoramento sem o painel"),
    (backtest.FILE, "backtest da política de retreinamento, lote a lote", "medir o ganho do retreinamento"),
    ("decision.json", "gatilhos, pré-condições e janelas de uma decisão", "justificar a decisão de retreinar ou não"),
    ("*MLmodel", "descrição do modelo: assinatura e flavor", "dizer ao MLflow como carregar e validar o modelo"),
    ("*split_sensitivity.csv", "métricas por divisão, semente e modelo", "medir o efeito da divisão de treino e teste"),
    ("*model_card*", "model card", "documentar uso, dados, métricas e limitações da versão"),
    ("*.skops", "pipeline que gera as predições, sem pickle", "gerar as predições no servidor e em lote"),
    ("*requirements.txt", "dependências fixadas", "recriar o ambiente do modelo servido"),
    ("*conda.yaml", "ambiente", "recriar o ambiente do modelo servido com conda"),
    ("*python_env.yaml", "ambiente", "recriar o ambiente do modelo servido com virtualenv"),
    ("*.py", "código do modelo servido", "validar a requisição e calcular a resposta"),
    ("*serving_input_example.json", "exemplo de requisição", "mostrar e testar o formato da requisição"),
    ("*input_example.json", "exemplo de entrada", "mostrar e testar o formato da requisição"),
    ("*.png", "gráfico", "inspecionar os dados e o modelo"),
    ("raw/*dev*.parquet", "", "guardar os dados brutos de desenvolvimento como foram recebidos"),
    ("raw/*prod*.parquet", "", "guardar os dados brutos de produção como foram recebidos"),
    ("*data_filtered.parquet", "", "base limpa, antes da separação em treino e teste"),
    ("*base_train.parquet", "", "treinar e validar os modelos"),
    ("*base_test.parquet", "", "medir o modelo final e servir de referência ao monitoramento"),
    ("*base_prod.parquet", "", "registros da operação que recebem predições"),
    ("*_ids.parquet", "", "saber quais arremessos são de treino e quais são de teste"),
    ("*predictions*.parquet", "", "resultado da aplicação: classe predita e P(cesta) de cada registro"),
)  # fmt: skip
"""Composition and purpose of a file, by the first pattern that matches its path; a table is described by its size."""


@registry.translate_store_errors()
def of_run(store: ModelStore, run: RunFacts) -> Iterator[ArtifactFacts]:
    """Describe the artifacts of a run; a table in parts is one artifact, and so is a table too large for a copy."""
    seen = set()
    for path in store.artifacts(run.run_id) if run else ():
        whole = path.partition(f"{_TABLE}/")[0] + _TABLE if f"{_TABLE}/" in path else path
        if whole not in seen:
            seen.add(whole)
            yield describe(store.artifact(run.run_id, whole), run.name, whole)
    for tag in run.tags:
        if tag.startswith(tags.LOCATION):
            name = tag.removeprefix(tags.LOCATION)
            yield _uncopied(Path(run.tags[tag]), run, name)


def _uncopied(file: Path, run: RunFacts, name: str) -> ArtifactFacts:
    """Describe a table that was too large for a copy; its SHA-256 is the one that the run logged."""
    note, digest = "grande demais para ser copiada; permanece onde foi escrita", run.tags.get(tags.sha256_of(name), "")
    if not file.exists():
        return ArtifactFacts(run.name, f"{name}{_TABLE}", f"tabela {note}, mas não existe mais", None, digest)
    columns, composition = _table(file)
    path = f"{name}{_TABLE}"
    return ArtifactFacts(
        run.name, path, f"{composition}; {note}", size_bytes(file), digest, columns, _described(path)[1]
    )


@registry.translate_store_errors()
def of_version(number: str) -> Iterator[ArtifactFacts]:
    """Describe the files of a registered version, which is a logged model."""
    name = f"{registry.model()} versão {number}"
    with model_files.private_copy(registry.uri(number)) as local:
        for path in sorted(path for path in local.rglob("*") if path.is_file() and path.name != META):
            yield describe(path, name, str(path.relative_to(local)))


def describe(file: Path, run: str, path: str) -> ArtifactFacts:
    """Describe a file, or a folder with the parts of a table."""
    columns: tuple[tuple[str, str], ...] = ()
    if path.endswith(_TABLE):
        columns, composition = _table(file)
    else:
        composition = ", ".join(filter(None, [_described(path)[0], _dimensions(file)])) or "arquivo"
    return ArtifactFacts(run, path, composition, size_bytes(file), sha256(file), columns, _described(path)[1])


def _table(file: Path) -> tuple[tuple[tuple[str, str], ...], str]:
    """The columns of a table, and its description."""
    reader = TableReader(file)
    named = [column for column in reader.schema if not column.name.startswith(_INDEX)]
    rows = reader.rows or 0
    counted = f"{thousands(rows)} {'registro' if rows == 1 else 'registros'}"
    columns = tuple((column.name, str(column.type)) for column in named)
    return columns, f"tabela, {counted} × {len(columns)} {'coluna' if len(columns) == 1 else 'colunas'}"


def thousands(number: int) -> str:
    """Format an integer as in Brazil.

    Examples
    --------
    >>> thousands(20285)
    '20.285'
    """
    return f"{number:,}".replace(",", ".")


def _described(path: str) -> tuple[str, str]:
    found = ((composition, purpose) for pattern, composition, purpose in _DESCRIPTIONS if fnmatch(path, pattern))
    return next(found, ("", ""))


def _dimensions(file: Path) -> str:
    if file.suffix == ".png":
        with file.open("rb") as opened:
            header = opened.read(_PNG_HEADER)
        if len(header) == _PNG_HEADER:
            width, height = struct.unpack(">II", header[-8:])
            return f"{width} × {height} pixels"
    if file.name.endswith(_TEXTS):
        with file.open("rb") as opened:
            lines = sum(1 for _ in opened)
        return "1 linha de texto" if lines == 1 else f"{thousands(lines)} linhas de texto"
    return ""
