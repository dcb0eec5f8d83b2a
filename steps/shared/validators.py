"""Validators of parameters that several steps have. Each one returns the value, or raises ValueError."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import sqlalchemy as sql

from data.storage.locations import validate_location
from data.storage.tables import validate_file_format
from serving.client.endpoint import base_url
from serving.inference_log import reader
from serving.inference_log.inference_log import URL_VARIABLE


def validate_endpoint(endpoint: str) -> str:
    """The URL of a server without ``/invocations``, or nothing.

    Raises
    ------
    ValueError
        See `base_url`.
    """
    return base_url(endpoint) if endpoint else endpoint


def validate_input_table(table: str) -> str:
    """Refuse anything but an empty string, a path or the URL of a table; a ValueError has what was expected."""
    return validate_location(table) if table else table


def validate_output_table(out: str) -> str:
    """Refuse a name that is neither empty nor that of a Parquet or CSV table; see `check_input`."""
    return str(validate_file_format(Path(out))) if out else out


def validate_timestamp(text: str) -> str:
    """Refuse anything but a timestamp or an age; a ValueError has what was expected."""
    parse_timestamp(text, reader.now())
    return text


def parse_timestamp(text: str, now: datetime) -> datetime | None:
    """The timestamp of a text, UTC without a zone; None for an empty one.

    Examples
    --------
    >>> parse_timestamp("24h", datetime(2026, 11, 22, 12)).isoformat()
    '2026-11-21T12:00:00'
    >>> parse_timestamp("2026-11-01", datetime(2026, 11, 22)).isoformat()
    '2026-11-01T00:00:00'
    """
    if not text:
        return None
    try:
        if text[-1].isalpha() and text[-1] != "Z":
            return now - pd.Timedelta(text).to_pytimedelta()
        timestamp = datetime.fromisoformat(text)
        return timestamp.astimezone(UTC).replace(tzinfo=None) if timestamp.tzinfo else timestamp
    except (AttributeError, OverflowError, ValueError) as error:  # pandas takes "nat" for an age that is not known
        message = f"expected an age such as 24h or 7d, or a timestamp such as 2026-11-22T08:00 (UTC); found {text!r}"
        raise ValueError(message) from error


def validate_log_url(text: str) -> str:
    """Refuse a URL with a password: the run would log it; the ValueError does not repeat it."""
    with suppress(sql.exc.ArgumentError):
        url = sql.make_url(text)
        if url.password or any("pass" in key or "secret" in key or "token" in key for key in map(str.lower, url.query)):
            message = f"expected a URL without a password, which the run would log; set it in {URL_VARIABLE}"
            raise ValueError(message)
    return text


def validate_version(version: str) -> str:
    """Refuse anything but a number; a ValueError has what was expected."""
    if version and not version.isdecimal():
        message = f"expected the number of a version, or nothing; found {version!r}"
        raise ValueError(message)
    return version


def validate_reason(reason: str) -> str:
    """Refuse an empty reason; a ValueError has what was expected."""
    if not reason.strip():
        message = "expected a reason, which the history of the version keeps"
        raise ValueError(message)
    return reason.strip()
