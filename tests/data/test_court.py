import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from data import court
from data.schema import THREE_POINTS


@given(st.floats(-25, 25), st.floats(-5, 88))
def test_feet_and_degrees_are_inverse(x: float, y: float) -> None:
    back_x, back_y = court.to_feet(*court.to_degrees([x], [y]))
    np.testing.assert_allclose([back_x[0], back_y[0]], [x, y], atol=1e-9)


def test_feet_are_tenths_of_loc_x_and_loc_y(real_raw: dict[str, pd.DataFrame]) -> None:
    for table in real_raw.values():
        x, y = court.to_feet(table["lat"], table["lon"])
        np.testing.assert_allclose(x * 10, table["loc_x"], atol=1e-6)
        np.testing.assert_allclose(y * 10, table["loc_y"], atol=1e-6)


def test_zones_match_the_public_files(real_raw: dict[str, pd.DataFrame]) -> None:
    for table in real_raw.values():
        zones = court.zones(*court.to_feet(table["lat"], table["lon"]))
        assert (zones.basic == table["shot_zone_basic"]).mean() > 0.999
        assert (zones.range == table["shot_zone_range"]).mean() > 0.997
        assert (zones.area == table["shot_zone_area"]).mean() > 0.99


def test_the_arc_separates_two_and_three_points(real_raw: dict[str, pd.DataFrame]) -> None:
    for table in real_raw.values():
        three = court.is_three_pointer(*court.to_feet(table["lat"], table["lon"]))
        assert (three == (table["shot_type"] == THREE_POINTS)).mean() > 0.985


def test_lines_stay_on_the_half_court() -> None:
    for x, y in court.court_lines():
        assert np.abs(x).max() <= court.SIDELINE_X
        assert y.min() >= court.BASELINE_Y
        assert y.max() <= court.MID_COURT_Y
