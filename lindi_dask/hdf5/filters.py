"""HDF5's filters -> Zarr's codecs, as far as there are some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from h5py import h5z

from lindi_dask.refs.dialect.v2_kinds import UntranslatableError

if TYPE_CHECKING:
    from h5py.h5p import PropDCID

__all__ = ["codecs_of", "numcodecs_of"]

_BLOSC: Final = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
_BLOSC_SHUFFLES: Final = ("noshuffle", "shuffle", "bitshuffle")
_BLOSC_OPTIONS: Final = 7
_NAMES: Final = {
    h5z.FILTER_SZIP: "szip", h5z.FILTER_NBIT: "n-bit", h5z.FILTER_SCALEOFFSET: "scale-offset", 32000: "lzf",
    32004: "lz4", 32008: "bitshuffle",
}  # fmt: skip


def codecs_of(properties: PropDCID) -> list[dict[str, Any]]:
    """Return the codecs that stand for a dataset's filters, in the order of encoding, as `zarr.json` has them.

    The numbers of filters: https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md

    Raises
    ------
    UntranslatableError
        If there is none for one of them.
    """
    return [_codec(*properties.get_filter(i)) for i in range(properties.get_nfilters())]


def _codec(code: int, _flags: int, options: tuple[int, ...], name: bytes) -> dict[str, Any]:
    match code:
        case h5z.FILTER_SHUFFLE if options:
            return {"name": "numcodecs.shuffle", "configuration": {"elementsize": options[0]}}
        case h5z.FILTER_DEFLATE:
            return {"name": "numcodecs.zlib", "configuration": {"level": options[0] if options else 6}}
        case h5z.FILTER_FLETCHER32:
            return {"name": "numcodecs.fletcher32", "configuration": {}}
        case 307:
            return {"name": "numcodecs.bz2", "configuration": {"level": options[0] if options else 9}}
        case 32015:
            return {"name": "zstd", "configuration": {"level": options[0] if options else 3, "checksum": False}}
        case 32001 if len(options) >= _BLOSC_OPTIONS and options[6] < len(_BLOSC) and options[5] < 3:
            configuration = {
                "cname": _BLOSC[options[6]],
                "clevel": options[4],
                "shuffle": _BLOSC_SHUFFLES[options[5]],
                "typesize": options[2],
                "blocksize": 0,
            }
            return {"name": "blosc", "configuration": configuration}
    shown = _NAMES.get(code) or name.decode("utf-8", "replace") or "without a name"
    raise UntranslatableError(f"its chunks go through the filter {shown!r} ({code}), which Zarr has no codec for")


def numcodecs_of(codec: dict[str, Any]) -> dict[str, Any]:
    """Return a codec as `numcodecs.get_codec` takes it."""
    configuration = dict(codec["configuration"])
    if codec["name"] == "blosc":
        del configuration["typesize"]
        configuration["shuffle"] = _BLOSC_SHUFFLES.index(configuration["shuffle"])
    return {"id": codec["name"].removeprefix("numcodecs."), **configuration}
