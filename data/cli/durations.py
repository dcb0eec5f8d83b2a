"""Durations such as 12h or 7d."""

import pandas as pd


def validate_duration(text: str) -> str:
    """Raise unless a string is a duration.

    Raises
    ------
    ValueError
        If it is not.
    """
    message = f"expected a duration such as 12h or 7d; found {text!r}"
    try:
        duration = pd.Timedelta(text)
    except ValueError as error:
        raise ValueError(message) from error
    # Without a unit pandas assumes nanoseconds.
    if pd.isna(duration) or duration < pd.Timedelta(0) or (duration and not any(map(str.isalpha, text))):
        raise ValueError(message)
    return text
