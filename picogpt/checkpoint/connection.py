"""HTTP sessions that use whichever of a host's addresses answers first.

Most hosts have several addresses, and where a network's IPv6 is broken, what is sent to some of
them is swallowed. requests tries one after the other, and waits for each as long as for the whole.
Here they race, as in browsers: RFC 8305, "Happy Eyeballs". Through a proxy, the proxy chooses.
urllib3 is what requests itself runs on, and brings along.
"""

import os
import selectors
import socket
import time
from itertools import zip_longest

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

HEAD_START = 0.25  # seconds before the next address is tried as well (RFC 8305, section 5)
ANSWERED = set()  # addresses that won a race: they start first from then on


def open_session():
    """A requests.Session whose direct connections come from `connect`."""
    session = requests.Session()
    session.mount("http://", RacingAdapter())
    session.mount("https://", RacingAdapter())
    session.auth = lambda request: request  # not the password of ~/.netrc
    return session


def connect(host, port, timeout):
    """A socket to the address of a host that answers first, within `timeout` seconds.

    Raises OSError, the last address's, where none does; ValueError for what is no host's name.
    """
    waiting = addresses(host, port)
    deadline = time.monotonic() + timeout
    error = TimeoutError(f"no answer within {timeout} s")
    race = selectors.DefaultSelector()
    try:
        while (waiting or race.get_map()) and time.monotonic() < deadline:
            if waiting:
                try:
                    race.register(start_connecting(waiting.pop(0)), selectors.EVENT_WRITE)
                except OSError as failure:  # a machine without IPv6 knows it at once
                    error = failure
                    continue
            left = deadline - time.monotonic()
            for key, _ in race.select(min(left, HEAD_START) if waiting else left):
                race.unregister(key.fileobj)
                code = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    ANSWERED.add(key.fileobj.getpeername())
                    key.fileobj.settimeout(timeout)
                    return key.fileobj
                key.fileobj.close()
                error = OSError(code, os.strerror(code))
        raise error
    finally:
        for key in list(race.get_map().values()):
            key.fileobj.close()
        race.close()


def addresses(host, port):
    """What socket.getaddrinfo finds for a host: IPv6 and IPv4 by turns, those that won first."""
    families = {}
    for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        families.setdefault(found[0], []).append(found)
    turns = [found for turn in zip_longest(*families.values()) for found in turn if found]
    return sorted(turns, key=lambda found: found[4] not in ANSWERED)


def start_connecting(found):
    """A socket that is on its way to one address; it can be written to once it is there."""
    family, kind, protocol, _, address = found
    begun = socket.socket(family, kind, protocol)
    begun.setblocking(False)
    try:
        begun.connect(address)
    except BlockingIOError:
        pass
    except OSError:
        begun.close()
        raise
    return begun


class RacingConnection(HTTPConnection):
    """urllib3's connection, over the socket that `connect` gives."""

    def _new_conn(self):
        begun = connect(self.host.strip("[]"), self.port, self.timeout)
        for option in self.socket_options or ():
            begun.setsockopt(*option)
        return begun


class RacingHTTPSConnection(HTTPSConnection):
    """The same with TLS, which urllib3 wraps around the socket."""

    _new_conn = RacingConnection._new_conn


class RacingPool(HTTPConnectionPool):
    """urllib3's pool of such connections."""

    ConnectionCls = RacingConnection


class RacingHTTPSPool(HTTPSConnectionPool):
    """The same with TLS."""

    ConnectionCls = RacingHTTPSConnection


class RacingAdapter(HTTPAdapter):
    """requests' way to urllib3, by such pools."""

    def init_poolmanager(self, *args, **options):
        """Make the pools of direct connections; those through a proxy are another manager's."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": RacingPool, "https": RacingHTTPSPool}
