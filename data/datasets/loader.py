"""Reading of descriptions: a name from ``data/datasets``, or the path of a TOML file."""

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from data.datasets.description import Column, Court, Dataset, Monitoring, Promotion, Rows, Slice, Source, Test
from data.errors import DatasetError, FileError

FOLDER = Path(__file__).resolve().parent
DEFAULT = "kobe"
"""The dataset of the brief."""
TEMPLATE = "template"

MAX_BYTES = 2**20
_SUFFIX = ".toml"
_SECTIONS: dict[str, type[BaseModel]] = {
    "dataset": Dataset,
    "columns": Column,
    "development": Rows,
    "production": Rows,
    "test": Test,
    "source": Source,
    "court": Court,
    "slices": Slice,
    "monitoring": Monitoring,
    "promotion": Promotion,
}
_OF_DATASET = ("name", "title", "registered_model", "positive", "negative", "row", "rows", "rate")


def load(dataset: str | Path) -> Dataset:
    """Read a description.

    Parameters
    ----------
    dataset : str or pathlib.Path
        The name of a description in ``data/datasets``, or the path of a TOML file.

    Raises
    ------
    DatasetError
        If there is none, or it is invalid: the message lists what was expected, what was found and what to do.

    Examples
    --------
    >>> load("kobe").feature_names
    ('lat', 'lng', 'minutes_remaining', 'period', 'playoffs', 'shot_distance')
    """
    path = find(dataset)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DatasetError(str(FileError.of(error, path))) from error
    if len(content) > MAX_BYTES:
        message = f"{path.name}: expected a description of at most {MAX_BYTES:,} bytes; found a larger file."
        raise DatasetError(message)
    return parse(content, path.name)


def find(dataset: str | Path) -> Path:
    """Return the file of a description.

    Raises
    ------
    DatasetError
        If there is none.
    """
    text = str(dataset)
    if text.endswith(_SUFFIX) or os.sep in text:
        path = Path(text).expanduser()
        if not path.is_file():
            message = f"expected the TOML file of a dataset; found {text!r}, no such file ({path.absolute()})."
            raise DatasetError(message)
        return path
    if text not in names():
        close = difflib.get_close_matches(text, names(), 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        message = (
            f"expected the name of a dataset ({', '.join(names())}) or the path of a TOML file that describes one; "
            f"found {text!r}.{hint} Propose a description of a table: python -m data.datasets propose TABLE > mine.toml"
        )
        raise DatasetError(message)
    return FOLDER / f"{text}{_SUFFIX}"


def names() -> tuple[str, ...]:
    """Names of the descriptions in ``data/datasets``, the default first."""
    found = sorted(path.stem for path in FOLDER.glob(f"*{_SUFFIX}") if path.stem != TEMPLATE)
    return tuple(sorted(found, key=lambda name: name != DEFAULT))


@cache
def default() -> Dataset:
    """The dataset of the brief."""
    return load(DEFAULT)


def parse(content: bytes, name: str) -> Dataset:
    """Read a description from the bytes of a TOML file; `name` names it in messages. See `load` for exceptions."""
    try:
        table = tomllib.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"{name} is no TOML file: {error}. See data/datasets/{TEMPLATE}{_SUFFIX} for an example."
        raise DatasetError(message) from error
    problems = list(_unknown(table))
    if problems:
        raise _invalid(name, problems)
    columns = table.get("columns", {})
    values: dict[str, Any] = {key: part for key, part in table.items() if key not in {"dataset", "columns", "slices"}}
    values |= table["dataset"]
    values["columns"] = [{**column, "name": key} for key, column in columns.items()]
    values["slices"] = [{**slice_, "column": key} for key, slice_ in table.get("slices", {}).items()]
    return _validated(json.dumps(values, default=str), name)


def from_json(text: str) -> Dataset:
    """Read what `Dataset.to_json` wrote; see `load` for exceptions."""
    return _validated(text, "The description of the dataset")


def _validated(text: str, name: str) -> Dataset:
    try:
        return Dataset.model_validate_json(text)
    except ValidationError as error:
        held = json.loads(text) if text.lstrip().startswith("{") else {}
        problems = [line for each in error.errors(include_url=False) for line in _lines(each, held)]
        raise _invalid(name, problems) from error


def _invalid(name: str, problems: list[str]) -> DatasetError:
    advice = f"Fix it; data/datasets/{TEMPLATE}{_SUFFIX} explains every key."
    return DatasetError("\n  ".join([f"{name} is no valid description of a dataset. {advice}", *problems]))


def _unknown(table: Mapping[str, Any]) -> Iterator[str]:
    """Describe sections and keys that no description has, and sections that are no tables."""
    for section, content in table.items():
        if section not in _SECTIONS:
            yield f"{section}: expected the sections {', '.join(_SECTIONS)}{_meant(section, _SECTIONS)}"
            continue
        if not isinstance(content, Mapping):
            yield f"{section}: expected a section [{section}]; found {content!r}"
            continue
        nested = section in {"columns", "slices"}
        for name, part in content.items() if nested else [("", content)]:
            place = f"{section}.{name}" if nested else section
            if not isinstance(part, Mapping):
                yield f"{place}: expected a section [{place}]; found {part!r}"
                continue
            keys = _OF_DATASET if section == "dataset" else tuple(_SECTIONS[section].model_fields)
            keys = tuple(key for key in keys if not (nested and key in {"name", "column"}))
            yield from (
                f"{place}.{key}: unknown key; expected {', '.join(keys)}{_meant(key, keys)}"
                for key in part
                if key not in keys
            )
    for section, content in (("dataset", "name"), ("columns", "")):
        if section not in table:
            yield f"{section}: missing; expected a section [{section}{'' if content else '.NAME'}]"


def _meant(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f". Did you mean {close[0]}?" if close else ""


def _lines(problem: Mapping[str, Any], held: Mapping[str, Any]) -> Iterator[str]:
    """Describe a problem that pydantic found, one line for each."""
    place = list(problem["loc"])
    for depth, section in enumerate(("columns", "slices")):
        if len(place) > 1 and place[0] == section and isinstance(place[1], int):
            key = ("name", "column")[depth]
            place[1] = held.get(section, [{}] * (place[1] + 1))[place[1]].get(key, place[1])
    found: object = held
    for step in problem["loc"]:
        found = found[step] if isinstance(found, list) else found.get(step) if isinstance(found, Mapping) else None
    where = ".".join(str(step) for step in place if step not in {"function-after", "constrained-str"})
    if len(place) == 1 and place[0] in _OF_DATASET:
        where = f"dataset.{where}"
    message = str(problem["msg"])
    if message.startswith("Value error, "):
        for line in message.removeprefix("Value error, ").splitlines():
            shown = f"; found {found!r}" if not isinstance(found, Mapping | list) and "found" not in line else ""
            yield f"{where}: {line}{shown}" if where else line
        return
    message = message.replace("Input should be", "expected").replace("Field required", "missing")
    shown = "" if message == "missing" or found is None or isinstance(found, Mapping) else f"; found {found!r}"
    yield f"{where}: {message}{shown}"
