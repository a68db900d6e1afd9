"""An HDF5 file with one dataset for each thing that HDF5 has and NWB files may use, written by h5py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(8)
NUMBERS = ["?", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16"]
BIG = [">i2", ">i4", ">u8", ">f2", ">f4", ">f8", ">c8", ">c16"]
SHAPE = (300, 7)


def numbers(dtype: str, shape: tuple[int, ...] = SHAPE) -> Any:
    """Any bytes that make finite numbers of a type."""
    kind = np.dtype(dtype)
    whole = RNG.integers(-100, 100, shape)
    if kind.kind == "b":
        return whole > 0
    return (whole / 3 if kind.kind in "fc" else whole).astype(kind) if kind.kind != "u" else abs(whole).astype(kind)


def write_types(file: h5py.File) -> None:
    group = file.create_group("types")
    for dtype in [*NUMBERS, *BIG]:
        name = f"{dtype}".replace("<", "little-").replace(">", "big-").replace("?", "bool")
        group[f"{name}-contiguous"] = numbers(dtype)
        group[f"{name}-small"] = numbers(dtype, (3, 2))
        group.create_dataset(f"{name}-chunked", data=numbers(dtype), chunks=(64, 4), compression="gzip", shuffle=True)
    group.create_dataset("enum", data=numbers("i1"), dtype=h5py.enum_dtype({"A": 1, "B": 2}, "i1"), chunks=(50, 7))
    low = h5t.STD_I32LE.copy()
    low.set_precision(20)
    made = h5d.create(group.id, b"precision", low, h5s.create_simple((2000,)))
    made.write(h5s.ALL, h5s.ALL, np.arange(2000, dtype="<i4"))
    bits = h5d.create(group.id, b"bitfield", h5t.STD_B16BE, h5s.create_simple((1500,)))
    bits.write(h5s.ALL, h5s.ALL, np.arange(1500, dtype=">u2"), mtype=h5t.STD_B16BE)


def write_layouts(file: h5py.File) -> None:
    group = file.create_group("layouts")
    data = numbers("<i4")
    group["scalar"] = 4.5
    group["empty"] = np.zeros((0, 3), "<f4")
    group["null"] = h5py.Empty("<f4")
    group.create_dataset("resizable", data=data, maxshape=(None, None), chunks=(64, 3))
    group.create_dataset("edges", data=data, chunks=(77, 5), compression="gzip")
    for name, index in {"one-chunk": (300, 7), "by-row": (1, 7)}.items():
        group.create_dataset(name, data=data, chunks=index, fletcher32=True)
    filled = group.create_dataset("filled", (3000,), "<f4", chunks=(100,), fillvalue=-7.5)
    filled[250:300] = 1
    group.create_dataset("never-written", (3000,), ">i2", fillvalue=-3)
    group.create_dataset("nan", (3000,), "<f8", chunks=(1000,), fillvalue=np.nan)
    shrunk = group.create_dataset("shrunk", data=np.arange(3000), chunks=(100,), maxshape=(None,))
    shrunk.resize((1234,))
    compact = h5p.create(h5p.DATASET_CREATE)
    compact.set_layout(h5d.COMPACT)
    made = h5d.create(group.id, b"compact", h5t.STD_I16LE, h5s.create_simple((2000,)), compact)
    made.write(h5s.ALL, h5s.ALL, np.arange(2000, dtype="<i2"))
    some = group.create_dataset("masked", (4000,), "<i4", chunks=(1000,), compression="gzip", shuffle=True)
    some[...] = np.arange(4000)
    some.id.write_direct_chunk((1000,), np.arange(7, 1007, dtype="<i4").tobytes(), filter_mask=3)
    every = group.create_dataset("all-masked", (4000,), "<i4", chunks=(1000,), compression="gzip", shuffle=True)
    for start in range(0, 4000, 1000):
        every.id.write_direct_chunk((start,), np.arange(start, start + 1000, dtype="<i4").tobytes(), filter_mask=3)


def write_filters(file: h5py.File) -> None:
    group = file.create_group("filters")
    data = numbers("<i4")
    group.create_dataset("shuffle", data=data, chunks=(64, 7), shuffle=True)
    group.create_dataset("fletcher32", data=data, chunks=(64, 7), fletcher32=True)
    group.create_dataset("all", data=data, chunks=(64, 7), fletcher32=True, shuffle=True, compression="gzip")
    group.create_dataset("lzf", data=data, chunks=(64, 7), compression="lzf")
    group.create_dataset("scaleoffset", data=data, chunks=(64, 7), scaleoffset=0)
    if h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
        group.create_dataset("szip", data=data, chunks=(64, 7), compression="szip")
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk((500,))
    properties.set_filter(h5py.h5z.FILTER_NBIT)
    low = h5t.STD_I32LE.copy()
    low.set_precision(20)
    made = h5d.create(group.id, b"n-bit", low, h5s.create_simple((2000,)), properties)
    made.write(h5s.ALL, h5s.ALL, np.arange(2000, dtype="<i4"))


def write_text(file: h5py.File) -> None:
    group = file.create_group("text")
    group["scalar"] = "µV, one"
    group["ascii"] = np.array([b"a", b"", b"longer"], dtype=h5py.string_dtype("ascii"))
    group.create_dataset(
        "utf-8", data=["µ", "", "日本"] * 40, dtype=h5py.string_dtype(), chunks=(7,), compression="gzip"
    )
    group["fixed"] = np.array([b"ab", b"c", b""] * 500, "S4")
    group.create_dataset("fixed-chunked", data=np.array([b"ab", b"c"] * 600, "S2"), chunks=(100,), compression="gzip")
    group["fixed-utf-8"] = np.array(["µ".encode()] * 3, dtype=h5py.string_dtype("utf-8", 5))
    group["latin-1"] = np.array(["Grün".encode("latin-1")], dtype=h5py.string_dtype("utf-8"))
    ended = h5t.C_S1.copy()
    ended.set_size(6)
    made = h5d.create(group.id, b"ended-by-nul", ended, h5s.create_simple((1200,)))
    made.write(h5s.ALL, h5s.ALL, np.array([b"ab"] * 1200, "S6"))
    group["two-dimensions"] = np.array([["a", "b"], ["c", "d"]], dtype=h5py.string_dtype())


def write_compounds(file: h5py.File) -> None:
    group = file.create_group("compounds")
    plain = np.dtype([("x", "<i4"), ("y", "<f8"), ("b", "S3")])
    group["small"] = np.array([(i, i / 2, b"abc") for i in range(5)], plain)
    many = np.zeros(3000, plain)
    many["x"] = np.arange(3000)
    group.create_dataset("chunked", data=many, chunks=(500,), compression="gzip")
    group["contiguous"] = many
    group["scalar"] = np.array((1, 2.5, b"z"), plain)
    group["big-endian"] = np.array([(1, 2)] * 1500, [("x", ">i4"), ("y", ">f8")])
    group["padded"] = np.array([(1, 2)] * 1500, np.dtype([("x", "i1"), ("y", "<f8")], align=True))
    inner = np.dtype([("a", "<i2"), ("b", "<f4")])
    group["nested"] = np.array([((1, 2), 3)] * 1200, [("in", inner), ("n", "u1")])
    group["arrays"] = np.array([([1, 2, 3], [[1, 2], [3, 4]])] * 1100, [("v", "<f4", 3), ("m", "<i2", (2, 2))])
    group["nested-arrays"] = np.array([([(1, 2), (3, 4)],)] * 4, [("v", inner, 2)])
    mixed = np.dtype([("name", h5py.string_dtype()), ("object", h5py.ref_dtype), ("n", "<i4")])
    group["text-and-references"] = np.array([("one", group.ref, 1), ("twö", file.ref, 2)], mixed)
    made = group.create_dataset("array-elements", (1500, 2), np.dtype(("<i4", (3,))))
    made[...] = np.arange(9000).reshape(1500, 2, 3)


def write_links(file: h5py.File) -> None:
    group = file.create_group("links")
    group["data"] = numbers("<i2")
    group["also"] = group["data"]
    group["soft"] = h5py.SoftLink("/links/data")
    group["relative"] = h5py.SoftLink("data")
    group["broken"] = h5py.SoftLink("/nowhere")
    group["away"] = h5py.ExternalLink("other.h5", "/x")
    group["up"] = file["/"]
    group.create_group("inner")["back"] = group
    group["references"] = np.array([group.ref, group["data"].ref, file["types"].ref], dtype=h5py.ref_dtype)
    group["type"] = np.dtype("<i4")


def write_scales(file: h5py.File) -> None:
    group = file.create_group("scales")
    group["data"] = numbers("<i2")
    group["time"] = np.arange(300.0)
    group["channel"] = np.arange(7)
    for axis, name in enumerate(("time", "channel")):
        group[name].make_scale(name)
        group["data"].dims[axis].attach_scale(group[name])


def write_attributes(file: h5py.File) -> None:
    group = file.create_group("attributes")
    group.attrs["int"] = np.int16(-3)
    group.attrs["unsigned"] = np.uint64(2**64 - 1)
    group.attrs["float"] = np.float32(0.25)
    group.attrs["not-finite"] = np.array([np.nan, np.inf, -np.inf])
    group.attrs["bool"] = np.True_
    group.attrs["array"] = np.arange(6, dtype=">i4").reshape(2, 3)
    group.attrs["text"] = "µV"
    group.attrs["called-nan"] = "NaN"
    group.attrs["texts"] = ["a", "µ"]
    group.attrs["bytes"] = np.bytes_(b"abc")
    group.attrs["many-bytes"] = np.array([b"abc", b"d"])
    group.attrs["reference"] = file["types"].ref
    group.attrs["references"] = np.array([group.ref, file.ref], dtype=h5py.ref_dtype)
    group.attrs["complex"] = 1 + 2j
    group.attrs["compound"] = np.array((1, 2.5), [("x", "<i4"), ("y", "<f8")])
    group.attrs["lists"] = np.array([np.arange(2), np.arange(3)], dtype=h5py.vlen_dtype("<i4"))
    group.attrs["empty"] = np.zeros(0, "<f4")
    if file.libver[0] != "earliest":  # more than the 64 KiB that an object header of the old form has room for
        group.attrs["large"] = np.arange(20_000, dtype="<i4")


def write_untranslatable(file: h5py.File) -> None:
    group = file.create_group("not")
    group["opaque"] = np.array([b"ab", b"cd"], "V2")
    group.create_dataset("lists", (2,), h5py.vlen_dtype("<i4"))
    group["regions"] = np.array([file["links/data"].regionref[:2]], dtype=h5py.regionref_dtype)
    group.create_dataset("external", (3000,), "<i4", external="other.bin")
    layout = h5py.VirtualLayout((10,), "<i4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (10,))
    group.create_virtual_dataset("virtual", layout)


@pytest.fixture(scope="session", params=["earliest", "latest"])
def torture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, in HDF5's oldest and newest forms; behind a user block."""
    path = tmp_path_factory.mktemp(request.param) / "torture.h5"
    with h5py.File(path, "w", libver=request.param, userblock_size=1024) as file:
        write_types(file)
        write_layouts(file)
        write_filters(file)
        write_text(file)
        write_compounds(file)
        write_links(file)
        write_scales(file)
        write_attributes(file)
        write_untranslatable(file)
    return path
