"""HDF5 files, wherever they lie -> `References`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lindi_dask.errors import ConfigurationError
from lindi_dask.expanding import LinkedFiles
from lindi_dask.factory import concurrency_of, policy_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lindi_dask.refs import References

__all__ = ["index"]


def index(
    source: str | os.PathLike[str],
    *,
    url: str | None = None,
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
) -> References:
    """Make references to the chunks of an HDF5 (NWB) file.

    Only the file's metadata are read. Small datasets, text, references to objects and what no codec of Zarr's decodes
    are held by the references themselves. What Zarr has nothing for is listed in `References.unreadable` with the
    reason; attributes that have no form are left out and logged. Links into other files are kept, and not followed.

    Parameters
    ----------
    source
        Path, https URL or DANDI asset URL of the file; an embargoed asset is read with the key of its archive.
    url
        Where readers will find the same bytes. If not given: `source`; of a local file its absolute path, which may
        be read only where it is allowed (`allow`).
    instances, allow, concurrency
        As for `StoreFactory`; of no meaning for a local file.

    Returns
    -------
    lindi_dask.References
        To be saved (`.save("session.lindi.json")`), or to be opened as they are: `open_array(index(...), path)`.

    Raises
    ------
    RefsUnreachable
        If there is no such file here.
    SourceMismatch
        If it is not an HDF5 file, or a damaged one.
    InvalidReferences
        If chunks of the file overlap in part, or its groups lie in each other more than 100 levels deep.
    ConfigurationError
        Without h5py; if an option makes no sense.
    AccessError, UnavailableError
        If the file can't be read.
    """
    missing = None
    try:
        from lindi_dask.hdf5.local import index_hdf5, index_remote  # noqa: PLC0415 - h5py is an extra
    except ModuleNotFoundError as error:
        missing = error.name
    if missing is not None:
        raise ConfigurationError(f'To index HDF5 files needs {missing}: pip install "lindi-dask[index]"')
    location = os.fspath(source)
    if not location.startswith(("https://", "http://")):
        return index_hdf5(location, url or str(Path(location).resolve()))
    files = LinkedFiles(policy_of(instances, allow), None, concurrency_of(concurrency))
    return index_remote(files.open(location), url or location)
