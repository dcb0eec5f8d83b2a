"""A first description of a table, guessed from its rows, each guess with its reason."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from data.datasets.description import LABELS, RESERVED, Kind, Role, folded
from data.errors import DatasetError
from data.storage.column_names import is_index
from data.storage.dates import DateReader
from data.storage.tables import TableReader

SAMPLE_ROWS = 100_000
"""Rows that the guesses are made from, of a larger table."""
MAX_CATEGORIES = 200
"""Maximum number of distinct strings of a category."""
MAX_LISTED = 30
"""Maximum number of categories that are listed; more are likely to grow."""

_CLASSES = 2
_MAX_NULL_SHARE = 0.9
_MIN_GROUPS = 10
_ROWS_PER_GROUP = 2
_ROWS_PER_CATEGORY = 5
_MAX_SEPARATION = 0.99
_LINE = 60
_NULLS = ("", "nan", "none", "null", "na", "n/a", "<na>", "?", "-")
_BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})
_DATE = r"\d{4}-\d{2}-\d{2}([T ].*)?"
_OTHER_DATE = r"\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}([T ].*)?"
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TIME = re.compile(r"(.*_)?(time|timestamp|ts|at|epoch|unix|date|datetime|created|updated|when|on)(_(utc|ms|us|ns|s))?")
_DIGITS, _LEADING_ZERO, _MAX_DIGITS = r"\d+", r"0\d+", 18
_ISO = "2013-10-29"
_SINCE_1970 = "since 1970"
_MIN_IN_ORDER = 0.99
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_FIRST_SECOND, _LAST_SECOND = 10**8, 4 * 10**9
_ID = re.compile(r"(^|.*_)(id|no|nr|num|number|key|index|uuid)\d?|id[a-z]?")
_TARGET = re.compile(
    r"(is_|has_|was_)?(target|label|class|outcome|response|y|flag|made|success|survived|survival|churn(ed)?|default(ed)?"
    r"|diagnosis|death|event|status|result|win|won|converted|conversion|fraud|approved|accepted|returned)"
    r"(_flag|_label|_status)?|.*_(flag|label|target|outcome|class|made)"
)


@dataclass(frozen=True)
class Guess:
    """What a column is taken for.

    Attributes
    ----------
    name, raw_name : str
        Proposed name, and name in the table.
    role, kind : str
        See `data.datasets.Column`.
    reasons : tuple of str
        Why, as comments.
    cells : pandas.Series
        The values that are not null, as numbers or strings.
    nulls : int
    """

    name: str
    raw_name: str
    role: Role
    kind: Kind
    reasons: tuple[str, ...]
    cells: "pd.Series[float] | pd.Series[str]"
    nulls: int


def propose(path: Path, name: str, target: str = "", row_count: int = SAMPLE_ROWS) -> str:
    """Write a description of a table as TOML.

    Parameters
    ----------
    path : pathlib.Path
        See `data.storage.tables.TableReader`.
    name : str
        Name of the table, from which the dataset gets its name.
    target : str
        Column of the label; empty to guess it.
    row_count : int
        Rows that are read, a systematic sample of a larger table.

    Raises
    ------
    TableError
        If the table cannot be read.
    DatasetError
        If it has no column with two values, or `target` is none.
    """
    reader = TableReader(path)
    table = reader.sampled_table(row_count)
    names = [each for each in table.column_names if not is_index(each)]
    if not table.num_rows or not names:
        message = f"{name}: expected rows and columns; found {table.num_rows:,} rows and {len(names)} columns."
        raise DatasetError(message)
    _refuse_twins(names, name)
    own = _names(names)
    guesses = [_guess(own[each], each, table.column(each)) for each in names]
    label = _target(guesses, target, name)
    features = [guess for guess in guesses if guess.raw_name != label.raw_name]
    guesses = _with_roles(features, label, table.num_rows)
    rows = f"{reader.rows or table.num_rows:,} rows"
    sampled = f" (guessed from {table.num_rows:,} of them)" if table.num_rows < (reader.rows or 0) else ""
    return "\n".join(_text(_dataset_name(name), label, guesses, f"{rows}{sampled}", name)) + "\n"


def _refuse_twins(names: Sequence[str], table: str) -> None:
    spelled: dict[str, str] = {}
    for name in names:
        other = spelled.setdefault(folded(name), name)
        if other != name:
            message = (
                f"{table}: {other} and {name} have the same name, apart from case, spaces, dashes, dots and "
                "underscores. Rename one of them in the table."
            )
            raise DatasetError(message)


def _names(names: Sequence[str]) -> dict[str, str]:
    """Names that suit requests and databases: lower-case letters, digits and underscores."""
    found: dict[str, str] = {}
    taken = set(map(folded, RESERVED))
    for name in names:
        base = re.sub(r"\W+", "_", _CAMEL.sub("_", name.strip()).lower()).strip("_") or "column"
        base = f"c_{base}" if base[0].isdigit() else base
        own, number = base, 2
        while folded(own) in taken:
            own, number = f"{base}_{number}", number + 1
        found[name] = own
        taken.add(folded(own))
    return found


def _dataset_name(name: str) -> str:
    stem = re.sub(r"\W+", "_", Path(name).stem.lower(), flags=re.ASCII).strip("_") or "mine"
    return (stem if stem[0].isalpha() else f"table_{stem}")[:60]


def _guess(name: str, raw_name: str, column: pa.ChunkedArray) -> Guess:
    """Guess the kind of a column from its values; the role is that of a feature for now."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_temporal(column.type) and not pa.types.is_duration(column.type):
        dates = pd.Series(column.cast(pa.string()).to_pandas()).dropna()
        return Guess(name, raw_name, "feature", "date", (f"type {column.type}",), dates, column.null_count)
    if pa.types.is_boolean(column.type):
        numbers = pd.Series(column.cast(pa.int8()).to_pandas()).dropna()
        return Guess(name, raw_name, "feature", "boolean", ("true and false",), numbers, column.null_count)
    values = pd.Series(column.to_pandas())
    is_text = not pd.api.types.is_numeric_dtype(values)
    if is_text:
        texts = values.dropna().astype(str).str.strip()
        values = texts[~texts.str.lower().isin(_NULLS)]
        dates = _dates(values)
        if len(dates) and dates.str.fullmatch(_DATE).all():
            reason = f"dates, {dates.min()[:10]} to {dates.max()[:10]}"
            return Guess(name, raw_name, "feature", "date", (reason,), dates, column.length() - len(dates))
        numbers = pd.to_numeric(values.str.replace(r"^([+-]?\d*),(\d+)$", r"\1.\2", regex=True), errors="coerce")
        is_text = not len(values) or bool(numbers.isna().any()) or _are_codes(name, values)
    else:
        numbers = values = values.dropna()
    nulls = column.length() - len(values)
    if is_text:
        kind, reason = _text_kind(values)
        return Guess(name, raw_name, "feature", kind, (reason,), values, nulls)
    numbers = numbers.astype(float)
    if set(numbers.unique()) == {0, 1}:
        return Guess(name, raw_name, "feature", "boolean", ("0 and 1 only",), numbers, nulls)
    is_integer = bool((numbers % 1 == 0).all())
    unit = _unit_since_1970(name, numbers) if is_integer else ""
    shown = f"{numbers.min():.6g} to {numbers.max():.6g}"
    reason = f"{'integers' if is_integer else 'numbers'}, {shown}, {numbers.nunique():,} distinct"
    if unit:
        first, last = (pd.Timestamp(end / _UNITS[unit], unit="s").date() for end in (numbers.min(), numbers.max()))
        reason = f"{unit} {_SINCE_1970}, {first} to {last}"
    return Guess(name, raw_name, "feature", "integer" if is_integer else "float", (reason,), numbers, nulls)


def _are_codes(name: str, values: "pd.Series[str]") -> bool:
    """Whether strings of digits are codes: a number does not start with 0, and an id has a place in 64 bits."""
    if not values.str.fullmatch(_DIGITS).all():
        return False
    if values.str.len().max() > _MAX_DIGITS:
        return True
    is_id = is_id_name(name) and values.astype("int64").nunique() == len(values)
    return not is_id and bool(values.str.fullmatch(_LEADING_ZERO).any())


def _unit_since_1970(name: str, numbers: "pd.Series[float]") -> str:
    """The unit of integers that count from 1970 by their name and their size; empty for others."""
    if not _TIME.fullmatch(name):
        return ""
    fits = (unit for unit, per in _UNITS.items() if numbers.between(_FIRST_SECOND * per, _LAST_SECOND * per).all())
    return next(fits, "")


def _text_kind(values: "pd.Series[str]") -> tuple[Kind, str]:
    distinct = values.nunique()
    if len(values) and values.str.fullmatch(_OTHER_DATE).all():
        return "string", (
            f"dates such as {values.iloc[0]}, which may mean two days: write them as {_ISO}, for example with "
            "pandas.to_datetime(column, dayfirst=True), and give the kind date"
        )
    if values.str.fullmatch(_DIGITS).all() and distinct > MAX_CATEGORIES:
        return "string", f"{distinct:,} distinct codes of digits, which are no numbers"
    if {value.lower() for value in values.unique()[: _CLASSES + 1]} in _BOOLEANS:
        return "boolean", f"{' and '.join(sorted(values.unique()))} only"
    if distinct <= MAX_CATEGORIES and distinct * _ROWS_PER_CATEGORY <= len(values):
        return "category", f"{distinct} distinct strings"
    return "string", f"{distinct:,} distinct strings in {len(values):,} rows"


def _dates(values: "pd.Series[str]") -> "pd.Series[str]":
    """Dates in another order as the reader reads them; other strings as they are."""
    if not len(values) or not values.str.fullmatch(_OTHER_DATE).all():
        return values
    return pd.Series(DateReader().read(pa.array(values)).to_numpy(zero_copy_only=False), values.index, dtype=object)


def _target(guesses: Sequence[Guess], target: str, table: str) -> Guess:
    """The column of the label."""
    binary = [guess for guess in guesses if guess.cells.nunique() == _CLASSES]
    if target:
        named = [guess for guess in guesses if folded(target) in {folded(guess.name), folded(guess.raw_name)}]
        if not named:
            message = f"{table}: expected the name of a column as target; found {target!r}, not one of "
            raise DatasetError(message + ", ".join(guess.raw_name for guess in guesses) + ".")
        if named[0] not in binary:
            message = (
                f"{table}: expected a target with two values; {target} has {named[0].cells.nunique():,}. Add a column "
                "to the table that is 1 or 0, for example whether the value is above a limit."
            )
            raise DatasetError(message)
        return _relabeled(named[0], "named by --target")
    if not binary:
        message = (
            f"{table}: expected a column with two values, the label; found none in {len(guesses)} column(s). Add a "
            "column to the table that is 1 or 0."
        )
        raise DatasetError(message)
    by_name = [guess for guess in binary if _TARGET.fullmatch(guess.name)]
    selected = (by_name or binary)[-1]
    others = [guess.raw_name for guess in binary if guess is not selected]
    reason = "two values" + (" and a name of labels" if by_name else "; the last such column")
    return _relabeled(selected, reason + (f"; also with two values: {', '.join(others)}" if others else ""))


def _relabeled(guess: Guess, reason: str) -> Guess:
    kind: Kind = "category" if guess.kind in {"category", "string", "date", "float"} else guess.kind
    if guess.kind == "integer" and set(guess.cells.unique()) != {0, 1}:
        kind = "category"
    return Guess(guess.name, guess.raw_name, "target", kind, (reason,), guess.cells, guess.nulls)


def _with_roles(guesses: Sequence[Guess], label: Guess, rows: int) -> list[Guess]:
    """Guess the roles of the columns that are not the label."""
    ids = [guess for guess in guesses if _numbers_rows(guess, rows)]
    named = [guess for guess in ids if is_id_name(guess.name)] or ids
    groups = [guess for guess in guesses if is_id_name(guess.name) and _is_group(guess, rows)]
    # Rows of one group are usually next to each other.
    group = max(groups, key=lambda guess: (guess.cells == guess.cells.shift()).mean(), default=None)
    time = _time([guess for guess in guesses if _is_time(guess) and _reason_to_pass(guess, rows) == ""])
    found = []
    for guess in guesses:
        role: Role = "feature"
        if guess in named[:1]:
            role, reason = "id", "an integer of each row" + ", and a name of ids" * is_id_name(guess.name)
        elif guess is group:
            role, reason = "group", f"a name of ids, each on {rows / guess.cells.nunique():.0f} rows on average"
        elif guess is time:
            role = "time"
            reason = "dates in the order of the rows" if _is_in_order(guess) else "the first column of dates"
        else:
            reason = _reason_to_pass(guess, rows) or ("a date" if _is_time(guess) else "")
            reason = reason or ("it numbers the rows" if guess in ids else "")
            role = "pass_through" if reason else "feature"
            reason = f"no feature: {reason}" if reason else _oddity(guess, label)
        reasons = (reason, *guess.reasons)
        found.append(Guess(guess.name, guess.raw_name, role, guess.kind, reasons, guess.cells, guess.nulls))
    return found


def _numbers_rows(guess: Guess, rows: int) -> bool:
    """Whether a column is an integer of each row, by its name or because the numbers have no gap."""
    if guess.kind != "integer" or guess.cells.nunique() < rows:
        return False
    numbers = guess.cells.astype(float)
    return is_id_name(guess.name) or guess.name.endswith("id") or bool(numbers.max() - numbers.min() == rows - 1)


def _is_time(guess: Guess) -> bool:
    return guess.kind == "date" or any(_SINCE_1970 in reason for reason in guess.reasons)


def _time(guesses: Sequence[Guess]) -> Guess | None:
    """The column that orders the rows: often the table is sorted by it, and other dates are facts of a row."""
    return min(guesses, key=lambda guess: (not _is_in_order(guess), guess.kind != "date"), default=None)


def _is_in_order(guess: Guess) -> bool:
    pairs = (guess.cells.to_numpy()[1:] >= guess.cells.to_numpy()[:-1]).astype(float)
    return len(pairs) > 0 and bool(pairs.mean() >= _MIN_IN_ORDER)


def _reason_to_pass(guess: Guess, rows: int) -> str:
    """Why a column is no feature; empty if it may be one."""
    if guess.nulls > _MAX_NULL_SHARE * rows:
        return f"{guess.nulls:,} of {rows:,} rows are null"
    if guess.cells.nunique() < _CLASSES:
        return "one value only"
    if is_id_name(guess.name):
        return "a name of ids"
    return "free text, or too many categories" if guess.kind == "string" else ""


def is_id_name(name: str) -> bool:
    """Whether a name is usually that of an id."""
    return _ID.fullmatch(name) is not None


def _is_group(guess: Guess, rows: int) -> bool:
    distinct = guess.cells.nunique()
    return distinct >= _MIN_GROUPS and distinct * _ROWS_PER_GROUP <= rows


def _oddity(guess: Guess, label: Guess) -> str:
    """Whether a feature alone separates the labels, as what is known only afterwards does."""
    positive = (label.cells == max(label.cells.unique())).astype(float)
    area = separation(guess.cells, positive, guess.kind)
    return f"odd: it alone separates the labels (ROC AUC {area:.3f}); known only afterwards?" if area else ""


def separation(cells: "pd.Series[Any]", positive: "pd.Series[float]", kind: Kind) -> float:
    """ROC AUC of a column on its own, where it is suspiciously high; otherwise 0.

    Parameters
    ----------
    cells : pandas.Series
        Numbers or categories; nulls are excluded, as are rows that `positive` lacks.
    positive : pandas.Series
        1 for a positive label, 0 for a negative one.
    kind : str
        Kind of the column.
    """
    both = pd.DataFrame({"cell": cells, "positive": positive}).dropna()
    if kind == "date":
        return 0.0
    if kind in {"category", "string", "boolean"}:
        both["cell"] = both.groupby("cell", observed=True)["positive"].transform("mean")
    count = both["positive"].sum()
    if not 0 < count < len(both):
        return 0.0
    ranks = pd.to_numeric(both["cell"]).rank()[both["positive"] == 1].sum()
    area = float((ranks - count * (count + 1) / 2) / (count * (len(both) - count)))
    return max(area, 1 - area) if max(area, 1 - area) >= _MAX_SEPARATION else 0.0


def _text(name: str, label: Guess, guesses: Sequence[Guess], rows: str, table: str) -> Iterator[str]:
    roles = {guess.role for guess in guesses}
    yield f"# Proposed from {table}, {rows}. Every line is a guess: read the reasons, and edit what is wrong."
    yield "# Give the role pass_through to what is known only when the label is known: it is no feature then."
    yield "# data/datasets/template.toml explains every key. Then: python -m data.datasets check FILE TABLE"
    negative, positive = _classes(label)
    yield from ("", "[dataset]", f"name = {_quoted(name)}", f"title = {_quoted(name.replace('_', ' ').capitalize())}")
    yield f"# Words for {label.name} {positive}, and for {label.name} {negative}."
    words = ("positive", "negative") if label.kind != "category" else (positive, negative)
    yield from (f"positive = {_quoted(words[0])}", f"negative = {_quoted(words[1])}")
    yield "# Words for one row and for several, and for the share of positive labels."
    yield from ('row = "row"', 'rows = "rows"', 'rate = "positive rate"', "", "[production]")
    yield (
        "# The last fifth of the rows by time is production."
        if "time" in roles
        else ("# There is no column of dates, so a random fifth of the rows is production.")
    )
    yield from ("share = 0.2", "", "[test]")
    if "group" in roles:
        yield "# Whole groups: a random split has rows of one group in train and in test, which is too optimistic."
        yield 'strategy = "group"'
    else:
        yield '# random, stratified by label; "time" tests on the last rows of development.'
        yield 'strategy = "random"'
    if not any(guess.role == "feature" for guess in guesses):
        yield from ("", "# No column seems to be a feature: give at least one the role feature.")
    for guess in (*guesses, label):
        yield from _column_text(guess)


def _column_text(guess: Guess) -> Iterator[str]:
    yield from ("", f"[columns.{guess.name if guess.name.isascii() else _quoted(guess.name)}]")
    if folded(guess.raw_name) != folded(guess.name):
        yield f"raw_name = {_quoted(guess.raw_name)}"
    comment = _comment(guess.reasons[0])
    yield f"role = {_quoted(guess.role)}" + (f"  # {comment}" if comment else "")
    yield f"kind = {_quoted(guess.kind)}" + "".join(f"  # {_comment(reason)}" for reason in guess.reasons[1:])
    if guess.role == "target":
        if guess.kind == "category":
            yield f"categories = [{', '.join(map(_quoted, _classes(guess)))}]  # the negative and the positive value"
        if guess.nulls:
            yield f"# {guess.nulls:,} rows have no label: they are not trained on."
    elif guess.role == "feature":
        yield from _constraints(guess)


def _constraints(guess: Guess) -> Iterator[str]:
    if guess.kind == "category":
        categories = sorted(guess.cells.unique())
        listed = f"categories = [{', '.join(map(_quoted, categories))}]"
        if len(categories) > MAX_LISTED:
            yield "# Too many to list: the training rows define the categories."
        elif len(listed) <= _LINE:
            yield f'{listed}  # another value is scored as unknown; unseen = "reject" makes it invalid'
        else:
            yield '# Another value is scored as unknown; unseen = "reject" makes it invalid.'
            yield from ("categories = [", *(f"    {_quoted(each)}," for each in categories), "]")
    if guess.kind in {"float", "integer"}:
        if pd.to_numeric(guess.cells).min() >= 0:
            yield "minimum = 0  # no value is negative; a value out of range is invalid"
        yield f"# maximum = {pd.to_numeric(guess.cells).max():.6g}  # the largest value here"
    if guess.nulls:
        yield f"nullable = true  # {guess.nulls:,} nulls; without this line such rows are dropped"


def _classes(label: Guess) -> tuple[str, str]:
    """The negative and the positive value: by their spelling, else the positive one is the rarer."""
    counts = label.cells.value_counts()
    first, second = (_shown(value) for value in sorted(counts.index))
    if LABELS.get(first.casefold()) == 1 or LABELS.get(second.casefold()) == 0:
        return second, first
    if {first.casefold(), second.casefold()} & {*LABELS} or label.kind != "category":
        return first, second
    rare = _shown(counts.index[-1])
    return (first, second) if rare == second else (second, first)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _comment(text: str) -> str:
    return " ".join(text.split())


def _quoted(text: str) -> str:
    return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")
