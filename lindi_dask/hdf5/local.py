"""A local HDF5 file, or one that is read elsewhere -> `References`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import h5py

from lindi_dask.errors import LindiError, RefsUnreachable, SourceMismatch
from lindi_dask.hdf5.chunks import FileBytes
from lindi_dask.hdf5.linked import collections_put_off
from lindi_dask.hdf5.scout import scout
from lindi_dask.hdf5.tree import index_file, share_of_chunks
from lindi_dask.refs.references import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lindi_dask.hdf5.chunk_tree import ChunkColumns
    from lindi_dask.hdf5.remote_file import RemoteFile
    from lindi_dask.refs.references import References

__all__ = ["index_hdf5", "index_remote", "share_of_remote"]

Found = TypeVar("Found")


def index_hdf5(path: str | os.PathLike[str], url: str) -> References:
    """Make references to the chunks of a local HDF5 file.

    Parameters
    ----------
    path
        Of the file.
    url
        Where readers will find the same bytes.

    Returns
    -------
    lindi_dask.References
        As of `index_file`.

    Raises
    ------
    RefsUnreachable
        If there is no such file here.
    SourceMismatch
        If it is not an HDF5 file, or a damaged one.
    InvalidReferences
        As `index_file`.
    """
    failure: LindiError
    try:
        with open(path, "rb") as content, h5py.File(path, "r") as file:  # noqa: PTH123 - any path-like
            handle = content.fileno()
            size = os.fstat(handle).st_size
            held = FileBytes(lambda at, n: os.pread(handle, n, at), size, _base(file))
            return index_file(file, held, Source(url, size=size))
    except LindiError as error:
        failure = error.fresh()
    except FileNotFoundError as error:
        failure = RefsUnreachable(f"The file {os.fspath(path)} can't be read here ({error.strerror}).", fingerprint="")
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # all of them h5py's
        failure = _not_hdf5(os.fspath(path), error)
    raise failure


def index_remote(file: RemoteFile, source: Source, known: Mapping[str, ChunkColumns] | None = None) -> References:
    """Make references to the chunks of an HDF5 file that is read elsewhere.

    Parameters
    ----------
    file
        Its bytes.
    source
        Where readers will find the same.
    known
        As for `index_file`.

    Returns
    -------
    lindi_dask.References
        As of `index_file`.

    Raises
    ------
    SourceMismatch
        If it is not an HDF5 file, or a damaged one.
    InvalidReferences
        As `index_file`.
    LindiError
        If it can't be read.
    """
    return _walked(file, lambda opened, content: index_file(opened, content, source, known))


def share_of_remote(file: RemoteFile, share: int, shares: int) -> dict[str, ChunkColumns]:
    """Return what `share_of_chunks` does of a file that is read elsewhere; errors are those of `index_remote`."""
    return _walked(file, lambda opened, content: share_of_chunks(opened, content, share, shares))


def _walked(file: RemoteFile, walk: Callable[[h5py.File, FileBytes], Found]) -> Found:
    """Open a file, and return what a walk through it finds."""

    def read(at: int, n: int) -> bytes:
        file.seek(at)
        return file.read(n) or b""

    failure: LindiError
    try:
        scout(file)
        with collections_put_off(), h5py.File(file, "r") as opened:
            found = walk(opened, FileBytes(read, file.size, _base(opened)))
        if file.failure is None:  # else something may be listed as unreadable that isn't
            return found
        failure = file.failure
    except LindiError as error:
        failure = error
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # all of them h5py's
        failure = _not_hdf5(file.name, error)
    raise (file.failure or failure).fresh()


def _base(file: h5py.File) -> int:
    return int(file.id.get_create_plist().get_userblock())


def _not_hdf5(name: str, error: Exception) -> SourceMismatch:
    what = str(error.args[0]) if error.args else type(error).__name__
    return SourceMismatch(f"{name} can't be read as an HDF5 file: {what}. Check that it is one, and whole.")
