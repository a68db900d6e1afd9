"""The API's views of dandisets, their versions and their assets.

As of dandi-archive (https://github.com/dandi/dandi-archive): `api/views/asset.py`, `dandiset.py`, `version.py`,
`serializers.py`, and the pages of `pagination.py`, which say how many assets there are on the first one only.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlencode, urlsplit

from lindi_dask.testing.answers import Answer, forbidden, json_answer, unauthenticated
from lindi_dask.testing.assets import Dandiset, Entry
from lindi_dask.testing.routes import Route

PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
_SCHEMA = "0.6.10"
_ORDERS = ("created", "modified", "path")
# Django REST framework's
_TRUE = frozenset(["t", "T", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "1"])
_FALSE = frozenset(["f", "F", "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", "0"])


def describe(entry: Entry, api_url: str, *, with_metadata: bool = True) -> dict[str, object]:
    """Return what is known of an asset, as `AssetSerializer` does."""
    value: dict[str, object] = {
        "asset_id": entry.id,
        "blob": None if entry.blob is None else entry.blob.key,
        "zarr": entry.zarr,
        "path": entry.path,
        "size": entry.nbytes,
        "created": timestamp(entry.created_s),
        "modified": timestamp(entry.created_s),
    }
    return {**value, "metadata": metadata(entry, api_url)} if with_metadata else value


def metadata(entry: Entry, api_url: str) -> dict[str, object]:
    """Return the metadata of an asset, with what the archive adds to them."""
    if entry.blob is None:
        digest = {"dandi:dandi-zarr-checksum": f"{'0' * 32}-0--0"}
    else:
        digest = {"dandi:dandi-etag": entry.blob.etag.strip('"')}
    return {
        "schemaVersion": _SCHEMA,
        "schemaKey": "Asset",
        "encodingFormat": "application/x-zarr" if entry.blob is None else "application/x-nwb",
        "id": f"dandiasset:{entry.id}",
        "path": entry.path,
        "identifier": entry.id,
        "contentUrl": [f"{api_url}/assets/{entry.id}/download/"],
        "contentSize": entry.nbytes,
        "digest": digest,
    }


def describe_dandiset(dandiset: Dandiset) -> dict[str, object]:
    """Return what is known of a dandiset, as `DandisetDetailSerializer` does."""
    return {
        **_identity(dandiset),
        "most_recent_published_version": _version(dandiset, max(dandiset.published, default=None)),
        "draft_version": _version(dandiset, "draft"),
    }


def _identity(dandiset: Dandiset) -> dict[str, object]:
    times = [entry.created_s for entry in dandiset.draft]
    return {
        "identifier": dandiset.id,
        "created": timestamp(min(times, default=0)),
        "modified": timestamp(max(times, default=0)),
        "contact_person": "",
        "embargo_status": "EMBARGOED" if dandiset.embargoed else "OPEN",
    }


def _version(dandiset: Dandiset, version: str | None) -> dict[str, object] | None:
    entries = None if version is None else dandiset.version(version)
    if entries is None:
        return None
    identity = _identity(dandiset)
    return {
        "version": version,
        "name": f"Dandiset {dandiset.id}",
        "asset_count": len(entries),
        "size": sum(entry.nbytes for entry in entries),
        "status": "Valid" if version == "draft" else "Published",
        "created": identity["created"],
        "modified": identity["modified"],
        "dandiset": identity,
    }


def refuse_dandiset(dandiset: Dandiset | None, route: Route, token: str | None) -> Answer | None:
    """Refuse someone whose key is valid, or who has none; None: may see the dandiset.

    Of assets, the real server looks for the version before it asks who wants to know.
    """
    if dandiset is None:
        kind = "Version" if route.view == "assets" else "Dandiset"
        return json_answer(404, {"detail": f"No {kind} matches the given query."})
    entries = None if route.version is None else dandiset.version(route.version)
    lost = None
    if route.version is not None and entries is None:
        lost = json_answer(404, {"detail": "No Version matches the given query."})
    if lost is not None and route.view == "assets":
        return lost
    if dandiset.embargoed and token is None:
        return unauthenticated()
    if dandiset.embargoed and token not in dandiset.owners:
        return forbidden()
    return lost


def answer_dandiset(dandiset: Dandiset, route: Route, url: str) -> Answer:
    """Answer someone who may see a dandiset.

    Parameters
    ----------
    dandiset, route
        What is asked for.
    url
        As it was asked for: absolute, with its query.
    """
    if route.version is None:
        return json_answer(200, describe_dandiset(dandiset))
    entries = dandiset.version(route.version) or ()
    if route.view == "version":
        about = {
            "id": f"DANDI:{dandiset.id}/{route.version}",
            "identifier": f"DANDI:{dandiset.id}",
            "name": f"Dandiset {dandiset.id}",
            "version": route.version,
            "schemaKey": "Dandiset",
            "schemaVersion": _SCHEMA,
            "assetsSummary": {
                "numberOfFiles": len(entries),
                "numberOfBytes": sum(entry.nbytes for entry in entries),
            },
        }
        return json_answer(200, about)
    return _page(entries, url)


@dataclass(frozen=True, slots=True)
class _Query:
    """The query of a request for a page of assets; the last value of a name counts."""

    fields: Mapping[str, str]

    def errors(self) -> dict[str, list[str]]:
        if "glob" in self.fields and not self.fields["glob"].strip():
            return {"glob": ["This field may not be blank."]}
        if self.fields.get("metadata", "0") not in _TRUE | _FALSE:
            return {"metadata": ["Must be a valid boolean."]}
        for order in self.orders():
            if order.removeprefix("-") not in _ORDERS:
                return {"order": [f"Select a valid choice. {order} is not one of the available choices."]}
        return {}

    def orders(self) -> list[str]:
        return [order for order in self.fields.get("order", "").split(",") if order]

    def selected(self, entries: Sequence[Entry]) -> list[Entry]:
        # a database gives rows in whatever order where nobody asks for one
        found = sorted(entries, key=lambda entry: entry.id)
        prefix = self.fields.get("path", "").strip().upper()
        found = [entry for entry in found if entry.path.upper().startswith(prefix)]
        if "glob" in self.fields:
            pattern = re.compile(re.escape(self.fields["glob"].strip()).replace(r"\*", ".*"), re.IGNORECASE)
            found = [entry for entry in found if pattern.fullmatch(entry.path)]
        for order in reversed(self.orders()):
            by_path = order.removeprefix("-") == "path"
            found.sort(key=lambda entry: entry.path if by_path else entry.created_s, reverse=order.startswith("-"))
        return found

    def page(self) -> int | None:
        """Return the number of the page, from 1; None: it is none."""
        text = self.fields.get("page") or "1"
        return int(text) if text.isascii() and text.isdecimal() and int(text) else None

    def page_size(self) -> int:
        text = self.fields.get("page_size", "")
        number = int(text) if text.isascii() and text.isdecimal() else 0
        return min(number, MAX_PAGE_SIZE) or PAGE_SIZE


def _page(entries: Sequence[Entry], url: str) -> Answer:
    query = _Query({name: values[-1] for name, values in parse_qs(urlsplit(url).query, keep_blank_values=True).items()})
    errors, page, size = query.errors(), query.page(), query.page_size()
    if errors:
        return json_answer(400, errors)
    if page is None:
        return json_answer(404, {"detail": "Invalid page."})
    found, start = query.selected(entries), (page - 1) * size
    api_url = url.partition("/dandisets/")[0]
    with_metadata = query.fields.get("metadata", "0") in _TRUE
    value = {
        "count": len(found) if page == 1 else None,
        "next": _with_page(url, page + 1) if len(found) > start + size else None,
        "previous": _with_page(url, page - 1) if page > 1 else None,
        "results": [describe(entry, api_url, with_metadata=with_metadata) for entry in found[start : start + size]],
    }
    return json_answer(200, value)


def _with_page(url: str, page: int) -> str:
    """Return a URL with another page in its query, whose fields come in the order of their names."""
    fields = parse_qs(urlsplit(url).query, keep_blank_values=True)
    fields.pop("page", None)
    if page > 1:
        fields["page"] = [str(page)]
    query = urlencode(sorted(fields.items()), doseq=True)
    return url.partition("?")[0] + (f"?{query}" if query else "")


def timestamp(seconds: float) -> str:
    """Write a Unix time as Django REST framework does."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
