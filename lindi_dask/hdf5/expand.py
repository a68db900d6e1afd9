"""LINDI's external array links -> references to chunks, from the index of the HDF5 dataset that a link names.

LINDI leaves out the chunks of arrays that have more than 1,000, and links to the dataset that they belong to
(https://github.com/NeurodataWithoutBorders/lindi, `_EXTERNAL_ARRAY_LINK`). Only the index of that dataset is read, not
its data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lindi_dask.errors import InvalidReferences, UnsupportedArray
from lindi_dask.hdf5.linked import ExternalLink, linked_chunks
from lindi_dask.refs.kerchunk.templates import expand
from lindi_dask.refs.scan import MAX_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.hdf5.remote_file import RemoteFile

    Json = dict[str, Any]

__all__ = ["Expansion", "expand_links", "external_links"]

_LINK: Final = "_EXTERNAL_ARRAY_LINK"


@dataclass(frozen=True, slots=True)
class Expansion:
    """A document without external array links."""

    document: Json = field(repr=False)
    """as the one given, which is not changed; values that are the same are shared"""
    links: tuple[ExternalLink, ...]
    """that were in it"""
    chunks: int
    """references that took their place"""


def external_links(document: Json) -> tuple[ExternalLink, ...]:
    """Return the external array links of a document.

    Parameters
    ----------
    document
        LINDI's: `{"refs": {...}, "templates": {...}}`.

    Raises
    ------
    InvalidReferences
        If it isn't one, or a link lacks something.
    UnsupportedArray
        For a link of another type than `hdf5_dataset`.
    """
    refs, templates = _members(document)
    links = []
    for key in refs:
        path, _, name = key.rpartition("/")
        if name != ".zattrs" or _LINK not in (attributes := _object(refs, key)):
            continue
        match attributes[_LINK]:
            case {"link_type": "hdf5_dataset", "url": str(url), "name": str(dataset)}:
                links.append(ExternalLink(path, url, expand(url, templates, key=key), dataset.strip("/")))
            case {"link_type": str(kind)} if kind != "hdf5_dataset":
                reason = f"its {_LINK} is of the type {kind[:40]!r}, and only 'hdf5_dataset' is known"
                raise UnsupportedArray(f"/{path} can't be expanded: {reason}.", path=path, reason=reason)
            case _:
                raise _invalid(key, f"its {_LINK} is not an object with link_type, url and name")
    return tuple(links)


def expand_links(document: Json, open_file: Callable[[str], RemoteFile]) -> Expansion:
    """Put references to chunks in the place of external array links.

    Parameters
    ----------
    document
        As for `external_links`.
    open_file
        Opens what a URL stands for; called once for each, templates expanded.

    Returns
    -------
    Expansion
        Chunks that were never written have no reference, as ever.

    Raises
    ------
    SourceMismatch
        If what is linked is not an HDF5 file, has no such dataset, or one of another shape, type, chunks, filters or
        fill value than the document says.
    UnsupportedArray
        For a dataset whose chunks can't be referred to: one with a chunk that was written without some of its
        filters, of elements that are no numbers, or with data in other files.
    InvalidReferences
        If the document breaks its format.
    LindiError
        If a file can't be read.
    """
    links = external_links(document)
    refs, templates = _members(document)
    refs, templates = dict(refs), dict(templates)
    before = len(refs)
    for url in dict.fromkeys(link.url for link in links):
        file = open_file(url)
        for link in (link for link in links if link.url == url):
            written = _written(link, templates)
            for name, offset, length in linked_chunks(link, _object(refs, _key(link, ".zarray")), file):
                key = _key(link, name)
                if key in refs:
                    raise _invalid(key, "it stands there twice, or beside an external link of its array")
                refs[key] = [written, offset, length]
            if len(refs) > MAX_ENTRIES:
                raise _invalid(link.path, f"with its chunks there are more than {MAX_ENTRIES:,} entries")
    chunks = len(refs) - before
    for link in links:
        _drop_link(refs, _key(link, ".zattrs"))
    return Expansion(document | {"refs": refs} | ({"templates": templates} if templates else {}), links, chunks)


# The document


def _members(document: Json) -> tuple[Json, dict[str, str]]:
    refs, templates = document.get("refs"), document.get("templates") or {}
    if not isinstance(refs, dict):
        reason = "it has no object 'refs'"
        raise InvalidReferences(f"This is not a document of LINDI's: {reason}.", key=None, reason=reason)
    if not isinstance(templates, dict) or not all(isinstance(value, str) for value in templates.values()):
        raise _invalid("templates", "it is not an object of names and strings")
    return refs, templates


def _key(link: ExternalLink, name: str) -> str:
    return f"{link.path}/{name}" if link.path else name


def _object(refs: Json, key: str) -> Json:
    """Return the document of an entry: an object, or text that holds one."""
    value = refs.get(key)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise _invalid(key, "there is no such object")
    return value


def _written(link: ExternalLink, templates: dict[str, str]) -> str:
    """Return the URL for a link's references: by a template, which is made if there is none, so that it is short."""
    if "{{" in link.written:
        return link.written
    name = next((name for name, value in templates.items() if value == link.written and name.isidentifier()), None)
    if name is None:
        name = next(name for name in map("u{}".format, range(1, len(templates) + 2)) if name not in templates)
        templates[name] = link.written
    return f"{{{{{name}}}}}"


def _drop_link(refs: Json, key: str) -> None:
    attributes = {name: value for name, value in _object(refs, key).items() if name != _LINK}
    if not attributes:
        del refs[key]  # LINDI writes no empty ones
    else:
        refs[key] = json.dumps(attributes) if isinstance(refs[key], str) else attributes


def _invalid(key: str, reason: str) -> InvalidReferences:
    return InvalidReferences(f"The entry {key!r} is not valid: {reason}.", key=key, reason=reason)
