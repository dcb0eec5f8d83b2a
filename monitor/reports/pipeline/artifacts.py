"""The files that runs keep: what they consist of, how large they are, and their SHA-256, from their bytes."""

import struct
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from data.storage.files import sha256, size_bytes
from data.storage.tables import TableReader
from monitor.reports.pipeline.facts import Artefact, RunFacts
from monitor.store import tags
from monitor.store.model_store import ModelStore
from serving import registry
from serving.model import model_files
from serving.model.manifest import META

_TABLE = ".parquet"
_TEXTS = (".json", ".md", ".html", ".yaml", ".yml", ".txt", ".py", ".csv", "MLmodel")
_INDEX = "__index_level_"
_PNG_HEADER = 24

_WORDS = (
    ("*/manifest.json", "origem dos dados e SHA-256 de cada tabela"),
    ("candidate/model.skops", "pipeline do candidato (padronização e estimador), sem pickle"),
    ("justification.md", "por que este modelo foi escolhido"),
    ("challenge.json", "comparação com o champion, número por número"),
    ("monitoring.json", "todas as verificações e números da análise"),
    ("report.html", "a mesma análise, para pessoas"),
    ("replay.json", "a operação repetida, lote a lote"),
    ("*MLmodel", "descrição do modelo: assinatura e sabor"),
    ("*split_study.csv", "uma linha por divisão, semente e modelo"),
    ("*model_card*", "cartão do modelo"),
    ("*.skops", "pipeline que responde, sem pickle"),
    ("*requirements.txt", "dependências fixadas"),
    ("*conda.yaml", "ambiente"),
    ("*python_env.yaml", "ambiente"),
    ("*.py", "código do modelo servido"),
    ("*input_example.json", "exemplo de entrada"),
    ("*.png", "figura"),
)
"""What a file is, in words, by the first pattern that its path matches."""


@registry.translate_store_errors()
def of_run(store: ModelStore, run: RunFacts) -> Iterator[Artefact]:
    """The artefacts of a run; a table in parts is one of them, and one that was left where it was written too."""
    seen = set()
    for path in store.artifacts(run.run_id) if run else ():
        whole = path.partition(f"{_TABLE}/")[0] + _TABLE if f"{_TABLE}/" in path else path
        if whole not in seen:
            seen.add(whole)
            yield describe(store.artifact(run.run_id, whole), run.name, whole)
    for tag in run.tags:
        if tag.startswith(tags.LOCATION):
            name = tag.removeprefix(tags.LOCATION)
            yield _left(Path(run.tags[tag]), run, name)


def _left(file: Path, run: RunFacts, name: str) -> Artefact:
    """A table that was too large for a copy: its digest is what the run noted."""
    words, digest = "grande demais para uma cópia; ficou onde foi escrita", run.tags.get(tags.sha256_of(name), "")
    if not file.exists():
        return Artefact(run.name, f"{name}{_TABLE}", f"tabela {words}, e não está mais lá", None, digest)
    columns, composition = _table(file)
    return Artefact(run.name, f"{name}{_TABLE}", f"{composition}; {words}", size_bytes(file), digest, columns)


@registry.translate_store_errors()
def of_version(number: str) -> Iterator[Artefact]:
    """The files of a registered version, which is a logged model."""
    name = f"{registry.model()} versão {number}"
    with model_files.private_copy(f"models:/{registry.model()}/{number}") as local:
        for path in sorted(path for path in local.rglob("*") if path.is_file() and path.name != META):
            yield describe(path, name, str(path.relative_to(local)))


def describe(file: Path, run: str, path: str) -> Artefact:
    """A file, or a folder of the parts of a table, as an artefact."""
    columns: tuple[tuple[str, str], ...] = ()
    if path.endswith(_TABLE):
        columns, composition = _table(file)
    else:
        composition = ", ".join(filter(None, [_words(path), _measure(file)])) or "arquivo"
    return Artefact(run, path, composition, size_bytes(file), sha256(file), columns)


def _table(file: Path) -> tuple[tuple[tuple[str, str], ...], str]:
    """The columns of a table, and what it consists of."""
    reader = TableReader(file)
    named = [column for column in reader.schema if not column.name.startswith(_INDEX)]
    rows = reader.rows or 0
    counted = f"{thousands(rows)} {'linha' if rows == 1 else 'linhas'}"
    columns = tuple((column.name, str(column.type)) for column in named)
    return columns, f"tabela, {counted} × {len(columns)} {'coluna' if len(columns) == 1 else 'colunas'}"


def thousands(number: int) -> str:
    """A whole number as it is written in Brazil.

    Examples
    --------
    >>> thousands(20285)
    '20.285'
    """
    return f"{number:,}".replace(",", ".")


def _words(path: str) -> str:
    return next((words for pattern, words in _WORDS if fnmatch(path, pattern)), "")


def _measure(file: Path) -> str:
    if file.suffix == ".png":
        with file.open("rb") as opened:
            header = opened.read(_PNG_HEADER)
        if len(header) == _PNG_HEADER:
            width, height = struct.unpack(">II", header[-8:])
            return f"{width} × {height} pontos"
    if file.name.endswith(_TEXTS):
        with file.open("rb") as opened:
            lines = sum(1 for _ in opened)
        return f"{thousands(lines)} {'linha' if lines == 1 else 'linhas'} de texto"
    return ""
