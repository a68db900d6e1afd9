"""Who can listen to what goes from one process of a cluster to another."""

from __future__ import annotations

import functools
import socket

from distributed.comm.addressing import get_address_host, parse_address

__all__ = ["HOW_TO_ENCRYPT", "is_overheard"]

HOW_TO_ENCRYPT = (
    "Encrypt the cluster's own traffic: give scheduler, workers and client a distributed.security.Security with TLS "
    "(`Security.temporary()` makes a certificate; LocalCluster, dask-jobqueue, dask-kubernetes and dask-gateway take "
    "it as `security=`). See https://distributed.dask.org/en/stable/tls.html"
)


def is_overheard(address: str) -> bool:
    """Return whether what is sent to a comm's address crosses a network in plain text."""
    scheme, _ = parse_address(address)
    return scheme not in {"inproc", "tls", "wss"} and not _is_this_machine(get_address_host(address))


@functools.lru_cache(maxsize=4096)
def _is_this_machine(host: str) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # of a datagram socket: looks at the routes, and sends nothing
            own: str = probe.getsockname()[0]
    except OSError:
        return False
    return own == address[0]
