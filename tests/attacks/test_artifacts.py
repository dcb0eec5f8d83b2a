"""An attacker who can write only to the artifact store runs no code and changes no response."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import requests
from mlflow import MlflowClient
from sklearn.pipeline import Pipeline

from data.errors import KobeShotError
from monitor.reports.pipeline import artifacts
from serving import registry
from serving.batch import in_process
from serving.model import manifest, model_files, scoring_model
from serving.model.manifest import FILES, FILES_SHA256, RECORDED_FROM, ModelFilesError
from serving.model.packaging import load_pipeline, save_pipeline
from serving.registry.verify import VerifyConfig
from serving.registry.verify import run as verify
from steps import aplicacao, reverter
from steps.aplicacao import AplicacaoConfig
from steps.reverter import ReverterConfig
from tests import fork_server
from tests.evaluations import population
from tests.project import (
    Checkout,
    completed,
    environment,
    publish,
    records,
    run_production_server,
    shot,
    wait_until,
)
from tests.versions import GOOD, SAME, LoggedModels

CHANGED = "not those that were registered"


@pytest.fixture(autouse=True)
def _forget() -> None:
    in_process._model.cache_clear()  # noqa: SLF001 versions of one number and run in several copies of a store


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What the attacker's line writes, if it ever runs."""
    return tmp_path / "it_ran"


@pytest.fixture
def champions(store_with_models: LoggedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The folders in the store of a former champion and the champion, versions 1 and 2; restored afterwards."""
    monkeypatch.chdir(tmp_path)
    folders = []
    for name in (GOOD, SAME):
        registry.promote(store_with_models.register(name, synthetic="false"), "better")
        folders.append(
            Path(
                MlflowClient()
                .get_logged_model(store_with_models.models[name].uri.removeprefix("models:/"))
                .artifact_location
            )
        )
    kept = [Path(shutil.copytree(folder, tmp_path / f"kept-{place}")) for place, folder in enumerate(folders)]
    yield folders
    for folder, copy in zip(folders, kept, strict=True):
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)


def add_line(folder: Path, marker: Path) -> None:
    with (folder / "scoring_model.py").open("a") as code:
        code.write(f"\nPath({str(marker)!r}).touch()\n")


def replace_by(content: bytes, path: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_bytes(content)


def link_out(folder: Path) -> None:
    (folder / "code" / "inference_log.py").unlink()
    (folder / "code" / "inference_log.py").symlink_to("/dev/zero")


ATTACKS = {
    "a line of code": (replace_by(b"import os\n", "scoring_model.py"), r"changed: scoring_model\.py"),
    "further code": (replace_by(b"import os\n", "code/numpy.py"), r"not registered: code/numpy\.py"),
    "another flavor": (replace_by(b"flavors: {}\n", "MLmodel"), "changed: MLmodel"),
    "its environment": (replace_by(b"evil==1\n", "requirements.txt"), r"changed: requirements\.txt"),
    "another pipeline": (replace_by(b"", "artifacts/pipeline.skops"), r"changed: artifacts/pipeline\.skops"),
    "a file that is gone": (lambda folder: (folder / "conda.yaml").unlink(), r"missing: conda\.yaml"),
    "a link": (link_out, r"found code/inference_log\.py, which is a link"),
    "a pipe": (lambda folder: os.mkfifo(folder / "pipe"), "found pipe, which is a link, a pipe"),
    "a folder elsewhere": (lambda folder: (folder / "more").symlink_to("/etc"), "found more, which is a link"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_files_that_are_not_those_that_were_registered_are_named_and_not_loaded(
    champions: list[Path], attack: str
) -> None:
    tamper, words = ATTACKS[attack]
    tamper(champions[1])
    with pytest.raises(ModelFilesError, match=rf"version 2 of kobe_shot .*{CHANGED} \(.*{words}"):
        model_files.load("models:/kobe_shot/2")
    assert model_files.load("models:/kobe_shot/1")


def test_code_that_was_added_to_the_champion_does_not_run_in_monitor_loop_or_batch_scoring(
    champions: list[Path], marker: Path, shots: pd.DataFrame
) -> None:
    add_line(champions[1], marker)
    table = Path("shots.parquet").absolute()
    shots.head(50).to_parquet(table)
    loads: list[Callable[[], object]] = [
        lambda: in_process.predict(population().head(5), "2"),
        lambda: in_process.prediction_hash("models:/kobe_shot/2"),
        lambda: list(artifacts.of_version("2")),
        *(
            lambda mode=mode: aplicacao.run(
                AplicacaoConfig(table=str(table), out=str(table.with_name("scored.parquet")), mode=mode)
            )
            for mode in ("batch", "rest")
        ),
    ]
    for load in loads:
        with pytest.raises(KobeShotError, match=rf"{CHANGED} \(changed: scoring_model\.py\)"):
            load()
    assert not marker.exists()


def test_code_that_was_added_to_the_former_champion_does_not_run_in_a_rollback_which_changes_nothing(
    champions: list[Path], marker: Path
) -> None:
    add_line(champions[0], marker)
    before = registry.alias_state()
    with pytest.raises(KobeShotError, match=CHANGED):
        reverter.run(ReverterConfig())
    assert registry.alias_state() == before
    assert not marker.exists()


def test_files_that_are_changed_after_they_were_compared_change_nothing(
    champions: list[Path], marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = mlflow.pyfunc.load_model

    def change_and_load(folder: str) -> object:
        add_line(champions[1], marker)
        assert Path(folder).stat().st_uid == os.getuid()
        assert Path(folder).parent.stat().st_mode & 0o777 == 0o700
        return load(folder)

    expected = in_process.predict(population().head(5), "1")
    monkeypatch.setattr(mlflow.pyfunc, "load_model", change_and_load)
    pd.testing.assert_series_equal(
        in_process.predict(population().head(5), "2")["probability"], expected["probability"]
    )
    assert not marker.exists()


@pytest.mark.usefixtures("champions")
def test_a_version_whose_digest_was_deleted_is_refused_until_a_person_records_its_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for tag in (FILES, FILES_SHA256):
        MlflowClient().delete_model_version_tag(registry.model(), "2", tag)
    with pytest.raises(KobeShotError, match=r"python -m serving\.registry\.verify --record 2"):
        in_process.threshold_of("2")
    with pytest.raises(ModelFilesError, match="not known to be: version 2"):
        verify(VerifyConfig())
    verify(VerifyConfig(record="2"))
    raised = " ".join("".join(capsys.readouterr()).split())
    assert "Whether they were changed before is unknown" in raised
    assert in_process.threshold_of("2") == 0.5
    with pytest.raises(KobeShotError, match="recorded already"):
        verify(VerifyConfig(record="2"))


def test_a_version_of_a_former_release_is_recorded_when_it_is_first_loaded_with_a_message(
    champions: list[Path], marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient()
    assert client.get_registered_model(registry.model()).tags[RECORDED_FROM] == "1"
    client.set_registered_model_tag(registry.model(), RECORDED_FROM, "2")
    for tag in (FILES, FILES_SHA256):
        client.delete_model_version_tag(registry.model(), "1", tag)
    assert model_files.load("models:/kobe_shot/1")
    assert "recorded no SHA-256 of its files" in " ".join(capsys.readouterr().err.split())
    assert model_files.load("models:/kobe_shot/1")
    assert not capsys.readouterr().err
    add_line(champions[0], marker)
    with pytest.raises(ModelFilesError, match=rf"{CHANGED} \(changed: scoring_model\.py\)"):
        model_files.load("models:/kobe_shot/1")
    assert not marker.exists()


def test_verify_compares_each_version_with_what_was_registered(
    champions: list[Path], marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(VerifyConfig())
    assert "Version 1: OK" in capsys.readouterr().out
    add_line(champions[1], marker)
    compiled = champions[0] / "code" / "__pycache__" / "inference_log.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"")
    kept = champions[0].parent / "kept.pyc"
    kept.touch()
    (champions[0] / "__pycache__").symlink_to(kept.parent)
    assert in_process.threshold_of("1") == 0.5, "what Python compiled is not copied, and does no harm here"
    with pytest.raises(ModelFilesError, match="version 2 of kobe_shot"):
        verify(VerifyConfig())
    raised = capsys.readouterr()
    assert "removed what Python had compiled there" in " ".join(raised.out.split())
    assert "Version 2: MISMATCH (changed: scoring_model.py)" in " ".join(raised.err.split())
    assert kept.exists()
    assert not compiled.exists()
    assert not (champions[0] / "__pycache__").is_symlink()
    assert not marker.exists()


# What skops makes


def stored(folder: Path, node: dict[str, object], pipeline: Pipeline) -> Path:
    """A pipeline as skops stores it, with another node in place of its first step."""
    good, path = folder / "good.skops", folder / "pipeline.skops"
    save_pipeline(pipeline, good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                schema["content"]["content"]["verbose"] = node
                content = json.dumps(schema).encode()
            target.writestr(name, content)
    return path


def of(loader: str, module: str, name: str, **more: object) -> dict[str, object]:
    return {"__loader__": loader, "__module__": module, "__class__": name, "__id__": 1, **more}


TEXT = of("JsonNode", "builtins", "str", content='"x"', is_json=True)
GADGETS = {
    "numpy.load": of("FunctionNode", "numpy", "load"),
    "os.system": of("FunctionNode", "os", "system"),
    "a function that skops trusts": of("FunctionNode", "numpy", "exp"),
    "a type as a function": of("FunctionNode", "builtins", "str"),
    "operator.attrgetter": of("OperatorFuncNode", "operator", "attrgetter", attrs=TEXT),
    "operator.methodcaller": of("OperatorFuncNode", "operator", "methodcaller", attrs=TEXT),
    "a type that may be given, called": of("ConstructorFromReduceNode", "builtins", "str", content=TEXT),
    "a partial": of(
        "PartialNode", "functools", "partial", content=dict.fromkeys(("func", "args", "kwds", "namespace"), TEXT)
    ),
    "a method": of("MethodNode", "sklearn.pipeline", "Pipeline", content={"obj": TEXT, "func": "fit"}),
    "an estimator that is not offered": of("ObjectNode", "sklearn.feature_extraction.text", "HashingVectorizer"),
    "another part of scikit-learn": of("TypeNode", "sklearn.utils", "Bunch"),
}


@pytest.mark.parametrize("gadget", GADGETS)
def test_what_is_not_named_is_not_made_whatever_skops_or_the_configuration_trusts(
    tmp_path: Path, logged_models: LoggedModels, gadget: str
) -> None:
    path = stored(tmp_path, GADGETS[gadget], logged_models.models[GOOD].pipeline)
    with pytest.raises(ValueError, match=f"names; found .*{GADGETS[gadget]['__class__']}"):
        load_pipeline(path)
    assert load_pipeline(stored(tmp_path, TEXT, logged_models.models[GOOD].pipeline)).verbose == "x"


def test_a_version_that_was_recorded_with_a_gadget_in_it_is_refused(
    champions: list[Path], tmp_path: Path, logged_models: LoggedModels
) -> None:
    path = stored(tmp_path, GADGETS["numpy.load"], logged_models.models[GOOD].pipeline)
    shutil.copy(path, champions[1] / "artifacts" / "pipeline.skops")
    recorded = manifest.tags_of(manifest.manifest_of(champions[1]))
    for name, value in recorded.items():
        MlflowClient().set_model_version_tag(registry.model(), "2", name, value)
    with pytest.raises(ModelFilesError, match=r"pipeline\.skops of version 2 of kobe_shot holds numpy\.load"):
        model_files.load("models:/kobe_shot/2")


def test_neither_functions_nor_methods_are_named() -> None:
    ways = {"FunctionNode", "MethodNode", "PartialNode", "OperatorFuncNode", "ConstructorFromReduceNode"}
    assert not ways & scoring_model.STORED_TYPES.keys()


def test_the_configuration_of_a_model_names_no_types(champions: list[Path]) -> None:
    assert "trusted_types" not in (champions[1] / "MLmodel").read_text()


# The production server


def test_the_server_starts_with_no_champion_that_was_changed_and_takes_up_none(
    tmp_path: Path, published: Checkout, shots: pd.DataFrame, marker: Path
) -> None:
    checkout = published.copy(tmp_path / "checkout")
    before = set(checkout.folder.rglob("scoring_model.py"))

    def tamper() -> None:
        (new,) = set(checkout.folder.rglob("scoring_model.py")) - before
        add_line(new.parent, marker)

    with run_production_server(checkout, workers=1) as server:
        publish(checkout, shots, strength=0.5, meanwhile=tamper)
        wait_until(lambda: CHANGED in " ".join(server.output.read_text().split()), "the refusal")
        response = requests.post(f"{server.url}/invocations", json=records(shot()), timeout=60)
        assert response.headers["X-Model-Version"] == "1"
    started = completed(start(checkout))
    assert started.returncode == 1
    assert f"version 2 of kobe_shot are {CHANGED} (changed: scoring_model.py)" in " ".join(str(started.stderr).split())
    assert not marker.exists()
    production = checkout.production()
    assert production
    assert registry.number(production) == "2"


def start(checkout: Checkout) -> "subprocess.Popen[str]":
    return fork_server.start(
        [sys.executable, "-m", "serving.server", "--port", "0", "--workers", "1"],
        cwd=checkout.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
