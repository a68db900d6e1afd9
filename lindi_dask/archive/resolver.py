"""The exchange of an asset for a presigned URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lindi_dask.archive.answers import read_answer
from lindi_dask.archive.asking import Archives
from lindi_dask.archive.names import Names

if TYPE_CHECKING:
    from lindi_dask.archive.answers import Answer
    from lindi_dask.archive.expiry import ArchiveClock
    from lindi_dask.types import Asset, Lease

__all__ = ["Resolver"]


class Resolver(Archives):
    """Exchanges assets for leases at the archive's API. Parameters are those of `Archives`."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of `Archives`
        super().__init__(**options)
        self._names = Names()

    def exchange(self, asset: Asset, refused: Lease | None = None) -> Lease:  # noqa: ARG002 - each one is new anyway
        """Return a new lease on `asset`. Blocks for as long as the retries take.

        Raises
        ------
        AccessError
            If the archive does not give the asset to this user.
        ArchiveUnavailable
            If it gave no answer, after all retries.
        """
        if asset.instance is None:
            raise TypeError("a plain URL needs no exchange")

        def read(answer: Answer, clock: ArchiveClock) -> Lease:
            lease = read_answer(answer, asset, clock)
            self._names.check_storage(lease.url, asset)
            return lease

        return self.ask(asset.instance, f"/assets/{asset.id}/download/", str(asset), read)
