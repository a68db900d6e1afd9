from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import InvalidReferences, StorageUnavailable
from lindi_dask.refs.bundle import tar as bundle
from lindi_dask.refs.bundle.tar import Tar, is_tar, read_tar
from lindi_dask.refs.paths import relative_path
from lindi_dask.types import ByteRange

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DOCUMENT = b'{"refs": {".zgroup": {"zarr_format": 2}}}'
BLOBS = {f"blobs/a/{i}.0": bytes([i]) * 700 for i in range(4)}
FILES = {"lindi.json": DOCUMENT, **BLOBS}


@dataclass
class Counting:
    """A `ReadAt` in memory that holds its callers to the contract."""

    data: bytes
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(self.data)
        assert len(self.reads) < 10_000
        self.reads.append((offset, length))
        return self.data[offset : offset + length]


def read(data: bytes, **options: Any) -> Tar:
    return read_tar(Counting(data), **options)


def tar(*items: tuple[str, bytes] | tarfile.TarInfo, format: int = tarfile.GNU_FORMAT, **options: Any) -> bytes:  # noqa: A002 - as in tarfile
    """A tar as any tool would write it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, **options) as file:
        for item in items:
            if isinstance(item, tarfile.TarInfo):
                file.addfile(item)
            else:
                info = tarfile.TarInfo(item[0])
                info.size = len(item[1])
                file.addfile(info, io.BytesIO(item[1]))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def header(name: str, length: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = length
    return info.tobuf(tarfile.USTAR_FORMAT)


def packed(name: str, content: bytes) -> bytes:
    return header(name, len(content)) + content + bytes(-len(content) % 512)


def lindi_tar(
    files: dict[str, bytes] | list[tuple[str, bytes]],
    lie: Callable[[list[dict[str, Any]]], object] = lambda _: None,
    *,
    index_size: int = 8192,
) -> bytes:
    """A bundle as LINDI 0.4.6 writes it; `lie` may change the index before it is written."""
    at, body = 2048 + index_size, b""
    listed = [
        {"n": ".tar_entry.json", "o": 0, "d": 512, "s": 1024},
        {"n": ".tar_index.json", "o": 1536, "d": 2048, "s": index_size},
    ]
    for name, content in files.items() if isinstance(files, dict) else files:
        if not name.startswith(".trash/"):
            listed.append({"n": name, "o": at + len(body), "d": at + len(body) + 512, "s": len(content)})
        body += packed(name, content)
    entry = json.dumps({"index": listed[1]}, indent=2).encode().ljust(1024)
    lie(listed)
    index = json.dumps({"files": listed}, indent=2, sort_keys=True).encode().ljust(index_size)
    return packed(".tar_entry.json", entry) + packed(".tar_index.json", index) + body + bytes(1024)


def by_tarfile(data: bytes) -> dict[str, ByteRange]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as file:
        return {info.name: ByteRange(info.offset_data, info.size) for info in file if info.isreg()}


def verified(found: Tar, data: bytes) -> dict[str, ByteRange]:
    """The members that `verify` lets pass."""
    members = {}
    for name, place in found.members.items():
        try:
            found.verify(name, Counting(data))
        except InvalidReferences:
            continue
        members[name] = place
    return members


# The sample session's bundles


@pytest.fixture(scope="module")
def sample(data: Path) -> bytes:
    return (data / "session.amended.lindi.tar").read_bytes()


@pytest.mark.parametrize("trust_index", [True, False])
def test_the_sample_bundle_is_read_as_tarfile_and_json_read_it(data: Path, sample: bytes, trust_index: bool) -> None:
    found = read(sample, trust_index=trust_index)
    assert found.verified is not trust_index
    assert found.members == verified(found, sample) == by_tarfile(sample)
    assert len(found.members) == 8
    assert json.loads(found.document) == json.loads((data / "session.amended.lindi.d/lindi.json").read_bytes())
    assert found.document.endswith(b"}")


def test_the_blobs_of_the_sample_bundle_are_those_of_the_sample_folder(data: Path, sample: bytes) -> None:
    found = read(sample)
    urls = [ref[0] for ref in json.loads(found.document)["refs"].values() if isinstance(ref, list) and ref[0][0] == "."]
    assert len(urls) == 5
    for url in urls:
        place, path = found.locate(url), relative_path(url)
        assert place is not None
        assert path is not None
        assert sample[place.offset : place.end] == (data / "session.amended.lindi.d" / path).read_bytes()


def test_the_sample_bundle_costs_two_reads_its_index_lies_beside_its_start(sample: bytes) -> None:
    file = Counting(sample)
    read_tar(file)
    assert file.reads == [(0, 65536), (10240, 512 + 524288)]


# Reads


@pytest.mark.parametrize("n", [0, 10, 3000])
def test_with_an_index_three_reads_are_enough_for_any_number_of_members(n: int) -> None:
    files = {**{f"blobs/{i}": b"x" for i in range(n)}, "lindi.json": DOCUMENT + b" " * 70000}
    file = Counting(lindi_tar(files, index_size=1 << 20))
    found = read_tar(file)
    assert len(found.members) == n + 3
    assert found.document == DOCUMENT
    assert len(file.reads) == 3
    assert not found.verified


def test_without_an_index_one_read_is_enough_for_all_headers_that_lie_close_together() -> None:
    file = Counting(tar(*FILES.items()))
    assert read_tar(file).members == by_tarfile(file.data)
    assert len(file.reads) == 1


def test_without_an_index_content_is_not_read() -> None:
    blobs = {f"blobs/{i}": bytes(300_000) for i in range(5)}
    file = Counting(tar(("lindi.json", DOCUMENT), *blobs.items()))
    assert read_tar(file).members == by_tarfile(file.data)
    assert len(file.reads) == 7
    assert sum(length for _, length in file.reads) <= 7 * 65536


def test_an_error_of_the_file_is_passed_on() -> None:
    class Broken(Counting):
        def read(self, offset: int, length: int) -> bytes:
            raise StorageUnavailable("no")

    with pytest.raises(StorageUnavailable):
        read_tar(Broken(lindi_tar(FILES)))


def test_a_member_is_verified_by_one_read_and_not_at_all_when_its_header_was_read_before() -> None:
    data = lindi_tar(FILES)
    for trust_index, reads in ((True, [(found_at(data, "blobs/a/2.0") - 512, 512)]), (False, [])):
        file = Counting(data)
        read(data, trust_index=trust_index).verify("blobs/a/2.0", file)
        assert file.reads == reads


def found_at(data: bytes, name: str) -> int:
    return by_tarfile(data)[name].offset


# What LINDI does to its bundles


def test_what_lindi_put_into_the_trash_is_no_member() -> None:
    data = lindi_tar({".trash/lindi.json.abcdefghij": b"-" * 99, **BLOBS, "lindi.json": DOCUMENT})
    for trust_index in (True, False):
        found = read(data, trust_index=trust_index)
        assert found.document == DOCUMENT
        assert found.locate("./.trash/lindi.json.abcdefghij") is None
        assert len(found.members) == 7


def test_an_index_of_an_older_lindi_lists_the_trash_and_is_filled_up_to_a_record() -> None:
    def with_trash(listed: list[dict[str, Any]]) -> None:
        listed.append({"n": ".trash/lindi.json.x", "o": 10240, "d": 10752, "s": 99})

    data = lindi_tar({".trash/lindi.json.x": b"-" * 99, **FILES}, with_trash)
    found = read(data + bytes(-len(data) % 10240))
    assert not found.verified
    assert len(found.members) == 7


def test_a_document_that_was_rewritten_before_the_index_was_is_found_by_its_header() -> None:
    """LINDI renames the old one at once, and writes the index when it closes the file."""
    old = b'{"refs": {}}'.ljust(64)
    data = lindi_tar({"lindi.json": old})
    data = data.replace(header("lindi.json", 64), header(".trash/lindi.json.q", 64)).replace(old, b"-" * 64)
    found = read(data[:-1024] + packed("lindi.json", DOCUMENT) + bytes(1024))
    assert found.verified
    assert found.document == DOCUMENT
    assert len(found.members) == 3


def test_members_that_the_index_does_not_know_yet_are_found() -> None:
    data = lindi_tar(FILES)[:-1024] + packed("blobs/new", b"new") + bytes(1024)
    assert read(data).members == by_tarfile(data)
    assert "blobs/new" in read(data).members


@pytest.mark.parametrize("tail", [b"", b" ", b"\n  \t\r\n", b" " * 5000])
def test_the_blanks_behind_the_document_are_not_part_of_it(tail: bytes) -> None:
    files = {"lindi.json": DOCUMENT + tail}
    assert read(lindi_tar(files)).document == read(tar(*files.items())).document == DOCUMENT


def test_zeros_behind_the_document_are_kept_since_they_are_damage() -> None:
    assert read(lindi_tar({"lindi.json": DOCUMENT + b"\0"})).document == DOCUMENT + b"\0"


# An index that lies


def move(name: str, **changes: int) -> Callable[[list[dict[str, Any]]], object]:
    def lie(listed: list[dict[str, Any]]) -> None:
        for item in listed:
            if item["n"] == name:
                item.update({key: item[key] + by for key, by in changes.items()})

    return lie


SHAPES: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "a member overlaps the next one": move("blobs/a/1.0", s=2000),
    "a member reaches into the next one's header": move("blobs/a/1.0", s=500),
    "a member ends behind the file": move("blobs/a/3.0", s=10**6),
    "a member starts behind the file": move("blobs/a/3.0", o=2**40, d=2**40),
    "a member is where another one is": move("blobs/a/1.0", o=-1536, d=-1536),
    "no block's start": move("blobs/a/1.0", o=1, d=1),
    "content far from its header": move("blobs/a/1.0", d=512),
    "a negative offset": move(".tar_entry.json", o=-512, d=-512),
    "a negative length": move("blobs/a/1.0", s=-701),
    "the last member is not there": lambda listed: listed.pop(),
    "the document is not there": lambda listed: listed.pop(2),
    "the index is not there": lambda listed: listed.pop(1),
    "the entry is not there": lambda listed: listed.pop(0),
    "nothing is there": lambda listed: listed.clear(),
    "the document is longer": move("lindi.json", s=3),
    "the document is elsewhere": lambda listed: listed[2].update(n="blobs/a/0.0") or listed[3].update(n="lindi.json"),
    "true for a number": lambda listed: listed[3].update(s=True),
    "a float for a number": lambda listed: listed[3].update(s=700.0),
    "a number for a name": lambda listed: listed[3].update(n=7),
    "no length": lambda listed: listed[3].pop("s"),
}


@pytest.mark.parametrize("lie", SHAPES.values(), ids=SHAPES)
def test_an_index_that_does_not_fit_the_file_is_left_aside(lie: Callable[[list[dict[str, Any]]], object]) -> None:
    data = lindi_tar(FILES, lie)
    found = read(data)
    assert found.verified
    assert found.members == by_tarfile(data)
    assert found.document == DOCUMENT


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"not JSON",
        b"\xff",
        b"[" * 5000,
        b'{"files": {}}',
        b'{"files": [[]]}',
        b'{"files": [',
        b"9" * 6000,
    ],
)
def test_an_index_that_is_no_index_is_left_aside(content: bytes) -> None:
    data = lindi_tar(FILES)
    data = data[:2048] + content.ljust(8192) + data[2048 + 8192 :]
    assert read(data).members == by_tarfile(data)
    assert read(data).verified


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"",
        b"null",
        b'{"index": []}',
        b'{"index": {"n": "lindi.json", "o": 10240, "d": 10752, "s": 41}}',
        b'{"index": {"n": ".tar_index.json", "o": 10240, "d": 10752, "s": 41}}',
        b'{"index": {"n": ".tar_index.json", "o": 1536, "d": 2048, "s": 99999999999}}',
        b'{"index": {"n": ".tar_index.json", "o": -512, "d": 0, "s": 10}}',
    ],
)
def test_an_entry_that_points_elsewhere_is_left_aside(content: bytes) -> None:
    data = lindi_tar(FILES)
    data = data[:512] + content.ljust(1024) + data[1536:]
    assert read(data).members == by_tarfile(data)
    assert read(data).verified


def test_a_member_whose_name_the_index_swapped_is_not_given_out_unnoticed() -> None:
    def swap(listed: list[dict[str, Any]]) -> None:
        listed[4]["n"], listed[5]["n"] = listed[5]["n"], listed[4]["n"]

    data = lindi_tar(FILES, swap)
    found = read(data)
    assert not found.verified
    for name in ("blobs/a/1.0", "blobs/a/2.0"):
        with pytest.raises(InvalidReferences, match="lies where it does not") as caught:
            found.verify(name, Counting(data))
        assert caught.value.key == name
    assert verified(found, data).keys() == found.members.keys() - {"blobs/a/1.0", "blobs/a/2.0"}
    assert read(data, trust_index=False).members == by_tarfile(data)


def test_a_bundle_that_was_unpacked_and_packed_again_in_another_order_is_noticed() -> None:
    data = lindi_tar(FILES)
    contents = {name: data[place.offset : place.end] for name, place in by_tarfile(data).items()}
    for order in (
        sorted(contents),
        sorted(contents, reverse=True),
        [*list(contents)[:3], *sorted(BLOBS, reverse=True)],
    ):
        again = tar(*((name, contents[name]) for name in order), format=tarfile.USTAR_FORMAT)
        assert verified(read(again), again).items() <= by_tarfile(again).items()
        assert read(again, trust_index=False).members == by_tarfile(again)
    assert not read(again).verified  # of blobs of one size in another order, the old index fits the file
    assert verified(read(again), again).keys() == contents.keys() - BLOBS.keys()


def test_a_link_where_the_index_has_a_file_does_not_pass() -> None:
    info = special("blobs/a/1.0", tarfile.SYMTYPE, "2.0")
    info.size = 700
    data = lindi_tar(FILES).replace(header("blobs/a/1.0", 700), info.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(InvalidReferences, match="lies where it does not"):
        read(data).verify("blobs/a/1.0", Counting(data))


def test_verifying_what_is_no_member_says_so() -> None:
    with pytest.raises(InvalidReferences, match="no such member"):
        read(lindi_tar(FILES)).verify("blobs/none", Counting(b""))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_the_index_says_no_member_passes_that_is_not_there(draw: st.DataObject) -> None:
    def lie(listed: list[dict[str, Any]]) -> None:
        numbers = st.sampled_from(
            [-512, -1, 0, 1, 41, 512, 700, 1024, *(item[key] for item in listed for key in "ods")]
        )
        for _ in range(draw.draw(st.integers(1, 3))):
            item = draw.draw(st.sampled_from(listed))
            match draw.draw(st.sampled_from(["number", "move", "name", "copy", "drop"])):
                case "number":
                    item[draw.draw(st.sampled_from("ods"))] = draw.draw(numbers)
                case "move":
                    item["o"] = draw.draw(numbers)
                    item["d"] = item["o"] + 512
                case "name":
                    item["n"] = draw.draw(st.sampled_from(["blobs/b", *FILES]))
                case "copy":
                    listed.append({**item, "n": draw.draw(st.sampled_from([item["n"], "blobs/b"]))})
                case _ if len(listed) > 1:
                    listed.remove(item)

    data = lindi_tar(FILES, lie)
    truth = by_tarfile(data)
    file = Counting(data)
    try:
        found = read_tar(file)
    except InvalidReferences as error:
        assert "twice" in error.reason  # noqa: PT017 - the only thing that is not left aside
    else:
        assert found.document == DOCUMENT
        assert verified(found, data).items() <= truth.items()
        assert not found.verified or found.members == truth
    assert len(file.reads) <= 6


# Hostile members


@pytest.mark.parametrize(
    "build", [lambda name: tar((name, b"x"), *FILES.items()), lambda name: lindi_tar([(name, b"x"), *FILES.items()])]
)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../x", "'..'"),
        ("blobs/../../x", "'..'"),
        ("blobs/..", "'..'"),
        ("/etc/passwd", "absolute"),
        ("C:/x", "absolute"),
        ("C:x", "absolute"),
        ("blobs\\x", "backslash"),
        ("..\\x", "backslash"),
        ("blobs//x", "empty"),
        ("blobs/./x", "empty"),
        ("././x", "empty"),
        ("blobs/x\n", "control"),
        ("blobs/\x1b[2J", "control"),
        ("~/x", "~"),
        ("~root/x", "~"),
        ("blobs/%2e%2e/x", "percent"),
        ("lindi.json", "twice"),
        ("blobs/a/0.0", "twice"),
        ("./blobs/a/0.0", "twice"),
    ],
)
def test_a_member_with_a_name_that_could_do_harm_is_refused(
    build: Callable[[str], bytes], name: str, reason: str
) -> None:
    with pytest.raises(InvalidReferences, match=reason) as caught:
        read(build(name))
    assert caught.value.key is not None
    assert caught.value.key.removeprefix("./") == name.removeprefix("./")
    assert repr(caught.value.key) in str(caught.value)


def test_a_nul_in_a_name_is_refused_where_a_name_can_have_one() -> None:
    long = "blobs/" + "x" * 200
    for data in (
        tar(("lindi.json", DOCUMENT), (long, b""), format=f) for f in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    ):
        assert long in read(data).members
        with pytest.raises(InvalidReferences, match="control"):
            read(data.replace(b"x" * 200, b"x" * 100 + b"\0" + b"x" * 99))
    with pytest.raises(InvalidReferences, match="control"):
        read(lindi_tar(FILES, lambda listed: listed[4].update(n="blobs/a\0/1.0")))


def test_a_name_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(InvalidReferences, match="UTF-8"):
        read(tar(("lindi.json", DOCUMENT), ("blobs/é", b""), encoding="latin-1"))


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (special("blobs/x", tarfile.SYMTYPE, "/etc/passwd"), "symbolic link"),
        (special("blobs/x", tarfile.SYMTYPE, "a/0.0"), "symbolic link"),
        (special("blobs/x", tarfile.LNKTYPE, "lindi.json"), "hard link"),
        (special("blobs/x", tarfile.SYMTYPE, "y" * 200), "a link"),
        (special("blobs/x", tarfile.CHRTYPE), "device"),
        (special("blobs/x", tarfile.BLKTYPE), "device"),
        (special("blobs/x", tarfile.FIFOTYPE), "pipe"),
        (special("blobs/x", tarfile.GNUTYPE_SPARSE), "sparse"),
        (special("blobs/x", b"V"), "unknown kind"),
        (special("../x", tarfile.DIRTYPE), "'..'"),
        (special("/x", tarfile.DIRTYPE), "absolute"),
    ],
)
def test_a_member_that_is_not_a_file_is_refused(item: tarfile.TarInfo, reason: str) -> None:
    with pytest.raises(InvalidReferences, match=reason):
        read(tar(*FILES.items(), item))


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_a_folder_packed_by_any_tool_is_a_bundle(format: int) -> None:  # noqa: A002 - as in tarfile
    files = {f"./{name}": content for name, content in {**FILES, "blobs/" + "d" * 90 + "/" + "n" * 60: b"long"}.items()}
    data = tar(
        *(special(name, tarfile.DIRTYPE) for name in (".", "./blobs", "./blobs/a")), *files.items(), format=format
    )
    found = read(data)
    assert found.verified
    assert found.members == {name.removeprefix("./"): place for name, place in by_tarfile(data).items()}
    assert len(found.members) == 6
    assert found.document == DOCUMENT


def test_names_of_other_scripts_are_names() -> None:
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):  # noqa: A001 - as in tarfile
        assert "blobs/神経 100%/0" in read(tar(*FILES.items(), ("blobs/神経 100%/0", b"x"), format=format)).members


def pax(*records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    content = b"".join(records)
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


EXTENDED: list[tuple[bytes, str]] = [
    (pax(b"999 path=x\n"), "pax records"),
    (pax(b"-1 path=x\n"), "pax records"),
    (pax(b"0 path=x\n"), "pax records"),
    (pax(b"3 path=x\n"), "pax records"),
    (pax(b"path=x\n"), "pax records"),
    (pax(b"9 path=x\n0"), "pax records"),
    (pax(b"11 size=-1\n"), "not a number"),
    (pax(b"11 size=1e\n"), "not a number"),
    (pax(b"23 size=99999999999999\n"), "cut short"),
    (pax(b"21 GNU.sparse.major=1"[:-1] + b"\n"), "sparse"),
    (pax(b"10 path=x\n", kind=tarfile.XGLTYPE), "all members"),
    (pax(b"10 path=x\n") + pax(b"10 path=y\n"), "two long names"),
    (pax(b"13 path=../x\n"), "'..'"),
    (pax(b"19 path=lindi.json\n"), "twice"),
    (pax(b"13 path=../x\n", kind=tarfile.SOLARIS_XHDTYPE), "'..'"),
    (pax(kind=tarfile.GNUTYPE_LONGNAME), "empty"),
    (pax(b"content", kind=tarfile.DIRTYPE), "a folder with content"),
]


@pytest.mark.parametrize(("extension", "reason"), EXTENDED)
def test_an_extension_header_that_could_be_read_in_two_ways_is_refused(extension: bytes, reason: str) -> None:
    with pytest.raises(InvalidReferences, match=reason):
        read(packed("lindi.json", DOCUMENT) + extension + packed("blobs/x", b"x") + bytes(1024))


def test_pax_records_that_mean_nothing_here_are_passed_over() -> None:
    start = pax(b"18 comment=a bundle"[:17] + b"\n", kind=tarfile.XGLTYPE) + pax(b"12 mtime=1.5"[:11] + b"\n")
    data = start + packed("lindi.json", DOCUMENT) + bytes(1024)
    assert read(data).members == by_tarfile(data)


def test_a_size_in_pax_records_counts() -> None:
    data = (
        packed("lindi.json", DOCUMENT)
        + pax(b"9 size=3\n")
        + header("blobs/x", 0)
        + b"abc".ljust(512, b"\0")
        + bytes(1024)
    )
    assert read(data).members == by_tarfile(data)
    assert read(data).members["blobs/x"].length == 3


def test_a_long_name_that_belongs_to_nothing_is_refused() -> None:
    with pytest.raises(InvalidReferences, match="belongs to no member"):
        read(packed("lindi.json", DOCUMENT) + pax(b"10 path=x\n") + bytes(1024))


def test_a_long_name_of_absurd_length_is_refused_without_being_read() -> None:
    file = Counting(pax(b"x" * (2 << 20), kind=tarfile.GNUTYPE_LONGNAME) + packed("lindi.json", DOCUMENT) + bytes(1024))
    with pytest.raises(InvalidReferences, match="1 MiB"):
        read_tar(file)
    assert len(file.reads) == 1


def test_a_negative_size_is_refused() -> None:
    info = tarfile.TarInfo("lindi.json")
    info.size = -512
    with pytest.raises(InvalidReferences, match="cut short"):
        read(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))


@pytest.mark.parametrize("trust_index", [True, False])
def test_the_number_of_members_is_bounded(monkeypatch: pytest.MonkeyPatch, trust_index: bool) -> None:
    data = lindi_tar(FILES)
    monkeypatch.setattr(bundle, "_MAX_MEMBERS", 7)
    assert len(read(data, trust_index=trust_index).members) == 7
    monkeypatch.setattr(bundle, "_MAX_MEMBERS", 6)
    with pytest.raises(InvalidReferences, match="more than 6 members"):
        read(data, trust_index=trust_index)


def test_an_index_that_would_fill_the_memory_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = lindi_tar(FILES)
    monkeypatch.setattr(bundle, "_MAX_MEMBERS", 7)
    for value in (b"[],", b"{},"):
        index = b'{"files": [' + value * 99 + b"0]}"
        assert read(data[:2048] + index.ljust(8192) + data[10240:]).verified


def test_the_size_of_the_document_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"lindi.json": DOCUMENT.ljust(9000)}  # longer than the index, which has the same bound
    monkeypatch.setattr(bundle, "_MAX_DOCUMENT", 8999)
    for data in (tar(*files.items()), lindi_tar(files)):
        with pytest.raises(InvalidReferences, match="larger than") as caught:
            read(data)
        assert caught.value.key == "lindi.json"


# Damage


def test_a_bundle_without_a_document_says_so() -> None:
    for data in (tar(*BLOBS.items()), lindi_tar(BLOBS), tar(("session.lindi.d/lindi.json", DOCUMENT))):
        with pytest.raises(InvalidReferences, match=r"no lindi.json at its top level"):
            read(data)


@pytest.mark.parametrize("trust_index", [True, False])
def test_a_bundle_that_is_cut_short_anywhere_is_refused_or_has_all_its_members(trust_index: bool) -> None:
    whole = lindi_tar(FILES)
    truth, ends = by_tarfile(whole), 0
    for size in range(0, len(whole), 37):
        try:
            found = read(whole[:size], trust_index=trust_index)
        except InvalidReferences as error:
            assert "cut short" in error.reason  # noqa: PT017 - one of many
        else:
            assert found.members == truth
            ends += 1
            assert size >= len(whole) - 1024 + 512
    assert ends == 14


@pytest.mark.parametrize("data", [b"", b"{}", b" " * 512, b"\xff" * 2048, DOCUMENT.ljust(4096)])
def test_what_is_no_tar_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidReferences, match=r"not a tar|no tar header"):
        read(data)


def test_a_tar_of_nothing_has_no_document() -> None:
    with pytest.raises(InvalidReferences, match=r"no lindi.json"):
        read(bytes(10240))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=12)), max_size=4),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 511), st.binary(min_size=1, max_size=3)), max_size=3),
    st.integers(0, 3000),
    st.booleans(),
)
def test_a_damaged_bundle_is_refused_or_read_as_tarfile_reads_it(
    anywhere: list[tuple[float, bytes]], headers: list[tuple[int, int, bytes]], cut: int, mend: bool
) -> None:
    """Damage anywhere, and in headers (whose checksum is then mended, or not)."""
    mutable = bytearray(lindi_tar(FILES))
    starts = sorted(place.offset - 512 for place in by_tarfile(bytes(mutable)).values())
    for where, new in anywhere:
        at = int(where * len(mutable))
        mutable[at : at + len(new)] = new
    for which, offset, new in headers:
        at = starts[which % len(starts)]
        mutable[at + offset : at + offset + len(new)] = new
        if mend:
            mutable[at + 148 : at + 156] = b" " * 8
            mutable[at + 148 : at + 156] = f"{sum(mutable[at : at + 512]):06o}\0 ".encode()
    data = bytes(mutable[: len(mutable) - cut]) if cut % 3 == 0 else bytes(mutable)
    for trust_index in (True, False):
        file = Counting(data)
        try:
            found = read_tar(file, trust_index=trust_index)
        except InvalidReferences:
            continue
        finally:
            assert len(file.reads) <= 20
        assert all(place.end <= len(data) for place in found.members.values())
        if found.verified:
            members = {name.removeprefix("./"): place for name, place in by_tarfile(data).items()}
            assert found.members == {name: place for name, place in members.items() if not name.startswith(".trash/")}
        for name, place in verified(found, data).items():
            if not found.verified:
                info = tarfile.TarInfo.frombuf(data[place.offset - 512 : place.offset], "utf-8", "surrogateescape")
                assert (info.name, info.size) == (name, place.length)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 600_063), st.integers(0, 255)), min_size=1, max_size=20), st.booleans())
def test_the_sample_bundle_damaged_is_refused_or_has_its_own_members(
    sample: bytes, flips: list[tuple[int, int]], trust_index: bool
) -> None:
    """Flipped bytes never add up to a name or place that was not there: each header has a checksum."""
    mutable = bytearray(sample)
    for at, byte in flips:
        mutable[at if at % 2 else at % 10752] = byte  # as often among the entry and the index as anywhere
    data = bytes(mutable)
    try:
        found = read(data, trust_index=trust_index)
    except InvalidReferences:
        return
    assert verified(found, data).items() <= by_tarfile(sample).items()


# References


def test_a_reference_is_located_with_or_without_a_dot_in_front() -> None:
    data = lindi_tar(FILES)
    found = read(data)
    assert found.locate("./blobs/a/1.0") == found.locate("blobs/a/1.0") == by_tarfile(data)["blobs/a/1.0"]
    assert found.locate("./blobs/a/9.0") is None
    assert found.locate("https://example.org/blobs/a/1.0") is None


def test_a_reference_that_leads_out_of_the_bundle_is_refused() -> None:
    found = read(lindi_tar(FILES))
    for url in ("../x", "/etc/passwd", "C:\\x", "blobs/%2Fx"):
        with pytest.raises(InvalidReferences, match="refused"):
            found.locate(url)


def test_a_tar_is_known_by_its_content(sample: bytes, data: Path) -> None:
    tars = [sample, lindi_tar(FILES), *(tar(("x", b""), format=format) for format in (0, 1, 2))]  # noqa: A001
    assert all(is_tar(content[:512]) for content in tars)
    assert is_tar(b".tar_entry.json\0")
    others = [
        b"",
        DOCUMENT,
        b'{"a": "' + b"x" * 250 + b"ustar  x",
        (data / "session.nwb").read_bytes()[:512],
        bytes(512),
    ]
    assert len(others[2]) > 263
    assert not any(map(is_tar, others))
