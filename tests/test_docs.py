"""Links, commands, names and tables of the pages match the code."""

import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from data.datasets import default
from data.paths import ROOT
from monitor.health.checks import ALL_CHECKS
from tests.pages import PAGES, Page
from tests.shell_commands import PACKAGES, check, commands
from tests.test_layers import LAYERS
from tools import parameters

DOCS = ROOT / "docs"
OUTPUTS = ("data/raw", "data/processed", "deploy/secrets", "docs/entrega")
"""Folders that commands write to."""

_COMMAND = re.compile(r"(make|mlflow (run|models|ui|server)|python -m|streamlit run) ")
_SHELL = {"sh", "bash", "shell", "console"}

each_page = pytest.mark.parametrize(
    "page", [Page(path) for path in PAGES], ids=lambda page: str(page.path.relative_to(ROOT))
)


@each_page
def test_links_lead_somewhere(page: Page) -> None:
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https" or parts.hostname in {"127.0.0.1", "localhost"}, link
            assert parts.hostname, link
            continue
        assert not parts.path.startswith("/"), link
        target = (page.path.parent / parts.path).resolve() if parts.path else page.path
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if parts.fragment:
            assert parts.fragment in Page(target).anchors, link


@each_page
def test_commands_are_those_that_the_project_takes(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = {block.line for block, below in pairwise(page.blocks) if "error_code" in below.text}
    scripts = [block for block in page.blocks if block.language in _SHELL]
    for block in scripts:
        if block.line in refused:
            [words] = commands(block.text)
            with pytest.raises(jsonschema.ValidationError):
                check(words, tmp_path)
    found = [(f"line {block.line}", block.text) for block in scripts if block.line not in refused]
    found += [(f"`{code}`", code) for code in page.code if _COMMAND.match(code)]
    problems = []
    for place, script in found:
        for words in commands(script):
            try:
                check(words, tmp_path)
            except (Exception, SystemExit) as error:  # noqa: BLE001 report every problem of a page at once
                problems.append(f"{place}: {' '.join(words)}: {error} {capsys.readouterr().err}")
    assert not problems, "\n".join(problems)


@each_page
def test_blocks_of_code_name_their_language(page: Page) -> None:
    assert [block.line for block in page.blocks if not block.language] == []


@each_page
def test_files_that_are_named_exist(page: Page) -> None:
    for name in re.findall(rf"(?<![\w/.-])(?:{'|'.join([*PACKAGES, 'docs', 'deploy'])})/[\w./-]*", page.text):
        path = name.rstrip(".")
        assert (ROOT / path).exists() or path.startswith(OUTPUTS), path


def test_every_guarantee_of_the_security_page_names_tests_that_exist() -> None:
    page = (DOCS / "security.md").read_text(encoding="utf-8")
    sections = re.split(r"^(?:In|.* In) `(tests/attacks/\w+\.py)`", page, flags=re.MULTILINE)[1:]
    named = [
        (file, test)
        for file, text in zip(*[iter(sections)] * 2, strict=True)
        for test in re.findall(r"`(test_\w+)`", text)
    ]
    assert len(named) > 40
    assert [test for file, test in named if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")] == []


@each_page
def test_modules_that_are_named_exist(page: Page) -> None:
    for code in page.code:
        if re.fullmatch(rf"(?:{'|'.join(PACKAGES)})(?:\.(?!csv$|parquet$)\w+)+", code):
            module = ROOT.joinpath(*code.split("."))
            parent = module.parent.with_suffix(".py")
            known = module.is_dir() or module.with_suffix(".py").is_file()
            assert known or re.search(rf"\b{module.name}\b", parent.read_text() if parent.is_file() else ""), code


def test_every_page_is_in_the_index() -> None:
    listed = {link.partition("#")[0] for link in Page(DOCS / "README.md").links}
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= listed


def test_the_page_of_the_architecture_describes_every_package_of_two_levels() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `(\w+/\w+)/` \|", text, flags=re.MULTILINE))
    packages = {path.parent.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("__init__.py")}
    assert {str(package) for package in packages if len(package.parts) == 2} == described


@pytest.mark.parametrize("page", ["README.md", "README.pt-BR.md"])
def test_the_project_layout_names_every_layer_and_only_folders_that_exist(page: str) -> None:
    named = set(re.findall(r"`(\w+)/`", (ROOT / page).read_text(encoding="utf-8")))
    assert {*LAYERS, "deploy", "tests", "docs"} <= named
    assert all((ROOT / name).is_dir() for name in named)


def test_every_image_is_shown_and_small() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in Page(page).links}
    for image in [*DOCS.rglob("*.png"), *DOCS.rglob("*.webp")]:
        assert image in shown, image
        assert image.stat().st_size < (250_000 if image.suffix == ".png" else 1_500_000), image


def test_mlproject_and_the_page_of_parameters_are_those_of_the_configurations() -> None:
    assert parameters.PROJECT.read_text(encoding="utf-8") == parameters.render_project(), "run: make docs"
    assert parameters.PAGE.read_text(encoding="utf-8") == parameters.render(), "run: make docs"


def test_every_entry_point_is_described() -> None:
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert [name for name in entry_points if f"`{name}`" not in Page(ROOT / "README.md").text] == []
    assert set(entry_points) <= Page(parameters.PAGE).anchors


def test_every_column_that_a_table_needs_is_described_as_the_schema_does() -> None:
    text = parameters.PAGE.read_text()
    for column in default().columns:
        row = f"| `{column.raw_name}` | {column.description} | {column.constraint_text} | {column.unit} |"
        assert (row in text) == (column in default().required)


def test_every_check_is_described_with_what_to_do() -> None:
    monitoring = (DOCS / "monitoring.md").read_text()
    assert re.findall(r"^\| (K\d+) \|", monitoring, flags=re.MULTILINE) == [check.code for check in ALL_CHECKS]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("make man", "no target man"),
        ("make main SORCE=synthetic", "SORCE"),
        ("make retrain ARGUMENTS='-P mode=guess'", "2"),
        ("mlflow run . -e treinar", "no treinar"),
        ("mlflow run . -e preparacao -P tset_size=0.2", "tset_size"),
        ("mlflow run . -e preparacao -P test_size=2", "2"),
        ("mlflow run . -e main --env-manger local", "env-manger"),
        ("mlflow serve -m models:/kobe_shot/Production", "no command serve"),
        ("python -m serving.cleint shots.parquet", "serving/cleint.py"),
        ("python -m serving.client shots.parquet --oot scored.parquet", "2"),
        ("python -m bench.scale --milions 1", "2"),
        ("streamlit run monitor/ap.py", "monitor/ap.py"),
        ("curl http://127.0.0.1:5001/invocations -d '{\"dataframe_records\": [}'", "Expecting value"),
        ("curl http://127.0.0.1:5001/invocations -d '{\"rows\": []}'", "rows"),
        ("rm -rf mlruns", "no rule"),
    ],
)
def test_a_command_that_the_project_does_not_take_is_found(
    command: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    [found] = commands(command)
    with pytest.raises((Exception, SystemExit), match=words):
        check(found, tmp_path)


def test_a_heading_has_the_name_that_github_gives_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`, three!\n\n## Again\n\n## Again\n\n[there](#again-1)\n")
    assert Page(page).anchors == {"one-two-three", "again", "again-1"}
    assert Page(page).links == ["#again-1"]
