import pandas as pd
import pytest

from data.datasets import default
from data.errors import StaleDataError
from data.preparation.manifest import require_described

COLUMNS = [*default().feature_names, default().target.name]


def test_tables_of_another_description_are_prepared_again() -> None:
    table = pd.DataFrame(columns=COLUMNS)
    require_described(table, default())
    with pytest.raises(StaleDataError, match=r"found tables without period: .* Run the preparation again: mlflow run"):
        require_described(table.drop(columns="period"), default())
    with pytest.raises(StaleDataError, match="found tables without lat and with age: the description has changed"):
        require_described(table.rename(columns={"lat": "age"}), default())
