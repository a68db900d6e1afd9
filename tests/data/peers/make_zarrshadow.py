"""Writes the Zarr v3 samples here: documents as zarrshadow (formerly zindi) makes them, of `session.nwb` and `raw.bin`.

    python make_zarrshadow.py

zarrshadow's writer is not published, so this one follows its README and tests (https://github.com/bendichter/zarrshadow):
large datasets have their chunks in `indexes`, contiguous ones theirs in `gen`, small ones, text and object references
stand in the document. Wants h5py, numcodecs and zarr 3.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import shutil
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from zarr.codecs import BloscCodec

HERE = Path(__file__).parent
SESSION = HERE.parent / "session.nwb"
URL = "https://api.dandiarchive.org/api/assets/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/download/"
MISSING = 2**64 - 1
SLAB = 65536  # bytes of a contiguous dataset that make a chunk
INDEXED = 1000  # chunks from which an array gets an index
LITTLE = [{"name": "bytes", "configuration": {"endian": "little"}}]


class Document:
    """A document as it grows."""

    def __init__(self) -> None:
        self.refs: dict[str, Any] = {}
        self.gen: list[dict[str, Any]] = []
        self.indexes: dict[str, tuple[str, Any]] = {}
        self.selections: dict[str, Any] = {}
        self.sources: dict[str, Any] = {}

    def group(self, path: str, attributes: dict[str, Any] | None = None) -> None:
        self._node(path, {"zarr_format": 3, "node_type": "group", "attributes": attributes or {}})

    def array(self, path: str, shape: Any, data_type: Any, chunks: Any, **members: Any) -> None:
        layout = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [int(extent) for extent in shape],
            "data_type": data_type,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [int(extent) for extent in chunks]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": LITTLE,
            "attributes": {},
            "storage_transformers": [],
        }
        self._node(path, layout | members)

    def _node(self, path: str, node: dict[str, Any]) -> None:
        self.refs[f"{path}/zarr.json" if path else "zarr.json"] = json.dumps(node, separators=(",", ":"))

    def slabs(self, path: str, url: str, start: int, shape: Any, rows: int, row_nbytes: int, size: int = 0) -> None:
        """Cut a contiguous dataset, or records, along the first dimension.

        The last slab is as long as the others where the file is (of `size` bytes), else it ends where the data do.
        """
        rest, nbytes = [0] * (len(shape) - 1), rows * row_nbytes
        whole, over = divmod(shape[0], rows)
        if over and start + (whole + 1) * nbytes <= size:
            whole, over = whole + 1, 0
        key = "/".join([f"{path}/c", "{{i}}", *map(str, rest)])
        entry = {"key": key, "url": url, "offset": f"{{{{{start} + i * {nbytes}}}}}", "length": str(nbytes)}
        self.gen.append(entry | {"dimensions": {"i": {"stop": whole}}})
        if over:
            self.refs[chunk_key(path, [whole, *rest])] = [url, start + whole * nbytes, over * row_nbytes]

    def write_folder(self, name: str) -> None:
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        indexes = {path: {"url": url, "index": f"index/{path}"} for path, (url, _) in self.indexes.items()}
        self._write(folder / "refs.json", {"version": 2, "refs": self.refs, "gen": self.gen, "indexes": indexes})
        store = zarr.storage.LocalStore(folder / "index")
        compressor = BloscCodec(cname="zstd", clevel=5, shuffle="shuffle", typesize=8)
        for path, (_, index) in self.indexes.items():
            options = {"shape": index.shape, "chunks": index.shape, "dtype": "uint64", "fill_value": MISSING}
            array = zarr.create_array(store, name=path, compressors=compressor, zarr_format=3, **options)
            array[...] = index

    def write_file(self, name: str) -> None:
        """All references in one document, those of `indexes` and `gen` too."""
        refs = dict(self.refs)
        for path, (url, index) in self.indexes.items():
            for place in np.argwhere(index[..., 0] != MISSING).tolist():
                refs[chunk_key(path, place)] = [url, *map(int, index[tuple(place)])]
        for entry in self.gen:
            start, step = map(int, entry["offset"].strip("{}").split(" + i * "))
            for i in range(entry["dimensions"]["i"]["stop"]):
                length = int(entry["length"])
                refs[entry["key"].replace("{{i}}", str(i))] = [entry["url"], start + i * step, length]
        self._write(HERE / name, {"version": 2 if self.selections else 1, "refs": refs})

    def _write(self, path: Path, members: dict[str, Any]) -> None:
        members |= {"selections": self.selections, "sources": self.sources}
        used = [value[0] for value in members["refs"].values() if isinstance(value, list)]
        templates = {url: f"u{i}" for i, url in enumerate(dict.fromkeys(u for u in used if used.count(u) >= 5))}
        members["refs"] = {
            key: [f"{{{{{templates[value[0]]}}}}}", *value[1:]]
            if isinstance(value, list) and value[0] in templates
            else value
            for key, value in members["refs"].items()
        }
        members["templates"] = {name: url for url, name in templates.items()}
        text = json.dumps({k: v for k, v in members.items() if v}, indent=2, sort_keys=True)
        path.write_text(f"{text}\n", "utf-8")


def chunk_key(path: str, place: Any) -> str:
    return "/".join([path, "c", *map(str, place)])


def inline(data: bytes) -> str:
    text = data.decode("latin-1")
    if not text.startswith("base64:") and all(32 <= byte < 127 or byte in b"\t\n\r" for byte in data):
        return text
    return f"base64:{base64.b64encode(data).decode()}"


def vlen_utf8(texts: list[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    return struct.pack("<I", len(texts)) + b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def described(content: bytes) -> dict[str, Any]:
    """Return what `sources` says of a file on DANDI: its size, and S3's ETag of an upload in one part."""
    digest = hashlib.md5(hashlib.md5(content).digest()).hexdigest()
    return {"size": len(content), "etag": f'"{digest}-1"'}


# HDF5


def session() -> Document:
    made = Document()
    made.sources[URL] = described(SESSION.read_bytes())
    with h5py.File(SESSION) as file:
        add_group(made, file, "")
    return made


def add_group(made: Document, group: Any, path: str) -> None:
    links = {name: group.get(name, getlink=True) for name in group}
    attributes = attributes_of(group)
    soft = [{"name": n, "source": ".", "path": at.path} for n, at in links.items() if isinstance(at, h5py.SoftLink)]
    made.group(path, attributes | ({"_LINKS": soft} if soft else {}))
    for name in group:
        below = f"{path}/{name}".lstrip("/")
        if isinstance(links[name], h5py.SoftLink):
            continue
        if isinstance(group[name], h5py.Group):
            add_group(made, group[name], below)
        elif group[name].dtype.kind in "OS":
            add_text(made, group[name], below)
        else:
            add_numbers(made, group[name], below)


def attributes_of(node: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in node.attrs.items():
        if isinstance(value, h5py.Reference):
            found[name] = {"_REFERENCE": {"source": ".", "path": node.file[value].name}}
        elif isinstance(value, np.generic | np.ndarray):
            found[name] = value.tolist()
        else:
            found[name] = value
    return found


def add_text(made: Document, dataset: Any, path: str) -> None:
    if h5py.check_ref_dtype(dataset.dtype) is None:
        kind, texts = "str", np.ravel(dataset.asstr()[()]).tolist()
    else:
        kind, texts = "object_reference", [dataset.file[reference].name for reference in dataset[()].flat]
    attributes = attributes_of(dataset) | {"_DTYPE": kind}
    codecs = [{"name": "vlen-utf8", "configuration": {}}]
    shape = dataset.shape
    made.array(path, shape, "string", shape, fill_value="", codecs=codecs, attributes=attributes)
    made.refs[chunk_key(path, [0] * dataset.ndim)] = inline(vlen_utf8(texts))


def add_numbers(made: Document, dataset: Any, path: str) -> None:
    shape, dtype = dataset.shape, dataset.dtype
    attributes = attributes_of(dataset)
    if dtype.names:
        fields = [{"name": name, "data_type": dtype[name].name} for name in dtype.names]
        data_type: Any = {"name": "struct", "configuration": {"fields": fields}}
        fill: Any = base64.b64encode(bytes(dtype.itemsize)).decode()
    else:
        data_type, fill = dtype.name, dataset.fillvalue.item()
        attributes["_DTYPE"] = data_type
    members = {"fill_value": fill, "attributes": attributes}
    if dataset.size < 1000:
        made.array(path, shape, data_type, shape, **members)
        made.refs[chunk_key(path, [0] * dataset.ndim)] = inline(np.asarray(dataset[()]).tobytes())
    elif dataset.chunks is None:
        row = dtype.itemsize * math.prod(shape[1:])
        rows = min(SLAB // row, shape[0])
        made.array(path, shape, data_type, [rows, *shape[1:]], **members)
        made.slabs(path, URL, dataset.id.get_offset(), shape, rows, row, SESSION.stat().st_size)
    else:
        made.array(path, shape, data_type, dataset.chunks, codecs=codecs_of(dataset), **members)
        add_chunks(made, dataset, path)


def codecs_of(dataset: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = list(LITTLE)
    if dataset.shuffle:
        found.append({"name": "numcodecs.shuffle", "configuration": {"elementsize": dataset.dtype.itemsize}})
    if dataset.compression == "gzip":
        found.append({"name": "numcodecs.zlib", "configuration": {"level": dataset.compression_opts}})
    if dataset.fletcher32:
        found.append({"name": "numcodecs.fletcher32", "configuration": {}})
    return found


def add_chunks(made: Document, dataset: Any, path: str) -> None:
    grid = [-(-extent // chunk) for extent, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    index = np.full((*grid, 2), MISSING, np.uint64)

    def add(info: Any) -> None:
        place = tuple(start // chunk for start, chunk in zip(info.chunk_offset, dataset.chunks, strict=True))
        index[place] = info.byte_offset, info.size

    dataset.id.chunk_iter(add)
    if math.prod(grid) > INDEXED:
        made.indexes[path] = URL, index
        return
    for place in np.argwhere(index[..., 0] != MISSING).tolist():
        made.refs[chunk_key(path, place)] = [URL, *map(int, index[tuple(place)])]


# Records


def records() -> Document:
    """Return references of `raw.bin`: 1009 records of six int16 behind 100 bytes of something else."""
    values = np.random.default_rng(1).integers(-2000, 2000, (1009, 6)).astype("<i2")
    content = b"\7" * 100 + values.tobytes()
    (HERE / "raw.bin").write_bytes(content)
    made = Document()
    made.sources[URL] = {"size": len(content)}
    made.group("")
    made.array("whole", values.shape, "int16", [100, 6])
    made.slabs("whole", URL, 100, values.shape, 100, 12)
    made.array("columns", [1009, 3], "int16", [100, 3])
    made.selections["columns"] = {"record_size": 12, "keep": [[8, 10], [0, 4]]}
    made.slabs("columns", URL, 100, values.shape, 100, 12)
    made.array("indexed", values.shape, "int16", [100, 6], fill_value=-1)
    index = np.full((11, 1, 2), MISSING, np.uint64)
    for i in (0, 1, 2, 3, 5, 6, 7, 8, 9):
        index[i, 0] = 100 + i * 1200, 1200
    made.indexes["indexed"] = URL, index
    return made


if __name__ == "__main__":
    for name, document in (("session", session()), ("records", records())):
        document.write_folder(f"{name}.zarrshadow")
        document.write_file(f"{name}.zarrshadow.json")
