"""Damaged reference files: an error with a name, or what an independent reading of the damaged file gives.

`FUZZ_EXAMPLES=20000 pytest tests/refs/test_fuzz.py` tries more, each time other ones.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import os
import re
import tarfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import jinja2
import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lindi_dask as ld
from lindi_dask.errors import LindiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

DATA = Path(__file__).parent.parent / "data"
SESSION = DATA / "session.nwb"
RAW = DATA / "peers" / "raw.bin"
MAX_NBYTES = 2**22  # of an array that is read whole; of others, the beginning
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def fuzz(examples: int) -> settings:
    """So many examples in each run, always the same; or as many as were asked for."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# An independent reading of what lies in a reference file: no module of lindi_dask is used


class Unclear(Exception):
    """The document is not one that this plain reading understands: then it must be an error for us, too."""


@dataclass
class Layout:
    """What a document says of an array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    fill: Any
    key: Callable[[tuple[int, ...]], str]
    decoded: Callable[[bytes], NDArray[Any]]


@dataclass
class Reading:
    """The arrays of a reference file, by json, jinja2 and numcodecs alone."""

    refs: dict[str, Any]
    templates: dict[str, Any]
    selections: dict[str, Any]
    files: Callable[[str], bytes]
    """returns the content of what a URL means"""

    @classmethod
    def of(cls, content: bytes, files: Callable[[str], bytes]) -> Reading:
        document = json.loads(content)
        if "refs" not in document:
            return cls(document, {}, {}, files)
        found = cls(dict(document["refs"]), document.get("templates") or {}, document.get("selections") or {}, files)
        for entry in document.get("gen") or []:
            ranges = [
                values if isinstance(values, list) else range(*(values.get(k, d) for k, d in START_STOP_STEP))
                for values in entry["dimensions"].values()
            ]
            for combination in itertools.product(*ranges):
                scope = dict(zip(entry["dimensions"], combination, strict=True))
                url, *numbers = (found.text(str(entry[k]), scope) for k in ("url", "offset", "length") if k in entry)
                found.refs[found.text(entry["key"], scope)] = [url, *map(int, numbers)]
        return found

    def text(self, text: str, scope: dict[str, Any]) -> str:
        """Return a text with its templates used, by Jinja."""
        if "{{" not in text:
            return text
        made: dict[str, Any] = {}
        for name, template in self.templates.items():
            made[name] = template if "{{" not in template else jinja2.Template(template).render
        return str(jinja2.Template(text, undefined=jinja2.StrictUndefined).render(**made, **scope))

    def document(self, key: str) -> dict[str, Any]:
        value = self.refs.get(key, {})
        found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return found

    def values(self, path: str, first: tuple[int, ...] | None) -> NDArray[Any]:
        """Return an array, or its first elements along each dimension."""
        folder = f"{path}/" if path else ""
        is_v3 = f"{folder}zarr.json" in self.refs
        layout = self.layout_3(folder) if is_v3 else self.layout_2(folder)
        first = layout.shape if first is None else first
        out = np.full(first, layout.fill, layout.dtype)
        for chunk in np.ndindex(*(-(-n // size) for n, size in zip(first, layout.chunks, strict=True))):
            value = self.refs.get(layout.key(chunk))
            if value is not None:
                data = self.encoded(value)
                if path in self.selections and isinstance(value, list):
                    data = selected(data, self.selections[path])
                part = layout.decoded(data)
                begin = [i * size for i, size in zip(chunk, layout.chunks, strict=True)]
                region = tuple(slice(b, min(b + s, n)) for b, s, n in zip(begin, layout.chunks, first, strict=True))
                out[region] = part[tuple(slice(0, r.stop - r.start) for r in region)]
        return out

    def encoded(self, value: Any) -> bytes:
        match value:
            case str() if value.startswith("base64:"):
                return base64.b64decode(value[7:], validate=True)
            case str():
                return value.encode()
            case dict():
                return json.dumps(value).encode()
            case [str(url)]:
                return self.files(self.text(url, {}))
            case [str(url), int(offset), int(length)]:
                content = self.files(self.text(url, {}))
                if 0 <= offset <= offset + length <= len(content):
                    return content[offset : offset + length]
        raise Unclear(value)

    def layout_2(self, folder: str) -> Layout:
        zarray, zattrs = self.document(f"{folder}.zarray"), self.document(f"{folder}.zattrs")
        given = zarray["dtype"]
        given = [tuple(part) for part in given] if isinstance(given, list) else given
        dtype: np.dtype[Any] = np.dtype("O" if "_COMPOUND_DTYPE" in zattrs else given)
        chunks, fill = tuple(zarray["chunks"]), zarray.get("fill_value")
        filters, compressor = zarray.get("filters") or [], zarray.get("compressor")
        steps = [*filters, *([compressor] if compressor else [])]
        if dtype.kind == "S" and fill:
            fill = base64.b64decode(fill)
        if dtype.kind in "OUS":
            fill = "" if fill in (None, 0) else fill

        def decoded(data: Any) -> NDArray[Any]:
            for step in reversed(steps):
                data = numcodecs_decoded(step, data)
            if dtype.kind == "O":
                items = np.ravel(np.asarray(data, object)).tolist()
                plain = np.empty(len(items), object)
                plain[:] = items if "_COMPOUND_DTYPE" in zattrs else [text(item) for item in items]
                return plain.reshape(chunks)
            return placed(data, dtype, chunks, order=zarray.get("order") or "C", padded=not steps)

        def key(chunk: tuple[int, ...]) -> str:
            named = folder + ((zarray.get("dimension_separator") or ".").join(map(str, chunk)) or "0")
            return folder if named not in self.refs and not chunk else named  # VirtualiZarr calls it so

        return Layout(
            dtype, tuple(zarray["shape"]), chunks, fill or (0 if dtype.kind not in "OUS" else ""), key, decoded
        )

    def layout_3(self, folder: str) -> Layout:
        document = self.document(f"{folder}zarr.json")
        name, encoding = document["data_type"], document["chunk_key_encoding"]
        chunks = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
        dtype = structured(name) if isinstance(name, dict) else np.dtype("O" if name == "string" else name)
        fill = document["fill_value"]
        if dtype.names:
            fill = np.frombuffer(base64.b64decode(fill), dtype)[0]
        separator = encoding.get("configuration", {}).get("separator", "/" if encoding["name"] == "default" else ".")
        prefix = ["c"] if encoding["name"] == "default" else []
        padded = [codec["name"] for codec in document["codecs"]] == ["bytes"]

        def decoded(data: Any) -> NDArray[Any]:
            array = np.empty(0)
            for codec in reversed(document["codecs"]):
                configuration = codec.get("configuration", {})
                match codec["name"].removeprefix("numcodecs."):
                    case "bytes":
                        stored = dtype.newbyteorder(configuration.get("endian", "little"))
                        array = placed(data, stored, chunks, order="C", padded=padded)
                    case "vlen-utf8":
                        array = numcodecs.VLenUTF8().decode(data).reshape(chunks)
                    case "shuffle":
                        data = numcodecs_decoded(
                            {"elementsize": dtype.itemsize, **configuration, "id": "shuffle"}, data
                        )
                    case "blosc" | "gzip" | "zstd" as known if "." not in codec["name"]:
                        data = numcodecs.get_codec({"id": known}).decode(data)
                    case other:
                        data = numcodecs_decoded({**configuration, "id": other}, data)
            return array

        def key(chunk: tuple[int, ...]) -> str:
            return folder + (separator.join([*prefix, *map(str, chunk)]) or "0")

        return Layout(dtype, tuple(document["shape"]), chunks, fill, key, decoded)


def structured(data_type: dict[str, Any]) -> np.dtype[Any]:
    fields = data_type["configuration"]["fields"]
    pairs = [(field["name"], field["data_type"]) if isinstance(field, dict) else tuple(field) for field in fields]
    return np.dtype([(name, np.dtype(kind).newbyteorder("<")) for name, kind in pairs])


START_STOP_STEP = (("start", 0), ("stop", 0), ("step", 1))


def numcodecs_decoded(step: dict[str, Any], data: Any) -> Any:
    # What else json2 has is for writing
    used = {name for name in step if step["id"] != "json2" or name in {"id", "encoding", "strict"}}
    codec = numcodecs.get_codec({name: step[name] for name in used})
    return unshuffled(data, codec.elementsize) if step["id"] == "shuffle" else codec.decode(data)


def placed(data: Any, dtype: np.dtype[Any], chunks: tuple[int, ...], *, order: Any, padded: bool) -> NDArray[Any]:
    held = data.tobytes() if isinstance(data, np.ndarray) else bytes(data)
    if padded:
        held = held.ljust(math.prod(chunks) * dtype.itemsize, b"\0")  # the end of a contiguous dataset
    return np.frombuffer(held, dtype).reshape(chunks, order=order)


def selected(data: bytes, selection: dict[str, Any]) -> bytes:
    size, keep = selection["record_size"], selection["keep"]
    records = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(record[start:stop] for record in records for start, stop in keep)


def unshuffled(data: Any, itemsize: int) -> bytes:
    """As HDF5 does it, and unlike numcodecs: what does not fill an item stays at the end."""
    held = np.frombuffer(data, np.uint8)
    count = len(held) // itemsize
    return held[: count * itemsize].reshape(itemsize, count).T.tobytes() + held[count * itemsize :].tobytes()


def text(item: Any) -> str:
    match item:
        case {"_REFERENCE": {"path": str(path)}}:
            return path
        case None:
            return ""
    return str(item)


def local_file(url: str) -> bytes:
    if Path(url) not in (SESSION, RAW):
        raise Unclear(url)
    return Path(url).read_bytes()


# Samples: files of LINDI, kerchunk, VirtualiZarr and zarrshadow; of some, a few arrays of each kind

FEW = re.compile(
    r"[^/]*|acquisition/ElectricalSeries/.*|acquisition/contiguous/.*|acquisition/TwoPhotonSeries/imaging_plane/.*"
    r"|general/optophysiology/plane/.*|general/extracellular_ephys/electrodes/(group|x|location|[.z].*)/?.*"
    r"|processing/ecephys/LFP/LFP/(data/([.z].*|(c/)?[0-9][./]0)|electrodes/.*|timestamps/.*)"
    r"|processing/behavior/Position/position/.*|processing/ophys/ImageSegmentation/rois/pixel_mask.*"
    r"|identifier/.*|general/keywords/.*|intervals/trials/.*"
)
NAME = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
ARCHIVED = f"https://api.dandiarchive.org/api/assets/{NAME}/download/"
BY_NAME = "https://api.dandiarchive.org/api/assets/{{c}}/download/"


def sample(name: str) -> bytes:
    """A reference file of local files, of some of its arrays."""
    document: dict[str, Any] = json.loads((DATA / name).read_bytes())
    if name.startswith(("session", "peers/session", "peers/kerchunk")):
        document["refs"] = {key: value for key, value in document["refs"].items() if FEW.fullmatch(key)}
    content = json.dumps(document, indent=2, sort_keys=True)
    content = content.replace(ARCHIVED, str(RAW if "records" in name else SESSION))
    return content.replace(BY_NAME, f"{DATA}/{{{{c}}}}.nwb").replace(NAME, "session").encode()


SAMPLES = {
    name: sample(name)
    for name in (
        "session.expanded.lindi.json",
        "session.lindi.json",
        "peers/kerchunk.json",
        "peers/kerchunk.gen.json",
        "peers/session.zarrshadow.json",
        "peers/records.zarrshadow.json",
        "peers/virtualizarr.trials.json",
        "peers/virtualizarr.position.zarr3.json",
        "peers/virtualizarr.electrodes.zarr3.json",
    )
}


# What may become of a file


@dataclass(frozen=True)
class Damage:
    """One of the things that happen to files; a small value, so that a failing example can be read."""

    kind: str
    at: int
    span: int
    to: int
    new: str

    def apply(self, content: bytes) -> bytes:
        """Return the content after it."""
        at, to = self.at % max(len(content), 1), self.to % (len(content) + 1)
        before, piece, behind = content[:at], content[at : at + self.span], content[at + self.span :]
        match self.kind:
            case "flip":
                return before + bytes([byte ^ 1 << self.to % 8 for byte in piece[:1]]) + content[at + 1 :]
            case "set":
                return before + self.new.encode() + content[at + 1 :]
            case "delete":
                return before + behind
            case "double":
                return before + piece + piece + behind
            case "copy":
                return content[:to] + piece + content[to:]
            case "number":
                return self._number(content, at)
            case _:
                return self._lines(content, at, to)

    def _number(self, content: bytes, at: int) -> bytes:
        found = NUMBER.search(content, at)
        if found is None:
            return content
        number = int(float(found[0][:18]))
        changed = {"+1": number + 1, "-1": number - 1, "*2": number * 2, "/2": number // 2, "neg": -number}
        new = changed.get(self.new, self.new)
        return content[: found.start()] + str(new).encode() + content[found.end() :]

    def _lines(self, content: bytes, at: int, to: int) -> bytes:
        """Swap two lines, which are keys and values, or drop one."""
        lines = content.split(b"\n")
        first, second = (content.count(b"\n", 0, place) for place in (at, to))
        if self.kind == "drop":
            del lines[first]
        else:
            lines[first], lines[second] = lines[second], lines[first]
        return b"\n".join(lines)


NUMBER = re.compile(rb"(?<=[\s\[.\"/])-?\d+(?:\.\d+)?")
SIGNS = ['"', "\\", "[", "]", "{", "}", ",", ":", "0", "-", ".", "/", "\0"]
ODD = ["NaN", "1e400", "1.0", "-0", str(2**63), str(2**64), "true", "null", '"1"', "[]", "{}", "1" * 5000]
NUDGES = ["+1", "-1", "*2", "/2", "neg"]
damages = st.builds(
    Damage,
    kind=st.sampled_from(["flip", "set", "delete", "double", "copy", "number", "number", "swap", "drop"]),
    at=st.integers(0, 2**20),
    span=st.sampled_from([1, 2, 3, 8, 40, 400, 4000]),
    to=st.integers(0, 2**20),
    new=st.sampled_from(SIGNS + ODD + 3 * NUDGES),
)


def damaged(content: bytes, damage: list[Damage]) -> bytes:
    for one in damage:
        content = one.apply(content)
    return content


# Reading, ours


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(), dask.config.set({"lindi-dask.index-cache": False}):
        warnings.simplefilter("ignore")  # of what a damaged document may say
        yield


def opened(path: Path) -> ld.store.LindiStore | None:
    try:
        return ld.open_store(path, allow=[str(DATA)])
    except LindiError as error:
        check_message(error)
        return None


def check_message(error: LindiError) -> None:
    assert 20 < len(str(error)) < 20_000, str(error)[:1000]


def beginning(array: zarr.Array[Any]) -> tuple[int, ...] | None:
    """Return the extents of the part that is read, or None for all of it."""
    itemsize = array.dtype.itemsize
    if math.prod(array.shape) * itemsize <= MAX_NBYTES:
        return None
    return tuple(min(extent, 3) for extent in array.shape)


def check(content: bytes, path: Path, files: Callable[[str], bytes] | None, document: bytes | None = None) -> int:
    """Compare all arrays with a plain reading of the file, or of its document; return how many could be read."""
    path.write_bytes(content)
    store = opened(path)
    if store is None:
        return 0
    read, plain = 0, None
    zarr.open_group(store, mode="r", zarr_format=3).attrs.asdict()
    for name in store.references.manifests:
        try:
            store.check_readable(name)
            array = zarr.open_array(store, path=name, mode="r", zarr_format=3)
            if math.prod(array.chunks) * array.dtype.itemsize > 2**26:
                continue
            first = beginning(array)
            ours = np.asarray(array[...] if first is None else array[tuple(slice(0, n) for n in first)])
        except LindiError as error:
            check_message(error)
            continue
        read += 1
        if files is not None:
            plain = plain or Reading.of(content if document is None else document, files)
            assert_equal(ours, plain.values(name, first).reshape(ours.shape), name)
    return read


def assert_equal(ours: NDArray[Any], theirs: NDArray[Any], name: str) -> None:
    if theirs.dtype.kind in "biufc":
        assert ours.dtype == theirs.dtype.newbyteorder("="), name
        assert ours.tobytes() == theirs.astype(ours.dtype).tobytes(), name
    elif ours.dtype.names:
        zeros = np.zeros((), ours.dtype).item()  # in place of an empty text
        assert [tuple(row) or zeros for row in theirs.ravel().tolist()] == ours.ravel().tolist(), name
    else:
        assert ours.ravel().tolist() == theirs.ravel().tolist(), name


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_read_as_plain_tools_read_them(name: str, folder: Path) -> None:
    refs = json.loads(SAMPLES[name])["refs"]
    documents = {key: value if isinstance(value, str) else json.dumps(value) for key, value in refs.items()}
    arrays = sum(key.endswith(".zarray") or '"array"' in documents[key] for key in documents if "zarr" in key[-9:])
    unexpanded = sum("_EXTERNAL_ARRAY_LINK" in document for document in documents.values())
    assert check(SAMPLES[name], folder / "x.json", local_file) == arrays - unexpanded > 0


@pytest.mark.parametrize("name", SAMPLES)
@given(damage=st.lists(damages, min_size=1, max_size=3))
@fuzz(40)
def test_a_damaged_file_is_an_error_or_reads_as_it_stands(name: str, folder: Path, damage: list[Damage]) -> None:
    check(damaged(SAMPLES[name], damage), folder / "x.json", local_file)


# A bundle


def bundle() -> bytes:
    """The sample bundle, of the local file; the bytes of each member stay where they are."""
    url = json.dumps(str(SESSION)).ljust(len(ARCHIVED) + 2).encode()
    return (DATA / "session.amended.lindi.tar").read_bytes().replace(json.dumps(ARCHIVED).encode(), url)


def member_or_file(content: bytes) -> Callable[[str], bytes]:
    """Return the content of a member of a tar, or of a local file."""

    def read(url: str) -> bytes:
        if url.startswith("/"):
            return local_file(url)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as file:
            member = file.extractfile(url.removeprefix("./"))
            assert member is not None
            return member.read()

    return read


def check_bundle(content: bytes, path: Path) -> int:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as file:
        member = file.extractfile("lindi.json")
        assert member is not None
        document = member.read()
    return check(content, path, member_or_file(content), document)


def test_the_bundle_reads_as_plain_tools_read_it(folder: Path) -> None:
    assert check_bundle(bundle(), folder / "x.tar") == 54


@given(damage=st.lists(damages, min_size=1, max_size=2))
@fuzz(30)
def test_a_damaged_bundle_is_an_error_or_reads_as_it_stands(folder: Path, damage: list[Damage]) -> None:
    content = damaged(bundle(), damage)
    try:
        check_bundle(content, folder / "x.tar")
    except (tarfile.TarError, KeyError):  # not one that tarfile reads: then it only may not fail otherwise
        check(content, folder / "x.tar", None)
