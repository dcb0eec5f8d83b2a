import pandas as pd
import pytest

from data.datasets import default
from data.errors import StaleDataError
from data.preparation.manifest import require_described, require_prod_features

COLUMNS = [*default().feature_names, default().target.name]


def test_tables_of_another_description_are_prepared_again() -> None:
    table = pd.DataFrame(columns=COLUMNS)
    require_described(table, default())
    with pytest.raises(StaleDataError, match=r"found tables without period: .* Run the preparation again: mlflow run"):
        require_described(table.drop(columns="period"), default())
    with pytest.raises(StaleDataError, match="found tables without lat and with age: the description has changed"):
        require_described(table.rename(columns={"lat": "age"}), default())


def test_a_prod_table_without_a_feature_names_it_and_the_command_that_trains_again() -> None:
    require_prod_features([*COLUMNS, "age"], default(), "champion version 1")
    with pytest.raises(
        StaleDataError,
        match=r"with the features of champion version 1; found one without lat: the description has changed since. "
        r"Train again: mlflow run . -e main",
    ):
        require_prod_features(COLUMNS[1:], default(), "champion version 1")
