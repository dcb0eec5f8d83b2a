"""Conversion between paths and URLs of SQLite files and projects, with spaces, accents, ``%``, ``#`` or ``?``.

SQLAlchemy decodes percent-encoding in the path of a URL, and parses options after a ``?``.
"""

import re
from pathlib import Path
from urllib.parse import unquote

_SQLITE, _FILE = "sqlite:///", "file://"
_ENCODED = re.compile("%(?=[0-9A-Fa-f]{2})")


def sqlite_url(path: Path) -> str:
    """Convert the path of a SQLite file to a URL, encoded for SQLAlchemy.

    Examples
    --------
    >>> sqlite_url(Path("/Área de Trabalho/100% (1) #2/log.db"))
    'sqlite:////Área de Trabalho/100% (1) #2/log.db'
    >>> sqlite_url(Path("/why?/a%20b.db"))
    'sqlite:////why%3F/a%2520b.db'
    """
    return f"{_SQLITE}{_ENCODED.sub('%25', str(path)).replace('?', '%3F')}"


def sqlite_path(url: str) -> Path | None:
    """Convert a SQLite URL to the path of its file, as SQLAlchemy does; None for other databases and in memory.

    Examples
    --------
    >>> sqlite_path("sqlite:////home/%C3%81rea%20de%20Trabalho/mlflow.db").as_posix()
    '/home/Área de Trabalho/mlflow.db'
    >>> sqlite_path("postgresql://host/name")
    """
    if not url.startswith(_SQLITE):
        return None
    path = unquote(url.removeprefix(_SQLITE).partition("?")[0])
    return Path(path) if path not in {"", ":memory:"} else None


def is_percent_encoded(path: Path) -> bool:
    """Whether a path contains a sequence such as ``%20``, which MLflow decodes in paths of artifacts.

    Examples
    --------
    >>> is_percent_encoded(Path("/home/a%20b")), is_percent_encoded(Path("/home/100% sure"))
    (True, False)
    """
    return _ENCODED.search(str(path)) is not None


def project_path(name: str) -> Path:
    """Convert the name that ``mlflow run`` gives a project to its folder.

    MLflow names a checkout ``file://FOLDER``, a project below its top ``file://FOLDER#SUBFOLDER``, and a folder with a
    ``#`` in its name by its path; nothing is percent-encoded.

    Examples
    --------
    >>> project_path("file:///home/100%#kobe").as_posix(), project_path("/home/#2/kobe").as_posix()
    ('/home/100%/kobe', '/home/#2/kobe')
    """
    if not name.startswith(_FILE):
        return Path(name)
    return Path(name.removeprefix(_FILE).replace("#", "/"))
