"""Preparation on Spark: the rules of `data.preparation.local` as SQL, for tables too large for one machine.

PySpark is an optional dependency (extra ``spark``), so functions import it where they use it.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from data.acquisition.raw_tables import DEV_FILE, PROD_FILE, RawTable
from data.errors import SchemaError, SourceError
from data.preparation.contract import REJECTS, PreparationParams, PreparationResult
from data.preparation.manifest import FILTERED, IDS, PROD, TABLES, TEST, TRAIN
from data.preparation.split import BITS, Prefix, count_leading, test_rows_per_class, thresholds
from data.schema import COLUMNS, FEATURES, GAME_DATE, RAW_COLUMN_NAMES, REASON, SHOT_ID, TARGET, Column
from data.spark.session import SparkError, collect_rows, translate_errors
from data.spark.tables import quote_identifier, read, write_into
from data.storage.files import atomic_write, parquet_files, remove_path

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Counts = Mapping[str, int]

_NUMBERS = ("tinyint", "smallint", "int", "bigint", "float", "double", "boolean")
_NUMBER = r"(?i)\\s*[+-]?(nan|inf|infinity|([0-9]+[.]?[0-9]*|[.][0-9]+)(e[+-]?[0-9]+)?)\\s*"
_MAX_REASONS_SHOWN = 10
_MAX_IDS_SHOWN = 5
_MAX_HASHES_IN_MEMORY = 1 << BITS
_IDS_PER_PARTITION = 500_000
_PROD_COUNT = 1 << 32
"""Count of a row of the prod table, where a row of the dev table counts 1."""
_FLAGS = (0, 1)


def prepare(session: "SparkSession", raw: Path, out: Path, params: PreparationParams) -> PreparationResult:
    """Validate, filter and split the raw tables.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
        See `data.spark.session.session`.
    raw : pathlib.Path
        Folder that contains the two raw tables, each a Parquet file or a folder of them.
    out : pathlib.Path
        Output folder; each table is a folder of parts. The tables are replaced together at the end. Other files stay,
        except tables of rejects of a previous preparation.
    params : PreparationParams
        Maximum number of rejected rows, and size and seed of the split.

    Returns
    -------
    PreparationResult
        Row counts. The split equals that of the local engine for tables that it does not shuffle, see
        `data.preparation.split`.

    Raises
    ------
    SourceError
        If a table cannot be read or is empty, or both tables share a shot.
    SchemaError
        If columns are missing, too many rows violate the schema, a ``shot_id`` is duplicate, or too few rows are left
        for a split.
    SparkError
        If a job fails; `out` is unchanged.
    """
    dev = _open(session, raw / DEV_FILE).counted([*FEATURES, TARGET])
    prod = _open(session, raw / PROD_FILE).counted(FEATURES)
    _validate_rejected((dev, prod), params.max_rejected_rows)
    shots, scorable = dev.valid(), prod.valid()
    _validate_ids(shots, scorable, dev.rows + prod.rows)
    complete = shots.where(_not_null([*FEATURES, TARGET]))
    classes = {flag: dev.counts[f"flag_{flag}"] for flag in _FLAGS}
    test_rows = test_rows_per_class(classes, params.test_size, params.seed)
    is_test = _is_test(complete, test_rows, params.seed)
    sides = {TRAIN: complete.where(f"NOT ({is_test})"), TEST: complete.where(is_test)}
    feature_columns = [*FEATURES, f"CAST({TARGET} AS BIGINT) AS {TARGET}"]
    date_columns = [GAME_DATE] if GAME_DATE in scorable.columns else []
    tables = {
        FILTERED: complete.selectExpr(*feature_columns),
        TRAIN: sides[TRAIN].selectExpr(*feature_columns),
        TEST: sides[TEST].selectExpr(*feature_columns),
        **{IDS[name]: side.select(SHOT_ID) for name, side in sides.items()},
        PROD: scorable.where(_not_null(FEATURES)).select(SHOT_ID, *date_columns, *FEATURES, TARGET),
    }
    labeled = {FILTERED: sum(classes.values()), TEST: sum(test_rows.values())}
    made = {FILTERED: classes[1], TEST: test_rows[1]}
    for counted in (labeled, made):
        counted[TRAIN] = counted[FILTERED] - counted[TEST]
    rows = labeled | {PROD: prod.counts["complete"]}
    labeled[PROD], made[PROD] = prod.counts["flag_0"] + prod.counts["flag_1"], prod.counts["flag_1"]
    rejected = {table.name: table.counts["rejected"] for table in (dev, prod)}
    rejects = {REJECTS[table.name]: table.rejects() for table in (dev, prod) if rejected[table.name]}
    expected = rows | {IDS[name]: rows[name] for name in IDS}
    _write_all(tables | rejects, expected | {REJECTS[name]: count for name, count in rejected.items()}, out)
    return PreparationResult(
        rows={name: rows[name] for name in TABLES},
        labeled={name: labeled[name] for name in TABLES},
        made={name: made[name] for name in TABLES},
        dropped={
            "dropped_dev_rows": dev.counts["incomplete"],
            "dropped_prod_rows": prod.counts["incomplete"],
            **{f"dropped_dev_missing_{name}": dev.counts[f"missing_{name}"] for name in (*FEATURES, TARGET)},
            **{f"dropped_prod_missing_{name}": prod.counts[f"missing_{name}"] for name in FEATURES},
        },
        rejected=rejected,
    )


def rejection_reason_sql(types: Mapping[str, str]) -> str:
    """SQL expression for the rejection reason of a raw row.

    Parameters
    ----------
    types : mapping of str to str
        Spark type of each column of the raw table.

    Returns
    -------
    str
        Expression that is null for a valid row, otherwise the reason of its first invalid column.
    """
    texts = [
        f"CASE WHEN {violations} THEN concat({_string(f'column {column.name}: found ')}, {_value_text(column, types)}, "
        f"{_string(f', expected {column.constraint_text}')}) END"
        for column, violations in _violations(types).items()
    ]
    return f"coalesce({', '.join(texts)})"


@dataclass(frozen=True)
class _Raw:
    """A raw table with its original columns."""

    name: str
    rows: int
    frame: "DataFrame"
    counts: Counts = field(default_factory=dict)

    @property
    def types(self) -> dict[str, str]:
        return dict(self.frame.dtypes)

    @property
    def is_valid(self) -> str:
        return f"NOT coalesce({' OR '.join(_violations(self.types).values())}, false)"

    def counted(self, needed: Sequence[str]) -> "_Raw":
        """Count rejected, complete and incomplete rows; complete rows have all columns of `needed`."""
        counts = {
            "rejected": "NOT is_fine",
            "complete": f"is_fine AND {_not_null(needed)}",
            "incomplete": f"is_fine AND NOT ({_not_null(needed)})",
            **{f"missing_{name}": f"is_fine AND {name} IS NULL" for name in needed},
            **{f"flag_{flag}": f"is_fine AND {_not_null(needed)} AND {TARGET} = {flag}" for flag in _FLAGS},
        }
        with translate_errors():
            checked = self.frame.selectExpr(*self.used_columns(), f"{self.is_valid} AS is_fine")
            counted = checked.selectExpr(*[f"count_if({condition}) AS {name}" for name, condition in counts.items()])
        return replace(self, counts=collect_rows(counted)[0])

    def valid(self) -> "DataFrame":
        """The valid rows with the columns that are used. Without rejects, no row is validated again."""
        rows = self.frame.where(self.is_valid) if self.counts["rejected"] else self.frame
        return rows.selectExpr(*self.used_columns())

    def used_columns(self) -> list[str]:
        types = self.types
        numbers = [f"{_number(RAW_COLUMN_NAMES.get(name, name), types)} AS {name}" for name in (*FEATURES, TARGET)]
        is_time = types.get(GAME_DATE, "").startswith(("timestamp", "date"))
        day = f"date_format({GAME_DATE}, 'yyyy-MM-dd')" if is_time else f"CAST({GAME_DATE} AS STRING)"
        dates = [f"{day} AS {GAME_DATE}"] if GAME_DATE in types else []
        whole = f"try_cast({SHOT_ID} AS BIGINT)" if types[SHOT_ID] != "boolean" else f"CAST({SHOT_ID} AS BIGINT)"
        return [f"coalesce({whole}, try_cast({_number(SHOT_ID, types)} AS BIGINT)) AS {SHOT_ID}", *dates, *numbers]

    def first_reasons(self, max_rows: int) -> list[str]:
        return [row[REASON] for row in collect_rows(self._violations().select(REASON).limit(max_rows))]

    def rejects(self) -> "DataFrame":
        """The rejected rows as one partition."""
        placed = self._violations().selectExpr("*", "monotonically_increasing_id() AS `_place`").repartition(1)
        return placed.sortWithinPartitions("_place").drop("_place")

    def _violations(self) -> "DataFrame":
        columns = [quote_identifier(name) for name in self.frame.columns if name != REASON]
        with translate_errors():
            return self.frame.selectExpr(*columns, f"{rejection_reason_sql(self.types)} AS {REASON}").where(
                f"{REASON} IS NOT NULL"
            )


def _open(session: "SparkSession", path: Path) -> _Raw:
    table = RawTable(path)
    frame = read(session, path)
    with translate_errors():
        spelled = {raw: name for name, raw in RAW_COLUMN_NAMES.items() if raw not in frame.columns}
        columns = [
            f"{quote_identifier(spelled.get(name, name))} AS {quote_identifier(name)}" for name in table.schema.names
        ]
        return _Raw(path.name, table.rows, frame.selectExpr(*columns))


def _validate_rejected(tables: Sequence[_Raw], max_rows: int) -> None:
    """Raise if too many rows violate the schema, with the first reasons."""
    count = sum(table.counts["rejected"] for table in tables)
    if count <= max_rows:
        return
    lines: list[str] = []
    violations = [table for table in tables if table.counts["rejected"]]
    for table in violations:
        head = f"  {table.name}, " if len(violations) > 1 else "  "
        lines += [head + text for text in table.first_reasons(_MAX_REASONS_SHOWN - len(lines))]
    names = " and ".join(table.name for table in violations)
    head = f"{names} violate{'s' * (len(violations) == 1)} the schema in {count:,} row(s)"
    advice = (
        f", more than max_rejected_rows={max_rows} allows in both raw tables. Fix or remove them, or set a "
        "higher max_rejected_rows:"
        if max_rows
        else ". Fix or remove them:"
    )
    more = [f"  and {count - len(lines):,} more row(s)"] if count > len(lines) else []
    message = "\n".join([head + advice, *lines, *more])
    raise SchemaError(message)


def _validate_ids(dev: "DataFrame", prod: "DataFrame", rows: int) -> None:
    """Raise if a shot is duplicate in a table, or is in both tables, which have `rows` rows together."""
    parts = max(1, rows // _IDS_PER_PARTITION)
    with translate_errors():
        both = dev.selectExpr(SHOT_ID, "1 AS occurrences").unionAll(
            prod.selectExpr(SHOT_ID, f"{_PROD_COUNT} AS occurrences")
        )
        # Repartitioned first: a partial count within the parts of the files, where few shots are duplicate, saves
        # nothing.
        occurrences = (
            both.repartition(parts, SHOT_ID).groupBy(SHOT_ID).agg({"occurrences": "sum"}).toDF(SHOT_ID, "occurrences")
        )
        shots = occurrences.selectExpr(
            SHOT_ID, f"occurrences % {_PROD_COUNT} AS in_dev", f"occurrences DIV {_PROD_COUNT} AS in_prod"
        )
    duplicates = {DEV_FILE: "in_dev > 1", PROD_FILE: "in_prod > 1"}
    shared = "in_dev > 0 AND in_prod > 0"
    conditions = {**duplicates, "shared": shared}
    counts = shots.selectExpr(*[f"count_if({condition}) AS `{name}`" for name, condition in conditions.items()])
    found = collect_rows(counts)[0]
    for name, condition in duplicates.items():
        if found[name]:
            message = (
                f"{name}: {found[name]:,} shot_id found twice or more, {_examples(shots.where(condition))}; expected "
                "each only once. Fix or remove them."
            )
            raise SchemaError(message)
    if found["shared"]:
        message = (
            f"{DEV_FILE} and {PROD_FILE} share {found['shared']:,} shot_id ({_examples(shots.where(shared))}); "
            "expected "
            "none, or the model would be trained on shots that it is evaluated on."
        )
        raise SourceError(message)


def _examples(shots: "DataFrame") -> str:
    rows = collect_rows(shots.select(SHOT_ID).orderBy(SHOT_ID).limit(_MAX_IDS_SHOWN))
    return f"such as {', '.join(str(row[SHOT_ID]) for row in rows)}"


@dataclass
class Leading:
    """Counts leading bits on Spark until the hashes fit in memory; see `data.preparation.split.CountLeading`.

    Attributes
    ----------
    frame : pyspark.sql.DataFrame
        Columns label (int) and hash (bigint).
    counts : dict of int to ndarray of int64
        Counts of the last call.
    in_memory : dict of int to ndarray of uint64
        The remaining hashes by class, once they are in memory.
    """

    frame: "DataFrame"
    counts: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)
    in_memory: dict[int, npt.NDArray[np.uint64]] = field(default_factory=dict)

    def __call__(self, prefixes: Mapping[int, Prefix]) -> dict[int, npt.NDArray[np.int64]]:
        """By class, count the hashes with a prefix by the value of their next bits."""
        if not self.in_memory and self._remaining(prefixes) <= _MAX_HASHES_IN_MEMORY:
            rows = collect_rows(self._with_prefix(prefixes).selectExpr("label", "hash"))
            for label in prefixes:
                found = np.array([row["hash"] for row in rows if row["label"] == label], dtype=np.int64)
                self.in_memory[label] = found.view(np.uint64)
        if self.in_memory:
            self.counts = {label: count_leading(self.in_memory[label], prefix) for label, prefix in prefixes.items()}
            return self.counts
        shift = 64 - BITS - next(iter(prefixes.values())).bits
        bits = f"shiftrightunsigned(hash, {shift}) & {(1 << BITS) - 1} AS bits"
        self.counts = {label: np.zeros(1 << BITS, dtype=np.int64) for label in prefixes}
        for row in collect_rows(self._with_prefix(prefixes).selectExpr("label", bits).groupBy("label", "bits").count()):
            self.counts[row["label"]][row["bits"]] = row["count"]
        return self.counts

    def _remaining(self, prefixes: Mapping[int, Prefix]) -> float:
        if not self.counts:
            return np.inf
        return sum(int(self.counts[label][prefix.value % (1 << BITS)]) for label, prefix in prefixes.items())

    def _with_prefix(self, prefixes: Mapping[int, Prefix]) -> "DataFrame":
        if not next(iter(prefixes.values())).bits:
            return self.frame
        conditions = [
            f"(label = {label} AND shiftrightunsigned(hash, {64 - prefix.bits}) = {_bigint(prefix.value)})"
            for label, prefix in prefixes.items()
        ]
        return self.frame.where(" OR ".join(conditions))


def _is_test(complete: "DataFrame", test_rows: Mapping[int, int], seed: int) -> str:
    """SQL expression for whether a row is a test row, see `data.preparation.split`."""
    hashed = f"xxhash64({_bigint(seed)}, {SHOT_ID})"
    with translate_errors():
        frame = complete.selectExpr(f"CAST({TARGET} AS INT) AS label", f"{hashed} AS hash")
        thresholds_by_label = thresholds(test_rows, Leading(frame))
    # Spark's integers are signed. With the highest bit flipped they have the order of unsigned integers.
    cases = " ".join(
        f"WHEN {label} THEN ({hashed} ^ {_bigint(-(1 << 63))}) <= {_bigint(hash_ - (1 << 63))}"
        for label, hash_ in thresholds_by_label.items()
    )
    return f"CASE CAST({TARGET} AS INT) {cases} END"


def _write_all(tables: "Mapping[str, DataFrame]", rows: Counts, out: Path) -> None:
    """Write the tables to temporary folders and rename them when all are complete."""
    with ExitStack() as made:
        written: dict[str, list[int]] = {}
        for name, frame in tables.items():
            partial = made.enter_context(atomic_write(out / f"{name}.parquet"))
            count = write_into(frame, partial)
            if count != rows[name]:
                message = (
                    f"{name} has {count:,} rows; expected {rows[name]:,}, the count before. The raw files changed "
                    "during the run. Run the command again."
                )
                raise SparkError(message)
            written[name] = [pq.read_metadata(part).num_rows for part in parquet_files(partial)]
        for name, ids in IDS.items():
            # Both are read from the same parts of the same files, without a shuffle, so the order of rows is the same.
            if written[name] != written[ids]:
                message = f"Spark wrote the rows of {name} and {ids} to different parts. Run the command again."
                raise SparkError(message)
    for name in REJECTS.values():
        if name not in tables:
            remove_path(out / f"{name}.parquet")


def _violations(types: Mapping[str, str]) -> dict[Column, str]:
    """SQL conditions of a violation, by column, in the order of the schema."""
    violations = {}
    for column in COLUMNS:
        name = column.name
        if name not in types:
            continue
        conditions = [f"{quote_identifier(name)} IS NULL"] * (not column.nullable)
        if column.choices:
            conditions.append(f"CAST({name} AS STRING) NOT IN ({', '.join(map(_string, column.choices))})")
        if column.kind != "string":
            number = _number(name, types)
            if not _is_number(types[name]):
                conditions.append(f"({name} IS NOT NULL AND {_as_double(name, types)} IS NULL)")
            if column.minimum is not None and column.maximum is not None:
                conditions.append(f"{number} NOT BETWEEN {_double(column.minimum)} AND {_double(column.maximum)}")
            if column.kind == "integer":
                conditions.append(f"NOT ({number} % 1 = 0)")
        if conditions:
            violations[column] = " OR ".join(conditions)
    return violations


def _value_text(column: Column, types: Mapping[str, str]) -> str:
    """SQL expression for the text of a value, like format(value, ".10g") in Python; strings are quoted."""
    name = column.name
    text = f"concat({_string(chr(39))}, CAST({name} AS STRING), {_string(chr(39))})"
    if column.kind == "string" and not _is_number(types[name]):
        return f"CASE WHEN {name} IS NULL THEN 'null' ELSE {text} END"
    number = _as_double(name, types)
    general = f"format_string('%.10g', {number})"
    # Java keeps trailing zeros of the fraction, which Python omits.
    short = rf"regexp_replace(regexp_replace({general}, '([.][0-9]*?)0+(e|$)', '$1$2'), '[.](e|$)', '$1')"
    return (
        f"CASE WHEN {name} IS NULL OR isnan({number}) THEN 'null' WHEN {number} IS NULL THEN {text} "
        f"WHEN {number} = DOUBLE('inf') THEN 'inf' WHEN {number} = DOUBLE('-inf') THEN '-inf' ELSE {short} END"
    )


def _number(name: str, types: Mapping[str, str]) -> str:
    """SQL expression for a raw value as a double; null if it is not a number or NaN."""
    return f"nanvl({_as_double(name, types)}, NULL)"


def _as_double(name: str, types: Mapping[str, str]) -> str:
    if _is_number(types[name]):
        return f"CAST({name} AS DOUBLE)"
    if types[name] == "string":
        # Java parses more strings as numbers than Python, such as 1d.
        return f"CASE WHEN {name} RLIKE '^{_NUMBER}$' THEN try_cast({name} AS DOUBLE) END"
    return "CAST(NULL AS DOUBLE)"


def _is_number(dtype: str) -> bool:
    return dtype in _NUMBERS or dtype.startswith("decimal")


def _not_null(names: Sequence[str]) -> str:
    return " AND ".join(f"{name} IS NOT NULL" for name in names)


def _string(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _bigint(value: int) -> str:
    return f"CAST('{value}' AS BIGINT)"


def _double(value: float) -> str:
    return f"CAST('{value!r}' AS DOUBLE)"
