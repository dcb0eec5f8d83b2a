"""Sessions that reach this machine's own servers directly."""

import ipaddress
import os
from urllib.parse import urlsplit

import requests
from requests.utils import get_netrc_auth


def session_for(url: str) -> requests.Session:
    """A session for a URL; requests to this machine never use a proxy of the environment.

    Credentials in ``~/.netrc`` and the certificates of ``REQUESTS_CA_BUNDLE`` are used for either.

    Examples
    --------
    >>> session_for("http://127.0.0.1:5001").trust_env, session_for("https://example.org").trust_env
    (False, True)
    """
    session = requests.Session()
    if _is_this_machine(urlsplit(url).hostname or ""):
        session.auth = get_netrc_auth(url)
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        session.trust_env = False
    return session


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return False
    return number.is_loopback or number.is_unspecified
