"""Spans of time as people write them: 12h, 7d."""

import pandas as pd


def validate_duration(text: str) -> str:
    """Refuse what is not a span of time.

    Raises
    ------
    ValueError
        Says what is expected.
    """
    message = f"expected a span of time such as 12h or 7d; found {text!r}"
    try:
        span = pd.Timedelta(text)
    except ValueError as error:
        raise ValueError(message) from error
    # Without a unit pandas takes nanoseconds.
    if pd.isna(span) or span < pd.Timedelta(0) or (span and not any(map(str.isalpha, text))):
        raise ValueError(message)
    return text
