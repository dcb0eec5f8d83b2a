"""The palette: after the colors of Okabe and Ito, which are distinct for every kind of color blindness.

Source: M. Okabe and K. Ito, Color Universal Design (2008), https://jfly.uni-koeln.de/color/. Three of them are reserved
for a status, and no chart uses them for anything else. Lines and markers have a contrast of 3:1 on white and on black.
"""

HEALTHY, WARNING, RETRAIN = "#009E73", "#F0E442", "#D55E00"
"""Reserved for a status, which is always shown as text too."""
STATUS = {"healthy": HEALTHY, "warning": WARNING, "retraining recommended": RETRAIN}
"""Colors by status."""

MISSED, MADE, NEUTRAL = "#0072B2", "#E69F00", "#6B7280"
REFERENCE, CURRENT, TRAINING = "#3A97D4", "#B8558F", "#7B8794"
"""Reference rows, current rows, and training rows, in every chart."""
CHALLENGER = "#7A5FB5"
"""The candidate model that was not selected, and a challenger."""
LINES = "#8A8F98"
"""Lines of the court and of thresholds; visible on white and on black."""
INK = "#1F2937"
"""Text and court lines of images, which have a white background."""

PALE = "#E7E9EC"
DIVERGING = ("#0072B2", "#84BCE3", PALE, "#F3C667", "#D98A00")
"""Five classes of made minus expected, from fewer to more; the middle one is pale."""
DIVERGING_DARK = ("#5CB8F0", "#2C6288", "#34363B", "#7D5F22", "#F5B301")
"""The same on a dark page, where the strong classes are the bright ones."""

STRATEGY = {"policy": MISSED, "never": NEUTRAL, "always": MADE}
"""Colors of the strategies of a policy backtest."""
