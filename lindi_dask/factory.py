"""`StoreFactory`: the picklable recipe of a store."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from lindi_dask.archive import UrlPolicy, configured_instances
from lindi_dask.archive.urls import split_url
from lindi_dask.config import configured
from lindi_dask.errors import ConfigurationError, UrlRefused
from lindi_dask.loading import fingerprint_of_dict, fingerprint_of_file, load_dict, load_file, unreachable
from lindi_dask.store import LindiStore

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from lindi_dask.refs import References

__all__ = ["StoreFactory"]

_STORES = 32  # live stores kept for unpickled factories
_lock: Final = threading.Lock()
_stores: Final[OrderedDict[tuple[Any, ...], LindiStore]] = OrderedDict()
_given: Final[WeakValueDictionary[str, References]] = WeakValueDictionary()


class StoreFactory:
    """The recipe of a `LindiStore`: where the references are, their fingerprint, and options. Picklable.

    Pickled it has at most about 1 KB, however many chunks there are, and holds neither keys nor presigned URLs.
    Called, it returns this process's live store: made once, shared by all threads, and without I/O until
    something is read. Keys are
    looked up where the reads happen, in that process's environment.

    Parameters
    ----------
    refs
        Path of a LINDI JSON file, or such a document as a dict. Workers read the path themselves; a dict
        stays in the process that it was given in.
    instances
        Archives besides the built-in ones, by name: `{"local": "http://127.0.0.1:8901/api"}`; from the configuration
        `lindi-dask.instances` if not given. The key of `local` is read from the variable `LOCAL_API_KEY`.
    allow
        URL prefixes that the references may point at besides https to public hosts; from `lindi-dask.allow` if
        not given.
    concurrency
        Requests for data at a time, in each process; from `lindi-dask.concurrency` if not given.

    Raises
    ------
    RefsUnreachable
        If there is no such file.
    ConfigurationError
        If an option makes no sense.
    """

    def __init__(
        self,
        refs: str | os.PathLike[str] | dict[str, Any],
        *,
        instances: Mapping[str, str] | None = None,
        allow: Iterable[str] | None = None,
        concurrency: int | None = None,
    ) -> None:
        entries = configured("instances") if instances is None else {k: {"api-url": v} for k, v in instances.items()}
        self._policy = UrlPolicy(
            configured_instances(entries), _allowed(configured("allow") if allow is None else allow)
        )
        self._concurrency = _positive(configured("concurrency") if concurrency is None else concurrency)
        self._references: References | None = None
        self._load_lock = threading.Lock()
        if isinstance(refs, dict):
            self._path = None
            self._fingerprint = fingerprint_of_dict(refs)
            self._references = _given[self._fingerprint] = load_dict(refs, self._fingerprint)
        else:
            self._path = Path(refs).absolute()
            self._fingerprint = fingerprint_of_file(self._path)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of the references' content."""
        return self._fingerprint

    @property
    def policy(self) -> UrlPolicy:
        """What the references' URLs may point at."""
        return self._policy

    @property
    def concurrency(self) -> int:
        """Requests for data at a time, in each process."""
        return self._concurrency

    @property
    def name(self) -> str:
        """How messages call the references."""
        return f"dict:{self._fingerprint[:8]}" if self._path is None else self._path.name

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

    def load(self) -> References:
        """Return the references; read and parse them at the first call. Blocks.

        Raises
        ------
        RefsError
            If they can't be had here, are not the ones that the recipe was made from, or break their format.
        """
        with self._load_lock:
            if self._references is None:
                if self._path is not None:
                    self._references = load_file(self._path, self._fingerprint)
                else:
                    self._references = _given.get(self._fingerprint)
            if self._references is None:
                raise unreachable(self._fingerprint)
            return self._references

    @property
    def _identity(self) -> tuple[Any, ...]:
        return str(self._path), self._fingerprint, self._policy, self._concurrency

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
        path = None if self._path is None else str(self._path)
        return _restore, (path, self._fingerprint, own, self._policy.allow, self._concurrency)


def _restore(
    path: str | None,
    fingerprint: str,
    own: tuple[tuple[str, str], ...],
    allow: tuple[str, ...],
    concurrency: int,
) -> StoreFactory:
    """Unpickle: without I/O, since the scheduler does this too."""
    factory = StoreFactory.__new__(StoreFactory)
    factory._path = None if path is None else Path(path)  # noqa: SLF001 - its own constructor
    factory._fingerprint = fingerprint  # noqa: SLF001
    factory._policy = UrlPolicy(configured_instances({k: {"api-url": v} for k, v in own}), allow)  # noqa: SLF001
    factory._concurrency = concurrency  # noqa: SLF001
    factory._references = None  # noqa: SLF001
    factory._load_lock = threading.Lock()  # noqa: SLF001
    return factory


def _allowed(prefixes: object) -> tuple[str, ...]:
    if isinstance(prefixes, str) or not hasattr(prefixes, "__iter__"):
        raise ConfigurationError("allow (lindi-dask.allow) must be a list of URL prefixes.")
    allowed = tuple(str(prefix) for prefix in prefixes)
    for prefix in allowed:
        reason = None
        try:
            split_url(prefix)
        except UrlRefused as refused:
            reason = refused.reason
        if reason is not None:
            raise ConfigurationError(f"allow: {prefix!r} is not a URL prefix: {reason}.")
    return allowed


def _positive(concurrency: object) -> int:
    if type(concurrency) is not int or not 1 <= concurrency <= 1024:
        raise ConfigurationError(f"concurrency must be a whole number from 1 to 1024, not {concurrency!r}.")
    return concurrency
