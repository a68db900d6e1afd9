"""`expand`: external array links become the references that LINDI would have written, or an error with a name."""

from __future__ import annotations

import base64
import copy
import gc
import gzip
import io
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

import lindi_dask as ld
from lindi_dask import errors
from lindi_dask.expanding import expand, expand_document
from lindi_dask.hdf5 import linked
from lindi_dask.hdf5.expand import expand_links
from lindi_dask.hdf5.remote_file import RemoteFile
from lindi_dask.testing import EmbeddedArchive, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lindi_dask.types import ByteRange

    Json = dict[str, Any]
    OwnKey = Callable[[EmbeddedArchive], dict[str, str]]

LFP = "processing/ecephys/LFP/LFP/data"  # (40000, 16) float32, 1,250 chunks of (32, 16)
URL = "https://example.org/file.h5"


def with_url(document: Json, url: str) -> Json:
    """Point a document, and its external link, at a file."""
    document = copy.deepcopy(document) | {"templates": {"u1": url}}
    attributes = document["refs"][f"{LFP}/.zattrs"]
    if "_EXTERNAL_ARRAY_LINK" in attributes:
        attributes["_EXTERNAL_ARRAY_LINK"]["url"] = url
    return document


@pytest.fixture
def linked_session(data: Path) -> Callable[[str], Json]:
    """Makes the sample session's document with its external link."""
    document = json.loads((data / "session.lindi.json").read_text())
    return lambda url: with_url(document, url)


# The sample session, under embargo


def test_all_54_arrays_of_an_embargoed_session_equal_h5py(
    embedded_archive: EmbeddedArchive,
    own_key: OwnKey,
    data: Path,
    tmp_path: Path,
    linked_session: Callable[[str], Json],
    session_refs: Callable[..., Json],
    session_h5: h5py.File,
    assert_equal_to_h5py: Callable[..., None],
) -> None:
    url = embedded_archive.add(data / "session.nwb").url
    instances = own_key(embedded_archive)
    path = tmp_path / "session.lindi.json"
    path.write_text(json.dumps(linked_session(url)))
    expanded = expand(path, instances=instances)
    assert expanded == session_refs(url)
    assert embedded_archive.counts()["reads"] <= 8
    group = ld.open_group(expanded, instances=instances)
    arrays = {path: node for path, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}
    assert len(arrays) == 54
    for name, array in arrays.items():
        assert_equal_to_h5py(array, session_h5[name])


@pytest.mark.parametrize("given", ["path", "dict", "factory"])
def test_what_is_opened_with_expand_is_expanded_once(
    given: str,
    embedded_archive: EmbeddedArchive,
    own_key: OwnKey,
    data: Path,
    tmp_path: Path,
    linked_session: Callable[[str], Json],
    session_h5: h5py.File,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = linked_session(embedded_archive.add(data / "session.nwb").url)
    options: Json = {"instances": own_key(embedded_archive)}
    path = tmp_path / "session.lindi.json"
    path.write_text(json.dumps(document))
    with pytest.raises(errors.UnsupportedArray, match="expand=True"):
        ld.open_array(path, LFP, **options)
    refs: Any = document if given == "dict" else path
    if given == "factory":
        refs, options = ld.StoreFactory(path, **options), {}
    first = ld.open_array(refs, LFP, expand=True, **options)
    np.testing.assert_array_equal(first.compute(), session_h5[LFP][:])
    monkeypatch.setattr("lindi_dask.hdf5.expand.expand_links", lambda *_: pytest.fail("it was expanded again"))
    embedded_archive.stop()  # nothing has to be asked for
    again = ld.open_array(refs, LFP, expand=True, **options)
    assert again.name == first.name
    tree = xr.open_dataset(refs, engine="lindi", group="processing/ecephys/LFP/LFP", expand=True, **options)
    assert tree["data"].shape == first.shape
    embedded_archive.start()


def test_without_links_expand_is_of_no_effect(data: Path, session_refs: Callable[..., Json]) -> None:
    refs = session_refs("https://example.org/session.nwb")
    assert ld.open_store(refs, expand=True) == ld.open_store(refs)
    assert ld.open_store(data / "session.nwb", expand=True) == ld.open_store(data / "session.nwb")


def test_references_that_mean_files_beside_them_are_not_expanded_on_the_way(
    data: Path, tmp_path: Path, linked_session: Callable[[str], Json]
) -> None:
    path = tmp_path / "session.lindi.json"
    path.write_text(json.dumps(linked_session("session.nwb")))
    (tmp_path / "session.nwb").write_bytes((data / "session.nwb").read_bytes())
    with pytest.raises(errors.ConfigurationError, match="lindi-dask expand"):
        ld.open_array(path, LFP, expand=True)


def test_a_dict_is_not_changed_and_its_costs_are_told(
    embedded_archive: EmbeddedArchive, own_key: OwnKey, data: Path, linked_session: Callable[[str], Json]
) -> None:
    document = linked_session(embedded_archive.add(data / "session.nwb").url)
    before = copy.deepcopy(document)
    found = expand_document(document, instances=own_key(embedded_archive))
    assert document == before
    assert (found.paths, found.chunks, found.is_relative) == ((LFP,), 1250, False)
    assert found.requests == embedded_archive.counts()["reads"] <= 8
    again = expand_document(found.document, instances=own_key(embedded_archive))
    assert (again.paths, again.chunks, again.requests) == ((), 0, 0)
    assert again.document == found.document


def test_a_document_may_be_an_asset_itself_and_compressed(
    embedded_archive: EmbeddedArchive,
    own_key: OwnKey,
    data: Path,
    linked_session: Callable[[str], Json],
    session_refs: Callable[..., Json],
) -> None:
    url = embedded_archive.add(data / "session.nwb").url
    packed = gzip.compress(json.dumps(linked_session(url)).encode())
    asset = embedded_archive.add(packed, path="session.lindi.json")
    assert expand(asset.url, instances=own_key(embedded_archive)) == session_refs(url)


@pytest.fixture
def bundle(embedded_archive: EmbeddedArchive, data: Path, tmp_path: Path) -> Path:
    """The sample bundle, which has an array in files beside its document."""
    folder = tmp_path / "session.lindi.d"
    shutil.copytree(data / "session.amended.lindi.d", folder)
    url = embedded_archive.add(data / "session.nwb").url
    document = with_url(json.loads((folder / "lindi.json").read_text()), url)
    (folder / "lindi.json").write_text(json.dumps(document))
    return folder


def test_a_bundle_is_expanded_in_its_folder(
    embedded_archive: EmbeddedArchive,
    own_key: OwnKey,
    bundle: Path,
    session_h5: h5py.File,
    assert_equal_to_h5py: Callable[..., None],
) -> None:
    instances = own_key(embedded_archive)
    found = expand_document(bundle, instances=instances)
    assert found.is_relative
    (bundle / "lindi.json").write_text(json.dumps(found.document))
    group: Any = ld.open_group(bundle, instances=instances)
    assert_equal_to_h5py(group[LFP], session_h5[LFP])
    paths = [path for path, node in group.members(max_depth=None) if isinstance(node, zarr.Array)]
    assert len(paths) > 54
    for path in paths:
        group[path][...]
    assert group["scratch/added"][...].any()


def test_a_bundle_in_one_file_says_how_to_unpack_it(data: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"Unpack it into a folder .*tar -xf"):
        expand(data / "session.amended.lindi.tar")


@pytest.mark.parametrize("lifetime_s", [1, 2])
def test_leases_that_expire_meanwhile_are_renewed(
    make_archive: Callable[..., EmbeddedArchive],
    own_key: OwnKey,
    data: Path,
    linked_session: Callable[[str], Json],
    session_refs: Callable[..., Json],
    lifetime_s: int,
) -> None:
    archive = make_archive(lifetime_s=lifetime_s, latency_s=0.3 * lifetime_s)
    url = archive.add(data / "session.nwb").url
    assert expand(linked_session(url), instances=own_key(archive)) == session_refs(url)
    assert archive.counts()["exchanges"] > 1


FAULTS = [
    Fault(plane="s3", kind="status", status=503, times=2),
    Fault(plane="s3", kind="status", status=503, times=2, skip=3),
    Fault(plane="s3", kind="status", status=403, times=1, skip=2),
    Fault(plane="s3", kind="reset", times=2, skip=1),
    Fault(plane="s3", kind="reset-mid-body", times=2, skip=2),
    Fault(plane="s3", kind="short-body", times=1, skip=3),
    Fault(plane="s3", kind="wrong-range", times=1, skip=2),
    Fault(plane="api", kind="status", status=503, times=1),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.plane}-{fault.kind}-{fault.status}-{fault.skip}")
def test_a_fault_that_passes_costs_time_and_nothing_else(
    embedded_archive: EmbeddedArchive,
    own_key: OwnKey,
    data: Path,
    linked_session: Callable[[str], Json],
    session_refs: Callable[..., Json],
    fault: Fault,
) -> None:
    url = embedded_archive.add(data / "session.nwb").url
    injection = embedded_archive.inject(fault)
    assert expand(linked_session(url), instances=own_key(embedded_archive)) == session_refs(url)
    assert injection.injected == fault.times


def test_a_file_that_is_denied_is_the_readers_own_error(
    embedded_archive: EmbeddedArchive,
    data: Path,
    linked_session: Callable[[str], Json],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = linked_session(embedded_archive.add(data / "session.nwb").url)
    instances = {"local": embedded_archive.api_url}
    monkeypatch.setenv("LOCAL_API_KEY", embedded_archive.stranger_token)
    with pytest.raises(errors.PermissionDenied) as caught:
        expand(document, instances=instances)
    assert caught.value.__context__ is None
    with pytest.raises(errors.UrlRefused, match="plain http"):
        expand(document)


def test_a_file_that_goes_away_meanwhile_is_the_readers_own_error(
    embedded_archive: EmbeddedArchive, own_key: OwnKey, data: Path, linked_session: Callable[[str], Json]
) -> None:
    document = linked_session(embedded_archive.add(data / "session.nwb").url)
    embedded_archive.inject(Fault(plane="s3", kind="status", status=404, times=None, skip=4))
    with pytest.raises(errors.AssetNotFound) as caught:
        expand(document, instances=own_key(embedded_archive))
    assert caught.value.__context__ is None
    assert "X-Amz" not in str(caught.value)


def test_without_h5py_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("lindi_dask.hdf5.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "lindi_dask.hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(errors.ConfigurationError, match=r'h5py: pip install "lindi-dask\[index\]"'):
        expand({"refs": {}})


def test_a_linked_file_may_be_local_where_that_is_allowed(
    data: Path, linked_session: Callable[[str], Json], session_refs: Callable[..., Json]
) -> None:
    path = str(data / "session.nwb")
    assert expand(linked_session(path), allow=[f"{data}/"]) == session_refs(path)
    with pytest.raises(errors.UrlRefused):
        expand(linked_session(path))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.lindi.json", None, "can't be read here"),
        ("x.lindi.json", b"[]", "no object called 'refs'"),
        ("x.lindi.json", b'{"refs": {}', "it ends too early"),
        ("x.lindi.json", b'{"a/.zarray": {}}', "shape"),
        ("x.lindi.json", b'{".zgroup": {"zarr_format": 2}}', "no object 'refs'"),
        ("x.lindi.json", b'{"refs": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "nested too deeply"),
    ],
)
def test_what_is_no_document_is_an_error_with_a_name(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.RefsError, match=reason):
        expand(tmp_path / name)


# Datasets of all kinds, from files in memory


class Memory:
    """Opens HDF5 files that are made in memory, and knows how often."""

    def __init__(self, **contents: bytes) -> None:
        self.contents = contents
        self.opened: list[str] = []

    def __call__(self, url: str) -> RemoteFile:
        self.opened.append(url)
        content = self.contents[url.rpartition("/")[2].removesuffix(".h5")]

        def read(ranges: Sequence[ByteRange]) -> list[bytes]:
            assert not gc.isenabled(), "garbage of h5py's, collected by a thread that reads, would wait for ever"
            return [content[one.offset : one.end] for one in ranges]

        return RemoteFile(url.rpartition("/")[2], len(content), read)


def made(fill: Callable[[h5py.File], object], **options: Any) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as opened:
        fill(opened)
    return file.getvalue()


def dataset(**options: Any) -> bytes:
    return made(lambda file: file.create_dataset("group/x", **options))


def document(
    shape: list[int], chunks: list[int], dtype: str, filters: list[Json] | None = None, fill: object = 0, **link: Any
) -> Json:
    external = {"link_type": "hdf5_dataset", "url": URL, "name": "group/x"} | link
    zarray = {
        "zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype, "fill_value": fill, "order": "C",
        "compressor": None, "filters": filters,
    }  # fmt: skip
    entries = {".zgroup": {"zarr_format": 2}, "x/.zarray": zarray, "x/.zattrs": {"_EXTERNAL_ARRAY_LINK": external}}
    return {"version": 1, "refs": entries}


def read_back(expanded: Json, content: bytes) -> Any:
    """Put the bytes into the document in place of the references to them, and read it with the package's own reader."""
    entries = {
        key: "base64:" + base64.b64encode(content[value[1] : value[1] + value[2]]).decode()
        if isinstance(value, list)
        else value
        for key, value in expanded["refs"].items()
    }
    group: Any = ld.open_group({"version": 1, "refs": entries})
    return group["x"][...]


ZLIB = {"id": "zlib", "level": 4}
SHUFFLE = {"id": "shuffle", "elementsize": 2}
FLETCHER = {"id": "fletcher32"}
DATA = np.arange(3000, dtype="<i2").reshape(500, 6)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize(
    ("options", "filters"),
    [
        ({}, None),
        ({"compression": "gzip"}, [ZLIB]),
        ({"compression": "gzip", "shuffle": True}, [SHUFFLE, ZLIB]),
        ({"fletcher32": True}, [FLETCHER]),
        ({"compression": "gzip", "shuffle": True, "fletcher32": True}, [SHUFFLE, ZLIB, FLETCHER]),
        ({"compression": "gzip", "maxshape": (None, None)}, [ZLIB]),
    ],
)
def test_chunks_with_any_filters_read_back(libver: str, options: Json, filters: list[Json] | None) -> None:
    content = made(lambda file: file.create_dataset("group/x", data=DATA, chunks=(7, 4), **options), libver=libver)
    found = expand_links(document([500, 6], [7, 4], "<i2", filters), Memory(file=content))
    assert found.chunks == 72 * 2
    assert "x/.zattrs" not in found.document["refs"]
    np.testing.assert_array_equal(read_back(found.document, content), DATA)


def test_the_filter_may_stand_as_the_compressor() -> None:
    content = dataset(data=DATA, chunks=(7, 4), compression="gzip")
    given = document([500, 6], [7, 4], "<i2")
    given["refs"]["x/.zarray"]["compressor"] = ZLIB
    np.testing.assert_array_equal(read_back(expand_links(given, Memory(file=content)).document, content), DATA)


@pytest.mark.parametrize("rows", [1, 7, 250, 500, 501])
def test_contiguous_data_are_split_as_the_document_says(rows: int) -> None:
    content = dataset(data=DATA)
    found = expand_links(document([500, 6], [rows, 6], "<i2"), Memory(file=content))
    assert found.chunks == -(-500 // rows)
    np.testing.assert_array_equal(read_back(found.document, content), DATA)


def test_offsets_count_from_the_start_of_the_file_behind_a_user_block() -> None:
    for options in ({}, {"chunks": (7, 4)}):
        content = made(lambda file: file.create_dataset("group/x", data=DATA, **options), userblock_size=1024)  # noqa: B023 - called at once
        found = expand_links(document([500, 6], [7, 4 if options else 6], "<i2"), Memory(file=content))
        np.testing.assert_array_equal(read_back(found.document, content), DATA)


@pytest.mark.parametrize("chunks", [None, (100,)])
@pytest.mark.parametrize(("fill", "said"), [(-7.5, -7.5), (np.nan, "NaN"), (np.nan, np.nan), (np.inf, "Infinity")])
def test_chunks_never_written_have_no_reference(chunks: tuple[int] | None, fill: float, said: object) -> None:
    def sparse(file: h5py.File) -> None:
        x = file.create_dataset("group/x", (1000,), "<f4", chunks=chunks, fillvalue=fill)
        if chunks:
            x[250:300] = 1

    content = made(sparse)
    found = expand_links(document([1000], [100], "<f4", fill=said), Memory(file=content))
    assert [key for key in found.document["refs"] if key.startswith("x/") and ".z" not in key] == (
        ["x/2"] if chunks else []
    )
    with pytest.raises(errors.SourceMismatch, match=r"fill value .*, not 0, and chunks that were never written"):
        expand_links(document([1000], [100], "<f4"), Memory(file=content))


def test_links_of_one_file_open_it_once_and_urls_get_templates() -> None:
    files = Memory(file=dataset(data=DATA, chunks=(7, 6)), other=dataset(data=DATA, chunks=(50, 6)))
    entries: Json = {".zgroup": {"zarr_format": 2}}
    links = {"a": (URL, 7), "b": ("https://example.org/other.h5", 50), "c": ("{{base}}file.h5", 7), "d": (URL, 7)}
    for name, (url, rows) in links.items():
        made_of = document([500, 6], [rows, 6], "<i2", url=url)["refs"]
        entries |= {f"{name}/{kind}": made_of[f"x/{kind}"] for kind in (".zarray", ".zattrs")}
    templates = {"base": "https://example.org/", "u1": "taken"}
    given = {"version": 1, "templates": templates, "refs": entries}
    found = expand_links(given, files)
    assert files.opened == [URL, "https://example.org/other.h5"]
    assert found.document["templates"] == templates | {"u2": URL, "u3": "https://example.org/other.h5"}
    assert {found.document["refs"][f"{name}/0.0"][0] for name in links} == {"{{u2}}", "{{u3}}", "{{base}}file.h5"}
    assert found.chunks == 3 * 72 + 10


def test_attributes_as_text_stay_text() -> None:
    given = document([500, 6], [7, 6], "<i2")
    refs = given["refs"]
    refs["x/.zattrs"] = json.dumps(refs["x/.zattrs"] | {"unit": "volts"})
    refs["x/.zarray"] = json.dumps(refs["x/.zarray"])
    found = expand_links(given, Memory(file=dataset(data=DATA, chunks=(7, 6))))
    assert json.loads(found.document["refs"]["x/.zattrs"]) == {"unit": "volts"}


def test_an_array_may_be_the_root_and_have_keys_with_slashes() -> None:
    refs = document([500, 6], [7, 6], "<i2")["refs"]
    refs["x/.zarray"]["dimension_separator"] = "/"
    root = {"refs": {".zarray": refs["x/.zarray"], ".zattrs": refs["x/.zattrs"]}}
    found = expand_links(root, Memory(file=dataset(data=DATA, chunks=(7, 6))))
    assert found.document["refs"].keys() == {".zarray", *(f"{number}/0" for number in range(72))}


# What does not fit


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (document([501, 6], [7, 4], "<i2", [ZLIB]), r"has the shape \[500, 6\], not \[501, 6\]"),
        (document([500], [7], "<i2", [ZLIB]), r"the shape \[500, 6\], not \[500\]"),
        (document([500, 6], [8, 4], "<i2", [ZLIB]), r"the chunks \[7, 4\], not \[8, 4\]"),
        (document([500, 6], [7, 4], ">i2", [ZLIB]), "the type <i2, not >i2"),
        (document([500, 6], [7, 4], "<f4", [ZLIB]), "the type <i2, not <f4"),
        (document([500, 6], [7, 4], "<i2"), r"the filters \['zlib'\], not \[\]"),
        (
            document([500, 6], [7, 4], "<i2", [SHUFFLE, ZLIB]),
            r"the filters \['zlib'\], not \[\('shuffle', 2\), 'zlib'\]",
        ),
        (document([500, 6], [7, 4], "<i2", [{"id": "gzip"}]), r"the filters \['zlib'\], not \['gzip'\]"),
        (document([500, 6], [7, 4], "<i2", [ZLIB], name="group/y"), "has no dataset 'group/y'"),
        (document([500, 6], [7, 4], "<i2", [ZLIB], name="group"), "'group' in file.h5 is not a dataset"),
        (document([500, 6], [7, 4], "<i2", [ZLIB], name="group/x/y"), "has no dataset"),
        (document([500, 6], [7, 4], "<i2", [ZLIB], name="group//x"), "has no dataset"),
        (document([500, 6], [7, 4], "<i2", [ZLIB], name=""), "has no dataset ''"),
        (document([500, 6], [7, 4], "<i2", [ZLIB], name="soft"), "has no dataset 'soft'"),
        (document([500, 6], [7, 4], "<i2", [ZLIB], name="away"), "has no dataset 'away'"),
        (document([500, 6], [7, 4], "<i2", [ZLIB], name="away/x"), "has no dataset 'away/x'"),
    ],
)
def test_a_dataset_that_is_not_what_the_document_says_is_a_mismatch(said: Json, reason: str) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("group/x", data=DATA, chunks=(7, 4), compression="gzip")
        file["soft"] = h5py.SoftLink("/group/x")
        file["away"] = h5py.ExternalLink("/etc/passwd", "/x")

    with pytest.raises(errors.SourceMismatch, match=rf"^/x can't be expanded: .*{reason}") as caught:
        expand_links(said, Memory(file=made(fill)))
    assert caught.value.__context__ is None
    assert gc.isenabled()


def test_shuffle_by_another_size_is_a_mismatch() -> None:
    said = document([500, 6], [7, 4], "<i2", [SHUFFLE | {"elementsize": 4}])
    with pytest.raises(errors.SourceMismatch, match="filters"):
        expand_links(said, Memory(file=dataset(data=DATA, chunks=(7, 4), shuffle=True)))


def test_contiguous_data_split_across_rows_is_a_mismatch() -> None:
    with pytest.raises(errors.SourceMismatch, match=r"rows of \[6\], not \[4\]"):
        expand_links(document([500, 6], [7, 4], "<i2"), Memory(file=dataset(data=DATA)))
    said = document([500, 6], [7, 6], "<i2")
    said["refs"]["x/.zarray"]["order"] = "F"
    with pytest.raises(errors.SourceMismatch, match="the order C, not F"):
        expand_links(said, Memory(file=dataset(data=DATA)))


@pytest.mark.parametrize("content", [b"", b"{}", b"\x89HDF\r\n\x1a\n", bytes(5000), dataset(data=DATA)[:5000]])
def test_what_is_no_whole_hdf5_file_is_a_mismatch(content: bytes) -> None:
    with pytest.raises(errors.SourceMismatch, match=r"^/x can't be expanded: file.h5 can't be read as an HDF5 file"):
        expand_links(document([500, 6], [7, 4], "<i2"), Memory(file=content))


def test_a_damaged_file_is_an_error_with_a_name_or_the_same_references() -> None:
    content = dataset(data=DATA, chunks=(7, 4), compression="gzip")
    said = document([500, 6], [7, 4], "<i2", [ZLIB])
    right = expand_links(said, Memory(file=content)).document
    rng = np.random.default_rng(11)
    outcomes: list[type] = []
    for _ in range(400):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), int(rng.integers(1, 6))):
            damaged[at] ^= int(rng.integers(1, 256))
        try:
            found = expand_links(said, Memory(file=bytes(damaged))).document
        except errors.LindiError as error:
            outcomes.append(type(error))
        else:
            # What no checksum guards may be wrong; it is then caught where the chunk is decoded
            outcomes.append(dict)
            assert found["refs"].keys() <= right["refs"].keys()
    assert {errors.SourceMismatch, dict} <= set(outcomes)
    assert gc.isenabled()


def without_filters(file: h5py.File) -> None:
    x = file.create_dataset("group/x", (2000,), "<i4", chunks=(1000,), compression="gzip")
    x.id.write_direct_chunk((1000,), bytes(4000), filter_mask=1)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2000,), "<i4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (2000,))
    file.create_virtual_dataset("group/x", layout)


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (without_filters, r"the chunk at \(1000,\) was written without some of the dataset's filters"),
        (virtual, "lie in other files"),
        (lambda file: file.create_dataset("group/x", (2000,), "<i4", external="other.bin"), "lie in other files"),
        (lambda file: file.create_dataset("group/x", (2000,), "<i4", chunks=True, compression="lzf"), "filter 'lzf'"),
        (lambda file: file.create_dataset("group/x", (2000,), "<i4", chunks=True, scaleoffset=0), "scaleoffset"),
        (lambda file: file.create_dataset("group/x", (2000,), h5py.string_dtype(), chunks=(9,)), "no numbers"),
        (lambda file: file.create_dataset("group/x", data=np.zeros(9, [("a", "<i4")])), "no numbers"),
        (lambda file: file.create_dataset("group/x", data=h5py.Empty("<i4")), "lie in|no numbers"),
    ],
)
def test_chunks_that_can_not_be_referred_to_are_an_unsupported_array(
    fill: Callable[[h5py.File], object], reason: str
) -> None:
    content = made(fill)
    with h5py.File(io.BytesIO(content)) as file:
        chunks = file["group/x"].chunks or (2000,)
    with pytest.raises(errors.UnsupportedArray, match=rf"^/x can't be expanded: .*{reason}") as caught:
        expand_links(document([2000], list(chunks), "<i4", [ZLIB]), Memory(file=content))
    assert caught.value.path == "x"


def test_more_chunks_than_may_be_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linked, "MAX_ENTRIES", 100)
    with pytest.raises(errors.UnsupportedArray, match="more than 100 chunks"):
        expand_links(document([500, 6], [7, 4], "<i2"), Memory(file=dataset(data=DATA, chunks=(7, 4))))


def test_links_that_make_no_sense_are_named() -> None:
    with pytest.raises(errors.UnsupportedArray, match="of the type 'zarr_array'"):
        expand_links(document([500, 6], [7, 4], "<i2", link_type="zarr_array"), Memory())
    for broken in ({"url": None}, {"name": 5}, {"link_type": None}):
        with pytest.raises(errors.InvalidReferences, match=r"'x/\.zattrs'.*link_type, url and name"):
            expand_links(document([500, 6], [7, 4], "<i2", **broken), Memory())
    with pytest.raises(errors.InvalidReferences, match="'nothing'"):
        expand_links(document([500, 6], [7, 4], "<i2", url="{{nothing}}"), Memory())
    lone = document([500, 6], [7, 4], "<i2")
    del lone["refs"]["x/.zarray"]
    with pytest.raises(errors.InvalidReferences, match=r"'x/\.zarray'"):
        expand_links(lone, Memory(file=dataset(data=DATA, chunks=(7, 4))))


def test_references_beside_a_link_contradict_it() -> None:
    both = document([500, 6], [7, 4], "<i2")
    both["refs"]["x/3.0"] = [URL, 0, 56]
    with pytest.raises(errors.InvalidReferences, match=r"'x/3\.0'.*beside an external link"):
        expand_links(both, Memory(file=dataset(data=DATA, chunks=(7, 4))))
