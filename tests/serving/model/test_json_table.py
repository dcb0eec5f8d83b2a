import json

import numpy as np
import pytest

from serving.model.body_parser import JSON, Table, WrongCellsError, read_body
from serving.model.scoring_model import Columns
from serving.server_limits import limits

COLUMNS = Columns(["zone", "feet", "side"], {}, texts=frozenset(["zone", "side"]), optional=frozenset(["side"]))
ROWS: list[dict[str, object]] = [
    {"zone": "left", "feet": 3, "side": "home"},
    {"feet": "4.5", "zone": None},
    {"zone": 2.0, "feet": None, "side": ""},
    {"zone": "left", "feet": True, "side": "away", "other": [1]},
]


def parsed(rows: list[dict[str, object]]) -> Table:
    found = read_body(json.dumps({"dataframe_records": rows}).encode(), JSON, COLUMNS, limits())
    assert isinstance(found, Table)
    return found


@pytest.mark.parametrize("count", [1, 4, 32, 33])
def test_few_rows_are_parsed_as_many_are(count: int) -> None:
    many, few = parsed(ROWS * 20), parsed((ROWS * 20)[:count])
    np.testing.assert_array_equal(few.values, many.values[:count])
    assert few.values.flags.c_contiguous
    for place, texts in few.texts.items():
        assert many.texts[place][: len(texts)] == texts


def test_an_optional_column_that_few_rows_lack_is_null() -> None:
    found = parsed([{"zone": "left", "feet": 3}])
    np.testing.assert_array_equal(found.values, [[0.0, 3.0, np.nan]])
    assert not [*found.texts.get(2, [])]


@pytest.mark.parametrize(
    "wrong", [{"feet": "far"}, {"feet": [1]}, {"feet": {}}, {"zone": ["left"]}, {"zone": {}}], ids=str
)
@pytest.mark.parametrize("count", [2, 40])
def test_a_wrong_cell_is_named_in_few_rows_as_in_many(wrong: dict[str, object], count: int) -> None:
    rows = [dict(ROWS[0]) for _ in range(count)]
    rows[1] |= wrong
    with pytest.raises(WrongCellsError) as raised:
        parsed(rows)
    assert raised.value.cells == [(1, *next(iter(wrong.items())))]
