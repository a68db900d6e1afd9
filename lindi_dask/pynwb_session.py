"""References as a pynwb session: `open_nwb`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Literal

from lindi_dask.arrays import open_store
from lindi_dask.errors import ConfigurationError, LindiError, RefsError, UrlRefused

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from pynwb import NWBFile

    from lindi_dask.factory import StoreFactory
    from lindi_dask.store import LindiStore

    Refs = str | os.PathLike[str] | dict[str, Any] | StoreFactory

__all__ = ["open_nwb"]

_CACHED_SPECIFICATIONS = ".specloc"  # the root's attribute that says where in the file they are

_LOST_REFERENCE = b"<HDF5 object reference>"  # what kerchunk writes in place of one


def open_nwb(
    refs: Refs,
    *,
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
    cache: str | os.PathLike[str] | Literal[False] | None = None,
    cache_limit: int | str | None = None,
    api_keys: Mapping[str, Callable[[], str | None]] | None = None,
    expand: bool = False,
) -> NWBFile:
    """Return an NWB session as a `pynwb.NWBFile`, read-only.

    hdmf-zarr reads the references as the NWB-Zarr file that they stand for: types of extensions come from the
    specifications cached in the session, references and links are followed, and datasets are zarr arrays that are read
    when they are indexed, or by `dask.array.from_zarr`. Scalars are read at once. The `NWBZarrIO` is the session's
    `read_io`: `pynwb.validate(io=nwbfile.read_io)`.

    Needs the extra `nwb`, and Python 3.12 or newer.

    Parameters
    ----------
    refs
        As for `StoreFactory`, or one.
    instances, allow, concurrency, cache, cache_limit, api_keys, expand
        As for `open_store`.

    Returns
    -------
    pynwb.NWBFile
        An array in it that can't be read is listed, and raises `UnsupportedArray` when it is.

    Raises
    ------
    ConfigurationError
        If hdmf-zarr is not installed; if an option makes no sense.
    RefsError
        If the references can't be had, break their format, or are none of an NWB session.
    AccessError, UnavailableError, DataError
        If a scalar that the references do not hold themselves can't be read; if a link leads to another file.
    hdmf.build.ConstructError
        If the session breaks the NWB schema: as for the HDF5 file.
    """
    session_io = _session_io()
    store = open_store(
        refs,
        instances=instances,
        allow=allow,
        concurrency=concurrency,
        cache=cache,
        cache_limit=cache_limit,
        api_keys=api_keys,
        expand=expand,
    )
    attributes = _root_attributes(store)
    if attributes.get("neurodata_type") != "NWBFile":
        raise RefsError(
            f"{store}: this is not an NWB session: its root is no NWBFile. open_group opens whatever references are of."
        )
    failure: LindiError | None = None
    try:
        io = session_io(store, mode="r", load_namespaces=_CACHED_SPECIFICATIONS in attributes)
        return io.read()
    except RecursionError:
        failure = RefsError(
            f"{store}: a link in this session leads to a group that it lies in itself, which pynwb can't follow. "
            "open_group opens it all the same."
        )
    except Exception as error:
        # hdmf wraps what a read raised in what it was building
        failure = _ours(error) or _lost_references(store)
        if failure is None:
            raise
    raise failure


def _session_io() -> Any:  # noqa: ANN401 - hdmf-zarr has no types
    """Return hdmf-zarr's reader, kept from what its links may otherwise name: any other file or URL."""
    missing = None
    try:
        from hdmf_zarr.nwb import NWBZarrIO  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        missing = error.name
    if missing is not None:
        raise _not_installed(missing)

    class SessionIO(NWBZarrIO):  # type: ignore[misc]
        def _open_file_consolidated(self, store: object, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if store is not self.path:
                raise UrlRefused(
                    f"{self.path}: a link or reference in this session leads out of it, to another file, which is not "
                    "followed. Open that file's own references.",
                    reason="it is a link to another file",
                )
            return super()._open_file_consolidated(store, *args, **kwargs)

    return SessionIO


def _not_installed(missing: str) -> ConfigurationError:
    major, minor, *_ = sys.version_info
    if (major, minor) < (3, 12):
        return ConfigurationError(
            f"open_nwb needs Python 3.12 or newer, since hdmf-zarr does; this is Python {major}.{minor}. "
            "open_group, open_array and xarray read the same data here."
        )
    return ConfigurationError(f'open_nwb needs {missing}, which is not installed: pip install "lindi-dask[nwb]"')


def _root_attributes(store: LindiStore) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(store.references.metadata.get("zarr.json", b"{}"))
    return document.get("attributes") or {}


def _lost_references(store: LindiStore) -> RefsError | None:
    """Return the error of references that pynwb can't build a session from, if it is for what kerchunk leaves out."""
    if not any(_LOST_REFERENCE in document for document in store.references.metadata.values()):
        return None
    return RefsError(
        f"{store}: these references do not say what HDF5's object references point at, as kerchunk's don't, and pynwb "
        "can't build a session without that. Write them with LINDI; open_group and open_array read these as they are."
    )


def _ours(error: BaseException | None) -> LindiError | None:
    """Return our own error that another one was raised from, without what came after it."""
    while error is not None:
        if isinstance(error, LindiError):
            return error.fresh()
        error = error.__cause__ or error.__context__
    return None
