"""Sessions that reach this machine's own servers directly."""

import ipaddress
from urllib.parse import urlsplit

import requests


def session_for(address: str) -> requests.Session:
    """A session for an address; one on this machine is never asked for through a proxy of the environment.

    Examples
    --------
    >>> session_for("http://127.0.0.1:5001").trust_env, session_for("https://example.org").trust_env
    (False, True)
    """
    session = requests.Session()
    session.trust_env = not _is_this_machine(urlsplit(address).hostname or "")
    return session


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
