"""The trust court: sizes, colors, shrinking, fading and hatching."""

import numpy as np
import pandas as pd
import pytest

from data import court
from monitor.charts.trust_court import HATCHED_FROM, TOP, trust_court, zone_lines, zone_names
from monitor.charts.trust_court_image import image


def shots(places: dict[tuple[float, float], tuple[int, int, float]]) -> pd.DataFrame:
    """Shots at positions in feet: how many, how many of them made, and their P(made)."""
    rows = []
    for (x, y), (count, made, probability) in places.items():
        latitude, longitude = court.to_degrees([x], [y])
        rows += [(latitude[0], longitude[0], float(number < made), probability) for number in range(count)]
    return pd.DataFrame(rows, columns=["lat", "lng", "shot_made_flag", "probability"])


def none(table: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.zeros(len(table), dtype=bool)


def test_many_shots_far_below_the_expectation_are_strongly_colored_and_not_faded() -> None:
    table = shots({(0.0, 25.0): (400, 100, 0.45), (0.0, 0.0): (400, 260, 0.65)})
    cells = trust_court(table, none(table)).cells.set_index("zone")
    assert cells.loc["Above the Break 3, center", "level"] == 0
    assert cells.loc["Above the Break 3, center", "significant"]
    assert cells.loc["Restricted Area", "level"] == 2
    assert not cells.loc["Restricted Area", "significant"]


def test_a_hexagon_of_few_shots_is_shrunk_towards_its_zone() -> None:
    places = {(x, 26.0): (60, 24, 0.4) for x in (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0)}
    table = shots({**places, (6.0, 26.0): (2, 2, 0.4)})
    found = trust_court(table, none(table))
    few = found.cells.loc[found.cells["shots"].idxmin()]
    assert few["rate"] == 1.0
    assert abs(few["difference"]) < 0.05
    assert not few["significant"]


def test_real_differences_within_a_zone_remain() -> None:
    table = shots({(-6.0, 26.0): (500, 100, 0.4), (6.0, 26.0): (500, 300, 0.4)})
    cells = trust_court(table, none(table)).cells.sort_values("x")
    assert cells["level"].tolist() == [0, 4]
    assert cells["significant"].all()


def test_hexagons_out_of_support_are_hatched() -> None:
    table = shots({(0.0, 25.0): (10, 4, 0.4), (0.0, 0.0): (10, 6, 0.6)})
    out = np.arange(20) < 10 * (1 if HATCHED_FROM <= 1 else 0)
    cells = trust_court(table, out).cells.set_index("zone")
    assert cells["hatched"].to_dict() == {"Above the Break 3, center": True, "Restricted Area": False}


def test_shots_without_labels_have_a_size_and_no_color() -> None:
    table = shots({(0.0, 25.0): (10, 4, 0.4)}).assign(shot_made_flag=np.nan)
    found = trust_court(table, none(table))
    assert found.cells["level"].tolist() == [-1]
    assert (found.shots, found.labeled) == (10, 0)
    assert "No labels yet" in found.description


def test_far_shots_are_counted_and_not_drawn() -> None:
    table = shots({(0.0, 25.0): (10, 4, 0.4), (0.0, 60.0): (3, 0, 0.1)})
    found = trust_court(table, none(table))
    assert (len(found.cells), found.not_drawn, found.shots) == (1, 3, 13)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_court_of_any_number_of_shots_is_drawn(rows: int) -> None:
    table = shots({(0.0, 25.0): (10, 4, 0.4)}).head(rows)
    found = trust_court(table, none(table))
    assert len(found.cells) == rows
    assert image(found, "A $title$", "").axes


def test_every_position_has_one_zone_and_outlines_are_on_the_court() -> None:
    x, y = (each.ravel() for each in np.meshgrid(np.arange(-25, 25.5, 0.5), np.arange(-5, 42, 0.5)))
    zones = set(zone_names(x, y).tolist())
    assert {"Left Corner 3", "Above the Break 3, left", "Mid-Range, right center", "Restricted Area"} <= zones
    assert len(zones) == 12
    for across, along in zone_lines():
        assert np.abs(across).max() <= court.SIDELINE_X
        assert along.max() <= TOP
