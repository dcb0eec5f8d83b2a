"""The palette: colors of Okabe and Ito, which are distinct for every kind of color blindness.

Source: M. Okabe and K. Ito, Color Universal Design (2008), https://jfly.uni-koeln.de/color/.
"""

MISSED, MADE, NEUTRAL = "#0072B2", "#E69F00", "#6B7280"
REFERENCE, CURRENT, TRAINING = "#56B4E9", "#D55E00", "#009E73"
"""Reference rows, current rows, and training rows, in every chart."""
CHALLENGER = "#CC79A7"
"""The candidate model that was not selected."""
LINES = "#8A8F98"
"""Lines of the court and of thresholds; visible on white and on black."""

STATUS = {"healthy": "#009E73", "warning": "#E69F00", "retraining recommended": "#D55E00"}
"""Colors of a status, which is always shown as text too."""

STRATEGY = {"policy": "#009E73", "never": "#D55E00", "always": "#56B4E9"}
"""Colors of the strategies of a policy backtest."""
