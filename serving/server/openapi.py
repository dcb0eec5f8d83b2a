"""The REST contract of both servers as an OpenAPI 3.1 description, derived from the description of a dataset.

The production server serves it as ``/openapi.json``; ``python -m tools.openapi`` writes it to ``docs/openapi.json``,
and ``tests/serving/server/test_openapi.py`` holds both servers to it.
"""

import math
import re
from typing import Any, get_args

from data.datasets import Column, Dataset, Kind, default
from data.schema import PROBABILITY
from serving.inference_log.inference_log import ORIGIN_HEADER, ORIGINS, TRAFFIC
from serving.model.scoring_model import OUTPUT_VARIABLE, OUTPUTS
from serving.server.request_parsing import ARROW, CSV, DEFAULT_THRESHOLD, JSON, PARQUET

Node = dict[str, Any]

VERSION = "1.2.0"
"""Of the contract, not of this project."""

_EXAMPLE = (33.9723, -118.1028, 10, 1, 0, 18)
"""A shot of the default dataset."""
_MODEL_VERSION_PATTERN = "^[1-9][0-9]*$"
_REQUEST_ID_PATTERN = "^[A-Za-z0-9._:/-]{1,128}$"
# Every integer of so few digits is a double of its own.
_MAX_ID_DIGITS = 15
_MAX_ID = 2**53 - 1
_STRING_PATTERN = r"^[^\u0000]{1,200}$"
_LISTED = 200
"""Numbers that a pattern lists."""

_INTRODUCTION = """\
Served by two servers: the MLflow server is `mlflow models serve`, the production server
`make serve`, which also has `/model`, `/metrics` and `/openapi.json`.

A method that a path does not have gets 405 with `Allow`, an unknown path 404, a path with a slash at its end 307 to
the path without it; the production server handles `HEAD` as `GET`. Its errors have the schema `Error`; 404 and
405 of the MLflow server are FastAPI's, `{"detail": text}`.
What the schemas cannot express, and how to check a server with schemathesis, is in `docs/serving.md`."""

_TABLE = """\
A table of the features in exactly one of four keys. Further keys are ignored, but for `messages`, `prompt` and
`input`, by which MLflow takes a body for one of a language model."""


def description(dataset: Dataset | None = None) -> Node:
    """The description as JSON has it.

    Parameters
    ----------
    dataset : Dataset, optional
        Of the served version, with its categories; by default the dataset of the brief.

    Examples
    --------
    >>> description()["openapi"], [*description()["paths"]][:2]
    ('3.1.0', ['/invocations', '/ping'])
    """
    dataset = dataset or default()
    introduction = f"P({dataset.positive}) of {dataset.rows}. {_INTRODUCTION}"
    return {
        "openapi": "3.1.0",
        "info": {"title": dataset.registered_model, "version": VERSION, "description": introduction},
        "paths": {
            "/invocations": {"post": _invocations(dataset)},
            "/ping": {"get": _get("ping", "Whether it can score", _not_json("A line feed."))},
            "/health": {"get": _get("health", "Whether the whole server can score", _not_json("A line feed."))},
            "/version": {"get": _get("version", "Version of MLflow", _not_json("Such as 3.17.2, without quotes."))},
            "/model": {"get": _get("model", "What is served (production server)", _json("What is served.", "Model"))},
            "/metrics": {"get": _get("metrics", "Metrics for Prometheus (production server)", _metrics())},
            "/openapi.json": {"get": _get("openapi", "This description (production server)", _this_description())},
        },
        "components": {"schemas": _schemas(dataset), "headers": _HEADERS, "parameters": _PARAMETERS},
    }


def _invocations(dataset: Dataset) -> Node:
    return {
        "operationId": "invocations",
        "summary": f"Score a table of {dataset.rows}",
        "description": (
            f"Every row is scored, or none: an invalid row rejects its whole request. Any P({dataset.positive}) of at "
            f"least `params.threshold` ({DEFAULT_THRESHOLD} unless the model sets another) is predicted to be "
            f"{dataset.positive}."
        ),
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in ("X-Request-ID", ORIGIN_HEADER)],
        "requestBody": {"required": True, "content": _bodies(dataset)},
        "responses": {
            "200": {
                "description": (
                    "A prediction per row, in order, in the form of `params.output`. The production server returns "
                    f"an Arrow stream of `{dataset.target.name}` and `{PROBABILITY}`, whatever the form, if the "
                    f"request accepts `{ARROW}`."
                ),
                "headers": _headers(),
                "content": {JSON: {"schema": _ref("Predictions")}, ARROW: {}},
            },
            "400": _error(
                f"The body is no table, or a row of it is no {dataset.row}; the message names row, column and range. "
                f"Or the {ORIGIN_HEADER} is none."
            ),
            "408": _error("The body did not arrive within its time."),
            "413": _error("The body, or what it holds, exceeds a limit."),
            "415": _error("Another content type, charset or encoding.", plain=True),
            "500": _error("A bug; the server's log names the reason under the request's X-Request-ID."),
            "503": _error(
                "Other bodies hold all that is allowed in flight; Retry-After has the seconds to wait before a retry."
            ),
        },
    }


def _bodies(dataset: Dataset) -> Node:
    names = dataset.feature_names
    example = dict(zip(names, _example(dataset), strict=True))
    rows = [example, {**example, **({"period": 4} if dataset == default() else {})}]
    cells = [[*row.values()] for row in rows]
    examples = {
        "dataframe_split": {"dataframe_split": {"columns": [*names], "data": cells}},
        "dataframe_records": {"dataframe_records": rows, "params": {"threshold": 0.4, "output": "label"}},
        "inputs": {"inputs": [{**row, dataset.id.name: number} for number, row in enumerate(rows)]},
        "instances": {"instances": rows},
        "no rows": {"dataframe_records": []},
    }
    csv = "".join(",".join(map(_csv_cell, line)) + "\n" for line in (names, *cells))
    return {
        JSON: {
            "schema": _ref("Table"),
            "examples": {name.replace(" ", "_"): {"value": value} for name, value in examples.items()},
        },
        CSV: {"schema": _ref("CSV"), "example": csv},
        PARQUET: {},
    }


def _example(dataset: Dataset) -> list[Any]:
    if dataset == default():
        return [*_EXAMPLE]
    return [_example_of(column) for column in dataset.features]


def _example_of(column: Column) -> object:
    if column.is_categorical:
        return column.categories[0] if column.categories else "a"
    if column.kind == "date":
        return "2013-10-29"
    low, high = column.limits
    return next(end for end in (low, high, 0) if end is not None)


def _csv_cell(cell: object) -> str:
    text = str(cell)
    return f'"{text}"' if "," in text else text


def _schemas(dataset: Dataset) -> Node:
    rows = _rows(dataset)
    target = dataset.target.name
    prediction: Node = {
        target: {"enum": [0, 1], "description": f"1 {dataset.positive}, 0 {dataset.negative}"},
        PROBABILITY: {"type": "number", "minimum": 0, "maximum": 1, "description": f"P({dataset.positive})"},
    }
    return {
        **{_component(column.name): _cell(column) for column in dataset.features},
        _component(dataset.id.name): {
            "description": f"What the client calls the {dataset.row}, an integer; goes into the inference log.",
            "anyOf": [
                {"type": "integer", "minimum": -_MAX_ID, "maximum": _MAX_ID},
                {"type": "boolean"},
                {"type": "string", "pattern": f"^-?[0-9]{{1,{_MAX_ID_DIGITS}}}$"},
            ],
        },
        **{name: _row(dataset, *columns) for name, columns in rows.items()},
        "Rows": {"anyOf": [{"type": "array", "items": _ref(name)} for name in rows]},
        "SplitRows": {
            "description": (
                "The columns may have any order, here and in the rows, and others may be among them; `index` and other "
                "keys are ignored."
            ),
            "type": "object",
            "required": ["columns", "data"],
            "anyOf": [_split(dataset, *columns) for columns in rows.values()],
        },
        "Table": {
            "description": _TABLE,
            "type": "object",
            "properties": {
                "dataframe_split": _ref("SplitRows"),
                "dataframe_records": _ref("Rows"),
                "inputs": _ref("Rows"),
                "instances": _ref("Rows"),
                "params": _ref("Parameters"),
                "messages": False,
                "prompt": False,
                "input": False,
            },
            "oneOf": [{"required": [key]} for key in ("dataframe_split", "dataframe_records", "inputs", "instances")],
        },
        "CSV": {
            "description": "UTF-8, with a header; the columns may have any order, and others may be among them.",
            "type": "string",
            "pattern": (
                rf"^{','.join(map(re.escape, dataset.feature_names))}"
                rf"(?:\n{','.join(map(_csv_pattern, dataset.features))})*\n?$"
            ),
        },
        "Parameters": {
            "description": "Further parameters are ignored.",
            "type": ["object", "null"],
            "properties": {
                "threshold": {"type": "number", "minimum": 0, "maximum": 1},
                "output": {
                    "description": (
                        "Form of the predictions: `records`, or what stock models return: `label` (0 or 1), "
                        f"`probability` (P({dataset.positive})), `probabilities` (P({dataset.negative}) and "
                        f"P({dataset.positive})). Without it the default of "
                        f"the server: `records` unless it was started with `--output` or `${OUTPUT_VARIABLE}`."
                    ),
                    "enum": [*OUTPUTS, None],
                },
            },
        },
        "Predictions": _closed(predictions={"anyOf": [{"type": "array", "items": form} for form in _FORMS]}),
        "Prediction": _closed(**prediction),
        "Error": {
            "description": "MLflow's server adds keys of its own.",
            "type": "object",
            "properties": {"error_code": {"type": "string"}, "message": {"type": "string", "minLength": 1}},
            "required": ["error_code", "message"],
        },
        "Model": _model(),
    }


def _cell(column: Column) -> Node:
    """A feature: its values, and what the servers take as one."""
    unit = f", in {column.unit}" if column.unit else ""
    text = f"{column.description}{unit}: {column.constraint_text}"
    null: list[Node] = [{"type": "null"}] if column.nullable else []
    if column.is_categorical:
        found: list[Node] = [{"type": "string", "pattern": _STRING_PATTERN}, {"type": ["number", "boolean"]}]
        if column.unseen == "reject":
            found = [{"enum": [*column.categories]}]
        return {"description": text, "anyOf": [*found, *null]}
    if column.kind == "date":
        return {"description": text, "anyOf": [{"type": "string", "format": "date"}, *null]}
    low, high = column.limits
    number: Node = {"type": "number" if column.kind == "float" else "integer"}
    ends = (("minimum", low), ("maximum", high))
    number |= {key: int(end) if float(end).is_integer() else end for key, end in ends if end is not None}
    taken = [number]
    if booleans := [value for value in (False, True) if _is_within(value, column)]:
        taken.append({"enum": booleans})
    taken.append({"type": "string", "pattern": f"^{_numeral(column)}$"})
    return {"description": text, "anyOf": [*taken, *null]}


def _is_within(value: float, column: Column) -> bool:
    low, high = column.limits
    return (low is None or value >= low) and (high is None or value <= high)


def _csv_pattern(column: Column) -> str:
    """Pattern of the cells of a column in CSV that are guaranteed to be taken."""
    if column.kind == "date":
        return "20[0-2][0-9]-0[1-9]-[01][1-9]"
    if column.is_categorical:
        plain = [re.escape(name) for name in column.categories if not set(name) & set(',"\n\r')]
        return f"(?:{'|'.join(plain)})" if plain else "[A-Za-z]{1,20}"
    return _numeral(column)


def _numeral(column: Column) -> str:
    r"""Pattern of texts that lie in the range of a feature, in plain notation; the servers take others too.

    Notes
    -----
    The parser of CSV in pandas takes the first 17 digits, leading zeros included, so nothing longer is guaranteed.

    Examples
    --------
    >>> _numeral(default().column("lng"))
    '-(?:118\\.1|118\\.2|118\\.3|118\\.4)[0-9]{0,9}'
    >>> _numeral(default().column("playoffs"))
    '\\+?0?(?:0|1)(?:\\.0{0,6})?'
    >>> _numeral(Column(name="x", role="feature", kind="integer", minimum=-1, maximum=2))
    '(?:-(?:0|1)|\\+?0?(?:0|1|2))(?:\\.0{0,6})?'
    """
    first, last = _bounded(*column.limits)
    if first < 0 < last:
        negative, positive = range(math.floor(-first) + 1), range(math.floor(last) + 1)
        return rf"(?:-(?:{_any_of(negative)})|\+?0?(?:{_any_of(positive)}))(?:\.0{{0,6}})?"
    low, high = sorted(map(abs, (first, last)))
    sign = "-" if last < 0 else r"\+?0?"
    whole = range(math.ceil(low), math.floor(high) + 1)
    if high - low >= 1 or (whole and column.kind != "float"):
        return rf"{sign}(?:{_any_of(whole)})(?:\.0{{0,6}})?"
    # Whatever follows a tenth whose next one is in range, too.
    tenths = [rf"{tenth // 10}\.{tenth % 10}" for tenth in range(math.ceil(low * 10), math.floor(high * 10))]
    return f"{sign}(?:{'|'.join(tenths) or f'{low:.15g}'})[0-9]{{0,9}}"


def _any_of(numbers: range) -> str:
    return "|".join(map(str, numbers))


def _bounded(low: float | None, high: float | None) -> tuple[float, float]:
    """A part of a range that is short enough to list."""
    first = low if low is not None else (high or 0) - _LISTED
    last = high if high is not None else first + _LISTED
    if last - first <= _LISTED:
        return first, last
    start = max(first, min(0, last - _LISTED))
    return start, start + _LISTED


def _rows(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Columns of a row by the name of its schema: the features by their own names or by those of the raw tables."""
    own, raw = dataset.feature_names, tuple(column.request_name for column in dataset.features)
    rows = {"Row": own, "IdentifiedRow": (*own, dataset.id.name)}
    if raw != own:
        rows |= {"RawRow": raw, "IdentifiedRawRow": (*raw, dataset.id.name)}
    return rows


def _row(dataset: Dataset, *names: str) -> Node:
    """An object with these properties and any others but the further names of the features, and the identifier."""
    known = {name for column in dataset.features for name in (column.name, column.request_name)} | {dataset.id.name}
    properties: dict[str, Any] = {name: _ref(_schema_of(dataset, name)) for name in names}
    properties |= {name: False for name in sorted(known - {*names})}  # noqa: C420 the values have two types
    optional = {name for column in dataset.features if column.nullable for name in (column.name, column.request_name)}
    required = [name for name in names if name not in optional]
    return {"description": _row_text(dataset), "type": "object", "properties": properties, "required": required}


def _row_text(dataset: Dataset) -> str:
    renamed = [column for column in dataset.features if column.request_name != column.name]
    aliases = "".join(
        f" `{column.request_name}` may replace `{column.name}`, in every row or none: both at once are ambiguous and "
        "rejected."
        for column in renamed
    )
    return (
        f"The features of one {dataset.row}, and other columns, which are ignored; the production server names those "
        f"in `X-Ignored-Columns`.{aliases} A feature whose name is missing is found under another spelling of it: "
        f"without case, spaces, dashes, dots and underscores. If one row has a `{dataset.id.name}`, every row has."
    )


def _schema_of(dataset: Dataset, name: str) -> str:
    return _component(name if name == dataset.id.name else dataset.column(name).name)


def _component(column: str) -> str:
    """Name of the schema of a column, whatever its own name.

    Examples
    --------
    >>> _component("lat"), _component("home / away"), _component("Table")
    ('lat', 'column-home___away', 'column-Table')
    """
    is_plain = re.fullmatch(r"[a-z][a-z0-9_]*", column)
    return column if is_plain else f"column-{re.sub('[^A-Za-z0-9._-]', '_', column)}"


def _split(dataset: Dataset, *names: str) -> Node:
    cells = [_ref(_schema_of(dataset, name)) for name in names]
    row = {"type": "array", "prefixItems": cells, "items": False, "minItems": len(names)}
    return {"properties": {"columns": {"const": [*names]}, "data": {"type": "array", "items": row}}}


def _model() -> Node:
    text: Node = {"type": "string"}
    number: Node = {"type": ["number", "null"]}
    time = {"type": "string", "format": "date-time"}
    feature = _closed(
        name=text,
        aliases={"type": "array", "items": text},
        kind={"enum": [*get_args(Kind)]},
        minimum=number,
        maximum=number,
        whole={"type": "boolean"},
        nullable={"type": "boolean"},
        categories={"type": ["array", "null"], "items": text},
        allowed=text,
    )
    return _closed(
        name=text,
        version={"type": "string", "pattern": _MODEL_VERSION_PATTERN},
        since=time,
        promoted={"anyOf": [time, {"type": "null"}]},
        run_id=text,
        threshold={"type": "number", "minimum": 0, "maximum": 1},
        output={"enum": [*OUTPUTS], "description": "Form of the predictions where a request names none."},
        signature={"type": "object", "description": "As MLflow has it."},
        features={"type": "array", "items": feature},
        identifier=text,
        target=text,
        compiled={"type": "boolean", "description": "Whether a single row is scored by the compiled form."},
        compiled_details={**text, "description": "How the form was verified, or why there is none."},
        inference_log={"type": "boolean"},
    )


def _closed(**properties: Node) -> Node:
    """An object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def _get(name: str, summary: str, response: Node) -> Node:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [{"$ref": "#/components/parameters/X-Request-ID"}],
        "responses": {"200": response},
    }


def _json(text: str, schema: str) -> Node:
    return {"description": text, "headers": _headers(), "content": {JSON: {"schema": _ref(schema)}}}


def _not_json(text: str) -> Node:
    note = f"{text} Sent as {JSON}, as MLflow does, though it is none."
    return {"description": note, "headers": _headers(version=False), "content": {JSON: {}}}


def _metrics() -> Node:
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {"description": "Prometheus' text format.", "headers": _headers(version=False), "content": content}


def _this_description() -> Node:
    content = {JSON: {"schema": {"type": "object", "required": ["openapi", "info", "paths"]}}}
    return {"description": "OpenAPI 3.1.", "headers": _headers(version=False), "content": content}


def _error(text: str, *, plain: bool = False) -> Node:
    content: Node = {JSON: {"schema": _ref("Error")}}
    if plain:
        content["text/plain"] = {"schema": {"type": "string", "description": "By the MLflow server."}}
    return {"description": text, "headers": _headers(), "content": content}


def _headers(*, version: bool = True) -> Node:
    names = ("X-Request-ID", "X-Model-Version", "X-Ignored-Columns") if version else ("X-Request-ID",)
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _ref(schema: str) -> Node:
    return {"$ref": f"#/components/schemas/{schema}"}


_FORMS: list[Node] = [
    _ref("Prediction"),
    {"enum": [0, 1]},
    {"type": "number", "minimum": 0, "maximum": 1},
    {
        "type": "array",
        "items": {"type": "number", "minimum": 0, "maximum": 1},
        "minItems": 2,
        "maxItems": 2,
    },
]
_HEADERS: Node = {
    "X-Ignored-Columns": {
        "description": "Columns that were ignored, percent-encoded, at most 40; only at the production server.",
        "schema": {"type": "string"},
    },
    "X-Request-ID": {
        "description": "Of the request, or a new one; only at the production server, and always there.",
        "schema": {"type": "string", "pattern": _REQUEST_ID_PATTERN},
    },
    "X-Model-Version": {
        "description": "Version of the registered model that scored; only at the production server, if one did.",
        "schema": {"type": "string", "pattern": _MODEL_VERSION_PATTERN},
    },
}
_PARAMETERS: Node = {
    "X-Request-ID": {
        "name": "X-Request-ID",
        "in": "header",
        "description": (
            f"What the client calls the request; anything but {_REQUEST_ID_PATTERN[1:-1]} is replaced. Goes into the "
            "inference log. The MLflow server ignores it."
        ),
        "schema": {"type": "string"},
    },
    ORIGIN_HEADER: {
        "name": ORIGIN_HEADER,
        "in": "header",
        "description": (
            f"Where the request comes from; goes into the inference log. Other than {TRAFFIC}, it is not monitored nor "
            "trained on."
        ),
        "schema": {"type": "string", "enum": [*ORIGINS], "default": TRAFFIC},
    },
}
