"""What a table is: its columns, their kinds and roles, and how its rows are split; see ``docs/datasets.md``.

The validation of tables, the signature and the constraints of the served model, the screens and the documentation are
derived from it. Prepared tables hold floats, integers and booleans as doubles (booleans as 1 and 0), and categories,
strings and dates as strings (dates as ``2013-10-29``), so that a null is possible in each.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import chain
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Role = Literal["feature", "target", "id", "time", "group", "pass_through"]
Kind = Literal["float", "integer", "boolean", "category", "string", "date"]

NUMERIC: tuple[Kind, ...] = ("float", "integer", "boolean")
"""Kinds whose values are doubles in prepared tables."""
CATEGORICAL: tuple[Kind, ...] = ("category", "string")

RESERVED = ("prediction", "probability", "model_version", "in_training", "reason", "request_id", "time")
"""Names that scoring and its log add to tables, which no column can have; one may have it in raw tables."""
ROW_ID = "row_id"
"""Name of the id of a table whose description names none: the number of the row in the source."""

DEVELOPMENT_TABLE, PRODUCTION_TABLE = "development.parquet", "production.parquet"

LABELS: Mapping[str, int] = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "made", "make", "made shot", "sim", "s", "in", "hit"), 1),
    **dict.fromkeys(("0", "false", "f", "no", "n", "missed", "miss", "missed shot", "não", "nao", "out"), 0),
}
"""Spellings of labels, besides the words and values of a description."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_MODEL = re.compile(r"(?!\s)[^/:'?#%\x00-\x1f\x7f]{1,190}(?<!\s)")
_COLUMN = re.compile(r"(?![_ ])[\w .:/-]{1,200}(?<! )")
_TABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.parquet")
_SEPARATORS = re.compile(r"[\s_.\-/]+")
_NOUNS = {
    "float": "a float",
    "integer": "an integer",
    "boolean": "true or false",
    "category": "a category",
    "string": "a string",
    "date": "a date such as 2013-10-29",
}
_TARGET_KINDS, _TIME_KINDS = ("integer", "boolean", "category"), ("date", "integer", "float")
_CLASSES = 2

Value = bool | int | float | str
Strings = Annotated[tuple[str, ...], Field(strict=False)]
_LIST = Field(strict=False)
"""A tuple is a list in TOML and JSON; its values remain strict."""


def folded(name: str) -> str:
    """Return a name without case, spaces, dashes, dots and underscores.

    Examples
    --------
    >>> folded(" Shot-Made Flag")
    'shotmadeflag'
    """
    return _SEPARATORS.sub("", name.casefold())


def _matching(pattern: re.Pattern[str], expected: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            message = f"expected {expected}"
            raise ValueError(message)
        return value

    return check


class _Part(BaseModel):
    """A part of a description: frozen, strict, without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class Column(_Part):
    """A column of a table.

    Attributes
    ----------
    name : str
        Name in prepared tables, requests and responses.
    role : str
        What the column is for: ``feature`` of the model; ``target``, the label; ``id`` of the row; ``time`` that orders
        rows; ``group`` of rows that are not independent; other columns are passed through.
    kind : str
        Kind of the values.
    minimum, maximum : float or None
        Allowed range of a float or an integer, inclusive; None is open.
    unit, description : str
        Unit of the values, and meaning of the column.
    raw_name : str
        Name in raw tables; by default the name.
    aliases : tuple of str
        More names of the column in tables that a person hands in.
    categories : tuple of str
        Values of a category; empty: those of the training rows. Of the target: the negative and the positive value.
    nullable : bool
        Whether a row is scored and trained on where this feature is null.
    unseen : str
        How a category is scored that no training row has: as ``unknown``, or as an invalid row (``reject``).
    true_pattern : str
        Of a boolean that is read from strings: a regular expression that the true ones contain, such as `` vs[.] `` of
        ``LAL vs. POR``.
    """

    name: Annotated[
        str, AfterValidator(_matching(_COLUMN, "letters, digits, spaces and _.:/-, first no space and no _"))
    ]
    role: Role
    kind: Kind
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    description: str = ""
    raw_name: str = ""
    aliases: Strings = ()
    categories: Strings = ()
    nullable: bool = False
    unseen: Literal["unknown", "reject"] = "unknown"
    true_pattern: str = ""

    @model_validator(mode="before")
    @classmethod
    def name_in_raw_tables(cls, values: Any) -> Any:  # noqa: ANN401 before validation it may be anything
        """Take the name where no other name in raw tables is given."""
        if not isinstance(values, dict):
            return values
        return {**values, "raw_name": values.get("raw_name") or values.get("name")}

    @model_validator(mode="after")
    def check(self) -> Self:
        """Refuse what contradicts the kind or the role."""
        _require(*self._problems())
        return self

    def _problems(self) -> Iterable[str]:
        ends = (self.minimum, self.maximum)
        if ends != (None, None) and self.kind not in {"float", "integer"}:
            yield f"expected minimum and maximum for a float or an integer only; found kind = {self.kind!r}"
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            yield f"expected minimum <= maximum; found {self.minimum:g} and {self.maximum:g}"
        if self.nullable and self.role in {"id", "target"}:
            yield f"expected no nullable for the {self.role}: " + (
                "an id is never null" if self.role == "id" else "a row without a label is always allowed"
            )
        yield from self._category_problems()
        yield from self._role_problems()

    def _category_problems(self) -> Iterable[str]:
        if self.categories and self.kind != "category":
            yield f"expected categories with kind = 'category' only; found kind = {self.kind!r}"
        if len(set(self.categories)) < len(self.categories):
            yield "expected each category once"
        if self.true_pattern and self.kind != "boolean":
            yield f"expected true_pattern with kind = 'boolean' only; found kind = {self.kind!r}"
        if not _is_pattern(self.true_pattern):
            yield f"expected a regular expression as true_pattern; found {self.true_pattern!r}"
        if self.unseen != "unknown" and (self.role != "feature" or not self.is_categorical):
            yield "expected unseen = 'reject' for a feature with kind = 'category' or 'string' only"

    def _role_problems(self) -> Iterable[str]:
        if self.role == "id" and self.kind != "integer":
            yield (
                f"expected an id with kind = 'integer'; found {self.kind!r}. Without a column of role 'id' the rows "
                "are numbered; use the role 'pass_through' for this column"
            )
        if self.role == "target" and self.kind not in _TARGET_KINDS:
            yield f"expected a target with kind = {_one_of(_TARGET_KINDS)}; found {self.kind!r}"
        if self.role == "target" and self.kind == "category" and len(self.categories) != _CLASSES:
            yield f"expected the negative and the positive value as categories; found {list(self.categories)}"
        if self.role == "time" and self.kind not in _TIME_KINDS:
            yield f"expected a time with kind = {_one_of(_TIME_KINDS)}; found {self.kind!r}"

    @property
    def is_numeric(self) -> bool:
        """Whether the values are doubles in prepared tables."""
        return self.kind in NUMERIC

    @property
    def is_categorical(self) -> bool:
        """Whether the values are categories, with or without a list of them."""
        return self.kind in CATEGORICAL

    @property
    def allowed(self) -> tuple[str, ...]:
        """The categories, if another value is invalid; empty if any value is scored."""
        is_open = self.role == "feature" and self.unseen == "unknown"
        return () if is_open else self.categories

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """Allowed range; of a boolean and the target, 0 and 1."""
        return (0.0, 1.0) if self.kind == "boolean" or self.role == "target" else (self.minimum, self.maximum)

    @property
    def request_name(self) -> str:
        """Further name of the column in requests: the one in raw tables, unless its values there are others."""
        return self.name if self.true_pattern else self.raw_name

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the column in tables that a person hands in, first the one in prepared tables."""
        return tuple(dict.fromkeys((self.name, self.raw_name, *self.aliases)))

    @property
    def constraint_text(self) -> str:
        """Describe the allowed values.

        Examples
        --------
        >>> Column(name="period", role="feature", kind="integer", minimum=1, maximum=10).constraint_text
        'an integer from 1 to 10'
        >>> Column(name="side", role="pass_through", kind="category", categories=("left", "right")).constraint_text
        "one of 'left', 'right'"
        """
        if self.categories:
            return ("one of " if self.allowed else "a category such as ") + _listed(self.categories)
        low, high = (None if end is None else f"{end:.8g}" for end in (self.minimum, self.maximum))
        if low is not None and high is not None:
            return f"{_NOUNS[self.kind]} from {low} to {high}"
        if low is not None:
            return f"{_NOUNS[self.kind]} of at least {low}"
        return f"{_NOUNS[self.kind]} of at most {high}" if high is not None else _NOUNS[self.kind]


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


class File(_Part):
    """A file of a `Source`: its name, and its SHA-256."""

    name: Annotated[str, AfterValidator(_matching(_TABLE, "a file name such as development.parquet"))]
    sha256: Annotated[str, AfterValidator(_matching(re.compile(r"[0-9a-f]{64}"), "64 hexadecimal digits"))]


class Source(_Part):
    """Where ``source=auto`` downloads the tables of a dataset from.

    Attributes
    ----------
    url : str
        An ``https://`` URL of a folder.
    files : tuple of File
        The files of the folder: the two raw tables, or the parts of one table.
    """

    url: Annotated[str, AfterValidator(_matching(re.compile(r"https://[^\s@?#]+"), "an https:// URL of a folder"))]
    files: Annotated[tuple[File, ...], Field(min_length=1, strict=False)]


class Rows(_Part):
    """Which rows of a source are development, or production.

    At most one of `values`, the range, and `share` is given. Without any, the part has the rows that the other part
    does not have; if neither has any, production is the last fifth of the rows.

    Attributes
    ----------
    table : str
        Name of the part's raw table, in ``data/raw`` and in a source that is a folder of both.
    column : str
        Column that selects the rows.
    values : tuple
        Rows with one of these values.
    since, until : str or float or None
        Rows from this value on, and before this value.
    share : float or None
        Share of the rows: the last ones by time, or random ones without a column of role ``time``.
    """

    table: str = ""
    column: str = ""
    values: Annotated[tuple[Value, ...], _LIST] = ()
    since: Value | None = None
    until: Value | None = None
    share: Annotated[float | None, Field(gt=0, lt=1)] = None

    @model_validator(mode="after")
    def check(self) -> Self:
        """Refuse more than one way."""
        has_range = self.since is not None or self.until is not None
        if self.table and not _TABLE.fullmatch(self.table):
            _require(f"expected a file name such as development.parquet as table; found {self.table!r}")
        if bool(self.values) + has_range + (self.share is not None) > 1:
            _require("expected one of values, since with until, and share")
        if bool(self.column) != (bool(self.values) or has_range):
            _require("expected column with values, since or until")
        return self

    @property
    def text(self) -> str:
        """Describe which rows these are.

        Examples
        --------
        >>> Rows(column="season", since="2013-14").text, Rows(column="side", values=("left",)).text
        ("season from '2013-14' on", "side 'left'")
        """
        if self.values:
            return f"{self.column} " + " or ".join(map(repr, self.values))
        since = f" from {self.since!r} on" if self.since is not None else ""
        until = f" before {self.until!r}" if self.until is not None else ""
        return f"{self.column}{since}{until}" if self.column else f"{self.share:.4g} of the rows" if self.share else ""

    @property
    def constants(self) -> tuple[tuple[str, Value], ...]:
        """The values that select the rows, each with its key."""
        ends = (("since", self.since), ("until", self.until))
        return (*(("values", value) for value in self.values), *((key, end) for key, end in ends if end is not None))

    @property
    def is_given(self) -> bool:
        """Whether the description selects rows of this part."""
        return bool(self.column) or self.share is not None


class Test(_Part):
    """How the rows of development are split into train and test; the parameter ``test_size`` is the share of test.

    Attributes
    ----------
    strategy : str
        ``random``, stratified by label; ``time``: the last rows; ``group``: all rows of random groups.
    """

    strategy: Literal["random", "time", "group"] = "random"


class Court(_Part):
    """The columns that are a place on a basketball court.

    Attributes
    ----------
    x, y : str
        Columns across and along the court.
    distance : str
        Column of the distance from the hoop, feet; empty for none.
    unit : str
        Of x and y: ``degrees`` as in the public files of Kobe Bryant, or ``feet`` or tenths of a foot from the hoop.
    lines : str
        League whose lines are drawn.
    """

    x: str
    y: str
    distance: str = ""
    unit: Literal["degrees", "feet", "tenths of a foot"] = "feet"
    lines: Literal["nba", "wnba", "fiba", "ncaa"] = "nba"


class Slice(_Part):
    """A column by which metrics are reported.

    Attributes
    ----------
    column : str
    edges : tuple of float
        Inner edges of the bins of a numeric column; empty: each value, or quartiles of a float.
    labels : tuple of str
        Names of the bins, or of the values in increasing order; empty: the values.
    """

    column: str
    edges: Annotated[tuple[float, ...], _LIST] = ()
    labels: Strings = ()


class Monitoring(_Part):
    """Limits of the checks that depend on what a table is.

    Attributes
    ----------
    label_delay_days : float
        Age at which a logged row should have a label.
    stale_after_days : float
        Age since promotion above which a champion is stale.
    max_unlabeled : float
        Share of unlabeled rows above which a check fails.
    max_out_of_support : float
        Out-of-support rate above which, if statistically significant, a check fails.
    warning_degradation, max_degradation : float
        Relative degradation of a metric above which a check warns, and above which it fails.
    """

    label_delay_days: Annotated[float, Field(gt=0)] = 7
    stale_after_days: Annotated[float, Field(gt=0)] = 90
    max_unlabeled: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_out_of_support: Annotated[float, Field(gt=0, le=1)] = 0.1
    warning_degradation: Annotated[float, Field(gt=0)] = 0.10
    max_degradation: Annotated[float, Field(gt=0)] = 0.15


class Promotion(_Part):
    """How a version becomes champion.

    Attributes
    ----------
    approval : str
        ``none``: whatever passes the quality gate is promoted; ``person``: it waits until a person approves it.
    """

    approval: Literal["none", "person"] = "none"


class Dataset(_Part):
    """The description of a table with a binary outcome.

    Attributes
    ----------
    name : str
        Name of the dataset: of its folders and its experiment.
    title : str
        Name on screens and in reports.
    registered_model : str
        Name of the registered model.
    positive, negative : str
        Words for a label of 1 and of 0.
    row, rows : str
        Words for one row, and for several.
    rate : str
        Words for the share of positive labels.
    columns : tuple of Column
        Columns of the table, in the order of the features in the signature.
    development, production : Rows
        Which rows the model is developed on, and which come later.
    test : Test
        How development is split.
    source : Source or None
        Where ``source=auto`` downloads from.
    court : Court or None
        The place on a court.
    slices : tuple of Slice
        What metrics are reported by.
    monitoring : Monitoring
        Limits of the checks.
    promotion : Promotion
        How a version becomes champion.
    """

    name: Annotated[
        str, AfterValidator(_matching(_NAME, "a name of lower-case letters, digits and underscores, such as heart"))
    ]
    title: str = ""
    registered_model: str = ""
    positive: str = "positive"
    negative: str = "negative"
    row: str = "row"
    rows: str = "rows"
    rate: str = "positive rate"
    columns: Annotated[tuple[Column, ...], Field(min_length=2, strict=False)]
    development: Rows = Rows()
    production: Rows = Rows()
    test: Test = Test()
    source: Source | None = None
    court: Court | None = None
    slices: Annotated[tuple[Slice, ...], _LIST] = ()
    monitoring: Monitoring = Monitoring()
    promotion: Promotion = Promotion()

    @model_validator(mode="before")
    @classmethod
    def fill(cls, values: Any) -> Any:  # noqa: ANN401 before validation it may be anything
        """Derive the title and the registered model from the name, and number the rows if no column is the id."""
        if not isinstance(values, dict):
            return values
        name, columns = values.get("name"), values.get("columns")
        filled = {**values, "registered_model": values.get("registered_model") or name}
        if isinstance(name, str):
            filled["title"] = values.get("title") or name.replace("_", " ").capitalize()
        if isinstance(columns, list | tuple) and not any(_role(column) == "id" for column in columns):
            text = "number of the row in the source, from 0"
            filled["columns"] = [*columns, {"name": ROW_ID, "role": "id", "kind": "integer", "description": text}]
        return filled

    @model_validator(mode="after")
    def check(self) -> Self:
        """Refuse what contradicts itself."""
        _require(*self._problems())
        return self

    def _problems(self) -> Iterable[str]:
        if not _MODEL.fullmatch(self.registered_model):
            yield f"dataset.registered_model: expected a name without / : ' ? # %; found {self.registered_model!r}"
        if self.positive == self.negative:
            yield f"dataset: expected two words, positive and negative; found {self.positive!r} for both"
        yield from self._column_problems()
        yield from self._label_problems()
        yield from self._rows_problems()
        yield from self._court_problems()
        yield from self._slice_problems()

    def _court_problems(self) -> Iterable[str]:
        numbers = {column.name for column in self.columns if column.is_numeric}
        places = [self.court.x, self.court.y, self.court.distance] if self.court else []
        for name in filter(None, places):
            if name not in numbers:
                yield f"court: expected the names of float or integer columns; found {name!r}"

    def _slice_problems(self) -> Iterable[str]:
        known = {column.name: column for column in self.columns}
        for each in self.slices:
            if each.column not in known or known[each.column].role == "target":
                yield f"slices: expected the name of a column other than the target; found {each.column!r}"
            elif each.edges and not known[each.column].is_numeric:
                yield f"slices.{each.column}: expected edges for a float or an integer only"
            elif list(each.edges) != sorted(set(each.edges)):
                yield f"slices.{each.column}: expected increasing edges; found {list(each.edges)}"
            elif each.edges and each.labels and len(each.labels) != len(each.edges) + 1:
                yield f"slices.{each.column}: expected {len(each.edges) + 1} labels; found {len(each.labels)}"

    def _column_problems(self) -> Iterable[str]:
        for role, least, most in (("target", 1, 1), ("id", 1, 1), ("time", 0, 1), ("group", 0, 1)):
            names = [column.name for column in self.columns if column.role == role]
            if not least <= len(names) <= most:
                expected = "one column" if least else "at most one column"
                yield f"columns: expected {expected} of role {role!r}; found {', '.join(names) or 'none'}"
        if not self.features:
            yield "columns: expected at least one column of role 'feature'; found none"
        spelled: dict[str, str] = {}
        reserved = set(map(folded, RESERVED))
        for column in self.columns:
            if folded(column.name) in reserved:
                advice = f"expected another name, and raw_name = {column.name!r}"
                yield f"columns.{column.name}: scoring adds a column of this name; {advice}"
            for alias in column.aliases:
                if folded(alias) in reserved:
                    yield f"columns.{column.name}.aliases: scoring adds a column {alias!r}; expected another name"
            for name in dict.fromkeys(map(folded, column.names)):
                if name in spelled:
                    yield (
                        f"columns.{column.name}: {spelled[name]} has the same name or alias, apart from case, spaces, "
                        "dashes and underscores"
                    )
                spelled.setdefault(name, column.name)

    def _label_problems(self) -> Iterable[str]:
        values = [column.categories for column in self._of_role("target") if len(column.categories) == _CLASSES]
        for words in ((self.negative, self.positive), *values):
            for label, word in enumerate(words):
                if LABELS.get(word.casefold(), label) != label:
                    yield (
                        f"dataset: {word!r} is a label of {label} here, and of {1 - label} in other tables of labels; "
                        "expected another word, or recode the table"
                    )

    def _rows_problems(self) -> Iterable[str]:
        tables = self.raw_tables
        if len(set(tables)) < len(tables):
            yield f"development, production: expected two tables; found {tables[0]} twice"
        for part, rows in (("development", self.development), ("production", self.production)):
            if rows.column:
                yield from self._selection_problems(part, rows)
        if self.development.share is not None:
            yield "development: expected share in production only; development is the rest"
        if self.test.strategy == "time" and self.time is None:
            yield "test.strategy: 'time' needs a column of role 'time'; found none"
        if self.test.strategy == "group" and self.group is None:
            yield "test.strategy: 'group' needs a column of role 'group'; found none"

    def _selection_problems(self, part: str, rows: Rows) -> Iterable[str]:
        column = next((column for column in self.columns if column.name == rows.column), None)
        if column is None:
            yield f"{part}.column: expected the name of a column; found {rows.column!r}"
        elif column.role == "target":
            yield f"{part}.column: expected a column that is known before the label; found the target"
        elif column.is_numeric:
            texts = [(key, value) for key, value in rows.constants if isinstance(value, str)]
            yield from (
                f"{part}.{key}: expected a number, as {column.name} is; found {value!r}" for key, value in texts
            )

    @property
    def features(self) -> tuple[Column, ...]:
        """Features of the model, in the order of its signature."""
        return self._of_role("feature")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the signature."""
        return tuple(column.name for column in self.features)

    @property
    def numeric(self) -> tuple[Column, ...]:
        """Features that are doubles: floats, integers and booleans."""
        return tuple(column for column in self.features if column.is_numeric)

    @property
    def categorical(self) -> tuple[Column, ...]:
        """Features that are categories or strings."""
        return tuple(column for column in self.features if column.is_categorical)

    @property
    def dates(self) -> tuple[Column, ...]:
        """Features that are dates."""
        return tuple(column for column in self.features if column.kind == "date")

    @property
    def target(self) -> Column:
        """The label."""
        return self._of_role("target")[0]

    @property
    def id(self) -> Column:
        """The id of a row."""
        return self._of_role("id")[0]

    @property
    def time(self) -> Column | None:
        """The column that orders rows."""
        return next(iter(self._of_role("time")), None)

    @property
    def group(self) -> Column | None:
        """The column of rows that are not independent."""
        return next(iter(self._of_role("group")), None)

    @property
    def raw_tables(self) -> tuple[str, str]:
        """Names of the raw tables of development and production."""
        return self.development.table or DEVELOPMENT_TABLE, self.production.table or PRODUCTION_TABLE

    @property
    def required(self) -> tuple[Column, ...]:
        """Columns that every raw table has: id, features and label."""
        return tuple(column for column in self.columns if column.role in {"feature", "target", "id"})

    @property
    def kept(self) -> tuple[Column, ...]:
        """Columns of the prepared production table: id, time, group, features, and label."""
        order = [self.id, self.time, self.group, *self.features, self.target]
        return tuple(column for column in order if column is not None)

    def column(self, name: str) -> Column:
        """Return a column by its name, its name in raw tables, or an alias.

        Raises
        ------
        KeyError
            If there is none.
        """
        return self.by_name[name if name in self.by_name else self.spelled[folded(name)]]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy whose names and labels are those of its own columns and words; see `pydantic.BaseModel.model_copy`."""
        copy = super().model_copy(update=update, deep=deep)
        for name, member in vars(Dataset).items():
            if isinstance(member, cached_property):
                copy.__dict__.pop(name, None)
        return copy

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """Columns by their names, and by their names in raw tables."""
        return {name: column for column in self.columns for name in (column.raw_name, column.name)}

    @cached_property
    def labels(self) -> Mapping[str, int]:
        """Spellings of the label, in lower case; numbers may have a fraction of zeros."""
        classes = (self.negative, self.positive), self.target.categories
        own = {value.casefold(): label for values in classes for label, value in enumerate(values)}
        return {**LABELS, **own}

    @cached_property
    def spelled(self) -> Mapping[str, str]:
        """Names of columns by their folded names: exact names stay, an alias is the name in raw tables."""
        aliases = {folded(alias): column.raw_name for column in self.columns for alias in column.aliases}
        return aliases | {folded(name): name for column in self.columns for name in (column.raw_name, column.name)}

    def to_json(self) -> str:
        """Write the description as JSON, which `data.datasets.from_json` reads."""
        return self.model_dump_json(indent=2, exclude_defaults=True) + "\n"

    def _of_role(self, role: Role) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role == role)


def _role(column: Any) -> object:  # noqa: ANN401 before validation it may be anything
    return column.get("role") if isinstance(column, dict) else getattr(column, "role", None)


def _require(*problems: str) -> None:
    if problems:
        raise ValueError("\n".join(problems))


def _one_of(values: Iterable[str]) -> str:
    *most, last = map(repr, values)
    return f"{', '.join(most)} or {last}"


def _listed(values: tuple[str, ...], most: int = 20) -> str:
    shown = map(repr, values[:most])
    rest = [f"… ({len(values)} categories)"] if len(values) > most else []
    return ", ".join(chain(shown, rest))
