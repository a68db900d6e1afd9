"""URLs in a document of references -> others, all else as it stands. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.documents import document_object
from lindi_dask.refs.kerchunk.templates import expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    Json = dict[str, Any]

__all__ = ["renamed"]

_LINK = "_EXTERNAL_ARRAY_LINK"


def renamed(document: Json, urls: Mapping[str, str], sources: Mapping[str, Json]) -> Json:
    """Return a document whose references mean other URLs.

    Parameters
    ----------
    document
        LINDI's or kerchunk's, version 0 or 1; it is not changed.
    urls
        The new one by the old one, templates expanded.
    sources
        What is known of the new ones, for the member `sources`: `{"size": ..., "etag": ..., "address": ...}`.

    Raises
    ------
    InvalidReferences
        If a URL is put together of pieces that can't be replaced (an expression, `gen`).
    """
    whole = document if isinstance(document.get("refs"), dict) else {"refs": document}
    templates: Json = whole.get("templates") or {}
    used = {name: urls.get(text, text) if isinstance(text, str) else text for name, text in templates.items()}
    refs = {key: _entry(key, value, urls, used, templates) for key, value in whole["refs"].items()}
    gen: Any = whole.get("gen") or []
    for generated in gen:
        _check_generated(str(generated.get("url", "")), urls, used, templates)
    if whole is document:
        known: Json = {}
        for url, entry in (document.get("sources") or {}).items():
            meant = expand(url, templates, key="sources")
            known[urls.get(meant, meant)] = entry
        extra: Json = {"sources": known | dict(sources)} if known or sources else {}
        if "indexes" in document:
            extra["indexes"] = {
                path: {**entry, "url": _url(f"indexes/{path}", str(entry["url"]), urls, used, templates)}
                for path, entry in document["indexes"].items()
            }
        return {**document, **({"templates": used} if templates else {}), **extra, "refs": refs}
    return refs


def _entry(key: str, value: Any, urls: Mapping[str, str], used: Json, templates: Json) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [_url(key, value[0], urls, used, templates), *value[1:]]
    if key.rpartition("/")[2] == ".zattrs":
        attributes = document_object(key, value)
        match attributes:
            case {"_EXTERNAL_ARRAY_LINK": {"url": str(url)} as link}:
                moved = {**attributes, _LINK: {**link, "url": _url(key, url, urls, used, templates)}}
                return moved if isinstance(value, dict) else json.dumps(moved)
    return value


def _url(key: str, url: str, urls: Mapping[str, str], used: Json, templates: Json) -> str:
    if "{{" not in url:
        return urls.get(url, url)
    meant = expand(url, templates, key=key)
    if expand(url, used, key=key) != urls.get(meant, meant):
        raise _pieces(key)
    return url


def _check_generated(url: str, urls: Mapping[str, str], used: Json, templates: Json) -> None:
    """Raise for the URL of generated references if it is replaced, or depends on the chunk and so may be."""
    is_same = url not in urls
    if is_same and "{{" in url:
        try:
            _url("gen", url, urls, used, templates)
        except InvalidReferences:
            is_same = False
    if not is_same:
        raise _pieces("gen")


def _pieces(key: str) -> InvalidReferences:
    reason = "its URL is put together of pieces"
    return InvalidReferences(
        f"{key!r}: the URL of its asset can't be replaced, since {reason}. Make the references anew by "
        "`lindi-dask index`.",
        key=key,
        reason=reason,
    )
