"""Members of a tar are checked before a chunk is located in them: all at once where there are few, else as needed."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs import ColumnManifest, Tar, parse_json
from lindi_dask.refs.bundle.members import checked
from lindi_dask.refs.bundle.tar_headers import BLOCK
from lindi_dask.types import ByteRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lindi_dask.refs import References

ZARRAY = {"zarr_format": 2, "chunks": [1], "dtype": "<i8", "fill_value": 0, "compressor": None, "filters": None}


def header(name: str, length: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = length
    return info.tobuf(tarfile.USTAR_FORMAT)


class Bundle:
    """`n` members of one chunk each, and one that holds two chunks; counts the headers that are read."""

    def __init__(self, n: int, *, wrong: Sequence[int] = (), verified: bool = False) -> None:
        names = [f"blobs/{i}" for i in range(n)]
        members = {name: ByteRange(2 * BLOCK * i + BLOCK, 16 if i == 0 else 8) for i, name in enumerate(names)}
        self._headers = {
            place.offset - BLOCK: header("blobs/other" if i in wrong else name, place.length)
            for i, (name, place) in enumerate(members.items())
        }
        refs: dict[str, Any] = {f"a/{i + 1}": [f"./blobs/{i}", 8 if i == 0 else 0, 8] for i in range(n)}
        refs |= {"a/.zarray": {**ZARRAY, "shape": [n + 1], "order": "C"}, "a/0": ["blobs/0", 0, 8]}
        refs |= {"b/.zarray": {**ZARRAY, "shape": [1], "order": "C"}, "b/0": ["https://host.example/x", 512, 8]}
        self.tar = Tar(json.dumps({"refs": refs}).encode(), members, verified=verified)
        self.read: list[int] = []

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        assert all(one.length == BLOCK for one in ranges)
        self.read += [one.offset // (2 * BLOCK) for one in ranges]
        return [self._headers[one.offset] for one in ranges]

    def references(self) -> References:
        parsed = parse_json(self.tar.document, "f" * 32, name="lindi.json", relocate=self.tar.locate)
        return checked(parsed, self.tar, self.read_many)


def located(references: References, *places: int) -> list[int]:
    found: list[int] = references.manifests["a"].locate(np.array(places, np.uint64)).offsets.tolist()
    return found


def test_few_members_are_checked_at_once_and_the_manifests_stay_as_they_are() -> None:
    bundle = Bundle(8)
    references = bundle.references()
    assert bundle.read == list(range(8))
    assert isinstance(references.manifests["a"], ColumnManifest)


def test_many_members_are_checked_once_each_when_their_chunks_are_located() -> None:
    bundle = Bundle(9)
    references = bundle.references()
    assert bundle.read == []
    assert isinstance(references.manifests["b"], ColumnManifest)
    assert not references.manifests["a"].is_ready
    assert located(references, 0, 1) == [512, 520]
    assert bundle.read == [0]
    assert located(references, 3, 0, 9) == [2 * BLOCK * 2 + BLOCK, 512, 2 * BLOCK * 8 + BLOCK]
    assert bundle.read == [0, 2, 8]
    located(references, *range(10))
    assert sorted(bundle.read) == list(range(9))
    assert len(references.manifests["a"].present()) == 10


def test_a_member_that_is_not_where_it_should_be_is_an_error_each_time() -> None:
    with pytest.raises(InvalidReferences, match="'blobs/3'"):
        Bundle(5, wrong=[3]).references()
    references = Bundle(20, wrong=[3]).references()
    assert len(located(references, 0, 1, 2, 3, 5, 6)) == 6
    for _ in range(2):
        with pytest.raises(InvalidReferences, match=r"'blobs/3'.*lies where it does not"):
            located(references, 0, 4)


def test_what_the_headers_vouch_for_is_not_read_again() -> None:
    bundle = Bundle(20, verified=True)
    assert isinstance(bundle.references().manifests["a"], ColumnManifest)
    assert bundle.read == []


def test_references_that_point_into_no_member_cost_nothing() -> None:
    bundle = Bundle(1)
    document = json.dumps({"refs": {"b/.zarray": {**ZARRAY, "shape": [1], "order": "C"}, "b/0": "01234567"}})
    bundle.tar = replace(bundle.tar, document=document.encode())
    bundle.references()
    assert bundle.read == []
