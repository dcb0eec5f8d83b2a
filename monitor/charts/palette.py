"""The one palette: colours of Okabe and Ito, which stay apart for every kind of colour blindness.

Source: M. Okabe and K. Ito, Color Universal Design (2008), https://jfly.uni-koeln.de/color/.
"""

MISSED, MADE, NEUTRAL = "#0072B2", "#E69F00", "#6B7280"
REFERENCE, CURRENT, TRAINING = "#56B4E9", "#D55E00", "#009E73"
"""Test rows of dev, rows in operation, and training rows, wherever they are on one picture."""
CHALLENGER = "#CC79A7"
"""The candidate that was not chosen."""
LINES = "#8A8F98"
"""Lines of the court and of limits; seen on white and on black."""

VERDICT = {"healthy": "#009E73", "watch": "#E69F00", "retrain": "#D55E00"}
"""Of a verdict, always shown with its word."""

STRATEGY = {"loop": "#009E73", "never": "#D55E00", "every": "#56B4E9"}
"""Of the three ways to run a replayed operation."""
