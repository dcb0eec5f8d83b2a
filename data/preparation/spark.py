"""Preparation by Spark: the rules of `data.preparation.local` as SQL, for raw tables that one machine does not hold.

PySpark is an extra of this project (``spark``), and is imported only where it is used.
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
_MOST_REASONS_SHOWN = 10
_MOST_IDS_SHOWN = 5
_MOST_HASHES_HELD = 1 << BITS
_IDS_IN_PART = 500_000
_IN_PROD = 1 << 32
"""What a row of the prod table counts, where one of the dev table counts 1."""
_FLAGS = (0, 1)


def prepare(session: "SparkSession", raw: Path, out: Path, plan: PreparationParams) -> PreparationResult:
    """Check, select, drop and split.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
        See `data.spark.session.session`.
    raw : pathlib.Path
        Folder of the two raw tables, each a Parquet file or a folder of them.
    out : pathlib.Path
        Folder that the tables are written to, once all of them are made; each is a folder of parts. What else is there
        stays, but for tables of rejects of a preparation before.
    plan : Plan
        What to do with rows that break the schema, and how to split.

    Returns
    -------
    Prepared
        The split is that of the local engine for tables that it does not shuffle, see `data.preparation.split`.

    Raises
    ------
    SourceError
        If a table cannot be read, holds no rows, or both share a shot.
    SchemaError
        If columns are missing, more rows break the schema than may, a ``shot_id`` is there twice, or too few rows are
        left to be split.
    SparkError
        If a job fails; `out` is then as it was.
    """
    dev = _open(session, raw / DEV_FILE).counted([*FEATURES, TARGET])
    prod = _open(session, raw / PROD_FILE).counted(FEATURES)
    _check_rejected((dev, prod), plan.max_rejected_rows)
    shots, scorable = dev.fine(), prod.fine()
    _check_ids(shots, scorable, dev.rows + prod.rows)
    complete = shots.where(_known([*FEATURES, TARGET]))
    classes = {flag: dev.counts[f"flag_{flag}"] for flag in _FLAGS}
    tested = test_rows_per_class(classes, plan.test_size, plan.seed)
    is_test = _is_test(complete, tested, plan.seed)
    sides = {TRAIN: complete.where(f"NOT ({is_test})"), TEST: complete.where(is_test)}
    features = [*FEATURES, f"CAST({TARGET} AS BIGINT) AS {TARGET}"]
    dated = [GAME_DATE] if GAME_DATE in scorable.columns else []
    tables = {
        FILTERED: complete.selectExpr(*features),
        TRAIN: sides[TRAIN].selectExpr(*features),
        TEST: sides[TEST].selectExpr(*features),
        **{IDS[name]: side.select(SHOT_ID) for name, side in sides.items()},
        PROD: scorable.where(_known(FEATURES)).select(SHOT_ID, *dated, *FEATURES, TARGET),
    }
    labelled = {FILTERED: sum(classes.values()), TEST: sum(tested.values())}
    made = {FILTERED: classes[1], TEST: tested[1]}
    for counted in (labelled, made):
        counted[TRAIN] = counted[FILTERED] - counted[TEST]
    rows = labelled | {PROD: prod.counts["complete"]}
    labelled[PROD], made[PROD] = prod.counts["flag_0"] + prod.counts["flag_1"], prod.counts["flag_1"]
    rejected = {table.name: table.counts["rejected"] for table in (dev, prod)}
    rejects = {REJECTS[table.name]: table.rejects() for table in (dev, prod) if rejected[table.name]}
    expected = rows | {IDS[name]: rows[name] for name in IDS}
    _write_all(tables | rejects, expected | {REJECTS[name]: count for name, count in rejected.items()}, out)
    return PreparationResult(
        rows={name: rows[name] for name in TABLES},
        labelled={name: labelled[name] for name in TABLES},
        made={name: made[name] for name in TABLES},
        dropped={
            "dropped_dev_rows": dev.counts["incomplete"],
            "dropped_prod_rows": prod.counts["incomplete"],
            **{f"dropped_dev_missing_{name}": dev.counts[f"missing_{name}"] for name in (*FEATURES, TARGET)},
            **{f"dropped_prod_missing_{name}": prod.counts[f"missing_{name}"] for name in FEATURES},
        },
        rejected=rejected,
    )


def rejection_reason_sql(kinds: Mapping[str, str]) -> str:
    """SQL of what is wrong with a raw row.

    Parameters
    ----------
    kinds : mapping of str to str
        Type of each column of the raw table, as Spark calls it.

    Returns
    -------
    str
        Of an expression that is null for a row that fits the schema, else the text of its first broken column.
    """
    texts = [
        f"CASE WHEN {broken} THEN concat({_text(f'column {column.name}: found ')}, {_shown(column, kinds)}, "
        f"{_text(f', expected {column.allowed}')}) END"
        for column, broken in _broken(kinds).items()
    ]
    return f"coalesce({', '.join(texts)})"


@dataclass(frozen=True)
class _Raw:
    """A raw table, with its columns as they came."""

    name: str
    rows: int
    frame: "DataFrame"
    counts: Counts = field(default_factory=dict)

    @property
    def kinds(self) -> dict[str, str]:
        return dict(self.frame.dtypes)

    @property
    def is_fine(self) -> str:
        return f"NOT coalesce({' OR '.join(_broken(self.kinds).values())}, false)"

    def counted(self, needed: Sequence[str]) -> "_Raw":
        """The table with its rows counted by what is to become of them; complete with each of the columns `needed`."""
        counts = {
            "rejected": "NOT is_fine",
            "complete": f"is_fine AND {_known(needed)}",
            "incomplete": f"is_fine AND NOT ({_known(needed)})",
            **{f"missing_{name}": f"is_fine AND {name} IS NULL" for name in needed},
            **{f"flag_{flag}": f"is_fine AND {_known(needed)} AND {TARGET} = {flag}" for flag in _FLAGS},
        }
        with translate_errors():
            checked = self.frame.selectExpr(*self.used(), f"{self.is_fine} AS is_fine")
            counted = checked.selectExpr(*[f"count_if({condition}) AS {name}" for name, condition in counts.items()])
        return replace(self, counts=collect_rows(counted)[0])

    def fine(self) -> "DataFrame":
        """The rows that fit the schema, with the columns that are used; unless some do not fit, none is checked."""
        rows = self.frame.where(self.is_fine) if self.counts["rejected"] else self.frame
        return rows.selectExpr(*self.used())

    def used(self) -> list[str]:
        kinds = self.kinds
        numbers = [f"{_number(RAW_COLUMN_NAMES.get(name, name), kinds)} AS {name}" for name in (*FEATURES, TARGET)]
        is_time = kinds.get(GAME_DATE, "").startswith(("timestamp", "date"))
        day = f"date_format({GAME_DATE}, 'yyyy-MM-dd')" if is_time else f"CAST({GAME_DATE} AS STRING)"
        dates = [f"{day} AS {GAME_DATE}"] if GAME_DATE in kinds else []
        whole = f"try_cast({SHOT_ID} AS BIGINT)" if kinds[SHOT_ID] != "boolean" else f"CAST({SHOT_ID} AS BIGINT)"
        return [f"coalesce({whole}, try_cast({_number(SHOT_ID, kinds)} AS BIGINT)) AS {SHOT_ID}", *dates, *numbers]

    def reasons(self, most: int) -> list[str]:
        return [row[REASON] for row in collect_rows(self._broken().select(REASON).limit(most))]

    def rejects(self) -> "DataFrame":
        """The rows that break the schema as one partition."""
        placed = self._broken().selectExpr("*", "monotonically_increasing_id() AS `_place`").repartition(1)
        return placed.sortWithinPartitions("_place").drop("_place")

    def _broken(self) -> "DataFrame":
        columns = [quote_identifier(name) for name in self.frame.columns if name != REASON]
        with translate_errors():
            return self.frame.selectExpr(*columns, f"{rejection_reason_sql(self.kinds)} AS {REASON}").where(
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


def _check_rejected(tables: Sequence[_Raw], most: int) -> None:
    """Refuse more rows that break the schema than may, with the first of them."""
    count = sum(table.counts["rejected"] for table in tables)
    if count <= most:
        return
    lines: list[str] = []
    broken = [table for table in tables if table.counts["rejected"]]
    for table in broken:
        head = f"  {table.name}, " if len(broken) > 1 else "  "
        lines += [head + text for text in table.reasons(_MOST_REASONS_SHOWN - len(lines))]
    told_of = " and ".join(table.name for table in broken)
    head = f"{told_of} break{'s' * (len(broken) == 1)} the schema in {count:,} row(s)"
    advice = (
        f", more than max_rejected_rows={most} allows in both raw tables. Fix or remove them, or give a "
        "higher max_rejected_rows:"
        if most
        else ". Mend or remove them:"
    )
    more = [f"  and {count - len(lines):,} more row(s)"] if count > len(lines) else []
    message = "\n".join([head + advice, *lines, *more])
    raise SchemaError(message)


def _check_ids(dev: "DataFrame", prod: "DataFrame", rows: int) -> None:
    """Refuse a shot that is in a table twice, or in both, which have so many `rows` together."""
    parts = max(1, rows // _IDS_IN_PART)
    with translate_errors():
        both = dev.selectExpr(SHOT_ID, "1 AS standing").unionAll(prod.selectExpr(SHOT_ID, f"{_IN_PROD} AS standing"))
        # Dealt out first: to count within the parts of the files, where hardly a shot stands twice, is no help.
        standing = both.repartition(parts, SHOT_ID).groupBy(SHOT_ID).agg({"standing": "sum"}).toDF(SHOT_ID, "standing")
        shots = standing.selectExpr(SHOT_ID, f"standing % {_IN_PROD} AS in_dev", f"standing DIV {_IN_PROD} AS in_prod")
    doubled = {DEV_FILE: "in_dev > 1", PROD_FILE: "in_prod > 1"}
    shared = "in_dev > 0 AND in_prod > 0"
    conditions = {**doubled, "shared": shared}
    counts = shots.selectExpr(*[f"count_if({condition}) AS `{name}`" for name, condition in conditions.items()])
    found = collect_rows(counts)[0]
    for name, condition in doubled.items():
        if found[name]:
            message = (
                f"{name}: {found[name]:,} shot_id found twice or more, {_such_as(shots.where(condition))}; expected "
                "each only once. Mend or remove them."
            )
            raise SchemaError(message)
    if found["shared"]:
        message = (
            f"{DEV_FILE} and {PROD_FILE} share {found['shared']:,} shot_id ({_such_as(shots.where(shared))}); expected "
            "none, or the model would learn from shots that it is measured on."
        )
        raise SourceError(message)


def _such_as(shots: "DataFrame") -> str:
    rows = collect_rows(shots.select(SHOT_ID).orderBy(SHOT_ID).limit(_MOST_IDS_SHOWN))
    return f"such as {', '.join(str(row[SHOT_ID]) for row in rows)}"


@dataclass
class Leading:
    """Count leading bits of hashes on Spark until few enough rows are left; see `data.preparation.split.CountLeading`.

    Attributes
    ----------
    frame : pyspark.sql.DataFrame
        Columns label (int) and hash (bigint).
    counts : dict of int to ndarray of int64
        Those of the last call.
    held : dict of int to ndarray of uint64
        The hashes that are left, by class, once they are held.
    """

    frame: "DataFrame"
    counts: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)
    held: dict[int, npt.NDArray[np.uint64]] = field(default_factory=dict)

    def __call__(self, prefixes: Mapping[int, Prefix]) -> dict[int, npt.NDArray[np.int64]]:
        """By class, of the rows whose hash begins with a prefix: how many have each value of the next bits."""
        if not self.held and self._left(prefixes) <= _MOST_HASHES_HELD:
            rows = collect_rows(self._beginning(prefixes).selectExpr("label", "hash"))
            for label in prefixes:
                found = np.array([row["hash"] for row in rows if row["label"] == label], dtype=np.int64)
                self.held[label] = found.view(np.uint64)
        if self.held:
            self.counts = {label: count_leading(self.held[label], prefix) for label, prefix in prefixes.items()}
            return self.counts
        shift = 64 - BITS - next(iter(prefixes.values())).bits
        bits = f"shiftrightunsigned(hash, {shift}) & {(1 << BITS) - 1} AS bits"
        self.counts = {label: np.zeros(1 << BITS, dtype=np.int64) for label in prefixes}
        for row in collect_rows(self._beginning(prefixes).selectExpr("label", bits).groupBy("label", "bits").count()):
            self.counts[row["label"]][row["bits"]] = row["count"]
        return self.counts

    def _left(self, prefixes: Mapping[int, Prefix]) -> float:
        if not self.counts:
            return np.inf
        return sum(int(self.counts[label][prefix.value % (1 << BITS)]) for label, prefix in prefixes.items())

    def _beginning(self, prefixes: Mapping[int, Prefix]) -> "DataFrame":
        if not next(iter(prefixes.values())).bits:
            return self.frame
        alike = [
            f"(label = {label} AND shiftrightunsigned(hash, {64 - prefix.bits}) = {_bigint(prefix.value)})"
            for label, prefix in prefixes.items()
        ]
        return self.frame.where(" OR ".join(alike))


def _is_test(complete: "DataFrame", test_rows: Mapping[int, int], seed: int) -> str:
    """SQL of whether a row is of the test, see `data.preparation.split`."""
    hashed = f"xxhash64({_bigint(seed)}, {SHOT_ID})"
    with translate_errors():
        frame = complete.selectExpr(f"CAST({TARGET} AS INT) AS label", f"{hashed} AS hash")
        greatest = thresholds(test_rows, Leading(frame))
    # Spark's numbers have a sign: with the highest bit turned round they are in the order of those without.
    cases = " ".join(
        f"WHEN {label} THEN ({hashed} ^ {_bigint(-(1 << 63))}) <= {_bigint(hash_ - (1 << 63))}"
        for label, hash_ in greatest.items()
    )
    return f"CASE CAST({TARGET} AS INT) {cases} END"


def _write_all(tables: "Mapping[str, DataFrame]", rows: Counts, out: Path) -> None:
    """Write the tables beside their targets, and rename them when all of them are whole."""
    with ExitStack() as made:
        written: dict[str, list[int]] = {}
        for name, frame in tables.items():
            partial = made.enter_context(atomic_write(out / f"{name}.parquet"))
            count = write_into(frame, partial)
            if count != rows[name]:
                message = (
                    f"{name} has {count:,} rows; expected {rows[name]:,}, which is what was counted before. The raw "
                    "files changed meanwhile; run this again."
                )
                raise SparkError(message)
            written[name] = [pq.read_metadata(part).num_rows for part in parquet_files(partial)]
        for name, ids in IDS.items():
            # Both are read from the same parts of the same files, without a shuffle: the rows stay in their order.
            if written[name] != written[ids]:
                message = f"Spark dealt the rows of {name} and {ids} out to other parts. Run this again."
                raise SparkError(message)
    for name in REJECTS.values():
        if name not in tables:
            remove_path(out / f"{name}.parquet")


def _broken(kinds: Mapping[str, str]) -> dict[Column, str]:
    """SQL of whether a row breaks the schema, by column, in the order of the schema."""
    broken = {}
    for column in COLUMNS:
        name = column.name
        if name not in kinds:
            continue
        conditions = [f"{quote_identifier(name)} IS NULL"] * (not column.nullable)
        if column.choices:
            conditions.append(f"CAST({name} AS STRING) NOT IN ({', '.join(map(_text, column.choices))})")
        if column.kind != "text":
            number = _number(name, kinds)
            if not _is_number(kinds[name]):
                conditions.append(f"({name} IS NOT NULL AND {_converted(name, kinds)} IS NULL)")
            if column.minimum is not None and column.maximum is not None:
                conditions.append(f"{number} NOT BETWEEN {_double(column.minimum)} AND {_double(column.maximum)}")
            if column.kind == "integer":
                conditions.append(f"NOT ({number} % 1 = 0)")
        if conditions:
            broken[column] = " OR ".join(conditions)
    return broken


def _shown(column: Column, kinds: Mapping[str, str]) -> str:
    """SQL of a value as Python shows it: format(value, ".10g") of a number, a text in quotation marks, or null."""
    name = column.name
    text = f"concat({_text(chr(39))}, CAST({name} AS STRING), {_text(chr(39))})"
    if column.kind == "text" and not _is_number(kinds[name]):
        return f"CASE WHEN {name} IS NULL THEN 'null' ELSE {text} END"
    number = _converted(name, kinds)
    general = f"format_string('%.10g', {number})"
    # Java keeps the zeros at the end of the fraction, which Python leaves out.
    short = rf"regexp_replace(regexp_replace({general}, '([.][0-9]*?)0+(e|$)', '$1$2'), '[.](e|$)', '$1')"
    return (
        f"CASE WHEN {name} IS NULL OR isnan({number}) THEN 'null' WHEN {number} IS NULL THEN {text} "
        f"WHEN {number} = DOUBLE('inf') THEN 'inf' WHEN {number} = DOUBLE('-inf') THEN '-inf' ELSE {short} END"
    )


def _number(name: str, kinds: Mapping[str, str]) -> str:
    """SQL of a raw value as a double: null where it is none, and where it is NaN."""
    return f"nanvl({_converted(name, kinds)}, NULL)"


def _converted(name: str, kinds: Mapping[str, str]) -> str:
    if _is_number(kinds[name]):
        return f"CAST({name} AS DOUBLE)"
    if kinds[name] == "string":
        # Java reads more as a number than Python does, such as 1d.
        return f"CASE WHEN {name} RLIKE '^{_NUMBER}$' THEN try_cast({name} AS DOUBLE) END"
    return "CAST(NULL AS DOUBLE)"


def _is_number(kind: str) -> bool:
    return kind in _NUMBERS or kind.startswith("decimal")


def _known(names: Sequence[str]) -> str:
    return " AND ".join(f"{name} IS NOT NULL" for name in names)


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _bigint(value: int) -> str:
    return f"CAST('{value}' AS BIGINT)"


def _double(value: float) -> str:
    return f"CAST('{value!r}' AS DOUBLE)"
