"""The engine `lindi` of xarray: references as datasets, NWB's with what it means, others after the CF conventions."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import xarray as xr
import zarr
from xarray.backends import BackendEntrypoint
from xarray.backends.zarr import ZarrBackendEntrypoint

from lindi_dask.arrays import factory_of, open_group
from lindi_dask.errors import ConfigurationError
from lindi_dask.factory import StoreFactory
from lindi_dask.finding import MAX_NBYTES
from lindi_dask.nwb import Opening, open_groups
from lindi_dask.nwb.opening import preferred_blocks
from lindi_dask.refs import is_tar
from lindi_dask.transport import decompressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lindi_dask.arrays import Refs

__all__ = ["LindiBackendEntrypoint"]

_START: Final = 4096  # bytes by which a file is recognised
_REFERENCES: Final = re.compile(
    rb'^\s*\{\s*"(refs|version|templates|gen|generationMetadata|sources|selections|indexes)"\s*:'
)
_DIALECT: Final = ("_DTYPE", "_LINKS", "_REFERENCE_FIELDS")
_DECODERS: Final = (
    "mask_and_scale",
    "decode_times",
    "concat_characters",
    "decode_coords",
    "use_cftime",
    "decode_timedelta",
)


class LindiBackendEntrypoint(BackendEntrypoint):
    """Opens reference files (LINDI, kerchunk, Zarr v3) as datasets and trees of them.

    Groups of an NWB file become what NWB means by them: time series with their times, units and channels; tables by
    row. All other references are read as xarray's own engine for zarr does, decoded after the CF conventions, but that
    a fill value of 0 is no missing value: it is what HDF5 fills with unless told otherwise.

    Nothing but the references is read at opening, unless values that are needed then lie elsewhere: starting times,
    the rows of electrodes and ROIs, codes of enumerations. `chunks={}` takes blocks as large as those of `open_array`;
    of smaller ones xarray warns, though only those that cut chunks cost anything.
    """

    description = "Reference files (LINDI, kerchunk, Zarr v3) of NWB sessions and others, embargoed ones too"
    url = "https://github.com/NeurodataWithoutBorders/lindi"
    supports_groups = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:  # noqa: ANN401 - xarray's union
        """Return whether something is a reference file, by its content; URLs by their names."""
        if isinstance(filename_or_obj, StoreFactory):
            return True
        if isinstance(filename_or_obj, dict):
            return isinstance(filename_or_obj.get("refs"), dict)
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        location = os.fspath(filename_or_obj)
        if location.startswith("dandi://"):
            return True
        if "://" in location:
            return location.partition("?")[0].rstrip("/").endswith((".lindi.json", ".lindi.tar", ".lindi.d"))
        try:
            return _is_reference_folder(Path(location)) or _is_reference_file(Path(location))
        except OSError:
            return False

    def open_dataset(  # type: ignore[override] # references may be given as a dict, or by their recipe
        self,
        filename_or_obj: Refs,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        physical: bool | Literal["float32", "float64"] = True,
        mask_and_scale: Any = True,  # noqa: ANN401 - xarray's own unions, here and below
        decode_times: Any = True,  # noqa: ANN401
        concat_characters: Any = True,  # noqa: ANN401
        decode_coords: Any = True,  # noqa: ANN401
        use_cftime: Any = None,  # noqa: ANN401
        decode_timedelta: Any = None,  # noqa: ANN401
        instances: Mapping[str, str] | None = None,
        allow: Iterable[str] | None = None,
        concurrency: int | None = None,
        api_keys: Mapping[str, Callable[[], str | None]] | None = None,
        expand: bool = False,
    ) -> xr.Dataset:
        """Return a group as a dataset.

        Parameters
        ----------
        filename_or_obj
            The references, as for `StoreFactory`, or one.
        drop_variables
            Names that are left out.
        group
            Path of the group; the root if not given.
        physical
            Whether the data of an NWB time series are in their unit: data x conversion x channel conversion + offset,
            float32 if they are stored in 16 bits or less, or as float32; or the type that they are to have. False: as
            they are stored.
        mask_and_scale, decode_times, concat_characters, decode_coords, use_cftime, decode_timedelta
            As for xarray's engine `zarr`; of no effect on NWB.
        instances, allow, concurrency, api_keys, expand
            As for `open_store`. A disk cache is an option of that, or of the configuration: xarray keeps the name
            `cache` to itself.

        Raises
        ------
        RefsError
            If the references can't be had, break their format, or have no such group.
        """
        opening = _opening(filename_or_obj, physical, instances, allow, concurrency, api_keys, expand=expand)
        given = (mask_and_scale, decode_times, concat_characters, decode_coords, use_cftime, decode_timedelta)
        path = _group(opening, group)
        return _datasets(opening, [path], drop_variables, dict(zip(_DECODERS, given, strict=True)))[path]

    def open_groups_as_dict(  # type: ignore[override] # likewise
        self,
        filename_or_obj: Refs,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        physical: bool | Literal["float32", "float64"] = True,
        mask_and_scale: Any = True,  # noqa: ANN401 - xarray's own unions, here and below
        decode_times: Any = True,  # noqa: ANN401
        concat_characters: Any = True,  # noqa: ANN401
        decode_coords: Any = True,  # noqa: ANN401
        use_cftime: Any = None,  # noqa: ANN401
        decode_timedelta: Any = None,  # noqa: ANN401
        instances: Mapping[str, str] | None = None,
        allow: Iterable[str] | None = None,
        concurrency: int | None = None,
        api_keys: Mapping[str, Callable[[], str | None]] | None = None,
        expand: bool = False,
    ) -> dict[str, xr.Dataset]:
        """Return a group and all groups below it as datasets, by path from it; links to groups are attributes.

        Parameters and errors are those of `open_dataset`.
        """
        opening = _opening(filename_or_obj, physical, instances, allow, concurrency, api_keys, expand=expand)
        given = (mask_and_scale, decode_times, concat_characters, decode_coords, use_cftime, decode_timedelta)
        top = _group(opening, group)
        paths = opening.tree.below(top)
        datasets = _datasets(opening, paths, drop_variables, dict(zip(_DECODERS, given, strict=True)))
        return {f"/{path[len(top) :].lstrip('/')}": dataset for path, dataset in datasets.items()}

    def open_datatree(self, filename_or_obj: Refs, **options: Any) -> xr.DataTree:  # type: ignore[override] # noqa: ANN401 - those of open_groups_as_dict
        """Return a group and all groups below it as a tree; links to groups are attributes.

        Parameters and errors are those of `open_dataset`. A dimension that has the name of one in a group above is
        called after its own group, too, as dimensions are inherited in a tree.
        """
        datasets = self.open_groups_as_dict(filename_or_obj, **options)
        above: dict[str, set[str]] = {"": set()}
        for path, dataset in datasets.items():
            inherited = above.get(path.rpartition("/")[0] or ("" if path == "/" else "/"), set())
            twice = {dim: f"{path.rpartition('/')[2]}_{dim}" for dim in dataset.sizes if dim in inherited}
            if twice:
                datasets[path] = dataset.rename(twice)
            above[path] = inherited | set(map(str, datasets[path].sizes))
        return xr.DataTree.from_dict(datasets)


def _opening(
    refs: Refs,
    physical: bool | Literal["float32", "float64"],
    instances: Mapping[str, str] | None,
    allow: Iterable[str] | None,
    concurrency: int | None,
    api_keys: Mapping[str, Callable[[], str | None]] | None,
    *,
    expand: bool,
) -> Opening:
    if physical not in {True, False, "float32", "float64"}:
        raise ConfigurationError(f'physical must be True, False, "float32" or "float64", not {physical!r}.')
    options = {"instances": instances, "allow": allow, "concurrency": concurrency, "api_keys": api_keys}
    return Opening(factory_of(refs, expand=expand, **options), physical=physical)


def _group(opening: Opening, group: str | None) -> str:
    """Return the path of a group past links; the error for one that isn't there is that of `open_group`."""
    path = opening.tree.find(group or "")
    return open_group(opening.factory, group or "").path if path is None else path


def _datasets(
    opening: Opening, paths: list[str], drop_variables: str | Iterable[str] | None, decoders: dict[str, Any]
) -> dict[str, xr.Dataset]:
    """Return the datasets of groups, by path; the first one is above all others."""
    dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
    if opening.sessions or opening.tree.kind(paths[0]):
        found = open_groups(opening, paths)
        return {path: dataset.drop_vars(dropped, errors="ignore") for path, dataset in found.items()}
    return {path: xr.decode_cf(_as_stored(opening, path, dropped), **decoders) for path in paths}


def _as_stored(opening: Opening, path: str, dropped: list[str]) -> xr.Dataset:
    """Return a group as the engine `zarr` gives it, not decoded yet, in blocks as large as those of `open_array`.

    What kerchunk takes out of the attributes to be Zarr's fill value is `_FillValue` again, and what the internal
    dialect tells hdmf-zarr is left out.
    """
    store: Any = opening.store
    options = dict.fromkeys(("mask_and_scale", "decode_times", "concat_characters", "decode_coords"), False)
    dataset = ZarrBackendEntrypoint().open_dataset(
        store, group=path, drop_variables=dropped, consolidated=False, zarr_format=3, **options
    )
    dataset.attrs = {name: value for name, value in dataset.attrs.items() if name not in _DIALECT}
    nodes = opening.tree.arrays(path)
    for name, variable in dataset.variables.items():
        node = nodes[str(name)]
        variable.attrs = {name: value for name, value in variable.attrs.items() if name not in _DIALECT}
        fill = zarr.open_array(store, path=node.path, mode="r", zarr_format=3).fill_value
        if node.dtype.kind in "iufc" and fill:
            variable.attrs.setdefault("_FillValue", fill)
        blocks = preferred_blocks(node.shape, node.chunks, node.dtype, node.path)
        variable.encoding["preferred_chunks"] = dict(zip(variable.dims, blocks, strict=True))
    return dataset


def _is_reference_folder(path: Path) -> bool:
    if not path.is_dir():
        return False
    kerchunk = path / ".zmetadata"  # zarr 2 has such files, too
    return (path / "lindi.json").is_file() or (kerchunk.is_file() and b'"record_size"' in kerchunk.read_bytes())


def _is_reference_file(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(_START)
    if start.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        try:
            start = bytes(decompressed(path.read_bytes(), MAX_NBYTES))
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not for us
            return False
    return bool(_REFERENCES.match(start)) or (
        is_tar(start) and start.startswith((b"lindi.json\0", b".tar_entry.json\0"))
    )
