"""Simulated players: shot locations, frequencies and field-goal percentages."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Player:
    """Parameters of a simulated player.

    Attributes
    ----------
    name : str
        Empty for the player of the public files.
    first_season, seasons : int
        Start year of the first season, and number of seasons.
    three_point_share : float
        Share of three-point shots.
    at_the_hoop_share : float
        Share of two-point shots from the hoop itself.
    two_point_feet : tuple of float
        Relative frequency of the other two-point shots by distance in feet, 0 to 23.
    elbow_share : float
        Share of the two-point shots from 16 feet or more that are from one of the two elbows.
    corner_share, backcourt_share : float
        Shares of three-point shots from the corners, and from more than 36 feet.
    unlabeled_share : float
        Share of shots without a label.
    fg_percentage : tuple of float
        Field-goal percentage, as a share, at 0, 1.5, 4, 8, 15, 18, 23.5, 25, 27, 29, 32, 40 and 94 feet.
    """

    name: str
    first_season: int
    seasons: int
    three_point_share: float
    at_the_hoop_share: float
    two_point_feet: tuple[float, ...]
    elbow_share: float
    corner_share: float
    backcourt_share: float
    unlabeled_share: float
    fg_percentage: tuple[float, ...]


# Estimated from the public files and rounded. Kobe's mid-range shots concentrate at the two elbows. His field-goal
# percentage is 62% at the hoop, 43% from 4 to 15 feet and 40% up to the arc, and falls to 1% at 40 feet.
KOBE = Player(
    name="",
    first_season=1996,
    seasons=20,
    three_point_share=0.209,
    at_the_hoop_share=0.213,
    two_point_feet=(
        *(15, 26, 24, 16, 15, 22, 27, 29, 28, 25, 29, 29),
        *(32, 38, 44, 47, 58, 61, 59, 56, 50, 42, 36, 12),
    ),
    elbow_share=0.4,
    corner_share=0.105,
    backcourt_share=0.016,
    unlabeled_share=0.163,
    fg_percentage=(0.635, 0.62, 0.44, 0.445, 0.425, 0.405, 0.385, 0.36, 0.31, 0.21, 0.1, 0.02, 0.01),
)

GUARD = Player(
    name="guard",
    first_season=2015,
    seasons=10,
    three_point_share=0.52,
    at_the_hoop_share=0.25,
    two_point_feet=(
        *(40, 60, 52, 40, 36, 34, 32, 28, 24, 20, 18, 17),
        *(16, 16, 17, 17, 17, 16, 15, 13, 10, 7, 5, 2),
    ),
    elbow_share=0.2,
    corner_share=0.13,
    backcourt_share=0.008,
    unlabeled_share=0.0,
    fg_percentage=(0.67, 0.64, 0.47, 0.45, 0.455, 0.45, 0.43, 0.425, 0.405, 0.365, 0.3, 0.04, 0.02),
)
"""A fictional modern guard, who takes more threes than twos, shoots well from longer distances, and prefers drives to
mid-range shots."""
