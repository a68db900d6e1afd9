"""What the archive holds, and who may have it."""

import secrets
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from lindi_dask.testing.blobs import Blob


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset, as the one who added it sees it."""

    id: str
    """UUID, lower case."""
    url: str
    """The API's download URL; it holds no secret."""
    path: str
    """Path inside the dandiset."""
    nbytes: int
    """Size of the file, in bytes; 0 for a Zarr asset."""
    dandiset: str
    """Identifier of the dandiset, six digits."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the API knows of an asset."""

    id: str
    path: str
    dandiset: str
    blob: Blob | None = field(repr=False)
    """None: a Zarr asset."""
    embargoed: bool = True
    owners: frozenset[str] = field(default=frozenset(), repr=False)
    """Keys."""
    replaced: bool = False
    """Whether a newer asset took its place in the draft version."""
    created_s: float = 0.0
    """Seconds, Unix time."""
    zarr: str | None = None
    """UUID of a Zarr asset's files."""

    @property
    def nbytes(self) -> int:
        """Size of the file, in bytes; 0 for a Zarr asset."""
        return 0 if self.blob is None else self.blob.nbytes


@dataclass(frozen=True, slots=True)
class Dandiset:
    """What the API knows of a dandiset."""

    id: str
    """Six digits."""
    draft: tuple[Entry, ...]
    """Assets that are there now."""
    published: Mapping[str, tuple[Entry, ...]]
    """Assets of the versions that were published."""

    @property
    def embargoed(self) -> bool:
        """Whether one of its assets is."""
        return any(entry.embargoed for entry in self.draft)

    @property
    def owners(self) -> frozenset[str]:
        """Keys that own all of its embargoed assets."""
        return frozenset.intersection(*(entry.owners for entry in self.draft if entry.embargoed))

    def version(self, version: str) -> tuple[Entry, ...] | None:
        """Assets of a version; None: there is no such version."""
        return self.draft if version == "draft" else self.published.get(version)


class Registry:
    """Assets and keys; safe to use from threads."""

    def __init__(self) -> None:
        # as Django REST framework makes them: 20 random bytes
        self.owner_token = secrets.token_hex(20)
        self.stranger_token = secrets.token_hex(20)
        self._lock = threading.Lock()
        self._tokens = {self.owner_token, self.stranger_token}
        self._entries: dict[str, Entry] = {}
        self._by_key: dict[str, str] = {}
        self._blobs: list[Blob] = []
        self._published: dict[str, dict[str, tuple[Entry, ...]]] = {}

    def add(
        self,
        blob: Blob | None,
        *,
        path: str,
        dandiset: str,
        asset_id: str | None,
        embargoed: bool,
        owners: Iterable[str] | None,
    ) -> Entry:
        """Register an asset; keys of owners that are new become valid."""
        if not (len(dandiset) == 6 and dandiset.isdecimal()):
            raise ValueError(f"dandiset is {dandiset!r}: give six digits, such as '000123'")
        identifier = str(uuid.UUID(asset_id)) if asset_id is not None else str(uuid.uuid4())
        keys = frozenset([self.owner_token] if owners is None else owners)
        zarr = str(uuid.uuid4()) if blob is None else None
        entry = Entry(identifier, path, dandiset, blob, embargoed, keys, created_s=time.time(), zarr=zarr)
        with self._lock:
            if identifier in self._entries:
                raise ValueError(f"asset {identifier} is in the archive already")
            self._tokens |= keys
            self._put(entry)
        return entry

    def _put(self, entry: Entry) -> None:
        self._entries[entry.id] = entry
        if entry.blob is not None:
            self._by_key[entry.blob.key] = entry.id
            self._blobs.append(entry.blob)

    def replace(self, asset_id: str, blob: Blob | None = None) -> Entry:
        """Give the asset's blob, or a new one, to a new asset: DANDI does at edits of the metadata, and at uploads."""
        with self._lock:
            old = self._entries[asset_id]
            self._entries[asset_id] = replace(old, replaced=True)
            new = replace(old, id=str(uuid.uuid4()), blob=blob or old.blob, created_s=time.time())
            self._put(new)
        return new

    def publish(self, dandiset: str, version: str) -> None:
        """Make a version of the assets that a dandiset has now."""
        found = self.dandiset(dandiset)
        if found is None or found.embargoed:
            raise ValueError(f"dandiset {dandiset} is {'not there' if found is None else 'embargoed'}")
        with self._lock:
            self._published.setdefault(dandiset, {})[version] = found.draft

    def dandiset(self, identifier: str) -> Dandiset | None:
        """Find a dandiset: one that an asset was added to."""
        with self._lock:
            entries = [entry for entry in self._entries.values() if entry.dandiset == identifier]
            published = dict(self._published.get(identifier, {}))
        draft = tuple(entry for entry in entries if not entry.replaced)
        return Dandiset(identifier, draft, published) if entries or published else None

    def overwrite(self, asset_id: str, blob: Blob) -> Entry:
        """Put other bytes where the asset's are: the object's key stays, and so do the URLs that are out."""
        with self._lock:
            old = self._entries[asset_id].blob
            if old is None:
                raise ValueError(f"asset {asset_id} is a Zarr asset: it has no file")
            blob.key = old.key
            for entry in list(self._entries.values()):
                if entry.blob is old:
                    self._entries[entry.id] = replace(entry, blob=blob)
            self._blobs.append(blob)
            return self._entries[asset_id]

    def set_embargo(self, asset_id: str, embargoed: bool) -> None:
        """Embargo an asset, or lift the embargo."""
        with self._lock:
            self._entries[asset_id] = replace(self._entries[asset_id], embargoed=embargoed)

    def remove(self, asset_id: str) -> None:
        """Forget an asset; its file is kept open for answers under way."""
        with self._lock:
            entry = self._entries.pop(asset_id)
            if entry.blob is not None and self._by_key.get(entry.blob.key) == asset_id:
                del self._by_key[entry.blob.key]

    def revoke(self, token: str) -> None:
        """Make a key invalid."""
        with self._lock:
            self._tokens.remove(token)

    def is_valid(self, token: str) -> bool:
        """Whether a key is known."""
        return token in self._tokens

    def find(self, asset_id: str) -> Entry | None:
        """Find the asset of that identifier."""
        return self._entries.get(asset_id)

    def find_key(self, key: str) -> Entry | None:
        """Find the asset whose blob has that key."""
        return self._entries.get(self._by_key.get(key, ""))

    def close(self) -> None:
        """Close all files."""
        for blob in self._blobs:
            blob.close()
