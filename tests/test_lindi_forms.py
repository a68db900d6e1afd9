"""The sample session in each of LINDI's forms: every array, every soft link, beside h5py and beside LINDI itself."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from numcodecs.registry import get_codec

import lindi_dask as ld
from lindi_dask import errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py

    from lindi_dask.testing import EmbeddedArchive

URL = "https://api.dandiarchive.org/api/assets/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/download/"
LFP = "processing/ecephys/LFP/LFP/data"
ADDED = "scratch/added"  # the array that LINDI staged into the bundles
FORMS = {
    "session.expanded.lindi.json": 54,
    "session.lindi.json": 54,
    "session.amended.lindi.d": 55,
    "session.amended.lindi.tar": 55,
}


@pytest.fixture
def served(
    embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]], data: Path
) -> dict[str, Any]:
    """The options by which the URL of the sample files reaches the embargoed session of the embedded archive."""
    embedded_archive.add(data / "session.nwb", asset_id="0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")
    return {"instances": own_key(embedded_archive)}


@pytest.fixture
def place(embedded_archive: EmbeddedArchive, data: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies a sample file or folder, its URLs those of the embedded archive."""
    own = f"{embedded_archive.api_url}/assets/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/download/".encode()

    def copy(name: str) -> Path:
        copied = tmp_path / name
        if (data / name).is_dir():
            shutil.copytree(data / name, copied)
            document = copied / "lindi.json"
        else:
            document = copied
            shutil.copy(data / name, copied)
        content = document.read_bytes()
        if name.endswith(".tar"):  # in place: LINDI pads the document with blanks
            changed = content.replace(URL.encode(), own)
            spare = len(changed) - len(content)
            end = changed.index(b" " * 64, changed.index(b'"refs"'))
            content = (
                changed[:end] + changed[end + spare :] if spare >= 0 else changed[:end] + b" " * -spare + changed[end:]
            )
        else:
            content = content.replace(URL.encode(), own)
        document.write_bytes(content)
        return copied

    return copy


@pytest.mark.parametrize("form", FORMS)
def test_every_array_of_the_session_is_equal_to_h5pys_or_says_why_it_cannot_be_read(
    form: str,
    served: dict[str, Any],
    place: Callable[[str], Path],
    session_h5: h5py.File,
    assert_equal_to_h5py: Callable[..., None],
) -> None:
    group = ld.open_group(place(form), **served)
    arrays = {path: node for path, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}
    assert len(arrays) == FORMS[form]
    linked = set() if "expanded" in form else {LFP}
    for path, array in arrays.items():
        if path in linked:
            with pytest.raises(errors.UnsupportedArray, match="lindi-dask expand"):
                array[...]
        elif path != ADDED:
            assert_equal_to_h5py(array, session_h5[path])


@pytest.mark.parametrize("form", FORMS)
def test_every_soft_link_opens_as_what_it_points_at(
    form: str, served: dict[str, Any], place: Callable[[str], Path], session_h5: h5py.File
) -> None:
    path = place(form)
    links = ld.open_store(path, **served).references.links
    assert len(links) == 5
    group = ld.open_group(path, **served)
    for link, target in links.items():
        assert session_h5.get(link, getlink=True).path == f"/{target}"
        assert group[link].attrs.asdict() == group[target].attrs.asdict()


@pytest.mark.parametrize("form", ["session.amended.lindi.d", "session.amended.lindi.tar"])
def test_staged_chunks_are_read_from_the_bundle(
    form: str, served: dict[str, Any], place: Callable[[str], Path], data: Path
) -> None:
    document = json.loads((data / "session.amended.lindi.d" / "lindi.json").read_text())["refs"]
    zarray = document[f"{ADDED}/.zarray"]
    truth = np.zeros([5 * zarray["chunks"][0], *zarray["shape"][1:]], zarray["dtype"])
    for i in range(5):
        encoded = (data / "session.amended.lindi.d" / "blobs" / ADDED / f"{i}.0").read_bytes()
        chunk = np.frombuffer(get_codec(zarray["compressor"]).decode(encoded), zarray["dtype"])
        truth[i * zarray["chunks"][0] : (i + 1) * zarray["chunks"][0]] = chunk.reshape(zarray["chunks"])
    array = ld.open_array(place(form), ADDED, **served)
    assert array.shape == tuple(zarray["shape"])
    np.testing.assert_array_equal(array.compute(), truth[: zarray["shape"][0]])


@pytest.mark.parametrize("form", ["session.amended.lindi.d", "session.amended.lindi.tar"])
def test_the_bundles_are_read_as_lindi_reads_them(
    form: str, served: dict[str, Any], place: Callable[[str], Path], data: Path, lindi: Callable[[Path, Path], Any]
) -> None:
    path = place(form)
    theirs = {name: found for name, found in lindi(path, data / "session.nwb").items() if not name.endswith("@")}
    group = ld.open_group(path, **served)
    behind_links = {f"/{link}" for link in ld.open_store(path, **served).references.links}
    own = {name for name in theirs if not any(name == link or name.startswith(f"{link}/") for link in behind_links)}
    assert len(own) == 55
    for name in own - {f"/{LFP}"}:
        array: Any = group[name.strip("/")]
        values = np.asarray(array[...], dtype=array.dtype)
        shape, *held = theirs[name] if isinstance(theirs[name], list) else (list(values.shape),)
        assert list(values.shape) == shape
        match held:
            case [str(dtype), str(digest)]:
                assert values.dtype.str == dtype
                assert hashlib.sha256(values.tobytes()).hexdigest() == digest
            case [list(texts)]:
                assert [text.removeprefix("-> ") for text in texts] == values.reshape(-1).tolist()
            case _:  # a compound, by field
                for field, (_, dtype, digest) in theirs[name].items():
                    assert hashlib.sha256(values[field].astype(dtype).tobytes()).hexdigest() == digest


@pytest.mark.parametrize("form", ["session.lindi.json", "session.amended.lindi.d"])
def test_the_linked_array_is_equal_to_h5pys_once_it_is_expanded(
    form: str,
    served: dict[str, Any],
    place: Callable[[str], Path],
    tmp_path: Path,
    session_h5: h5py.File,
    assert_equal_to_h5py: Callable[..., None],
) -> None:
    command = [
        sys.executable,
        "-c",
        "from lindi_dask.cli import main; main()",
        "expand",
        str(place(form)),
        str(tmp_path / f"expanded.{form}"),
    ]
    ((name, url),) = served["instances"].items()
    done = subprocess.run([*command, "--instance", f"{name}={url}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    group: Any = ld.open_group(tmp_path / f"expanded.{form}", **served)
    assert_equal_to_h5py(group[LFP], session_h5[LFP])
