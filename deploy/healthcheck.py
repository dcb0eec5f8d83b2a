"""Check the health of a server: ``python -m deploy.healthcheck http://127.0.0.1:5001/health``."""

import sys
from urllib.error import URLError
from urllib.request import urlopen

_SECONDS = 4


def is_healthy(url: str) -> bool:
    """Whether a GET of the URL returns 2xx within seconds.

    Examples
    --------
    >>> is_healthy("http://127.0.0.1:9/health")
    False
    """
    try:
        with urlopen(url, timeout=_SECONDS):  # noqa: S310 compose.yaml sets the URL
            return True
    except (URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(not is_healthy(sys.argv[1]))
