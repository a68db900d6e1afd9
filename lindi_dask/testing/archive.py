"""The embedded archive itself: what it holds, its life, and the orders that it takes."""

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from lindi_dask.testing.api import ApiHost, Presign
from lindi_dask.testing.assets import Asset, Entry, Registry
from lindi_dask.testing.blobs import Blob, FileBlob
from lindi_dask.testing.conditions import Conditions
from lindi_dask.testing.faults import Fault, FaultPlan, Injection
from lindi_dask.testing.hosting import Port, ServerThread
from lindi_dask.testing.records import Ledger, Request, count
from lindi_dask.testing.renewals import count_renewals
from lindi_dask.testing.s3 import S3Host
from lindi_dask.testing.signing import Signer


class EmbeddedArchive(Conditions):
    """A DANDI-like API host and an S3-like host on loopback, served by a thread of this process.

    The API host answers as the real one does: 302 to a presigned URL, 401, 403, 404, 400, 301, 429; it lists
    dandisets a page at a time. The S3 host serves ranges of local files under URLs that botocore signs and checks.
    Faults come to order, and every request is remembered.

    Use it as a context manager, or call `start` and, in the end, `close`. All methods may be called from any
    thread. It does not pickle: other processes get `environ` and the assets' URLs.

    Parameters
    ----------
    lifetime_s, latency_s, api_latency_s, bytes_per_s, stream_bytes_per_s, clock_offset_s, rate_limit
        How it answers; see `Conditions`. They may be set while it runs.
    name
        The instance's name in the configuration that `environ` makes.
    port, s3_port
        Ports of the API host and of the S3 host; 0: whichever are free.
    presign
        Signs the URLs of another S3 host, which has the objects, in place of our own: called with an object's key and
        the seconds that its URL is to live.

    Examples
    --------
    >>> with EmbeddedArchive(lifetime_s=3) as archive:  # doctest: +SKIP
    ...     asset = archive.add("session.nwb")
    ...     os.environ.update(archive.environ())
    ...     print(asset.url)
    """

    def __init__(
        self,
        *,
        lifetime_s: int = 3,
        latency_s: float = 0.0,
        api_latency_s: float = 0.0,
        bytes_per_s: float | None = None,
        stream_bytes_per_s: float | None = None,
        clock_offset_s: float = 0.0,
        rate_limit: tuple[int, float] | None = None,
        name: str = "local",
        port: int = 0,
        s3_port: int = 0,
        presign: Presign | None = None,
    ) -> None:
        super().__init__(
            lifetime_s=lifetime_s,
            latency_s=latency_s,
            api_latency_s=api_latency_s,
            bytes_per_s=bytes_per_s,
            stream_bytes_per_s=stream_bytes_per_s,
            clock_offset_s=clock_offset_s,
            rate_limit=rate_limit,
        )
        self._name = name
        self._wanted_ports = (port, s3_port)
        self._presign = presign
        self._ports: tuple[Port, Port] | None = None
        self._server: ServerThread | None = None
        self._closed = False
        self._lifecycle = threading.RLock()
        self._registry = Registry()
        self._faults = FaultPlan()
        self._ledger = Ledger()
        self._signer = Signer()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an EmbeddedArchive lives in its process and does not pickle: send archive.environ() and the assets' "
            "URLs to the others"
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._server else "stopped"
        return f"<EmbeddedArchive {self._name!r}, {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Listen, on the ports of the last time if there was one; nothing, if it runs.

        Raises
        ------
        OSError
            A port that was asked for is taken.
        RuntimeError
            It was closed.
        """
        with self._lifecycle:
            if self._closed:
                raise RuntimeError("this archive was closed: make a new one")
            if self._server is not None:
                return
            if self._ports is None:
                self._ports = _bind_both(*self._wanted_ports)
            shared = (self, self._registry, self._signer, self._faults, self._ledger)
            api, s3 = self._ports
            server = ServerThread(
                [
                    (api.lend(), ApiHost(*shared, s3_url=self.s3_url, presign=self._presign).handle),
                    (s3.lend(), S3Host(*shared).handle),
                ]
            )
            try:
                server.start()
            except BaseException:
                self._let_go()
                raise
            self._server = server

    def stop(self) -> None:
        """Go down, as in an outage: connections are cut, new ones refused. `start` ends it; `close` frees the ports."""
        with self._lifecycle:
            if self._cut_off():
                for port in self._ports or ():
                    port.take_back()

    def _cut_off(self) -> bool:
        """Stop serving; tell whether it served. The ports are then nobody's."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        return server is not None

    def close(self) -> None:
        """Go down for good: free the ports and close the files. The records stay."""
        with self._lifecycle:
            self._cut_off()
            if self._closed:
                return
            self._closed = True
            self._let_go()
            self._registry.close()

    def _let_go(self) -> None:
        for port in self._ports or ():
            port.release()

    @property
    def api_url(self) -> str:
        """Base URL of the API, without a slash at its end."""
        return f"{self._url(0)}/api"

    @property
    def s3_url(self) -> str:
        """Base URL of the S3 host, without a slash at its end."""
        return self._url(1)

    def _url(self, host: int) -> str:
        if self._ports is None:
            raise RuntimeError("the archive has no address before its start: use it in a `with`, or call start()")
        return f"http://127.0.0.1:{self._ports[host].number}"

    @property
    def owner_token(self) -> str:
        """A key; it owns every asset that was added without `owners`."""
        return self._registry.owner_token

    @property
    def stranger_token(self) -> str:
        """A valid key that owns nothing."""
        return self._registry.stranger_token

    def environ(self) -> dict[str, str]:
        """Environment variables by which `lindi_dask` in another process knows this archive and its owner's key."""
        name = self._name.upper().replace("-", "_")
        return {
            f"DASK_LINDI_DASK__INSTANCES__{name}__API_URL": self.api_url,
            f"{name}_API_KEY": self.owner_token,
        }

    def add(
        self,
        source: str | os.PathLike[str] | bytes,
        *,
        asset_id: str | None = None,
        embargoed: bool = True,
        owners: Iterable[str] | None = None,
        dandiset: str = "000123",
        path: str | None = None,
        content_encoding: str | None = None,
    ) -> Asset:
        """Take a file into the archive.

        Parameters
        ----------
        source
            A local file, which must not change from now on, or the bytes themselves.
        asset_id
            UUID; None: a new one.
        embargoed
            Whether only owners may have it.
        owners
            Keys that own it; new ones become valid. None: `owner_token`.
        dandiset
            Six digits.
        path
            Path inside the dandiset; None: the file's name.
        content_encoding
            ``Content-Encoding`` of the S3 host's answers, such as ``gzip`` for bytes that are compressed already.

        Raises
        ------
        OSError
            The file can't be read.
        RuntimeError
            The archive was not started yet, so that there is no URL.
        ValueError
            `asset_id` or `dandiset` is malformed, or the archive has such an asset.
        """
        blob = _blob(source, content_encoding)
        if path is None:
            path = "session.nwb" if isinstance(source, bytes) else Path(source).name
        return self._add(blob, path, asset_id, embargoed=embargoed, owners=owners, dandiset=dandiset)

    def add_zarr(
        self,
        path: str = "session.nwb.zarr",
        *,
        asset_id: str | None = None,
        embargoed: bool = True,
        owners: Iterable[str] | None = None,
        dandiset: str = "000123",
    ) -> Asset:
        """Take in a Zarr asset: it has no blob, and its download is answered 400. Options as of `add`."""
        return self._add(None, path, asset_id, embargoed=embargoed, owners=owners, dandiset=dandiset)

    def _add(
        self,
        blob: Blob | None,
        path: str,
        asset_id: str | None,
        *,
        embargoed: bool,
        owners: Iterable[str] | None,
        dandiset: str,
    ) -> Asset:
        try:
            self._url(0)  # raises before the start, when there would be no URL to give
            entry = self._registry.add(
                blob, path=path, asset_id=asset_id, embargoed=embargoed, owners=owners, dandiset=dandiset
            )
        except BaseException:
            if blob is not None:
                blob.close()
            raise
        return self._asset(entry)

    def _asset(self, entry: Entry) -> Asset:
        url = f"{self.api_url}/assets/{entry.id}/download/"
        return Asset(entry.id, url, entry.path, entry.nbytes, entry.dandiset)

    def set_embargo(self, asset_id: str, embargoed: bool) -> None:
        """Embargo an asset, or lift its embargo; leases that are out stay good. KeyError: no such asset."""
        self._registry.set_embargo(asset_id, embargoed)

    def replace(self, asset_id: str, source: str | os.PathLike[str] | bytes | None = None) -> Asset:
        """Do what DANDI does at any edit of the metadata: a new asset takes over the file. KeyError: no such asset.

        With a `source`, do what it does at an upload to the same path: the new asset has that file. While embargoed,
        the old one is then answered 403, even to its owner; its leases that are out stay good.
        """
        blob = None if source is None else _blob(source, None)
        try:
            return self._asset(self._registry.replace(asset_id, blob))
        except BaseException:
            if blob is not None:
                blob.close()
            raise

    def publish(self, version: str, *, dandiset: str = "000123") -> None:
        """Make a version, such as ``0.230101.1234``, of what a dandiset holds now. ValueError: it is embargoed."""
        self._registry.publish(dandiset, version)

    def overwrite(
        self, asset_id: str, source: str | os.PathLike[str] | bytes, *, content_encoding: str | None = None
    ) -> Asset:
        """Put another file in the place of an asset's: same asset, same URLs, another ETag. KeyError: no such asset.

        Leases that are out stay good, and give the new bytes. No archive should do it, and some hosts do.
        """
        blob = _blob(source, content_encoding)
        try:
            return self._asset(self._registry.overwrite(asset_id, blob))
        except BaseException:
            blob.close()
            raise

    def remove(self, asset_id: str) -> None:
        """Forget an asset and its object: 404 from both hosts. KeyError: no such asset."""
        self._registry.remove(asset_id)

    def revoke(self, token: str) -> None:
        """Make a key invalid: 401; leases that are out stay good. KeyError: no such key."""
        self._registry.revoke(token)

    def inject(self, fault: Fault) -> Injection:
        """Set a fault to work; what comes back counts its strikes and ends it."""
        return self._faults.inject(fault)

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request up to now, in the order in which the answers were decided."""
        return self._ledger.snapshot()

    def counts(self) -> dict[str, int]:
        """Count `requests`; see `lindi_dask.testing.records.count`."""
        return count(self.requests)

    def renewals(self) -> int:
        """Count renewals in mid-job; see `lindi_dask.testing.renewals.count_renewals`."""
        return count_renewals(self.requests)


def _blob(source: str | os.PathLike[str] | bytes, content_encoding: str | None) -> Blob:
    blob = Blob(source) if isinstance(source, bytes) else FileBlob(source)
    blob.content_encoding = content_encoding
    return blob


def _bind_both(port: int, s3_port: int) -> tuple[Port, Port]:
    first = Port(port)
    try:
        return first, Port(s3_port)
    except BaseException:
        first.release()
        raise
