"""References to assets that their archive has replaced -> the assets that took their place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from lindi_dask import process
from lindi_dask.archive import file_of, find_asset, parse_address
from lindi_dask.errors import ConfigurationError, RefsError, SourceMismatch
from lindi_dask.expanding import document_of
from lindi_dask.factory import StoreFactory
from lindi_dask.hdf5_files import check_h5py
from lindi_dask.indexing import index_asset
from lindi_dask.refs import References, SourceTable, relative_path
from lindi_dask.refs.renaming import renamed
from lindi_dask.types import Asset

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from lindi_dask.refs import Source
    from lindi_dask.types import AssetInfo, Base

    Json = dict[str, Any]

__all__ = ["Refreshed", "refresh"]


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What became of references whose assets were looked for."""

    state: Literal["current", "moved", "changed"]
    """current: all assets are the ones that the references name; moved: others have their bytes; changed: others have
    other bytes, which were indexed anew"""
    assets: tuple[AssetInfo, ...]
    """that are there now"""
    result: Json | References | None = field(repr=False)
    """the document, or the references; None if they are as they were"""
    base: Base = field(repr=False)
    """where relative references start from"""
    is_relative: bool = False
    """whether there are such"""
    json_form: Literal["lindi", "kerchunk"] | None = None
    """of references that were indexed anew: whose JSON is to be written, if JSON is"""


def refresh(
    refs: str | os.PathLike[str] | Json,
    *,
    address: str | None = None,
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    api_keys: Mapping[str, Callable[[], str | None]] | None = None,
) -> Refreshed:
    """Find the assets that references name again, by dandiset and path.

    Any edit of an asset's metadata gives it another id; of an embargoed one, the old id is then refused (403). If size
    and ETag of the asset that took its place are those that the references were made of, they get its URL; if not, the
    file is indexed anew.

    Parameters
    ----------
    refs
        Path, https URL or address of the references, or their document as a dict, which is not changed.
    address
        `dandi://INSTANCE/000123@draft/PATH`, of references that don't hold it themselves (those of `index` do, if it
        was given one); for references to one asset only.
    instances, allow, api_keys
        As for `StoreFactory`.

    Returns
    -------
    Refreshed
        With the document or the references, to be written.

    Raises
    ------
    RefsError
        If the references can't be had, or name no asset, or one without an address.
    SourceMismatch
        If an asset was replaced, and the references hold neither its size nor its ETag; if its bytes changed, and the
        references mean other files too.
    AssetNotFound, DandisetNotFound
        If nothing is at the address any more.
    AccessError, ArchiveUnavailable
        If the archive does not show it.
    """
    factory = StoreFactory(refs, instances=instances, allow=allow, api_keys=api_keys)
    references, base = factory.load()
    named = _assets(references, factory, base)
    if not named:
        raise RefsError(f"{factory.name}: these references name no asset of an archive: there is nothing to refresh.")
    if address is not None and len({asset for asset, _ in named}) > 1:
        raise ConfigurationError("address: these references name several assets, and it would be that of one.")
    found: dict[str, AssetInfo] = {}
    states = set()
    for asset, source in named:
        where = source.address if address is None else address
        if where is None:
            raise RefsError(
                f"{factory.name}: the references don't say by which path {asset} is found again. Pass its address, "
                "dandi://INSTANCE/000123@draft/PATH (--address)."
            )
        info = file_of(find_asset(parse_address(where, factory.policy.instances), process.archives()))
        found[source.url] = info
        states.add(_state(factory.name, asset, source, info))
    assets = tuple({info.asset: info for info in found.values()}.values())
    if states == {"current"}:
        return Refreshed("current", assets, None, base)
    if "changed" not in states:
        is_relative = any(relative_path(source.url) is not None for source in _files(references))
        moved = {source.url: found[source.url] for asset, source in named if found[source.url].asset != asset}
        return Refreshed("moved", assets, _moved(factory, refs, references, moved), base, is_relative)
    if len(assets) > 1 or any(source.url not in found for source in _files(references)):
        raise SourceMismatch(
            f"{factory.name}: the bytes of {', '.join(str(info.address) for info in assets)} have changed, and the "
            "references mean other files too. Make them anew from all of these."
        )
    check_h5py("To index HDF5 files")
    made = index_asset(assets[0], factory.policy, factory.concurrency)
    return Refreshed("changed", assets, made, base, json_form=_json_form(factory, refs))


def _json_form(factory: StoreFactory, refs: str | os.PathLike[str] | Json) -> Literal["lindi", "kerchunk"]:
    """Return whose JSON a document is: kerchunk keeps metadata as text."""
    if factory.form not in {"json", None}:
        return "lindi"
    document = refs if isinstance(refs, dict) else document_of(factory)
    entries = document["refs"] if isinstance(document.get("refs"), dict) else document
    metadata = (
        value for key, value in entries.items() if key.rpartition("/")[2] in {".zgroup", ".zarray", "zarr.json"}
    )
    return "kerchunk" if isinstance(next(metadata, None), str) else "lindi"


def _files(references: References) -> list[Source]:
    """Return what references mean but themselves."""
    return [source for source in references.all_sources() if source.data is None]


def _assets(references: References, factory: StoreFactory, base: Base) -> list[tuple[Asset, Source]]:
    """Return what the references name in archives."""
    named = []
    for source in _files(references):
        asset = factory.policy.target(source, base).asset
        if isinstance(asset, Asset) and asset.instance is not None:
            named.append((asset, source))
    return named


def _state(name: str, asset: Asset, source: Source, info: AssetInfo) -> Literal["current", "moved", "changed"]:
    is_known = source.size is not None and source.etag is not None and info.etag is not None
    is_same = is_known and (source.size, source.etag) == (info.size, info.etag)
    if info.asset == asset:
        return "changed" if is_known and not is_same else "current"
    if not is_known:
        raise SourceMismatch(
            f"{name}: {asset} was replaced, and nothing says whether {info.address} has the same bytes: the references "
            f"hold neither size nor ETag. Make them anew: lindi-dask index '{info.address}' OUT"
        )
    return "moved" if is_same else "changed"


def _moved(
    factory: StoreFactory, refs: str | os.PathLike[str] | Json, references: References, found: dict[str, AssetInfo]
) -> Json | References:
    """Return the same with other URLs: the document, where there is one."""
    if factory.form != "parquet":
        document = refs if isinstance(refs, dict) else document_of(factory)
        known = {one.url: {"size": one.size, "etag": f'"{one.etag}"', "address": one.address} for one in found.values()}
        return renamed(document, {url: info.url for url, info in found.items()}, known)
    moved = [
        replace(source, url=found[source.url].url, address=found[source.url].address)
        if source.data is None and source.url in found
        else source
        for source in references.all_sources()
    ]
    return replace(references, sources=SourceTable(tuple(moved)))
