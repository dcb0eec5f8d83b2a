"""Split of development into train and test: the same rows for a seed, on every engine and for any order of rows.

- ``random``, stratified: the test rows of each class are those with the smallest hashes of seed and id, as many as in
  scikit-learn's stratified split.
- ``group``: the test groups are those with the smallest hashes of seed and smallest id.
- ``time``: the test rows are the last ones; rows of one time are on one side.
"""

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate

import ibis
import ibis.expr.types as ir
import numpy as np
from sklearn.utils import _approximate_mode, check_random_state

from data.datasets import Dataset, current
from data.engines.engine import Engine
from data.engines.hashing import HASH, with_hash
from data.engines.ranks import smallest_with_rows
from data.errors import EngineError, SchemaError
from data.preparation.contract import RAW_FILES_CHANGED, PreparationParams

IS_TRAIN, IS_TEST = "_is_train", "_is_test"

_SMALLEST, _GREATEST = -(2**63), 2**63 - 1
_MARGIN = 8
"""Standard deviations on each side of the expected hash of the last test row."""


def test_rows_per_class(classes: Mapping[int, int], test_size: float, seed: int) -> dict[int, int]:
    """Number of test rows per class, as in scikit-learn's stratified split.

    Parameters
    ----------
    classes : mapping of int to int
        Rows of each class, 0 and 1.
    test_size : float
        Share of test rows.
    seed : int
        Seed of the rounding.

    Raises
    ------
    SchemaError
        If a class has no row on a side.

    Examples
    --------
    >>> test_rows_per_class({0: 10_600, 1: 9_685}, 0.2, 42)
    {0: 2120, 1: 1937}
    """
    counts = np.array([classes.get(label, 0) for label in (0, 1)])
    rows = int(counts.sum())
    test_rows = int(np.ceil(test_size * rows))
    sizes = counts * 0
    if counts.min() > 1 and min(test_rows, rows - test_rows) > 1:
        stream = check_random_state(seed)
        train = _approximate_mode(counts, rows - test_rows, stream)
        sizes = _approximate_mode(counts - train, test_rows, stream)
    if sizes.min() < 1 or (counts - sizes).min() < 1:
        raise _too_few(rows, int(counts[1]), test_size)
    return {label: int(size) for label, size in enumerate(sizes)}


def _too_few(rows: int, positive: int, test_size: float) -> SchemaError:
    dataset = current()
    return SchemaError(
        f"{dataset.raw_tables[0]} leaves {rows:,} rows with every feature and a label, {positive:,} "
        f"{dataset.positive}: too few to split with test_size {test_size:g}. Expected both classes on both sides."
    )


def split(
    engine: Engine, rows: ir.Table, dataset: Dataset, classes: Mapping[int, int], params: PreparationParams
) -> tuple[ir.Table, dict[int, int]]:
    """Split rows as described.

    Parameters
    ----------
    engine : data.engines.engine.Engine
    rows : ibis.Table
        The rows to split, with the bigint id, the label, and time and group where the description names them.
    dataset : Dataset
    classes : mapping of int to int
        Number of rows of each class.
    params : PreparationParams
        Size and seed.

    Returns
    -------
    rows : ibis.Table
        With the columns ``IS_TRAIN`` and ``IS_TEST``.
    test_rows : dict of int to int
        Number of test rows of each class.

    Raises
    ------
    SchemaError
        If a class has no row on a side.
    """
    if dataset.test.strategy == "random":
        test_rows = test_rows_per_class(classes, params.test_size, params.seed)
        return with_side(engine, rows, dataset, classes, test_rows, params.seed), test_rows
    total = sum(classes.values())
    target = dataset.target.name
    if total and dataset.test.strategy == "group" and dataset.group is not None:
        rows = with_hash(rows.mutate(_first=first_id(rows, dataset)), "_first", params.seed)
        last = smallest_with_rows(engine, rows, HASH, np.ceil(params.test_size * total))
        rows = rows.mutate(**{IS_TEST: rows[HASH] <= last})
    elif total and dataset.time is not None:
        first = smallest_with_rows(engine, rows, dataset.time.name, np.ceil(params.test_size * total), latest=True)
        rows = rows.mutate(**{IS_TEST: (rows[dataset.time.name] >= first).fill_null(ibis.literal(value=False))})
    else:
        raise _too_few(total, classes.get(1, 0), params.test_size)
    rows = rows.mutate(**{IS_TRAIN: ~rows[IS_TEST]})
    tested = rows.filter(rows[IS_TEST])
    counted = engine.rows(tested.group_by(target).aggregate(_rows=tested.count()))
    test_rows = {0: 0, 1: 0} | {int(row[target]): int(row["_rows"]) for row in counted}
    if any(not 0 < test_rows[label] < classes.get(label, 0) for label in test_rows):
        raise _too_few(total, classes.get(1, 0), params.test_size)
    return rows, test_rows


def first_id(rows: ir.Table, dataset: Dataset) -> ir.IntegerColumn:
    """The smallest id of the group of each row; a row without a group is a group of its own."""
    group = rows[dataset.group.name if dataset.group else dataset.id.name]
    ids = rows[dataset.id.name]
    return group.isnull().ifelse(ids, ids.min().over(ibis.window(group_by=group)))


def with_side(  # noqa: PLR0913, PLR0917 the rows, and which of them
    engine: Engine,
    shots: ir.Table,
    dataset: Dataset,
    classes: Mapping[int, int],
    test_rows: Mapping[int, int],
    seed: int,
) -> ir.Table:
    """Add the columns ``IS_TRAIN`` and ``IS_TEST`` of a stratified random split.

    Parameters
    ----------
    engine : data.engines.engine.Engine
    shots : ibis.Table
        The rows to split, with the bigint id and the label.
    dataset : Dataset
    classes, test_rows : mapping of int to int
        Number of rows, and of test rows, of each class.
    seed : int
    """
    target = dataset.target.name
    # Without the other columns, a third less time is spent on compiling the query.
    hashes = with_hash(shots.select(dataset.id.name, target), dataset.id.name, seed)
    last = _last_hashes(engine, hashes, target, classes, test_rows)
    rows = with_hash(shots, dataset.id.name, seed)
    of_class = ibis.cases(*((rows[target] == label, hash_) for label, hash_ in last.items()))
    return rows.mutate(**{IS_TEST: rows[HASH] <= of_class, IS_TRAIN: rows[HASH] > of_class})


def _last_hashes(
    engine: Engine, rows: ir.Table, target: str, classes: Mapping[int, int], test_rows: Mapping[int, int]
) -> dict[int, int]:
    """The greatest hash of the test rows of each class: by its rank in the class.

    Only the hashes in a band around its expected value come to this process; those below it are counted.
    """
    bands = {label: _band(test_rows[label] / size, size) for label, size in classes.items()}
    low, high = (ibis.cases(*((rows[target] == label, band[end]) for label, band in bands.items())) for end in (0, 1))
    near = rows.mutate(_low=low, _high=high)
    near = near.filter(near[HASH] <= near["_high"]).mutate(_near=ibis.greatest(near[HASH], near["_low"]))
    counted = engine.rows(near.group_by(target, "_near").aggregate(_rows=near.count()))
    last = {}
    for label in classes:
        of_class = sorted((row["_near"], row["_rows"]) for row in counted if row[target] == label)
        ranks = list(accumulate(count for _, count in of_class))
        place = bisect_left(ranks, test_rows[label])
        # Hashes below the band are counted at its lower end.
        if place < len(ranks) and (place or of_class[0][0] == _SMALLEST):
            last[label] = of_class[place][0]
    return last if len(last) == len(classes) else _ranked(engine, rows, target, test_rows)


def _ranked(engine: Engine, rows: ir.Table, target: str, test_rows: Mapping[int, int]) -> dict[int, int]:
    """As `_last_hashes` for ids whose hashes are not uniform, which someone selected who knows the seed."""
    rank = ibis.row_number().over(group_by=rows[target], order_by=rows[HASH]) + 1
    ranked = rows.select(target, HASH, _rank=rank)
    found = ranked.filter(
        ranked["_rank"] == ibis.cases(*((ranked[target] == label, k) for label, k in test_rows.items()))
    )
    last = {int(row[target]): int(row[HASH]) for row in engine.rows(found)}
    if len(last) < len(test_rows):
        raise EngineError(RAW_FILES_CHANGED)
    return last


def _band(share: float, size: int) -> tuple[int, int]:
    """Where the hash of a quantile is expected, of uniform 64-bit hashes."""
    width = _MARGIN * np.sqrt(share * (1 - share) / size)
    low, high = (round((min(max(end, 0.0), 1.0) - 0.5) * 2**64) for end in (share - width, share + width))
    return low, min(high, _GREATEST)
