"""Where redirects of a download may lead, and how the addresses on the way are written down."""

import ipaddress
import socket
from enum import IntEnum
from urllib.parse import urljoin, urlsplit

from data.errors import SourceError
from data.masking import MASK

MAX_REDIRECTS = 5

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(IntEnum):
    """Whom an address is of, from the web to this machine."""

    WEB = 0
    PRIVATE_NETWORK = 1
    THIS_MACHINE = 2


_WORDS = {
    Reach.WEB: "the web",
    Reach.PRIVATE_NETWORK: "a private network",
    Reach.THIS_MACHINE: "this machine, or one that only it reaches",
}


def recorded(address: str) -> str:
    """An address as runs keep it: without user and password, and with the values of its query masked.

    Examples
    --------
    >>> recorded("https://u:p@example.org:8443/a.parquet?X-Amz-Signature=1f&part=2#x")
    'https://example.org:8443/a.parquet?X-Amz-Signature=***&part=***'
    """
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(f"{name.partition('=')[0]}={MASK}" for name in parts.query.split("&")) if parts.query else ""
    return f"{parts.scheme}://{host}{parts.path}" + (f"?{query}" if query else "")


def next_address(start: str, current: str, location: str) -> str:
    """Where a redirect leads.

    Parameters
    ----------
    start, current : str
        The address that was given, and the one that redirects.
    location : str
        As the server says it.

    Raises
    ------
    SourceError
        If it leads off https, holds a user or a password, or leads from the web into a private network, or to this
        machine from elsewhere.
    """
    try:
        target = urljoin(current, location)
        parts = urlsplit(target)
        scheme, host, held, _ = parts.scheme, parts.hostname, "@" in parts.netloc, parts.port
    except ValueError as error:
        message = f"{recorded(current)} redirects to an address that cannot be read; expected one of https://."
        raise SourceError(message) from error
    if scheme != "https" or not host:
        found = f"{scheme}://{host or ''}"
        message = f"{recorded(current)} redirects to {found}; expected https://. Nothing was downloaded."
        raise SourceError(message)
    if held:
        message = f"{recorded(current)} redirects to an address with a user or password; expected none."
        raise SourceError(message)
    given, found_reach = reach(urlsplit(start).hostname or ""), reach(host)
    if found_reach > given:
        message = (
            f"{recorded(current)} redirects to {host}, which is of {_WORDS[found_reach]}; expected an address of "
            f"{_WORDS[given]}, as the given one is. If that is meant, give it as the source itself."
        )
        raise SourceError(message)
    return target


def reach(host: str) -> Reach:
    """Whom a host is of: where its name means several addresses, the nearest to this machine.

    A name that is not known here is one of the web: a proxy may know it.

    Examples
    --------
    >>> reach("127.0.0.1").name, reach("169.254.169.254").name, reach("10.1.2.3").name, reach("8.8.8.8").name
    ('THIS_MACHINE', 'THIS_MACHINE', 'PRIVATE_NETWORK', 'WEB')
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Reach.WEB
    return max((_reach_of(str(address[0]).partition("%")[0]) for *_, address in found), default=Reach.WEB)


def _reach_of(text: str) -> Reach:
    address: Address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_link_local or address.is_unspecified:
        return Reach.THIS_MACHINE
    return Reach.WEB if address.is_global else Reach.PRIVATE_NETWORK
