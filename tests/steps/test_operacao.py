"""When a policy backtest decides whether to retrain."""

from datetime import UTC, datetime, timedelta

import pytest

from steps.operacao import decided_at
from steps.retraining.config import RetreinoConfig


@pytest.mark.parametrize("days", [0, 1, 3_650])
def test_the_decision_is_dated_at_the_end_of_a_day_or_now_where_it_has_not_ended(days: int) -> None:
    present = datetime.now(UTC).replace(tzinfo=None)
    day = (present - timedelta(days=days)).date()
    decided = decided_at(day.isoformat(), present)
    assert decided.startswith(day.isoformat())
    # The configuration refuses a timestamp in the future.
    assert RetreinoConfig(current="arrived.parquet", as_of=decided).as_of == decided
