"""Writes the samples of kerchunk and VirtualiZarr here, from `session.nwb`. Runs in an environment of its own.

    python make_peers.py

wants Python 3.12 or newer (VirtualiZarr 2.8) with kerchunk 0.2.10, virtualizarr 2.8, fastparquet and pyarrow.
"""

from __future__ import annotations

import base64
import gc
import gzip
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import h5py
import kerchunk.df  # type: ignore[import-untyped]
import kerchunk.hdf  # type: ignore[import-untyped]
import numpy as np
from fsspec.implementations.reference import LazyReferenceMapper  # type: ignore[import-untyped]
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr import open_virtual_dataset
from virtualizarr.parsers import HDFParser

HERE = Path(__file__).parent
SESSION = HERE.parent / "session.nwb"
ASSET = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
URL = f"https://api.dandiarchive.org/api/assets/{ASSET}/download/"

# VirtualiZarr takes a group, not a file, and no object references, compounds, or dimensions of several sizes
GROUPS: dict[str, tuple[str, list[str]]] = {
    "ElectricalSeries": ("acquisition/ElectricalSeries", ["channel_conversion", "electrodes"]),
    "LFP": ("processing/ecephys/LFP/LFP", ["electrodes"]),
    "TwoPhotonSeries": ("acquisition/TwoPhotonSeries", []),
    "contiguous": ("acquisition/contiguous", []),
    "electrodes": ("general/extracellular_ephys/electrodes", ["filtering", "group"]),
    "position": ("processing/behavior/Position/position", []),
    "trials": ("intervals/trials", []),
}


def by_kerchunk(**options: Any) -> dict[str, Any]:
    with SESSION.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says which datasets it leaves out
        made = kerchunk.hdf.SingleHdf5ToZarr(file, url=URL, error="ignore", **options).translate()
    document: dict[str, Any] = json.loads(json.dumps(made))
    return document


def write(name: str, document: object) -> None:
    text = json.dumps(document).encode()
    (HERE / name).write_bytes(gzip.compress(text, mtime=0) if name.endswith(".gz") else text)


def kerchunk_json() -> None:
    write("kerchunk.json", by_kerchunk())
    write("kerchunk.noinline.json.gz", by_kerchunk(inline_threshold=0))
    for vlen_encode in ("null", "encode", "leave"):
        write(f"kerchunk.{vlen_encode}.json.gz", by_kerchunk(vlen_encode=vlen_encode))


def kerchunk_gen() -> None:
    """By hand, as kerchunk's specification has it: no package writes `gen`."""
    lfp, position = "processing/ecephys/LFP/LFP/timestamps", "processing/behavior/Position/position/timestamps"
    with h5py.File(SESSION) as file:
        data = file["acquisition/contiguous/data"]
        rows = 1000
        whole = len(data) // rows
        tail = np.zeros((rows, 3), "<f4")
        tail[: len(data) - whole * rows] = data[whole * rows :]
        starts = [file[path].id.get_offset() for path in ("acquisition/contiguous/data", lfp, position)]
    refs = {
        ".zgroup": '{"zarr_format":2}',
        "acquisition/contiguous/data/.zarray": zarray([100003, 3], [rows, 3], "<f4"),
        "acquisition/contiguous/data/.zattrs": '{"unit":"a.u.","_ARRAY_DIMENSIONS":["time","x"]}',
        f"acquisition/contiguous/data/{whole}.0": f"base64:{base64.b64encode(tail.tobytes()).decode()}",
        f"{lfp}/.zarray": zarray([40000], [1000], "<f8"),
        f"{position}/.zarray": zarray([5000], [250], "<f8"),
        "whole_file": ["{{u}}"],
    }
    for path in ("acquisition/contiguous/data", lfp, position):
        parts = path.split("/")[:-1]
        refs |= {f"{'/'.join(parts[: i + 1])}/.zgroup": '{"zarr_format":2}' for i in range(len(parts))}
    gen: list[dict[str, Any]] = [
        {
            "key": "acquisition/contiguous/data/{{i}}.{{j}}",
            "url": "{{u}}",
            "offset": f"{{{{{starts[0]} + i * {rows * 12}}}}}",
            "length": str(rows * 12),
            "dimensions": {"i": {"stop": whole}, "j": [0]},
        },
        {
            "key": f"{lfp}/{{{{i}}}}",
            "url": f"{{{{f(c='{ASSET}')}}}}",
            "offset": f"{{{{{starts[1]} + i * 8000}}}}",
            "length": "{{1000 * 8}}",
            "dimensions": {"i": {"start": 0, "stop": 40, "step": 1}},
        },
        {
            "key": f"{position}/{{{{i}}}}",
            "url": "{{u}}",
            "offset": f"{{{{(i * 250 * 8) + {starts[2]}}}}}",
            "length": "2000",
            "dimensions": {"i": [0, 1, 2, 3, *range(4, 20)]},
        },
    ]
    templates = {"u": URL, "f": URL.replace(ASSET, "{{c}}")}
    write("kerchunk.gen.json", {"version": 1, "templates": templates, "gen": gen, "refs": refs})


def zarray(shape: list[int], chunks: list[int], dtype: str) -> str:
    codecs = {"order": "C", "compressor": None, "filters": None, "fill_value": 0.0, "dimension_separator": "."}
    return json.dumps({"zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype, **codecs})


def kerchunk_parquet() -> None:
    document = by_kerchunk()
    options = {"kerchunk.parq": {}, "kerchunk.plain.parq": {"record_size": 500, "categorical_threshold": 10**9}}
    for name, option in options.items():
        kerchunk.df.refs_to_dataframe(json.loads(json.dumps(document)), str(fresh(name)), **option)
    mapper = LazyReferenceMapper.create(
        str(fresh("kerchunk.pyarrow.parq")), fs=fsspec.filesystem("file"), record_size=1000, engine="pyarrow"
    )
    for key in sorted(document["refs"]):
        mapper[key] = document["refs"][key]
    mapper.flush()


def fresh(name: str) -> Path:
    shutil.rmtree(HERE / name, ignore_errors=True)
    return HERE / name


def virtualizarr() -> None:
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    for name, (group, dropped) in GROUPS.items():
        parser = HDFParser(group=group, drop_variables=dropped)
        virtual = open_virtual_dataset(f"file://{SESSION}", registry=registry, parser=parser, loadable_variables=[])
        virtual = virtual.vz.rename_paths(URL)
        virtual.vz.to_kerchunk(str(HERE / f"virtualizarr.{name}.json"), format="json")
        virtual.vz.to_kerchunk(str(HERE / f"virtualizarr.{name}.zarr3.json"), format="json", zarr_format=3)
        # Its key of an array without dimensions, `name/`, is one that kerchunk.df can't write
        flat = virtual.drop_vars([key for key, variable in virtual.variables.items() if variable.ndim == 0])
        flat.vz.to_kerchunk(str(fresh(f"virtualizarr.{name}.parq")), format="parquet", record_size=500)


if __name__ == "__main__":
    gc.disable()  # in zarr's thread it can free an object of h5py, and wait for a lock of h5py's that kerchunk holds
    kerchunk_json()
    kerchunk_gen()
    kerchunk_parquet()
    virtualizarr()
