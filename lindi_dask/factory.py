"""`StoreFactory`: the picklable recipe of a store."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakValueDictionary

from lindi_dask import process
from lindi_dask.archive import (
    UrlPolicy,
    configured_instances,
    file_of,
    find_asset,
    is_address,
    offer_keys,
    parse_address,
)
from lindi_dask.archive.urls import check_prefix
from lindi_dask.config import configured
from lindi_dask.content_cache import ContentCache
from lindi_dask.errors import ConfigurationError, RefsChanged, RefsUnreachable, UrlRefused
from lindi_dask.finding import find, find_dict, is_url
from lindi_dask.index_cache import IndexCache, configured_folder
from lindi_dask.loading import base_of, load, unreachable
from lindi_dask.refs import References
from lindi_dask.remote import RemoteFiles
from lindi_dask.secrecy import grants_access
from lindi_dask.store import LindiStore
from lindi_dask.transport import cache_of
from lindi_dask.types import DiskCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lindi_dask.finding import Form, Found
    from lindi_dask.process import ClusterLink
    from lindi_dask.types import Base

__all__ = ["StoreFactory", "concurrency_of", "policy_of", "references_here"]

_FOLDER_ENDINGS: Final = (".parquet", ".parq", ".lindi.d")  # of URLs that lack the slash behind a folder's name
_STORES = 32  # live stores kept for unpickled factories
_lock: Final = threading.Lock()
_stores: Final[OrderedDict[tuple[Any, ...], LindiStore]] = OrderedDict()
_given: Final[WeakValueDictionary[str, References]] = WeakValueDictionary()
_made: Final[WeakValueDictionary[str, StoreFactory]] = WeakValueDictionary()


class StoreFactory:
    """The recipe of a `LindiStore`: where the references are, their fingerprint, and options. Picklable.

    Pickled it has at most about 1 KB, however many chunks there are, and holds neither keys nor presigned URLs.
    Called, it returns this process's live store: made once, shared by all threads, and without I/O until
    something is read. Keys are
    looked up where the reads happen, in that process's environment.

    Parameters
    ----------
    refs
        Path, https URL, DANDI asset URL or address (`dandi://dandi/000123@draft/sub-1/sub-1.lindi.json`) of a reference
        file (LINDI's or kerchunk's JSON, Zarr v3 references, gzip or zstd around them), a LINDI bundle (`.lindi.tar`,
        `.lindi.d`) or a folder of kerchunk's parquet files; or such a document as a dict, or what `index` returned; or
        an HDF5 (NWB) file itself, of which references are made when they are first used, as by `index`, and kept in the
        index cache. The form is recognised by content. Workers read the path or URL themselves; a dict, or what `index`
        returned, stays on the machine that it was given on, unless `distribute` sends it.
    instances
        Archives besides the built-in ones, by name: `{"local": "http://127.0.0.1:8901/api"}`; from the configuration
        `lindi-dask.instances` if not given. The key of `local` is read from the variable `LOCAL_API_KEY`.
    allow
        URL prefixes and local folders (`/data/`) that the references may point at besides https to public hosts and
        files below their own folder; from `lindi-dask.allow` if not given.
    concurrency
        Requests for data at a time, at most, in each process; from `lindi-dask.concurrency` if not given.
    cache
        Folder on a disk of the node in which fetched bytes are kept for the next time, encoded as they came, for all
        processes of this user; False: none. From `lindi-dask.cache` if not given. Only what can't have changed is
        kept: assets of archives, and URLs that the references give a strong ETag of.
    cache_limit
        Bytes that the cache may take up, or a text such as `"50 GiB"`: the least recently used make way. From
        `lindi-dask.cache-limit` if not given.
    api_keys
        Functions that return the API key, by the name of its archive: `{"dandi": ask}`. Each is called, in any thread,
        whenever a key is due, before the environment is looked at. They stay in this process, for all that it reads
        from now on, and are never pickled: workers need a key of their own, or leases of the client's.

    Raises
    ------
    RefsUnreachable
        If there is no such file.
    InvalidReferences
        If it is nothing that can be references.
    ConfigurationError
        If an option makes no sense.
    """

    def __init__(
        self,
        refs: str | os.PathLike[str] | dict[str, Any] | References,
        *,
        instances: Mapping[str, str] | None = None,
        allow: Iterable[str] | None = None,
        concurrency: int | None = None,
        cache: str | os.PathLike[str] | Literal[False] | None = None,
        cache_limit: int | str | None = None,
        api_keys: Mapping[str, Callable[[], str | None]] | None = None,
    ) -> None:
        self._policy = policy_of(instances, allow)
        offer_keys(self._policy.instances, api_keys or {})
        self._concurrency = concurrency_of(concurrency)
        self._cache = cache_of(
            configured("cache") if cache is None else cache,
            configured("cache-limit") if cache_limit is None else cache_limit,
        )
        self._index_folder = configured_folder(configured("index-cache"), os.environ)
        self._found: Found | None = None
        self._form: Form | None = None
        self._loaded: tuple[References, Base] | None = None
        self._load_lock = threading.Lock()
        if isinstance(refs, dict):
            self._location = None
            found = find_dict(refs)
            self._fingerprint = found.fingerprint
            index = self.index
            references = found.parse() if index is None else index.get(found.fingerprint, found.parse, always=True)
            self._loaded = references, None
            _given[self._fingerprint] = references
        elif isinstance(refs, References):
            self._location, self._fingerprint = None, refs.fingerprint
            index = self.index
            made = refs if index is None else index.get(refs.fingerprint, lambda: refs, always=True)
            self._loaded = made, None
            _given[self._fingerprint] = made
        else:
            self._location = _location(self._resolved(refs))
            self._found = find(self._location, self._remote, self.index)
            self._fingerprint = self._found.fingerprint
            self._form = self._found.form
            with _lock:
                _made[self._fingerprint] = self

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of the references' content."""
        return self._fingerprint

    @property
    def location(self) -> str | None:
        """Absolute path or URL of the references; None: they were given as they are."""
        return self._location

    @property
    def form(self) -> Form | None:
        """How the references are written where they lie; None: they were given as they are."""
        return self._form

    @property
    def is_remote(self) -> bool:
        """Whether the references lie behind a URL."""
        return self._location is not None and is_url(self._location)

    @property
    def policy(self) -> UrlPolicy:
        """What the references' URLs may point at."""
        return self._policy

    @property
    def concurrency(self) -> int:
        """Requests for data at a time, in each process."""
        return self._concurrency

    @property
    def cache(self) -> DiskCache | None:
        """Where fetched bytes are kept, on each node; None: nowhere."""
        return self._cache

    @property
    def name(self) -> str:
        """How messages call the references."""
        if self._location is None:
            return f"dict:{self._fingerprint[:8]}"
        if is_url(self._location):
            asset = self._policy.asset(self._location)
            if asset.instance is not None:
                return str(asset)
        return self._location.partition("?")[0].rstrip("/").rpartition("/")[2]

    def of(self, references: References) -> StoreFactory:
        """Return the recipe of other references with the same options."""
        restore, (_, _, _, *options) = self.__reduce__()
        _given[references.fingerprint] = references
        made: StoreFactory = restore(None, references.fingerprint, None, *options)
        made.load()  # and holds them
        return made

    def __call__(self) -> LindiStore:
        """Return this process's store of this recipe."""
        with _lock:
            store = _stores.get(self._identity)
            if store is None:
                store = _stores[self._identity] = LindiStore(self)
                if len(_stores) > _STORES:
                    _stores.popitem(last=False)
            _stores.move_to_end(self._identity)
            return store

    def load(self) -> tuple[References, Base]:
        """Return the references, and where relative ones start from; read and parse them at the first call. Blocks.

        Raises
        ------
        RefsError
            If they can't be had here, are not the ones that the recipe was made from, or break their format.
        """
        with self._load_lock:
            if self._loaded is None:
                failure: RefsUnreachable | RefsChanged | None = None
                try:
                    if self._location is not None:
                        self._loaded = self._load_located(self._location)
                        self._found = None
                    else:
                        self._loaded = self._load_given(), None
                except (RefsUnreachable, RefsChanged) as error:
                    failure = error
                if self._loaded is None:
                    self._loaded = self._load_sent(failure)
            return self._loaded

    def _load_located(self, location: str) -> tuple[References, Base]:
        """Return references from where they are; of an HDF5 file rather those that the cluster has made already."""
        index, link = self.index, process.cluster_link()
        is_here = self._found is not None or (index is not None and index.has(self._fingerprint))
        if self._form == "hdf5" and link is not None and not is_here:
            with suppress(RefsUnreachable):
                return self._sent(link)
        return load(location, self._fingerprint, self._remote, index, self._found, keep=self._form == "hdf5")

    def _load_sent(self, failure: RefsUnreachable | RefsChanged | None) -> tuple[References, Base]:
        """Return references that can't be found here from where they were opened, by the cluster."""
        link = process.cluster_link()
        if failure is None:
            raise AssertionError("loading ended without an outcome")
        if link is None:
            raise failure
        try:
            return self._sent(link)
        except RefsUnreachable as error:
            refusal = str(error)
        raise type(failure)(f"{failure} The cluster can't send it either: {refusal}.", **vars(failure))

    def _sent(self, link: ClusterLink) -> tuple[References, Base]:
        references = link.references(self._fingerprint)
        index = self.index
        if index is not None:
            references = index.get(self._fingerprint, lambda: references, always=True)
        return references, None if self._location is None else base_of(self._location, self._remote, references)

    def _load_given(self) -> References:
        """Return references that were given as a dict: to this process, or to another of this machine."""
        references = _given.get(self._fingerprint)
        index = self.index
        if references is None and index is not None:
            references = index.peek(self._fingerprint)
        if references is None:
            raise unreachable(self._fingerprint)
        return references

    def _resolved(self, refs: str | os.PathLike[str]) -> str:
        """Return an address in a dandiset as the URL of the asset that is there now, all else as it is."""
        text = os.fspath(refs)
        if not is_address(text):
            return text
        info = find_asset(parse_address(text, self._policy.instances), process.archives())
        return file_of(info).url

    @property
    def index(self) -> IndexCache | None:
        """Where references are kept that were parsed, or made; None: nowhere."""
        return None if self._index_folder is None else IndexCache(self._index_folder)

    @property
    def _remote(self) -> RemoteFiles:
        return RemoteFiles(self._policy, None if self._index_folder is None else ContentCache(self._index_folder))

    @property
    def _identity(self) -> tuple[Any, ...]:
        return self._location, self._fingerprint, self._policy, self._concurrency, self._index_folder, self._cache

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreFactory) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        return f"StoreFactory({self.name!r}, fingerprint={self._fingerprint[:8]!r})"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        # What the data are, not where the file lies: graph keys are the same in each run and on each machine
        return "lindi_dask.StoreFactory", self._fingerprint

    def __reduce__(self) -> tuple[Any, ...]:
        own = tuple(
            (instance.name, instance.api_url) for instance in self._policy.instances[len(configured_instances({})) :]
        )
        folder = None if self._index_folder is None else str(self._index_folder)
        cache = None if self._cache is None else (self._cache.folder, self._cache.limit)
        where = self._location, self._fingerprint, self._form
        return _restore, (*where, own, self._policy.allow, self._concurrency, folder, cache)


def references_here(fingerprint: str) -> References | None:
    """Return references that were opened in this process and are still in use, or None. Blocks.

    Raises
    ------
    LindiError
        If they can't be had any more.
    """
    with _lock:
        factory = _made.get(fingerprint)
    return _given.get(fingerprint) if factory is None else factory.load()[0]


def _restore(
    location: str | None,
    fingerprint: str,
    form: Form | None,
    own: tuple[tuple[str, str], ...],
    allow: tuple[str, ...],
    concurrency: int,
    index_folder: str | None,
    cache: tuple[str, int] | None,
) -> StoreFactory:
    """Unpickle: without I/O, since the scheduler does this too."""
    factory = StoreFactory.__new__(StoreFactory)
    factory._location = location  # noqa: SLF001 - its own constructor
    factory._fingerprint = fingerprint  # noqa: SLF001
    factory._policy = UrlPolicy(configured_instances({k: {"api-url": v} for k, v in own}), allow)  # noqa: SLF001
    factory._concurrency = concurrency  # noqa: SLF001
    factory._index_folder = None if index_folder is None else Path(index_folder)  # noqa: SLF001
    factory._cache = None if cache is None else DiskCache(*cache)  # noqa: SLF001
    factory._found = None  # noqa: SLF001
    factory._form = form  # noqa: SLF001
    factory._loaded = None  # noqa: SLF001
    factory._load_lock = threading.Lock()  # noqa: SLF001
    return factory


def _location(refs: str | os.PathLike[str]) -> str:
    """Return a URL as it is, a path as an absolute one."""
    text = os.fspath(refs)
    if not is_url(text):
        if "://" in text[:16]:
            raise ConfigurationError(f"refs: {text.partition('?')[0]} is neither a path nor an https URL.")
        return str(Path(text).absolute())
    if grants_access(text):
        raise ConfigurationError(
            f"refs: the URL of {text.partition('?')[0].rpartition('/')[2] or 'the file'} holds a signature or a "
            "password, which would travel with every graph. Download the file, and pass its path."
        )
    return f"{text}/" if text.endswith(_FOLDER_ENDINGS) else text


def policy_of(instances: Mapping[str, str] | None, allow: Iterable[str] | None) -> UrlPolicy:
    """Return what the options `instances` and `allow` mean, or what is configured for None.

    Raises
    ------
    ConfigurationError
        If one of them makes no sense.
    """
    entries = configured("instances") if instances is None else {k: {"api-url": v} for k, v in instances.items()}
    return UrlPolicy(configured_instances(entries), _allowed(configured("allow") if allow is None else allow))


def _allowed(prefixes: object) -> tuple[str, ...]:
    if isinstance(prefixes, str) or not hasattr(prefixes, "__iter__"):
        raise ConfigurationError("allow (lindi-dask.allow) must be a list of URL prefixes and folders.")
    allowed = tuple(str(prefix) for prefix in prefixes)
    for prefix in allowed:
        reason = None
        try:
            check_prefix(prefix)
        except UrlRefused as refused:
            reason = refused.reason
        if reason is not None:
            raise ConfigurationError(f"allow: {prefix!r} is neither a URL prefix nor a folder: {reason}.")
    return allowed


def concurrency_of(concurrency: object) -> int:
    """Return the option `concurrency`, or what is configured for None; `ConfigurationError` if it makes no sense."""
    concurrency = configured("concurrency") if concurrency is None else concurrency
    if type(concurrency) is not int or not 1 <= concurrency <= 1024:
        raise ConfigurationError(f"concurrency must be a whole number from 1 to 1024, not {concurrency!r}.")
    return concurrency
