"""Everything that can happen to an output is found, named, and mended."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING, Any

import h5py
import pytest

import lindi_dask as ld
from lindi_dask.conversion import job_of
from lindi_dask.conversion.manifest import MANIFEST
from lindi_dask.errors import ConfigurationError, JobConflict, JobError, RefsChanged, VerificationFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tree = Callable[[Path], dict[str, bytes]]

SHARDS = [f"a/data/c/{row}/0" for row in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11)]  # the fifth holds only fill values


@pytest.fixture
def out(factory: ld.StoreFactory, tmp_path: Path, options: dict[str, Any]) -> Path:
    path = tmp_path / "out.zarr"
    ld.convert(factory, path, **options)
    return path


def problems(out: Path) -> dict[str, str]:
    with pytest.raises(VerificationFailed) as failed:
        ld.verify(out, threads=2)
    return failed.value.problems


def test_every_flipped_bit_is_found_and_mended(
    out: Path, factory: ld.StoreFactory, options: dict[str, Any], tree: Tree
) -> None:
    before = tree(out)
    draw = random.Random(3)
    for _ in range(20):
        key = draw.choice(SHARDS)
        damaged = bytearray(before[key])
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        (out / key).write_bytes(damaged)
        assert list(problems(out)) == [key]
        (out / key).write_bytes(before[key])
    damaged_keys = draw.sample(SHARDS, 5)
    for key in damaged_keys:
        damaged = bytearray(before[key])
        damaged[draw.randrange(len(damaged))] ^= 0x10
        (out / key).write_bytes(damaged)
    assert sorted(problems(out)) == sorted(damaged_keys)
    assert ld.convert(factory, out, resume=True, **options).made == 5
    assert tree(out) == before


def lose(out: Path, keys: list[str]) -> list[str]:
    for key in keys:
        (out / key).unlink()
    return keys


def swap(out: Path, keys: list[str]) -> list[str]:
    contents = [(out / key).read_bytes() for key in keys]
    for key, content in zip(keys, [*contents[1:], contents[0]], strict=True):
        (out / key).write_bytes(content)
    return keys


def truncate(out: Path, keys: list[str]) -> list[str]:
    (out / keys[0]).write_bytes((out / keys[0]).read_bytes()[:-100])
    return keys[:1]


def edit(out: Path, _: list[str]) -> list[str]:
    for key, old, new in [("a/data/zarr.json", "volts", "tonne"), ("a/zarr.json", "group", "grOup")]:
        text = (out / key).read_text()
        assert old in text
        (out / key).write_text(text.replace(old, new))
    return ["a/data/zarr.json", "a/zarr.json"]


def edit_root(out: Path, _: list[str]) -> list[str]:
    root = json.loads((out / "zarr.json").read_text())
    root["consolidated_metadata"]["metadata"]["a/data"]["shape"][0] += 1
    (out / "zarr.json").write_text(json.dumps(root))
    return ["zarr.json"]


def break_root(out: Path, _: list[str]) -> list[str]:
    (out / "zarr.json").write_text("{")
    return ["zarr.json"]


def invent(out: Path, keys: list[str]) -> list[str]:
    """Put an object where all was fill value."""
    (out / "a/data/c/5").mkdir()
    shutil.copy(out / keys[0], out / "a/data/c/5/0")
    return ["a/data/c/5/0"]


@pytest.mark.parametrize("harm", [lose, swap, truncate, edit, edit_root, break_root, invent])
def test_other_harm_is_found_named_and_mended(
    out: Path,
    factory: ld.StoreFactory,
    options: dict[str, Any],
    tree: Tree,
    harm: Callable[[Path, list[str]], list[str]],
) -> None:
    before = tree(out)
    harmed = harm(out, random.Random(4).sample(SHARDS, 5))
    assert sorted(problems(out)) == sorted(harmed)
    ld.convert(factory, out, resume=True, **options)
    assert tree(out) == before
    ld.verify(out, threads=2)


def test_without_its_job_an_output_is_mended_from_its_manifest(
    out: Path, factory: ld.StoreFactory, options: dict[str, Any], tree: Tree
) -> None:
    before = tree(out)
    shutil.rmtree(job_of(out).folder)
    lose(out, SHARDS[3:5])
    done = ld.convert(factory, out, resume=True, **options)
    assert (done.made, done.kept) == (2, 12)
    assert tree(out) == before


def test_a_manifest_that_was_edited_is_refused_and_written_anew(
    out: Path, factory: ld.StoreFactory, options: dict[str, Any], tree: Tree
) -> None:
    before = tree(out)
    (file,) = out.rglob(MANIFEST)
    file.write_bytes(file.read_bytes().replace(b'"volts"', b'"tonne"'))
    with pytest.raises(JobError, match="checksum does not hold"):
        ld.verify(out)
    ld.convert(factory, out, resume=True, **options)
    assert tree(out) == before
    file.unlink()
    with pytest.raises(JobError, match="was not made by convert"):
        ld.verify(out)
    shutil.rmtree(job_of(out).folder)
    with pytest.raises(JobConflict, match="has no manifest"):
        ld.convert(factory, out, resume=True, **options)


def test_the_source_is_read_again_by_another_way(
    out: Path, factory: ld.StoreFactory, source: Path, tmp_path: Path
) -> None:
    verified = ld.verify(out, factory, level="full", threads=2)
    assert (verified.objects, verified.level) == (14, "full")
    other = tmp_path / "other.h5"
    shutil.copy(source, other)
    with h5py.File(other, "r+") as file:
        file["a/data"][2500, 3] += 1
        file["a/data"][5500, 3] += 1  # where nothing was written
    with pytest.raises(VerificationFailed) as failed:
        ld.verify(out, factory, level="full", hdf5=other, threads=2)
    assert failed.value.problems == dict.fromkeys(
        ["a/data/c/2/0", "a/data/c/5/0"], "it holds other values than the source"
    )


def test_an_output_of_other_references_is_not_compared_with_these(
    out: Path, session_refs: Callable[..., dict[str, Any]], data: Path
) -> None:
    refs = session_refs(str(data / "session.nwb"))
    with pytest.raises(RefsChanged, match="was made from other references"):
        ld.verify(out, refs, level="full", allow=[f"{data}/"])
    with pytest.raises(ConfigurationError, match="needs refs"):
        ld.verify(out, level="full")


def test_an_unfinished_output_cannot_be_verified_or_opened(out: Path) -> None:
    out.rename(job_of(out).data)
    with pytest.raises(JobError, match="can't be verified"):
        ld.verify(out)
