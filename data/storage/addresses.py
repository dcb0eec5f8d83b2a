"""SQLite addresses, and names of projects, as paths and back: folders may have spaces, accents, ``%``, ``#`` or ``?``.

SQLAlchemy decodes what is percent-encoded in the path of an address, and takes what follows a ``?`` for options.
"""

import re
from pathlib import Path
from urllib.parse import unquote

_SQLITE, _FILE = "sqlite:///", "file://"
_ENCODED = re.compile("%(?=[0-9A-Fa-f]{2})")


def sqlite_address(path: Path) -> str:
    """The address of a SQLite file, encoded where SQLAlchemy would read something else.

    Examples
    --------
    >>> sqlite_address(Path("/Área de Trabalho/100% (1) #2/log.db"))
    'sqlite:////Área de Trabalho/100% (1) #2/log.db'
    >>> sqlite_address(Path("/why?/a%20b.db"))
    'sqlite:////why%3F/a%2520b.db'
    """
    return f"{_SQLITE}{_ENCODED.sub('%25', str(path)).replace('?', '%3F')}"


def sqlite_path(address: str) -> Path | None:
    """The file of a SQLite address as SQLAlchemy reads it; None for another database, and for one in memory.

    Examples
    --------
    >>> sqlite_path("sqlite:////home/%C3%81rea%20de%20Trabalho/mlflow.db").as_posix()
    '/home/Área de Trabalho/mlflow.db'
    >>> sqlite_path("postgresql://host/name")
    """
    if not address.startswith(_SQLITE):
        return None
    path = unquote(address.removeprefix(_SQLITE).partition("?")[0])
    return Path(path) if path not in {"", ":memory:"} else None


def looks_encoded(path: Path) -> bool:
    """Whether a path holds what can be read as a percent-encoded character, as MLflow does with those of artifacts.

    Examples
    --------
    >>> looks_encoded(Path("/home/a%20b")), looks_encoded(Path("/home/100% sure"))
    (True, False)
    """
    return _ENCODED.search(str(path)) is not None


def project_path(name: str) -> Path:
    """The folder of a project by the name that ``mlflow run`` gives it.

    MLflow names a checkout ``file://FOLDER``, a project below its top ``file://FOLDER#SUBFOLDER``, and a folder with a
    ``#`` in its name as it stands; nothing is percent-encoded.

    Examples
    --------
    >>> project_path("file:///home/100%#kobe").as_posix(), project_path("/home/#2/kobe").as_posix()
    ('/home/100%/kobe', '/home/#2/kobe')
    """
    if not name.startswith(_FILE):
        return Path(name)
    return Path(name.removeprefix(_FILE).replace("#", "/"))
