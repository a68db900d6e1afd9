"""External array links of a LINDI document, wherever it lies, written out as references to chunks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lindi_dask.errors import ConfigurationError, InvalidReferences, LindiError, RefsUnreachable
from lindi_dask.factory import StoreFactory
from lindi_dask.finding import is_url
from lindi_dask.hdf5_files import Hdf5Files, check_h5py
from lindi_dask.refs import ONLY_LINKED, is_tar, parse_json, relative_path
from lindi_dask.remote import RemoteFiles
from lindi_dask.transport import decompressed

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from lindi_dask.hdf5.linked import ExternalLink
    from lindi_dask.refs import References

    Json = dict[str, Any]

__all__ = ["Expanded", "document_of", "expand", "expand_document", "with_links"]

_MADE: Final = 1  # raise it when other references are made of the same document
_START: Final = 512  # bytes by which a tar is told
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # gzip, zstd
_LIMIT: Final = 2**30  # bytes of a document
_DOCUMENT = "lindi.json"


@dataclass(frozen=True, slots=True)
class Expanded:
    """What `expand_document` made, and what it took."""

    document: Json = field(repr=False)
    """a LINDI document without external array links"""
    paths: tuple[str, ...]
    """of the arrays that had one, without a leading slash"""
    chunks: int
    """references that were added"""
    requests: int
    """for ranges of the linked files; retries are not counted"""
    is_relative: bool
    """whether the document means files beside it, so that it makes sense in the folder that it came from only"""


def expand(
    refs: str | os.PathLike[str] | Json,
    *,
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
) -> Json:
    """Return a LINDI document with references to chunks in the place of external array links.

    LINDI leaves out the chunks of arrays that have more than 1,000 (`_EXTERNAL_ARRAY_LINK`), so that they can't be
    read. The index of the HDF5 datasets that it links to is read here, and nothing of their data: some requests a
    dataset.

    Parameters
    ----------
    refs
        Path, https URL or DANDI asset URL of a LINDI document, a folder that holds one (`.lindi.d`), or the document
        as a dict, which is not changed.
    instances, allow, concurrency
        As for `StoreFactory`. What may be linked to is what may be referred to.

    Returns
    -------
    dict
        As `json.dump` takes it. That of a folder means files of that folder: write it to `lindi.json` there.

    Raises
    ------
    SourceMismatch
        If what is linked is not an HDF5 file, or its dataset is missing or not what the document says.
    UnsupportedArray
        For an array whose chunks can't be referred to.
    RefsError
        If the document can't be had, or breaks its format.
    ConfigurationError
        For a `.lindi.tar`, which no document can replace; without h5py; if an option makes no sense.
    AccessError, UnavailableError
        If a linked file can't be read.
    """
    return expand_document(refs, instances=instances, allow=allow, concurrency=concurrency).document


def expand_document(
    refs: str | os.PathLike[str] | Json,
    *,
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
) -> Expanded:
    """Do what `expand` does, and tell what that took. Parameters and errors are those of `expand`."""
    factory = StoreFactory(refs, instances=instances, allow=allow, concurrency=concurrency)
    return _expanded(factory, refs if isinstance(refs, dict) else None)


def with_links(factory: StoreFactory, document: Json | None) -> StoreFactory:
    """Return the recipe of references whose external array links are expanded, once for this machine.

    The one given, if there is none. The other is of references that were given to this process: workers find them in
    the index cache, or get them by `distribute`.

    Parameters
    ----------
    factory
        Of the references as they are.
    document
        That it was made of; None: what lies at its location.

    Raises
    ------
    LindiError
        As `expand`; also if the references mean files beside them.
    """
    if ONLY_LINKED not in factory.load()[0].unreadable.values():
        return factory
    fingerprint = hashlib.sha256(f"expanded {_MADE} {factory.fingerprint}".encode()).hexdigest()[:32]

    def make() -> References:
        found = _expanded(factory, document)
        if found.is_relative:
            raise ConfigurationError(
                f"expand: the references of {factory.name} mean files beside them. Write the chunks in by "
                "`lindi-dask expand`, and open what it wrote."
            )
        return parse_json(json.dumps(found.document).encode(), fingerprint, name=factory.name)

    index = factory.index
    return factory.of(make() if index is None else index.get(fingerprint, make, always=True))


def _expanded(factory: StoreFactory, document: Json | None) -> Expanded:
    if factory.form == "hdf5":
        raise ConfigurationError(f"{factory.name} is an HDF5 file itself: there is nothing to expand in it.")
    check_h5py("To expand references")
    from lindi_dask.hdf5.expand import expand_links  # noqa: PLC0415 - h5py is an extra

    references, base = factory.load()  # checks the document, within bounds, before Python's parser gets it
    if document is None:
        document = document_of(factory)
    files = Hdf5Files(factory.policy, base, factory.concurrency)
    found = expand_links(document, files.open)
    return Expanded(
        document=found.document,
        paths=tuple(link.path for link in found.links),
        chunks=found.chunks,
        requests=files.requests,
        is_relative=_is_relative(references, found.links),
    )


# The document


def document_of(factory: StoreFactory) -> Json:
    """Return the document that references were read from.

    Raises
    ------
    LindiError
        If they were not, or if it can't be had any more.
    """
    location, policy = factory.location, factory.policy
    if location is None:
        raise ConfigurationError("These references were given as they are: pass their document.")
    if is_url(location):
        remote, asset = RemoteFiles(policy, None), policy.asset(location)
        if asset.instance is None and location.endswith("/"):
            asset = policy.asset(f"{location}{_DOCUMENT}")
        name = str(asset)
        start = remote.start(asset, _START).content
        content = b"" if is_tar(start) else remote.content(asset)
    else:
        name = location
        start, content = _local(Path(location))
    if is_tar(start):
        raise ConfigurationError(
            f"{name} is a bundle in one file: its references mean places in that file, which no document beside it "
            "can have. Unpack it into a folder (mkdir session.lindi.d; tar -xf session.lindi.tar -C session.lindi.d), "
            "and expand the folder."
        )
    if content.startswith(_COMPRESSED):
        content = decompressed(content, _LIMIT)
    document = None
    try:
        document = json.loads(content)
        reason = "it is not a JSON object"
    except (ValueError, RecursionError) as error:
        reason = f"it is not JSON ({error})"
    if not isinstance(document, dict):
        raise InvalidReferences(f"{name} is not a LINDI document: {reason}.", key=None, reason=reason)
    return document


def _local(path: Path) -> tuple[bytes, bytes]:
    """Return the start of a document, or of a file in its place, and all of it unless it is a tar."""
    failure: LindiError
    try:
        if path.is_dir():
            path /= _DOCUMENT
            if not path.is_file():
                reason = f"the folder has no {_DOCUMENT}"
                raise InvalidReferences(f"{path.parent} is not a LINDI bundle: {reason}.", key=None, reason=reason)
        with path.open("rb") as file:
            start = file.read(_START)
            return start, b"" if is_tar(start) else start + file.read(_LIMIT)
    except OSError as error:
        failure = RefsUnreachable(f"The reference file {path} can't be read here ({error.strerror}).", fingerprint="")
    raise failure


def _is_relative(references: References, links: tuple[ExternalLink, ...]) -> bool:
    urls = [*(source.url for source in references.all_sources() if source.data is None), *(link.url for link in links)]
    return any(not url.startswith("/") and relative_path(url) is not None for url in urls)
