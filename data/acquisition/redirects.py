"""Validation of a download's redirects, and masking of their URLs for runs."""

import ipaddress
import socket
from enum import IntEnum
from urllib.parse import urljoin, urlsplit

from data.errors import SourceError
from data.masking import MASK

MAX_REDIRECTS = 5

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(IntEnum):
    """Reach of an IP address, from the web to this machine."""

    WEB = 0
    PRIVATE_NETWORK = 1
    THIS_MACHINE = 2


_REACH_NAMES = {
    Reach.WEB: "the web",
    Reach.PRIVATE_NETWORK: "a private network",
    Reach.THIS_MACHINE: "this machine, or an IP address that only this machine reaches",
}


def masked_url(url: str) -> str:
    """Return a URL without user and password, and with the values of its query masked.

    Examples
    --------
    >>> masked_url("https://u:p@example.org:8443/a.parquet?X-Amz-Signature=1f&part=2#x")
    'https://example.org:8443/a.parquet?X-Amz-Signature=***&part=***'
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(f"{name.partition('=')[0]}={MASK}" for name in parts.query.split("&")) if parts.query else ""
    return f"{parts.scheme}://{host}{parts.path}" + (f"?{query}" if query else "")


def next_url(start: str, current: str, location: str) -> str:
    """Return the target of a redirect, if it is allowed.

    Parameters
    ----------
    start, current : str
        The first URL, and the URL that redirects.
    location : str
        Value of the response's ``Location`` header.

    Raises
    ------
    SourceError
        If the target is not https, contains a user or a password, or leads from the web into a private network, or from
        elsewhere to this machine.
    """
    try:
        target = urljoin(current, location)
        parts = urlsplit(target)
        scheme, host, held, _ = parts.scheme, parts.hostname, "@" in parts.netloc, parts.port
    except ValueError as error:
        message = f"{masked_url(current)} redirects to an invalid URL; expected https://."
        raise SourceError(message) from error
    if scheme != "https" or not host:
        found = f"{scheme}://{host or ''}"
        message = f"{masked_url(current)} redirects to {found}; expected https://. Nothing was downloaded."
        raise SourceError(message)
    if held:
        message = f"{masked_url(current)} redirects to a URL with a user or password; expected none."
        raise SourceError(message)
    given, found_reach = reach(urlsplit(start).hostname or ""), reach(host)
    if found_reach > given:
        message = (
            f"{masked_url(current)} redirects to {host}, which belongs to {_REACH_NAMES[found_reach]}; expected a "
            "host of "
            f"{_REACH_NAMES[given]}, like the first URL. To allow it, give the target itself as the source."
        )
        raise SourceError(message)
    return target


def reach(host: str) -> Reach:
    """Reach of a host. If its name resolves to several IP addresses, the nearest one to this machine counts.

    A name that does not resolve here belongs to the web, because a proxy may resolve it.

    Examples
    --------
    >>> reach("127.0.0.1").name, reach("169.254.169.254").name, reach("10.1.2.3").name, reach("8.8.8.8").name
    ('THIS_MACHINE', 'THIS_MACHINE', 'PRIVATE_NETWORK', 'WEB')
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Reach.WEB
    return max((_reach_of(str(ip_address[0]).partition("%")[0]) for *_, ip_address in found), default=Reach.WEB)


def _reach_of(text: str) -> Reach:
    ip_address: IPAddress = ipaddress.ip_address(text)
    if isinstance(ip_address, ipaddress.IPv6Address) and ip_address.ipv4_mapped:
        ip_address = ip_address.ipv4_mapped
    if ip_address.is_loopback or ip_address.is_link_local or ip_address.is_unspecified:
        return Reach.THIS_MACHINE
    return Reach.WEB if ip_address.is_global else Reach.PRIVATE_NETWORK
