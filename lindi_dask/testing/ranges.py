"""Parts of blobs, as S3 gives them: ``Range``, ``If-Match``, ``If-None-Match``."""

import re

from lindi_dask.testing.answers import Answer, Span, content_range, http_date, precondition_failed, s3_error
from lindi_dask.testing.blobs import Blob


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Read a ``Range`` header, as S3 does.

    Parameters
    ----------
    header
        The header's value.
    size
        Size of the object, in bytes.

    Returns
    -------
    tuple or None
        Offset and length in bytes; None where the whole object is due: no header, a malformed one, or more
        ranges than one.

    Raises
    ------
    IndexError
        No byte of the object is in the range: 416.
    """
    parts = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").strip(), re.ASCII)
    if parts is None or parts[0] == "bytes=-":
        return None
    first, last = parts[1], parts[2]
    if first and last and int(last) < int(first):
        return None
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    else:
        start, stop = max(0, size - int(last)), size
    if start >= stop:
        raise IndexError(f"{header} of {size} bytes")
    return start, stop - start


def read(
    blob: Blob,
    *,
    range_header: str | None = None,
    if_match: str | None = None,
    if_none_match: str | None = None,
    disposition: str | None = None,
) -> Answer:
    """Answer a request that may pass: 206, 200, 304, 412 or 416."""
    if if_match is not None and not _matches(if_match, blob.etag):
        return precondition_failed()
    if if_none_match is not None and _matches(if_none_match, blob.etag):
        return Answer(304, {"ETag": blob.etag, "Last-Modified": http_date(blob.modified_s), "Server": "AmazonS3"})
    try:
        part = parse_range(range_header, blob.nbytes)
    except IndexError:
        details = {"RangeRequested": range_header or "", "ActualObjectSize": str(blob.nbytes)}
        unsatisfied = {"Content-Range": f"bytes */{blob.nbytes}"}
        message = "The requested range is not satisfiable"
        return s3_error(416, "InvalidRange", message, details, unsatisfied)
    common = {
        "Content-Type": "binary/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": blob.etag,
        "Last-Modified": http_date(blob.modified_s),
        "Server": "AmazonS3",
    }
    if blob.content_encoding is not None:
        common["Content-Encoding"] = blob.content_encoding
    if disposition is not None:
        common["Content-Disposition"] = disposition
    if part is None:
        return Answer(200, common, Span(blob, 0, blob.nbytes))
    span = Span(blob, *part)
    return Answer(206, {**common, "Content-Range": content_range(span)}, span)


def _matches(tags: str, etag: str) -> bool:
    # S3 takes an ETag without its quotes too
    return tags.strip() == "*" or etag.strip('"') in {tag.strip().strip('"') for tag in tags.split(",")}
