"""Masking of secrets: passwords and tokens in URLs, connection strings and headers."""

import logging
import re
import sys
import threading
import traceback
from types import TracebackType

MASK = "***"
"""The replacement of a secret."""

_DATABASES = r"(?:postgres(?:ql)?|mysql|mariadb|mssql|oracle|redis|mongodb|snowflake|sqlite)"
# Up to the last "@", which a password may contain, but not into the next URL or the next value of a JSON document.
_REST = r'(?:(?!://|"[,:}\]])\S)*@'
_NAMES = (
    r"[\w.%-]*(?:pass|pwd|secret|token|signature|credential|api[_-]?key|access[_-]?key|private[_-]?key|odbc_connect"
    r"|auth|jwt)[\w.%-]*"
)
_ENCODED_NAMES = _NAMES.replace("%", "")
_MASKS = (
    # A database password may contain spaces and slashes.
    (re.compile(rf"(\b{_DATABASES}[\w+.-]*://[^\s:/@\[]*:)[^\n@]*@(?:{_REST})?", re.IGNORECASE), rf"\1{MASK}@"),
    # The path after host and port may contain an "@".
    (re.compile(rf"(\b[a-z][\w+.-]*://?[^\s:/@\[]*:)(?!\d+(?:[/?#]|\s|$)){_REST}", re.IGNORECASE), rf"\1{MASK}@"),
    # A port that is not an integer may be a password without its "@".
    (
        re.compile(
            rf"(\b(?:{_DATABASES}[\w+.-]*|https?)://[^\s:/@\[]+:)(?!\d|\*{{3}})[^\s:/?#@;,\"'\])]+", re.IGNORECASE
        ),
        rf"\1{MASK}",
    ),
    # A token in place of the user, as in URLs of git.
    (re.compile(r"(\bhttps?://)[^\s:/?#@]+@", re.IGNORECASE), rf"\1{MASK}@"),
    (re.compile(rf"([?&#](?:{_NAMES}|sig|key|pw)=)[^&\s\"'#<>]*", re.IGNORECASE), rf"\1{MASK}"),
    # Connection strings of libpq and ODBC, and environment variables.
    (
        re.compile(
            r"(\b\w*(?:password|passwd|pwd)\s*=\s*)(?!\*{3})(?:'[^']*'|\"[^\"]*\"|\{[^}]*\}|[^\s&;,)'\"]+)",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # The same in a percent-encoded URL within another URL, and in the representation of a mapping.
    (re.compile(rf"((?:%3F|%26)(?:{_ENCODED_NAMES}|sig|key|pw)%3D)(?:(?!%26)[^\s&\"'])*", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"(%3A%2F%2F(?:(?!%3A|%40)[^\s/@])*%3A)(?:(?!%40)[^\s/@])*%40", re.IGNORECASE), rf"\1{MASK}%40"),
    (
        re.compile(r"([\"'](?:password|passwd|pwd|token|secret)[\"']\s*:\s*)(?:\"[^\"]*\"|'[^']*')", re.IGNORECASE),
        rf"\1'{MASK}'",
    ),
    (re.compile(r"(\b(?:Basic|Bearer)\s+)[A-Za-z0-9+/=._~-]{8,}"), rf"\1{MASK}"),
)


def masked(text: object) -> str:
    """Return a text with its secrets masked and the rest unchanged.

    Secrets are: passwords in URLs of any scheme; tokens in place of the user in web URLs; values of query parameters
    and connection strings with a name such as ``password`` or ``token``; contents of authorization headers.

    Examples
    --------
    >>> masked("cannot reach postgresql://kobe:p@ss/word@db:5432/log?sslpassword=x&connect_timeout=3")
    'cannot reach postgresql://kobe:***@db:5432/log?sslpassword=***&connect_timeout=3'
    >>> masked("https://127.0.0.1:5000/a@b")
    'https://127.0.0.1:5000/a@b'
    """
    found = str(text)
    for pattern, replacement in _MASKS:
        found = pattern.sub(replacement, found)
    return found


def mask_tracebacks() -> None:
    """Mask secrets in the tracebacks of uncaught exceptions of this process and its threads."""

    def report(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))

    sys.excepthook = report
    threading.excepthook = lambda found: report(found.exc_type, found.exc_value, found.exc_traceback)


def mask_log_records() -> None:
    """Mask secrets in every record of Python's logging in this process, whichever library writes it."""
    make = logging.getLogRecordFactory()
    if getattr(make, "masks", False):
        return

    def factory(*arguments: object, **options: object) -> logging.LogRecord:
        record = make(*arguments, **options)
        try:
            record.msg, record.args = masked(record.getMessage()), ()
        except (TypeError, ValueError):
            # The library's arguments are wrong; logging itself reports that.
            return record
        if record.exc_info and record.exc_info[0] is not None:
            # A formatter uses this text as its own rendering of the exception.
            record.exc_text = masked("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return record

    factory.masks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(factory)
