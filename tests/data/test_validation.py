import numpy as np
import pandas as pd
import pytest

from data.datasets import default
from data.errors import SchemaError
from data.schema import COLUMN
from data.validation import Violations, check_columns, is_date, rejection_reason, violation_error, violation_text
from tests.orders import DATASET as ORDERS
from tests.raw import check_raw, reasons_of


def test_the_public_files_are_valid(real_raw: dict[str, pd.DataFrame]) -> None:
    for name, table in real_raw.items():
        check_raw(table, name)


def test_integers_may_be_stored_as_doubles(shots: pd.DataFrame) -> None:
    check_raw(shots.astype({"period": float, "playoffs": float, "shot_distance": float, "shot_id": float}), "shots")


def test_optional_columns_may_be_missing(shots: pd.DataFrame) -> None:
    needed = [column.raw_name for column in default().required]
    check_raw(shots[needed], "shots")


@pytest.mark.parametrize("column", [column.raw_name for column in default().required])
def test_a_missing_column_is_named(shots: pd.DataFrame, column: str) -> None:
    with pytest.raises(SchemaError, match=rf"shots\.parquet: column {column} missing.*found"):
        check_raw(shots.drop(columns=column), "shots.parquet")


def test_the_error_of_missing_columns_lists_them_and_the_expected_and_the_found_columns() -> None:
    columns = [column.raw_name for column in default().required]
    expected = ", ".join(name for name in columns if name != "row_id")
    check_columns([*columns, "season"], "shots", also_required=["season"])
    with pytest.raises(SchemaError) as one:
        check_columns([*columns, "row_id"], "shots", also_required=["season"])
    assert str(one.value) == f"shots: column season missing. Expected at least {expected}; found {expected}."
    with pytest.raises(SchemaError) as all_missing:
        check_columns([], "shots")
    assert str(all_missing.value) == (
        f"shots: columns {', '.join(columns)} missing. Expected at least {expected}; found no columns."
    )


def test_the_error_of_columns_missing_from_another_dataset_shows_how_to_rename() -> None:
    columns = [column.raw_name for column in ORDERS.required]
    check_columns(columns, "orders", dataset=ORDERS)
    with pytest.raises(SchemaError) as caught:
        check_columns(columns[1:], "orders", dataset=ORDERS)
    assert str(caught.value) == (
        f"orders: column {columns[0]} missing. Expected at least {', '.join(columns)}; found {', '.join(columns[1:])}."
        " Give a table with it, or its name there as raw_name in the description."
    )


def test_the_error_of_duplicate_columns_lists_each_once() -> None:
    columns = [column.raw_name for column in default().required]
    with pytest.raises(SchemaError) as one:
        check_columns([*columns, "lat"], "shots")
    assert str(one.value) == "shots: column lat found twice; expected once."
    with pytest.raises(SchemaError) as two:
        check_columns([*columns, "period", "lat", "lat"], "shots")
    assert str(two.value) == "shots: columns lat, period found twice; expected once."


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("lat", 0.0),
        ("lat", np.inf),
        ("lon", "west"),
        ("minutes_remaining", -1),
        ("period", 0),
        ("period", 2.5),
        ("playoffs", 2),
        ("shot_distance", 400),
        ("shot_made_flag", 0.5),
        ("shot_type", "4PT Field Goal"),
    ],
)
def test_an_invalid_value_raises_with_its_row_column_and_constraint(
    shots: pd.DataFrame, column: str, value: object
) -> None:
    table = shots.head(50).astype({column: object})
    table[column] = [value if row == 7 else old for row, old in enumerate(table[column])]
    with pytest.raises(SchemaError) as caught:
        check_raw(table, "shots.parquet")
    message = str(caught.value)
    assert f"row 7, column {column}: found {value!r}" in message or f"found {float(str(value))!r}" in message
    assert COLUMN[column].constraint_text in message


def test_a_duplicate_shot_id_is_rejected(shots: pd.DataFrame) -> None:
    table = shots.head(10).copy()
    table.loc[4, "shot_id"] = table.loc[3, "shot_id"]
    with pytest.raises(SchemaError, match="row 4, column shot_id"):
        check_raw(table, "shots")


def test_a_duplicate_column_is_rejected(shots: pd.DataFrame) -> None:
    with pytest.raises(SchemaError, match="lat found twice"):
        check_raw(pd.concat([shots, shots["lat"]], axis=1), "shots")


def test_many_invalid_rows_are_counted_and_not_listed(shots: pd.DataFrame) -> None:
    with pytest.raises(SchemaError, match=r"in 6,000 row\(s\)[\s\S]*and 5,990 more"):
        check_raw(shots.assign(period=99), "shots")


# Reasons


def test_the_reason_of_a_row_is_its_first_violation_in_the_order_of_the_schema(shots: pd.DataFrame) -> None:
    table = shots.head(50).astype({"period": float, "playoffs": object, "lat": object})
    table.loc[3, ["period", "shot_type"]] = [2.5, "4PT"]
    table.loc[7, "shot_type"] = "4PT"
    table.loc[9, ["lat", "playoffs"]] = ["north", 2]
    table.loc[11, "lat"] = 0.123456789012
    table.loc[12, "playoffs"] = "no"
    latitude = "a float from 33.1568 to 34.0968"
    assert reasons_of(table) == {
        3: "column period: found 2.5, expected an integer from 1 to 10",
        7: "column shot_type: found '4PT', expected one of '2PT Field Goal', '3PT Field Goal'",
        9: f"column lat: found 'north', expected {latitude}",
        11: f"column lat: found 0.123456789, expected {latitude}",
        12: "column playoffs: found 'no', expected an integer from 0 to 1",
    }


def test_the_ends_of_a_range_are_valid_in_float32(shots: pd.DataFrame) -> None:
    table = shots.head(50).copy()
    table["lat"] = np.float32(33.1568)
    table["lon"] = np.where(table.index % 2, np.float32(-118.5198), np.float32(-118.0198)).astype("float32")
    assert reasons_of(table.astype({"lat": "float32"})) == {}
    assert len(reasons_of(table.astype({"lat": "float32"}).assign(lat=np.float32(33.15679)))) == 50


def test_a_shot_id_that_no_integer_holds_is_a_reason(shots: pd.DataFrame) -> None:
    table = shots.head(5).astype({"shot_id": float})
    table.loc[[1, 2, 3], "shot_id"] = [1e300, np.inf, np.nan]
    assert reasons_of(table) == {
        row: f"column shot_id: found {shown}, expected an integer"
        for row, shown in ((1, "1e+300"), (2, "inf"), (3, "null"))
    }


def test_a_date_is_valid_if_its_day_exists_with_or_without_a_time(shots: pd.DataFrame) -> None:
    valid = ["2013-10-29", "2013-10-29 20:15", "2013-10-29T20:15:00Z", "2012-02-29", "0044-03-15"]
    invalid = [
        "2013-02-31",
        "2013-02-29 20:15",
        "0000-01-01",
        "2013-1-29",
        " 2013-10-29",
        "10000-01-01",
        "10000-1-01",
        "2013-10-29x",
        "soon",
        "",
    ]
    table = shots.head(len(valid) + len(invalid)).assign(game_date=[*valid, *invalid])
    assert sorted(reasons_of(table)) == list(range(len(valid), len(table)))


def test_valid_rows_have_no_reason(shots: pd.DataFrame) -> None:
    assert reasons_of(shots) == {}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (pd.NA, "null"),
        (pd.NaT, "null"),
        (np.nan, "null"),
        (1e20, "1e+20"),
        (np.inf, "inf"),
        (7, "7"),
        (np.int64(7), "7"),
        (0.123456789012, "0.123456789"),
        ("it's", "'it's'"),
    ],
)
def test_a_reason_formats_its_value_like_both_engines(value: object, shown: str) -> None:
    column = default().column("lat")
    assert rejection_reason(column, value) == f"column lat: found {shown}, expected {column.constraint_text}"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("2024-02-29", True),
        ("2024-02-29T20:15", True),
        ("2023-02-29", False),
        ("2024-13-01 20:15", False),
        ("2024-02-29x", False),
        ("soon", False),
    ],
)
def test_a_date_of_a_request_is_one_of_the_calendar(text: str, *, valid: bool) -> None:
    assert is_date(text) is valid


# Errors of whole tables


def test_a_violation_has_its_row_column_value_and_the_allowed_values() -> None:
    period, shot_id = default().column("period"), default().column("shot_id")
    assert violation_text(period, 11, 3) == "row 3, column period: found 11, expected an integer from 1 to 10"
    assert violation_text(period, "x", 3) == "row 3, column period: found 'x', expected an integer from 1 to 10"
    for value in (None, float("nan")):
        assert violation_text(shot_id, value, 0) == (
            "row 0, column shot_id: found null, expected an integer, each only once"
        )


def test_the_error_of_one_table_lists_its_violations() -> None:
    error = violation_error([Violations("train", 1, 2, ["row 3, first", "row 3, second"])])
    assert str(error).splitlines() == [
        "train violates the schema in 1 row(s). Fix or remove them:",
        "  row 3, first",
        "  row 3, second",
    ]


def test_the_error_of_both_tables_lists_ten_violations_with_their_table_and_counts_the_rest() -> None:
    first = [f"row {row}" for row in range(6)]
    tables = [Violations("train", 1_000, 1_200, first), Violations("test", 500, 810, first)]
    shown = [*(f"  train, {text}" for text in first), *(f"  test, {text}" for text in first[:4])]
    assert str(violation_error(tables)).splitlines() == [
        "train and test violate the schema in 1,500 row(s). Fix or remove them:",
        *shown,
        "  and 2,000 more",
    ]
    assert str(violation_error(tables, 20)).splitlines()[0] == (
        "train and test violate the schema in 1,500 row(s), more than max_rejected_rows=20 allows in both raw tables. "
        "Fix or remove them, or set a higher max_rejected_rows:"
    )
