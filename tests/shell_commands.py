"""Check the commands on the pages without running them, except ``make -n``."""

import argparse
import contextlib
import importlib
import importlib.util
import itertools
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch
from urllib.parse import urlsplit

import click
import jsonschema  # type: ignore[import-untyped]
import yaml
from mlflow.cli import cli

from data.acquisition.raw_tables import FILES
from data.cli.config import parse_args
from data.paths import ROOT
from data.simulation import synthetic
from tools.parameters import config_of

PACKAGES = ("steps", "monitor", "serving", "data", "bench", "tools", "tests")
INSTALLED = ("-o", ".venv/.ready", "-o", ".venv/.ready-spark")
"""Options of make that skip building the environment."""

_MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
_TARGETS = set(re.findall(r"^([a-z][\w-]*):", _MAKEFILE, flags=re.MULTILINE))
_VARIABLES = set(re.findall(r"\$[({](?:or \$\(|value )?([A-Z_]+)", _MAKEFILE))
_ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_-]+(?:=\S+)?")
_TABLE = (".parquet", ".csv")


def commands(script: str) -> Iterator[list[str]]:
    r"""Split a shell script into commands, without comments, redirections and assignments.

    Examples
    --------
    >>> list(commands("cd a && PORT=1 make b >> log 2>&1  # why\nls &"))
    [['cd', 'a'], ['make', 'b'], ['ls']]
    """
    script = re.sub(r"(^|\s)#(\s.*)?$", "", script.replace("\\\n", " "), flags=re.MULTILINE)
    lexer = shlex.shlex(script, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    words: list[str] = []
    redirected = False
    for word in [*lexer, "\n"]:
        if set(word) <= set("<>&") and set(word) & set("<>"):
            redirected = True
            words = words[:-1] if words and words[-1].isdigit() else words
        elif set(word) <= set("();<>|&\n"):
            if words:
                yield words
            words = []
        elif redirected:
            redirected = False
        elif words or not re.match(r"[A-Z_]+=", word):
            words.append(word)


def check(words: list[str], folder: Path) -> None:
    """Fail if the project does not accept its command, or if another command is unknown.

    Parameters
    ----------
    words : list of str
    folder : pathlib.Path
        The current directory, in which the files of the command are created.
    """
    program, *arguments = words[1:] if words[0] in {"do", "then", "sudo"} and words[1:] else words
    name = "*.sh" if program.endswith(".sh") else Path(program).name or program
    assert name in _CHECKS, f"{shlex.join(words)}: a command that no rule of this module knows"
    found = _CHECKS[name]
    if found:
        found([_made_up(word, folder) for word in ([program, *arguments] if name == "*.sh" else arguments)])


def _made_up(word: str, folder: Path) -> str:
    """Create the table or folder that the word names; the word with its path."""
    key, separator, value = word.rpartition("=")
    value = {"FILE": "FILE.parquet"}.get(value, value).removeprefix("/")
    path = folder / value
    if value.endswith(".toml") and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((ROOT / "data" / "datasets" / "template.toml").read_bytes())
    if value.endswith(_TABLE) and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_table(path)
    elif _PLACEHOLDER.fullmatch(value) or word.rpartition("=")[2].startswith("/"):
        for name in FILES:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            _write_table(path / name)
    return f"{key}{separator}{value}"


def _write_table(path: Path) -> None:
    table = synthetic.shots(100, 0)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)


def _make(arguments: list[str]) -> None:
    """Check the commands that make would run."""
    for argument in arguments:
        variable = argument.partition("=")[0] if "=" in argument else ""
        assert not variable or variable in _VARIABLES or variable == "PYTHON", f"the Makefile knows no {variable}"
        assert variable or argument in _TARGETS or _PLACEHOLDER.fullmatch(argument), f"make has no target {argument}"
    if any(_PLACEHOLDER.fullmatch(argument) and "=" not in argument for argument in arguments):
        return
    for words in commands(_recipe(tuple(arguments))):
        if words[0] in {"mlflow", "python", "streamlit"}:
            check(words, Path.cwd())


@cache
def _recipe(arguments: tuple[str, ...]) -> str:
    command = ["make", "--no-print-directory", "-n", "-C", str(ROOT), *INSTALLED, *arguments]
    environment = outside_make(os.environ)
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def outside_make(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables that a ``make`` that runs the tests exports to others."""
    exported = {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", *_VARIABLES} - {"PATH"}
    return {name: value for name, value in environment.items() if name not in exported}


def _mlflow(arguments: list[str]) -> None:
    """Parse the options with MLflow's own parser, and the parameters with the entry point's configuration."""
    command: click.Command = cli
    name = "mlflow"
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        known = command.get_command(click.Context(command), name)
        assert known, f"mlflow has no command {name}"
        command = known
    if not arguments:
        return
    options: dict[str, Any] = command.make_context(name, list(arguments)).params
    if name == "run":
        entry_point = options["entry_point"]
        assert entry_point in _ENTRY_POINTS or _PLACEHOLDER.fullmatch(entry_point), f"MLproject has no {entry_point}"
        pairs = [pair.partition("=") for pair in options["param_list"]]
        if entry_point in _ENTRY_POINTS:
            unknown = {key for key, _, _ in pairs} - set(_ENTRY_POINTS[entry_point]["parameters"])
            assert not unknown, f"entry point {entry_point} has no parameters {unknown}"
            parse_args(config_of(f"steps.{entry_point}"), [f"--{key}={value}" for key, _, value in pairs])


def _python(arguments: list[str]) -> None:
    if arguments[0] != "-m":
        assert arguments[0] == "-c", f"expected python -m MODULE; found {arguments}"
        return
    module, *options = arguments[1:]
    if module.partition(".")[0] not in PACKAGES:
        assert importlib.util.find_spec(module.partition(".")[0]), f"there is no module {module}"
        return
    if _PLACEHOLDER.fullmatch(module.rpartition(".")[2]):
        return
    path = ROOT / module.replace(".", "/") / "__main__.py"
    path = path if path.is_file() else path.parent.with_suffix(".py")
    assert path.is_file(), f"there is no {path.relative_to(ROOT)}"
    options = [option for option in options if option not in {"--help", "--PARAMETER", "VALUE"}]
    source = path.read_text(encoding="utf-8")
    if "run_command(" in source:
        if options and "$" not in "".join(options):
            parse_args(config_of(module), options)
    elif "argparse" in source:
        _parser_of(module).parse_args(options)
    else:
        assert not options, f"{module} takes no options; found {options}"


def _parser_of(module: str) -> argparse.ArgumentParser:
    """The parser that a module's ``main`` uses."""
    caught: list[argparse.ArgumentParser] = []

    def catch(parser: argparse.ArgumentParser) -> NoReturn:
        caught.append(parser)
        raise StopIteration

    with patch.object(argparse.ArgumentParser, "parse_args", catch), contextlib.suppress(StopIteration):
        importlib.import_module(module).main()
    return caught[0]


def _streamlit(arguments: list[str]) -> None:
    assert arguments[0] == "run", f"expected streamlit run FILE; found {arguments}"
    assert (ROOT / arguments[1]).is_file(), f"there is no {arguments[1]}"


def _curl(arguments: list[str]) -> None:
    """Validate the body of a scoring request against the published description."""
    sent = [body for option, body in itertools.pairwise(arguments) if option in {"-d", "--data"}]
    urls = [urlsplit(argument) for argument in arguments if re.match(r"https?://|127\.0\.0\.1", argument)]
    assert urls, f"curl without a URL: {arguments}"
    for body in sent:
        if body.startswith("@"):
            continue
        parsed = json.loads(body)
        if any(url.path == "/invocations" for url in urls):
            described = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
            schema = described["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
            jsonschema.validate(parsed, {**schema, "components": described["components"]})


def _source(arguments: list[str]) -> None:
    assert arguments == [".venv/bin/activate"], f"expected . .venv/bin/activate; found {arguments}"


def _pytest(arguments: list[str]) -> None:
    for argument in arguments:
        name = argument.partition("::")[0]
        assert not name.startswith("tests/") or (ROOT / name).exists(), f"there is no {name}"


def _script(arguments: list[str]) -> None:
    name = Path(arguments[0]).name
    assert (ROOT / "deploy" / name).is_file(), f"there is no deploy/{name}"


def _uv(arguments: list[str]) -> None:
    for option, value in itertools.pairwise(arguments):
        assert option not in {"-c", "-r"} or (ROOT / value).is_file(), f"there is no {value}"


def _docker(arguments: list[str]) -> None:
    for option, value in itertools.pairwise(arguments):
        assert option not in {"-f", "--file", "--env-file"} or (ROOT / value).parent.is_dir(), f"there is no {value}"


_CHECKS: dict[str, Callable[[list[str]], None] | None] = {
    "make": _make,
    "mlflow": _mlflow,
    "python": _python,
    "streamlit": _streamlit,
    "curl": _curl,
    ".": _source,
    "pytest": _pytest,
    "docker": _docker,
    "uv": _uv,
    "*.sh": _script,
    **dict.fromkeys(("cd", "git", "ssh", "export", "ls", "du", "mkdir", "cp", "spark-class", "for", "do", "done")),
    # What a person installs, or runs on a cluster.
    **dict.fromkeys(("kubectl", "brew", "apt-get", "ln")),
}
"""The check of each program that a page may name; None for programs of other projects."""
