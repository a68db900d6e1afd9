"""The content of a reference file -> `References`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.build import Builder
from lindi_dask.refs.documents import with_consolidated
from lindi_dask.refs.kerchunk.parquet import RecordManifest, parse_zmetadata
from lindi_dask.refs.references import Source
from lindi_dask.refs.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.refs.json_reader import Content
    from lindi_dask.refs.references import References
    from lindi_dask.types import ByteRange

__all__ = ["parse_json", "parse_kerchunk_parquet"]


def parse_json(
    content: Content,
    fingerprint: str,
    *,
    name: str,
    relocate: Callable[[str], ByteRange | None] | None = None,
    read: Callable[[str], bytes | None] | None = None,
) -> References:
    """Turn a reference file in JSON into references: LINDI's, kerchunk's (version 0 and 1), or one of Zarr v3.

    Parameters
    ----------
    content
        Of the file.
    fingerprint
        Of the content.
    name
        How messages call the file.
    relocate
        Of a bundle in one file: where in it a member lies, by its relative URL; None if it has no such member.
    read
        Of a folder: the content of a file beside the reference file, by its relative path; None if there is none.

    Raises
    ------
    InvalidReferences
        If the document or one of its entries breaks the format; it names the entry.
    """
    found = scan(content, name)
    if not isinstance(found.members.get("refs", found.count > 0 or None), bool):
        reason = "the document has no object called 'refs'"
        message = f"{name} is not a reference file: {reason}. Fetch it again, or make it anew."
        raise InvalidReferences(message, key=None, reason=reason)
    builder = Builder(fingerprint, documents=with_consolidated(found.documents))
    builder.add_entries(found, name=name, relocate=relocate, read=read)
    return builder.build()


def parse_kerchunk_parquet(document: bytes, fingerprint: str, read: Callable[[str], bytes | None]) -> References:
    """Turn a folder of kerchunk's parquet references into references; the records are read as they are needed.

    Parameters
    ----------
    document
        Content of `.zmetadata`.
    fingerprint
        Of all that is in the folder.
    read
        Returns the content of a file in the folder, by its relative path; None if there is none.

    Raises
    ------
    InvalidReferences
        If the metadata break the format.
    """
    found = parse_zmetadata(document)
    builder = Builder(fingerprint, found.documents, lindi=False)

    def source(path: str) -> Source:
        return found.sources.get(path) or Source(path)

    for path, plan in builder.plans.items():
        manifest = RecordManifest(path, plan.grid, found.record_size, read, builder.sources, source)
        builder.add_manifest(path, manifest)
    return builder.build()
