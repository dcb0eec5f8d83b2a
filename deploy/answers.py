"""Whether a server answers, for a health check: ``python -m deploy.answers http://127.0.0.1:5001/health``."""

import sys
from urllib.error import URLError
from urllib.request import urlopen

_SECONDS = 4


def answers(address: str) -> bool:
    """Whether a GET of the address is answered with 2xx within seconds.

    Examples
    --------
    >>> answers("http://127.0.0.1:9/health")
    False
    """
    try:
        with urlopen(address, timeout=_SECONDS):  # noqa: S310 the address stands in compose.yaml
            return True
    except (URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(not answers(sys.argv[1]))
