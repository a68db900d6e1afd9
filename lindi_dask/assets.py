"""What archives hold, by address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lindi_dask import archive, process
from lindi_dask.archive import offer_keys, parse_address
from lindi_dask.factory import policy_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lindi_dask.types import AssetInfo

__all__ = ["list_assets"]


def list_assets(
    address: str,
    *,
    etags: bool = False,
    instances: Mapping[str, str] | None = None,
    api_keys: Mapping[str, Callable[[], str | None]] | None = None,
) -> list[AssetInfo]:
    """Return the assets at an address, by path.

    Parameters
    ----------
    address
        `dandi://INSTANCE/000123[@VERSION][/PATH]`, as in dandi-cli, or the URL of a dandiset's page on an archive's web
        site. Without a version, the newest that was published, and else the draft. The path is that of an asset, of a
        folder (with a slash at its end), or a pattern, in which case counts: `*` and `?` stand for text and for a
        character without a slash, `[ab]` and `[!ab]` for one of a set and for one that is not, `**/` for any number of
        folders. `%2A` is an asterisk.
    etags
        Whether to ask for the files' ETags too: the archive then sends all metadata of each asset, five times as many
        pages. To tell whether a file is still the same, its `blob` does as well.
    instances, api_keys
        As for `StoreFactory`.

    Returns
    -------
    list of lindi_dask.types.AssetInfo
        Path, size in bytes, ids and time of the last change of each.

    Raises
    ------
    ConfigurationError
        If it is no address, or of an archive that is not known; if an option makes no sense.
    DandisetNotFound
        If there is no such dandiset, or no such version of it.
    AssetNotFound
        If nothing is there by that path or pattern; the message has names near it.
    AccessError
        If the archive does not show the dandiset to this user.
    ArchiveUnavailable
        If it gave no answer, after all retries; or if the dandiset changes faster than it can be listed.
    """
    known = policy_of(instances, None).instances
    offer_keys(known, api_keys or {})
    return archive.list_assets(parse_address(address, known), process.archives(), etags=etags)
