"""Reference files that are broken or hostile: each is refused with what is wrong and where, at bounded memory.

Each is opened as a user would, in a process of its own whose memory and time are limited; `CASES` has the messages.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numcodecs
import pytest

import lindi_dask as ld
from lindi_dask.errors import SourceMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lindi_dask.testing import EmbeddedArchive

    Content = dict[str, Any] | Callable[[], bytes] | bytes

URL = "https://example.org/session.nwb"
SESSION = Path(__file__).parent.parent / "data" / "session.nwb"
SESSION_NBYTES = 5_504_845
LIMIT = 400 * 2**20
"""bytes of address space that a case may take beyond what is taken when all is imported"""

ARRAY = {
    "zarr_format": 2,
    "shape": [8],
    "chunks": [2],
    "dtype": "<i4",
    "fill_value": 0,
    "order": "C",
    "filters": None,
    "compressor": None,
}
ZLIB = {**ARRAY, "compressor": {"id": "zlib", "level": 4}}
TEXT = {**ZLIB, "dtype": "|O", "filters": [{"id": "json2"}]}
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
ARRAY_3 = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [8],
    "data_type": "int32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [LITTLE],
    "attributes": {},
}
SHARDS = {"chunk_shape": [1], "codecs": [LITTLE, {"name": "numcodecs.pickle"}], "index_codecs": [LITTLE]}


def references(array: dict[str, Any] = ARRAY, entries: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A document with one array, `/a`."""
    return {"refs": {".zgroup": {"zarr_format": 2}, "a/.zarray": array, **(entries or {})}, **members}


def references_3(codecs: list[dict[str, Any]]) -> dict[str, Any]:
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    return {"refs": {"zarr.json": group, "a/zarr.json": {**ARRAY_3, "codecs": codecs}}}


def inline(data: bytes) -> str:
    return "base64:" + base64.b64encode(data).decode()


def tar(*members: tuple[str, bytes] | tarfile.TarInfo, document: dict[str, Any] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for member in (("lindi.json", json.dumps(document or references()).encode()), *members):
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                file.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def bomb(array: dict[str, Any], window: int) -> Callable[[], bytes]:
    """A document with an array of one chunk that deflate inflates to half a gibibyte."""

    def content() -> bytes:
        deflater = zlib.compressobj(9, zlib.DEFLATED, window)
        data = b"".join(deflater.compress(b"[],[" * 2**18) for _ in range(2**9)) + deflater.flush()
        return json.dumps(references({**array, "chunks": [8]}, {"a/0": inline(data)})).encode()

    return content


def twice(first: str, second: str) -> bytes:
    return f'{{"refs": {{".zgroup": {{}}, "a/.zarray": {json.dumps(ARRAY)}, {first}, {second}}}}}'.encode()


def gen(stop: int, count: int = 1) -> list[dict[str, Any]]:
    dimensions = {"i": {"stop": stop}}
    return count * [{"key": "a/{{ i }}", "url": URL, "offset": "{{ 8 * i }}", "length": "8", "dimensions": dimensions}]


@dataclass(frozen=True)
class Case:
    """A reference file, and what becomes of it."""

    content: Content
    error: str
    """its class"""
    message: str
    """`{file}` and `{folder}` stand for where the file lies"""
    at: str = "load"
    """"load" (`open_store` refuses it) or "read" (only the array does: `open_array(...).compute()`)"""
    allow: tuple[str, ...] = ()
    reads: bool = False
    """whether files are read, which no forked process may"""
    beside: dict[str, str] = field(default_factory=dict)
    """symbolic links in the folder of the file: name -> target"""


def load(content: Content, message: str) -> Case:
    return Case(content, "InvalidReferences", message)


def entry(key: str, reason: str, content: Content) -> Case:
    return load(content, f"The entry {key!r} is not valid: {reason}. Mend it, or make the references anew.")


def document(reason: str, content: Content) -> Case:
    return load(content, f"{{file}} is not a reference file: {reason}. Fetch it again, or make it anew.")


def read(error: str, message: str, content: Content, **options: Any) -> Case:
    return Case(content, error, message, at="read", **options)


def unreadable(reason: str, content: Content) -> Case:
    return read("UnsupportedArray", f"/a can't be read: {reason}.", content)


def corrupt(reason: str, content: Content) -> Case:
    tail = "Its file is damaged, or is another one than the references were made from."
    return read("CorruptChunk", f"The chunk a/0 can't be decoded ({reason}). {tail}", content)


def bundle(name: str, reason: str, content: Content) -> Case:
    what = f"This bundle can't be read, because of {name!r}: {reason}. Fetch it again, or have LINDI write it anew."
    return load(content, what)


def refused(reason: str, content: Content, *, url: str | None = None, **options: Any) -> Case:
    what = "A URL in the references" if url is None else f"/a: The URL {url!r} in the references"
    return read("UrlRefused", f"{what} may not be read: {reason}.", content, **options)


DEEP = b"[" * 100_000
PICKLE = "runs whatever code the file holds, and is never used"
END = 2**63 - 4

CASES: dict[str, Case] = {
    "a text that inflates to half a gibibyte": read(
        "CorruptChunk",
        "One of the chunks a/0 ... a/0 can't be decoded: ValueError: it is damaged, or more than 128 MiB come out of "
        "it (DeflateError: Decompression failed). Its file is damaged, or is another one than the references were "
        "made from.",
        bomb(TEXT, 15),
    ),
    "a sparse array of 2**62 elements": read(
        "ConfigurationError",
        "/a has the shape (4611686018427387904,): that would be some 137,438,953,472 blocks, which no graph can list. "
        "Pass larger chunks=, or read a part of it by open_group(...)[path][start:stop].",
        references({**ARRAY, "shape": [2**62], "chunks": [1000]}),
    ),
    # Truncated JSON
    "cut off in a reference": document(
        "it is not JSON: it ends in the middle of the value of 'a/0', which begins at byte 36",
        b'{"refs": {".zgroup": {},      "a/0":["u", 1',
    ),
    "cut off in a key": document(
        "it is not JSON: it ends in the middle of a key, which begins at byte 25", b'{"refs": {".zgroup": {}, "a/'
    ),
    "cut off behind an entry": document(
        "it is not JSON: it ends too early, at byte 38", b'{"refs": {".zgroup": {}, "a/0": "base"'
    ),
    "cut off behind the entries": document(
        "it is not JSON: it ends too early, at byte 24", b'{"refs": {".zgroup": {}}'
    ),
    "empty": document("it is not JSON: it ends too early, at byte 0", b""),
    "a page in place of the file": document(
        "it is not JSON: an object ('{{') is missing at byte 0", b"<!DOCTYPE html><title>Not found</title>"
    ),
    # Duplicate keys
    "one reference twice": entry("a/0", "it stands there twice", twice('"a/0": ["u", 0, 8]', '"a/0": ["u", 8, 8]')),
    "one reference twice, spelled otherwise": entry(
        "a/0", "it stands there twice", twice('"a/0": ["u", 0, 8]', r'"a\u002f0": ["u", 8, 8]')
    ),
    "a reference and a value": entry(
        "a/0", "it stands there twice", twice('"a/0": ["u", 0, 8]', '"a/0": "base64:AAAAAAAAAAA="')
    ),
    "one document twice": document(
        "the key 'a/.zattrs' stands there twice", twice('"a/.zattrs": {}', '"a/.zattrs": {}')
    ),
    "one key of a document twice": document(
        "in the entry 'a/.zattrs' the key 'unit' stands there twice",
        twice('"a/.zattrs": {"unit": "V", "unit": "mV"}', '"b/.zgroup": {}'),
    ),
    "one key twice in a document that is text": entry(
        "a/.zattrs", "its key 'unit' stands there twice", references(entries={"a/.zattrs": '{"unit": 1, "unit": 2}'})
    ),
    "the entries twice": document("the key 'refs' stands there twice", b'{"refs": {}, "refs": {}}'),
    # Nesting 100,000 deep
    "deep in a reference": document(
        "in the entry 'a/0' lists and objects are nested too deeply", b'{"refs": {".zgroup": {}, "a/0": ' + DEEP
    ),
    "deep in a document": document(
        "in the entry 'a/.zattrs' lists and objects are nested too deeply",
        b'{"refs": {"a/.zattrs": ' + DEEP + b"]" * 100_000 + b"}}",
    ),
    "deep in a document that is text": entry(
        "a/.zattrs",
        "its lists and objects are nested too deeply",
        references(entries={"a/.zattrs": "[" * 99 + "]" * 99}),
    ),
    "very deep in a document that is text": entry(
        "a/.zattrs", "it is not a JSON object", references(entries={"a/.zattrs": DEEP.decode()})
    ),
    "deep beside the entries": document(
        "in the entry 'gen' lists and objects are nested too deeply", b'{"refs": {".zgroup": {}}, "gen": ' + DEEP
    ),
    "deep groups": entry(
        "g/" * 248 + "g...",
        "its key has more than 8192 characters, or more than 100 groups within each other",
        references(entries={"g/" * 100_000 + ".zgroup": {}}),
    ),
    # Numbers past 2**63
    "an offset of 2**63": entry(
        "a/0", f"offset {2**63} or length 8 is out of bounds", references(entries={"a/0": [URL, 2**63, 8]})
    ),
    "an end past 2**63": entry(
        "a/0", f"offset {END} or length 8 is out of bounds", references(entries={"a/0": [URL, END, 8]})
    ),
    "a length of 2**64": entry(
        "a/0", f"offset 0 or length {2**64} is out of bounds", references(ZLIB, {"a/0": [URL, 0, 2**64]})
    ),
    "a negative offset": entry(
        "a/0", "offset -8 or length 8 is out of bounds", references(entries={"a/0": [URL, -8, 8]})
    ),
    "an offset with a fraction": entry(
        "a/0",
        "an entry is [url, offset, length] with whole numbers, [url], or a string",
        references(entries={"a/0": [URL, 1e300, 8]}),
    ),
    "an offset of 5,000 digits": document(
        "it is not JSON: the value of 'a/0' holds a number with too many digits, at byte 32",
        b'{"refs": {".zgroup": {}, "a/0": ["u", ' + b"1" * 5000 + b", 8]}}",
    ),
    "an extent of 2**63": entry(
        "a/.zarray", f"shape [{2**63}] is not a list of natural numbers", references({**ARRAY, "shape": [2**63]})
    ),
    # Offsets past the file: at load where the file says how large its sources are, else when it is read
    "past what the sources say": entry(
        "a/0",
        f"it reaches up to byte 108, but {URL} has 104",
        references(entries={"a/0": [URL, 100, 8]}, sources={URL: {"size": 104}}),
    ),
    "past the end of the file": read(
        "SourceMismatch",
        f"{SESSION}: the file ends at byte {SESSION_NBYTES}, but the references place data up to byte "
        f"{SESSION_NBYTES + 4}. They belong to another version of the file: make them anew.",
        references(entries={"a/0": [str(SESSION), SESSION_NBYTES - 4, 8]}),
        allow=(str(SESSION.parent),),
        reads=True,
    ),
    "past the end of a bundle's file": entry(
        "a/0",
        "it reaches up to byte 16, but ./blobs/x has 12",
        lambda: tar(("blobs/x", bytes(12)), document=references(entries={"a/0": ["./blobs/x", 8, 8]})),
    ),
    # Overlapping chunks
    "chunks that overlap": entry(
        "a/1", "its bytes overlap those of 'a/0'", references(entries={"a/0": [URL, 0, 8], "a/1": [URL, 4, 8]})
    ),
    # Wrong chunk counts
    "a chunk too many": entry(
        "a/4", "the array has no such chunk: its grid is [4]", references(entries={"a/4": [URL, 0, 8]})
    ),
    "a chunk of another rank": entry(
        "a/0.0", "the array has no such chunk: its grid is [4]", references(entries={"a/0.0": [URL, 0, 8]})
    ),
    # Unknown codec
    "an unknown compressor": unreadable(
        "its filter 'zfpy' can't be read", references({**ARRAY, "compressor": {"id": "zfpy"}}, {"a/0": [URL, 0, 9]})
    ),
    "an unknown filter": unreadable(
        "its filter 'categorize' can't be read",
        references({**ARRAY, "filters": [{"id": "categorize"}]}, {"a/0": [URL, 0, 9]}),
    ),
    "a member of a codec that is not known": unreadable(
        "its filter 'shuffle' has a member 'element_size', which is not known",
        references({**ARRAY, "filters": [{"id": "shuffle", "element_size": 4}]}, {"a/0": [URL, 0, 8]}),
    ),
    # pickle: refused at load, wherever it stands
    "pickle among the filters": entry(
        "a/.zarray", f"the filter 'pickle' {PICKLE}", references({**ARRAY, "filters": [{"id": "pickle"}]})
    ),
    "pickle as the compressor": entry(
        "a/.zarray", f"the filter 'pickle' {PICKLE}", references({**ARRAY, "compressor": {"id": "pickle"}})
    ),
    "pickle in Zarr v3": entry(
        "a/zarr.json", f"the codec 'pickle' {PICKLE}", references_3([LITTLE, {"name": "numcodecs.pickle"}])
    ),
    "pickle inside of shards": entry(
        "a/zarr.json",
        f"the codec 'pickle' {PICKLE}",
        references_3([{"name": "sharding_indexed", "configuration": SHARDS}]),
    ),
    # Absurd shapes
    "a grid of 2**124 chunks": entry(
        "a/.zarray",
        f"a grid of [{2**62}, {2**62}] chunks is too large",
        references({**ARRAY, "shape": [2**62, 2**62], "chunks": [1, 1]}),
    ),
    "chunks of a tebibyte": unreadable(
        f"its chunks of [{2**40}] elements are larger than 2 GiB",
        references({**ARRAY, "shape": [2**62], "chunks": [2**40]}),
    ),
    "2**62 elements in chunks of 1,000": read(
        "ConfigurationError",
        f"/a has the shape ({2**62},): that would be some 137,438,953,472 blocks, which no graph can list. Pass larger "
        "chunks=, or read a part of it by open_group(...)[path][start:stop].",
        references({**ARRAY, "shape": [2**62], "chunks": [1000]}),
    ),
    "a negative shape": entry(
        "a/.zarray", "shape [-8] is not a list of natural numbers", references({**ARRAY, "shape": [-8]})
    ),
    "chunks of nothing": entry(
        "a/.zarray", "shape [8] and chunks [0] do not fit together", references({**ARRAY, "chunks": [0]})
    ),
    "100,000 dimensions": entry(
        "a/.zarray",
        "it has 100000 dimensions, and may have 64",
        references({**ARRAY, "shape": 100_000 * [1], "chunks": 100_000 * [1]}),
    ),
    # A chunk that claims more elements than its codec can give
    "more than a raw chunk has": entry(
        "a/0", "it has 4 bytes, but an uncompressed chunk here has 8", references(entries={"a/0": [URL, 0, 4]})
    ),
    "more than deflate can give": entry(
        "a/0",
        "its 20 bytes can't hold a chunk of 4000000, however well they are compressed",
        references({**ZLIB, "shape": [10**6], "chunks": [10**6]}, {"a/0": [URL, 0, 20]}),
    ),
    "more than a zlib stream gives": corrupt(
        "ValueError: 40 bytes came out, but the chunk has 4000",
        references({**ZLIB, "shape": [1000], "chunks": [1000]}, {"a/0": inline(zlib.compress(bytes(40)))}),
    ),
    "more than a Blosc frame claims": corrupt(
        "ValueError: 40 bytes came out, but the chunk has 400",
        references(
            {**ARRAY, "shape": [100], "chunks": [100], "compressor": {"id": "blosc"}},
            {"a/0": inline(numcodecs.Blosc().encode(bytes(40)))},
        ),
    ),
    # ... and one that would give far more
    "a chunk of zlib that inflates to half a gibibyte": corrupt("DeflateError: Decompression failed", bomb(ZLIB, 15)),
    "a chunk of gzip that inflates to half a gibibyte": corrupt(
        "ValueError: 33 bytes came out, but the chunk has 32", bomb({**ARRAY, "compressor": {"id": "gzip"}}, 31)
    ),
    # ... or a file that holds far more than it may
    "millions of values in one": document(
        "in the entry 'gen' there are more than 2,097,152 values",
        lambda: b'{"refs": {".zgroup": {}}, "gen": [' + b"[]," * 2**24 + b"[]]}",
    ),
    "millions of values in a document that is text": entry(
        "a/.zattrs",
        "it has more than 2,097,152 values",
        lambda: b'{"refs": {".zgroup": {}, "a/.zgroup": {}, "a/.zattrs": "[' + b"[]," * 2**22 + b'[]]"}}',
    ),
    "a value of 65 MiB": entry(
        "a/0",
        "it is larger than 64 MiB",
        lambda: json.dumps(references(entries={"a/0": "x" * (65 * 2**20)})).encode(),
    ),
    "a value of 97 MiB": document(
        "in the entry 'a/0' a value is larger than 96 MiB",
        lambda: json.dumps(references(entries={"a/0": "x" * (97 * 2**20)})).encode(),
    ),
    # A tar with `..`, absolute names or links
    "a tar with ..": bundle("../x", "it leads out of its folder by '..'", lambda: tar(("../x", b"x"))),
    "a tar with .. further on": bundle(
        "blobs/../../x", "it leads out of its folder by '..'", lambda: tar(("blobs/../../x", b"x"))
    ),
    "a tar with an absolute name": bundle("/etc/passwd", "it is an absolute path", lambda: tar(("/etc/passwd", b"x"))),
    "a tar with a symbolic link": bundle(
        "blobs/x", "it is a symbolic link, not a file", lambda: tar(link("blobs/x", tarfile.SYMTYPE))
    ),
    "a tar with a hard link": bundle(
        "blobs/x", "it is a hard link, not a file", lambda: tar(link("blobs/x", tarfile.LNKTYPE))
    ),
    "a tar with a device": bundle(
        "blobs/x", "it is a device, not a file", lambda: tar(link("blobs/x", tarfile.CHRTYPE))
    ),
    # Template loops
    "templates in a loop": load(
        references(entries={"a/0": ["{{x}}", 0, 8]}, templates={"x": "{{y}}", "y": "{{x}}"}),
        "The reference 'a/0' can't be used: the template 'x' uses itself.",
    ),
    "a template of itself": load(
        references(entries={"a/0": ["{{x}}", 0, 8]}, templates={"x": "a{{x}}a"}),
        "The reference 'a/0' can't be used: the template 'x' uses itself.",
    ),
    # A `gen` of 10**12 entries
    "a gen of 10**12 entries": load(
        references(gen=gen(10**12)), "Entry 0 of 'gen' can't be used: it stands for more than 20000000 entries."
    ),
    "many gens of 10**7 entries": entry(
        "gen", "with entry 2 it stands for more than 20,000,000 entries", references(gen=gen(10**7, count=100_000))
    ),
    "a gen of 10**7 entries of no array": entry(
        "gen",
        "entry 0 stands for more than 1,000,000 entries, and its key names no array",
        {"refs": {".zgroup": {}}, "gen": gen(10**7)},
    ),
    # Local paths outside the bundle
    "a path above the folder": refused(
        "the file {parent}/secret lies outside of the folders that they may reach; if it is to be trusted, pass "
        "allow=['{parent}']",
        references(entries={"a/0": ["../secret", 0, 8]}),
        reads=True,
    ),
    "a link that leads out of the folder": refused(
        "the file {parent}/secret lies outside of the folders that they may reach; if it is to be trusted, pass "
        "allow=['{parent}']",
        references(entries={"a/0": ["blob", 0, 8]}),
        beside={"blob": "../secret"},
        reads=True,
    ),
    "an absolute path": refused(
        "it is a local path outside of the references' own folder; if it is to be trusted, pass allow=['/etc']",
        references(entries={"a/0": ["/etc/passwd", 0, 8]}),
        url="/etc/passwd",
    ),
    "a file URL": refused(
        "it is a local path outside of the references' own folder; if it is to be trusted, pass allow=['/etc']",
        references(entries={"a/0": ["file:///etc/passwd", 0, 8]}),
        url="file:///etc/passwd",
    ),
    "a path outside of what is allowed": refused(
        "the file /etc/passwd lies outside of the folders that they may reach; if it is to be trusted, pass "
        "allow=['/etc']",
        references(entries={"a/0": ["/etc/passwd", 0, 8]}),
        allow=(str(SESSION.parent),),
        reads=True,
    ),
}


# In a process of its own; where that may be, one forked by a process that has everything imported, which takes seconds

OPENING = """
import json, os, resource, signal, sys
import lindi_dask as ld
from lindi_dask import testing

def opened(path, allow):
    at = "load"
    try:
        ld.open_store(path, allow=allow)
        at = "read"
        ld.open_array(path, "a", allow=allow).compute()
        return {"at": "nowhere"}
    except BaseException as error:
        context = error.__context__
        return {"at": at, "error": type(error).__name__, "message": str(error), "context": context and repr(context)}

def limited(case):
    signal.alarm(30)
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + case["nbytes"],) * 2)
    return json.dumps(opened(case["path"], case["allow"]))

def forked(case):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, limited(case).encode()[:60000])
        os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        text = answer.read()
    _, status = os.wait()
    return text or json.dumps({"at": "the end of the process", "status": status})

for line in sys.stdin:
    case = json.loads(line)
    print(forked(case) if case["fork"] else limited(case), flush=True)
"""


def process() -> subprocess.Popen[str]:
    environ = {
        **os.environ,
        "DASK_LINDI_DASK__INDEX_CACHE": "false",
        "MALLOC_ARENA_MAX": "2",  # glibc reserves address space for each thread
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-c", OPENING]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)


def asked(opening: subprocess.Popen[str], path: Path, allow: tuple[str, ...] = (), *, fork: bool) -> dict[str, Any]:
    assert opening.stdin is not None
    assert opening.stdout is not None
    case = {"path": str(path), "allow": allow, "nbytes": LIMIT, "fork": fork}
    opening.stdin.write(json.dumps(case) + "\n")
    opening.stdin.flush()
    found: dict[str, Any] = json.loads(opening.stdout.readline())
    return found


@pytest.fixture(scope="module")
def forking() -> Iterator[subprocess.Popen[str]]:
    with process() as opening:
        yield opening
        opening.communicate()


def written(case: Case, folder: Path) -> Path:
    """Write the file of a case, with what lies beside it."""
    folder.mkdir()
    for name, target in case.beside.items():
        (folder / name).symlink_to(target)
    content = case.content() if callable(case.content) else case.content
    path = folder / "x.lindi"
    path.write_bytes(json.dumps(content).encode() if isinstance(content, dict) else content)
    return path


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_with_key_and_reason_at_bounded_memory(
    name: str, forking: subprocess.Popen[str], tmp_path: Path
) -> None:
    case = CASES[name]
    (tmp_path / "secret").write_bytes(bytes(8))
    path = written(case, tmp_path / "refs")
    if case.reads:
        with process() as opening:
            found = asked(opening, path, case.allow, fork=False)
            opening.communicate()
    else:
        found = asked(forking, path, case.allow, fork=True)
    message = case.message.replace("{file}", str(path)).replace("{parent}", str(tmp_path)).replace("{{", "{")
    assert (found["at"], found.get("error"), found.get("message")) == (case.at, case.error, message)
    assert found["context"] is None


def test_what_is_not_bad_is_read_within_the_same_limits(forking: subprocess.Popen[str], tmp_path: Path) -> None:
    chunk = inline(zlib.compress(bytes(8)))
    path = written(load(references(ZLIB, {"a/0": chunk, "a/3": chunk}), ""), tmp_path / "refs")
    assert asked(forking, path, fork=True) == {"at": "nowhere"}


def test_the_limit_on_memory_is_one(forking: subprocess.Popen[str], tmp_path: Path) -> None:
    path = written(load(references({**ARRAY, "shape": [2**27], "chunks": [2**27]}), ""), tmp_path / "refs")
    assert "Unable to allocate 512. MiB" in asked(forking, path, fork=True)["message"]


def test_an_offset_past_the_file_is_a_mismatch_in_an_archive_too(
    embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]]
) -> None:
    asset = embedded_archive.add(SESSION)
    instances = own_key(embedded_archive)
    refs = references(entries={"a/0": [asset.url, SESSION_NBYTES - 4, 8], "a/1": [asset.url, SESSION_NBYTES - 12, 8]})
    array = ld.open_array(refs, "a", instances=instances)
    assert array[2:4].compute().shape == (2,)
    with pytest.raises(SourceMismatch) as caught:
        array[:2].compute()
    assert str(caught.value) == (
        f"local:{asset.id}: the file ends at byte {SESSION_NBYTES}, but the references place data up to byte "
        f"{SESSION_NBYTES + 4}. They belong to another version of the file: make them anew."
    )
