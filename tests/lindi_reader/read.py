"""Describes every dataset and attribute of a file, as LINDI reads it. Runs in an environment of LINDI's own.

    python read.py REFERENCES HDF5

prints JSON by path. REFERENCES is a `.lindi.json` or `.lindi.d`, all of whose absolute URLs are read from the local
file HDF5. `described` is what the test calls for h5py's own view of that file.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import h5py
import numpy as np


def described(file: Any) -> dict[str, Any]:
    """Return what a file (h5py's, or LINDI's) holds, by path; groups behind soft links, too."""
    found: dict[str, Any] = {}
    waiting = [("", file)]
    while waiting:
        path, node = waiting.pop()
        found[f"{path}@"] = {name: _attribute(node.attrs[name], file) for name in sorted(node.attrs.keys())}
        if isinstance(node, h5py.Dataset):
            found[path] = _dataset(node, file)
        else:
            waiting += [(f"{path}/{name}", node[name]) for name in node.keys()]  # noqa: SIM118 - LINDI has no iteration
    return found


def _dataset(dataset: Any, file: Any) -> Any:
    names = dataset.dtype.names
    if names is None:
        return _values(dataset[()], file)
    if getattr(dataset, "_compound_dtype", None) is not None:  # LINDI gives compounds by field only
        return {name: _values(dataset[name][:], file) for name in names}
    return {name: _values(dataset[()][name], file) for name in names}


def _values(values: Any, file: Any) -> Any:
    array = np.asarray(values)
    if array.dtype.kind in "OSU":
        return [list(array.shape), [_text(item, file) for item in array.reshape(-1).tolist()]]
    return [list(array.shape), array.dtype.newbyteorder("=").str, hashlib.sha256(array.tobytes()).hexdigest()]


def _attribute(value: Any, file: Any) -> Any:
    if isinstance(value, h5py.Reference | bytes | str):
        return _text(value, file)
    array = np.asarray(value)
    return [_text(item, file) if array.dtype.kind in "OSU" else repr(item) for item in array.reshape(-1).tolist()]


def _text(item: Any, file: Any) -> str:
    if isinstance(item, h5py.Reference):
        return f"-> {file[item].name}"
    return item.decode() if isinstance(item, bytes) else str(item)


def opened(references: str, hdf5: str) -> Any:
    """Open references with LINDI, their absolute URLs replaced by a path."""
    # Only where this is run: LINDI is in no other environment
    import lindi  # type: ignore[import-not-found] # noqa: PLC0415
    from lindi.LindiH5pyFile.LindiH5pyFile import (  # type: ignore[import-not-found] # noqa: PLC0415
        _load_rfs_from_local_file_or_dir,
    )

    rfs, bundle = _load_rfs_from_local_file_or_dir(references)
    rfs["templates"] = dict.fromkeys(rfs.get("templates", {}), hdf5)
    for value in rfs["refs"].values():
        if isinstance(value, list) and value[0].startswith("http"):
            value[0] = hdf5
        elif isinstance(value, dict) and "_EXTERNAL_ARRAY_LINK" in value:
            value["_EXTERNAL_ARRAY_LINK"]["url"] = hdf5
    return lindi.LindiH5pyFile.from_reference_file_system(
        rfs,
        _source_url_or_path=references if bundle else None,
        _source_tar_file=bundle,
        _close_source_tar_file_on_close=True,
    )


if __name__ == "__main__":
    json.dump(described(opened(*sys.argv[1:])), sys.stdout)
