"""Secrets out of texts: passwords and tokens that stand in addresses, connection strings and headers."""

import logging
import re
import sys
import threading
import traceback
from types import TracebackType

MASK = "***"
"""What stands in place of a secret."""

_DATABASES = r"(?:postgres(?:ql)?|mysql|mariadb|mssql|oracle|redis|mongodb|snowflake|sqlite)"
# Up to the last "@", as a password may hold one, but not into the next address or the next value of a JSON text.
_REST = r'(?:(?!://|"[,:}\]])\S)*@'
_NAMES = (
    r"[\w.%-]*(?:pass|pwd|secret|token|signature|credential|api[_-]?key|access[_-]?key|private[_-]?key|odbc_connect"
    r"|auth|jwt)[\w.%-]*"
)
_ENCODED_NAMES = _NAMES.replace("%", "")
_MASKS = (
    # A password of a database may hold spaces and slashes.
    (re.compile(rf"(\b{_DATABASES}[\w+.-]*://[^\s:/@\[]*:)[^\n@]*@(?:{_REST})?", re.IGNORECASE), rf"\1{MASK}@"),
    # What follows host and port is a path, in which an "@" may stand.
    (re.compile(rf"(\b[a-z][\w+.-]*://?[^\s:/@\[]*:)(?!\d+(?:[/?#]|\s|$)){_REST}", re.IGNORECASE), rf"\1{MASK}@"),
    # A port that is no number may be a password whose "@" was forgotten.
    (
        re.compile(
            rf"(\b(?:{_DATABASES}[\w+.-]*|https?)://[^\s:/@\[]+:)(?!\d|\*{{3}})[^\s:/?#@;,\"'\])]+", re.IGNORECASE
        ),
        rf"\1{MASK}",
    ),
    # A token in place of a user, as addresses of git have it.
    (re.compile(r"(\bhttps?://)[^\s:/?#@]+@", re.IGNORECASE), rf"\1{MASK}@"),
    (re.compile(rf"([?&#](?:{_NAMES}|sig|key|pw)=)[^&\s\"'#<>]*", re.IGNORECASE), rf"\1{MASK}"),
    # Connection strings of libpq and ODBC, and variables of the environment.
    (
        re.compile(
            r"(\b\w*(?:password|passwd|pwd)\s*=\s*)(?!\*{3})(?:'[^']*'|\"[^\"]*\"|\{[^}]*\}|[^\s&;,)'\"]+)",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # The same where an address is percent-encoded within another one, and where a mapping is shown.
    (re.compile(rf"((?:%3F|%26)(?:{_ENCODED_NAMES}|sig|key|pw)%3D)(?:(?!%26)[^\s&\"'])*", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"(%3A%2F%2F(?:(?!%3A|%40)[^\s/@])*%3A)(?:(?!%40)[^\s/@])*%40", re.IGNORECASE), rf"\1{MASK}%40"),
    (
        re.compile(r"([\"'](?:password|passwd|pwd|token|secret)[\"']\s*:\s*)(?:\"[^\"]*\"|'[^']*')", re.IGNORECASE),
        rf"\1'{MASK}'",
    ),
    (re.compile(r"(\b(?:Basic|Bearer)\s+)[A-Za-z0-9+/=._~-]{8,}"), rf"\1{MASK}"),
)


def masked(text: object) -> str:
    """A text without the secrets that it holds; the rest stays as it is.

    Passwords in addresses, whatever the scheme; tokens in place of the user in addresses of the web; values of query
    parameters, and of connection strings, whose name says that they are secret; contents of authorization headers.

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
    """Let what ends this process, or a thread of it, unforeseen be told without secrets."""

    def tell(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))

    sys.excepthook = tell
    threading.excepthook = lambda found: tell(found.exc_type, found.exc_value, found.exc_traceback)


def mask_log_records() -> None:
    """Let every record of Python's logging be without secrets, whichever library writes it in this process."""
    make = logging.getLogRecordFactory()
    if getattr(make, "masks", False):
        return

    def factory(*arguments: object, **options: object) -> logging.LogRecord:
        record = make(*arguments, **options)
        try:
            record.msg, record.args = masked(record.getMessage()), ()
        except (TypeError, ValueError):
            # A library's own mistake; logging says so itself.
            return record
        if record.exc_info and record.exc_info[0] is not None:
            # A formatter takes this for what it has made itself of the error.
            record.exc_text = masked("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return record

    factory.masks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(factory)
