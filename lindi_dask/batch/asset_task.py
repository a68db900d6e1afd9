"""What is done with one asset, wherever it runs: a worker of a cluster, or a thread."""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from lindi_dask.describing import describe
from lindi_dask.errors import RefsUnreachable
from lindi_dask.factory import policy_of
from lindi_dask.index_file import lay_out, read_index
from lindi_dask.indexing import Share, index_asset, share_of_asset
from lindi_dask.listing import as_json
from lindi_dask.session_card import card_as_json
from lindi_dask.store import LindiStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lindi_dask.archive import UrlPolicy
    from lindi_dask.refs import References
    from lindi_dask.types import AssetInfo

__all__ = ["Indexed", "Reading", "find_share", "index_one"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How assets are read."""

    own: tuple[tuple[str, str], ...]
    """name and API URL of the instances besides the built-in ones"""
    allow: tuple[str, ...]
    concurrency: int

    @property
    def policy(self) -> UrlPolicy:
        """What may be read."""
        return policy_of(dict(self.own), self.allow)


@dataclass(frozen=True, slots=True)
class Indexed:
    """What is known of an asset, on its way to where it is written."""

    fingerprint: str
    """of the references"""
    content: bytes = field(repr=False)
    """the references, as the bytes of an index file"""
    card: dict[str, Any] = field(repr=False)
    """of the session, and its arrays, in values that JSON has"""
    seconds: float
    """that it took"""

    def references(self) -> References:
        """Return the references.

        Raises
        ------
        RefsUnreachable
            If they were written by another version of this package.
        """
        mapped = mmap.mmap(-1, len(self.content))
        mapped.write(self.content)

        def recover(reason: str) -> NoReturn:
            raise RefsUnreachable(f"References were damaged on their way: {reason}.", fingerprint=self.fingerprint)

        found = read_index(mapped, self.fingerprint, recover)
        if found is None:
            raise RefsUnreachable(
                "The worker has another version of lindi-dask than this process: install the same on both.",
                fingerprint=self.fingerprint,
            )
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Passing:
    """The recipe of a store that is used once, by this process: nothing of it is kept."""

    references: References = field(repr=False)
    policy: UrlPolicy
    concurrency: int
    cache: None = None

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.references.fingerprint

    def load(self) -> tuple[References, None]:
        """Return the references."""
        return self.references, None

    def __call__(self) -> LindiStore:
        return LindiStore(self)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return "lindi_dask.batch", self.name


def index_one(info: AssetInfo, reading: Reading, shares: Sequence[Share] = ()) -> Indexed:
    """Index an asset, and read what its session's card says.

    Raises
    ------
    LindiError
        As `lindi_dask.index`.
    """
    started = time.monotonic()
    references = index_asset(info, reading.policy, reading.concurrency, shares)
    card = describe(_Passing(references, reading.policy, reading.concurrency), ask=False)
    described = {**card_as_json(card), "arrays": [as_json(array) for array in card.arrays]}
    return Indexed(references.fingerprint, b"".join(lay_out(references)), described, time.monotonic() - started)


def find_share(info: AssetInfo, reading: Reading, share: int, shares: int) -> Share:
    """Find where the chunks of some of an asset's datasets lie; errors are those of `index_one`."""
    return share_of_asset(info, reading.policy, reading.concurrency, share, shares)
