"""The REST contract of both servers as an OpenAPI 3.1 description, derived from ``data/schema.py``.

The production server serves it as ``/openapi.json``; ``python -m tools.openapi`` writes it to ``docs/openapi.json``,
and ``tests/serving/server/test_openapi.py`` holds both servers to it.
"""

import math
from typing import Any

from data.schema import FEATURES, PROBABILITY, RAW_COLUMN_NAMES, SHOT_ID, TARGET, feature_column
from serving.inference_log.inference_log import ORIGIN_HEADER, ORIGINS, TRAFFIC
from serving.model.scoring_model import OUTPUT_VARIABLE, OUTPUTS
from serving.server.request_parsing import ARROW, CSV, DEFAULT_THRESHOLD, JSON, PARQUET

Node = dict[str, Any]

VERSION = "1.1.0"
"""Of the contract, not of this project."""

_EXAMPLE = dict(zip(FEATURES, (33.9723, -118.1028, 10, 1, 0, 18), strict=True))
_MODEL_VERSION_PATTERN = "^[1-9][0-9]*$"
_REQUEST_ID_PATTERN = "^[A-Za-z0-9._:/-]{1,128}$"
# Every integer of so few digits is a double of its own.
_MAX_ID_DIGITS = 15
_MAX_ID = 2**53 - 1

_INTRODUCTION = """\
P(made) of basketball shots. Served by two servers: the MLflow server is `mlflow models serve`, the production server
`make serve`, which also has `/model`, `/metrics` and `/openapi.json`.

A method that a path does not have gets 405 with `Allow`, an unknown path 404, a path with a slash at its end 307 to
the path without it; the production server handles `HEAD` as `GET`. Its errors have the schema `Error`; 404 and
405 of the MLflow server are FastAPI's, `{"detail": text}`.
What the schemas cannot express, and how to check a server with schemathesis, is in `docs/serving.md`."""

_TABLE = """\
A table of the six features in exactly one of four keys. Further keys are ignored, but for `messages`, `prompt` and
`input`, by which MLflow takes a body for one of a language model."""

_NAMES = [tuple(FEATURES), tuple(RAW_COLUMN_NAMES.get(name, name) for name in FEATURES)]
"""The features by their own names, and by those of the raw tables."""

_SHOT = f"""\
The features of one shot, and other columns, which are ignored; the production server names those in
`X-Ignored-Columns`. `lon` may replace `lng`, in every row or none: both at once are ambiguous and rejected. If one
row has a `{SHOT_ID}`, every row has."""


def description() -> Node:
    """The description as JSON has it.

    Examples
    --------
    >>> description()["openapi"], [*description()["paths"]][:2]
    ('3.1.0', ['/invocations', '/ping'])
    """
    return {
        "openapi": "3.1.0",
        "info": {"title": "kobe_shot", "version": VERSION, "description": _INTRODUCTION},
        "paths": {
            "/invocations": {"post": _invocations()},
            "/ping": {"get": _get("ping", "Whether it can score", _not_json("A line feed."))},
            "/health": {"get": _get("health", "Whether the whole server can score", _not_json("A line feed."))},
            "/version": {"get": _get("version", "Version of MLflow", _not_json("Such as 3.17.2, without quotes."))},
            "/model": {"get": _get("model", "What is served (production server)", _json("What is served.", "Model"))},
            "/metrics": {"get": _get("metrics", "Metrics for Prometheus (production server)", _metrics())},
            "/openapi.json": {"get": _get("openapi", "This description (production server)", _this_description())},
        },
        "components": {"schemas": _schemas(), "headers": _HEADERS, "parameters": _PARAMETERS},
    }


def _invocations() -> Node:
    return {
        "operationId": "invocations",
        "summary": "Score a table of shots",
        "description": (
            "Every row is scored, or none: an invalid row rejects its whole request. Any P(made) of at "
            f"least `params.threshold` ({DEFAULT_THRESHOLD} unless the model sets another) is predicted to be made."
        ),
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in ("X-Request-ID", ORIGIN_HEADER)],
        "requestBody": {"required": True, "content": _bodies()},
        "responses": {
            "200": {
                "description": (
                    "A prediction per row, in order, in the form of `params.output`. The production server returns "
                    f"an Arrow stream of `{TARGET}` and `{PROBABILITY}`, whatever the form, if the request accepts "
                    f"`{ARROW}`."
                ),
                "headers": _headers(),
                "content": {JSON: {"schema": _ref("Predictions")}, ARROW: {}},
            },
            "400": _error(
                "The body is no table, or a row of it is no shot; the message names row, column and range. Or the "
                f"{ORIGIN_HEADER} is none."
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


def _bodies() -> Node:
    rows = [_EXAMPLE, {**_EXAMPLE, "period": 4}]
    cells = [[*row.values()] for row in rows]
    examples = {
        "dataframe_split": {"dataframe_split": {"columns": [*FEATURES], "data": cells}},
        "dataframe_records": {"dataframe_records": rows, "params": {"threshold": 0.4, "output": "label"}},
        "inputs": {"inputs": [{**row, SHOT_ID: number} for number, row in enumerate(rows)]},
        "instances": {"instances": rows},
        "no rows": {"dataframe_records": []},
    }
    csv = "".join(",".join(map(str, line)) + "\n" for line in (FEATURES, *cells))
    return {
        JSON: {
            "schema": _ref("Table"),
            "examples": {name.replace(" ", "_"): {"value": value} for name, value in examples.items()},
        },
        CSV: {"schema": _ref("CSV"), "example": csv},
        PARQUET: {},
    }


def _schemas() -> Node:
    return {
        **{name: _cell(name) for name in FEATURES},
        SHOT_ID: {
            "description": "What the client calls the shot, an integer; goes into the inference log.",
            "anyOf": [
                {"type": "integer", "minimum": -_MAX_ID, "maximum": _MAX_ID},
                {"type": "boolean"},
                {"type": "string", "pattern": f"^-?[0-9]{{1,{_MAX_ID_DIGITS}}}$"},
            ],
        },
        **{name: _row(*columns) for name, columns in _ROWS.items()},
        "Shots": {"anyOf": [{"type": "array", "items": _ref(name)} for name in _ROWS]},
        "SplitShots": {
            "description": (
                "The columns may have any order, here and in the rows, and others may be among them; `index` and other "
                "keys are ignored."
            ),
            "type": "object",
            "required": ["columns", "data"],
            "anyOf": [_split(*columns) for columns in _ROWS.values()],
        },
        "Table": {
            "description": _TABLE,
            "type": "object",
            "properties": {
                "dataframe_split": _ref("SplitShots"),
                "dataframe_records": _ref("Shots"),
                "inputs": _ref("Shots"),
                "instances": _ref("Shots"),
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
            "pattern": rf"^{','.join(FEATURES)}(?:\n{','.join(map(_numeral, FEATURES))})*\n?$",
        },
        "Parameters": {
            "description": "Further parameters are ignored.",
            "type": ["object", "null"],
            "properties": {
                "threshold": {"type": "number", "minimum": 0, "maximum": 1},
                "output": {
                    "description": (
                        "Form of the predictions: `records`, or what stock models return: `label` (0 or 1), "
                        "`probability` (P(made)), `probabilities` (P(missed) and P(made)). Without it the default of "
                        f"the server: `records` unless it was started with `--output` or `${OUTPUT_VARIABLE}`."
                    ),
                    "enum": [*OUTPUTS, None],
                },
            },
        },
        "Predictions": _closed(predictions={"anyOf": [{"type": "array", "items": form} for form in _FORMS]}),
        "Prediction": _closed(**_PREDICTION),
        "Error": {
            "description": "MLflow's server adds keys of its own.",
            "type": "object",
            "properties": {"error_code": {"type": "string"}, "message": {"type": "string", "minLength": 1}},
            "required": ["error_code", "message"],
        },
        "Model": _model(),
    }


def _cell(name: str) -> Node:
    """A feature: a number, and what the servers take as one."""
    column = feature_column(name)
    assert column.minimum is not None  # noqa: S101 every feature has a range
    assert column.maximum is not None  # noqa: S101
    kind = "integer" if column.kind == "integer" else "number"
    taken: list[Node] = [{"type": kind, "minimum": column.minimum, "maximum": column.maximum}]
    if booleans := [value for value in (False, True) if column.minimum <= value <= column.maximum]:
        taken.append({"enum": booleans})
    taken.append({"type": "string", "pattern": f"^{_numeral(name)}$"})
    text = f"{column.meaning}{f', in {column.unit}' if column.unit else ''}: {column.constraint_text}"
    return {"description": text, "anyOf": taken}


def _numeral(name: str) -> str:
    r"""Pattern of texts that lie in the range of a feature, in plain notation; the servers take others too.

    Notes
    -----
    The parser of CSV in pandas takes the first 17 digits, leading zeros included, so nothing longer is guaranteed.

    Examples
    --------
    >>> _numeral("lng")
    '-(?:118\\.1|118\\.2|118\\.3|118\\.4)[0-9]{0,9}'
    >>> _numeral("playoffs")
    '\\+?0?(?:0|1)(?:\\.0{0,6})?'
    """
    column = feature_column(name)
    ends = (float(column.minimum or 0), float(column.maximum or 0))
    low, high = sorted(map(abs, ends))
    sign = "-" if max(ends) < 0 else r"\+?0?"
    if high - low >= 1:
        whole = range(math.ceil(low), math.floor(high) + 1)
        return rf"{sign}(?:{'|'.join(map(str, whole))})(?:\.0{{0,6}})?"
    # Whatever follows a tenth whose next one is in range, too.
    tenths = [rf"{tenth // 10}\.{tenth % 10}" for tenth in range(math.ceil(low * 10), math.floor(high * 10))]
    return f"{sign}(?:{'|'.join(tenths)})[0-9]{{0,9}}"


def _row(*names: str) -> Node:
    """An object with these properties and any others but the further names of the features, and the identifier."""
    absent = {*FEATURES, *RAW_COLUMN_NAMES.values(), SHOT_ID} - {*names}
    properties = {name: _ref(_schema_of(name)) for name in names} | dict.fromkeys(sorted(absent), False)
    return {"description": _SHOT, "type": "object", "properties": properties, "required": [*names]}


def _schema_of(name: str) -> str:
    return next((feature for feature, raw in RAW_COLUMN_NAMES.items() if raw == name), name)


def _split(*names: str) -> Node:
    cells = [_ref(_schema_of(name)) for name in names]
    row = {"type": "array", "prefixItems": cells, "items": False, "minItems": len(names)}
    return {"properties": {"columns": {"const": [*names]}, "data": {"type": "array", "items": row}}}


def _model() -> Node:
    number, text = {"type": "number"}, {"type": "string"}
    time = {"type": "string", "format": "date-time"}
    feature = _closed(
        name=text,
        aliases={"type": "array", "items": text},
        minimum=number,
        maximum=number,
        whole={"type": "boolean"},
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


_PREDICTION: Node = {
    TARGET: {"enum": [0, 1], "description": "1 made, 0 missed"},
    PROBABILITY: {"type": "number", "minimum": 0, "maximum": 1, "description": "P(made)"},
}
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
_ROWS = {
    "Shot": _NAMES[0],
    "IdentifiedShot": (*_NAMES[0], SHOT_ID),
    "RawShot": _NAMES[1],
    "IdentifiedRawShot": (*_NAMES[1], SHOT_ID),
}
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
