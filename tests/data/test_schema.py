import pandas as pd

from data.schema import COLUMN, FEATURES, feature_column


def test_the_25_columns_have_the_order_of_the_public_files(real_raw: dict[str, pd.DataFrame]) -> None:
    for table in real_raw.values():
        assert list(COLUMN) == list(table.columns)


def test_every_feature_has_a_range_and_a_meaning() -> None:
    for name in FEATURES:
        column = feature_column(name)
        assert column.minimum is not None
        assert column.maximum is not None
        assert column.description
