"""`pipelines/convert_session.py`, run as it stands, in a process of its own."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import h5py
import zarr
from pipeline_runs import command, environ_of, secrets_in, settings_for, write_lfp

from lindi_dask.testing import EmbeddedArchive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_an_embargoed_session_becomes_a_zarr_that_equals_the_hdf5_file_though_leases_live_for_two_seconds(
    tmp_path: Path, assert_equal_to_h5py: Callable[[zarr.Array[Any], h5py.Dataset], None]
) -> None:
    session = tmp_path / "session.nwb"
    write_lfp(session, 0)
    changes = {'"dandi://dandi/': '"dandi://local/', "workers = 4": "workers = 2"}
    with EmbeddedArchive(lifetime_s=2, bytes_per_s=80_000) as archive:
        archive.add(session, path="sub-1/sub-1.nwb")
        ran = subprocess.run(
            command("convert_session.py", settings_for(tmp_path, "convert_session.toml", changes)),
            capture_output=True, text=True, check=False, env=environ_of(archive), cwd=tmp_path, timeout=90,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert archive.counts()["exchanges"] > 2  # more than the client's one and the cluster's first
    out = tmp_path / "sub-1.nwb.zarr"
    assert f"{out}: 33 objects made, 0 were there" in ran.stdout
    compared = []
    with h5py.File(session) as file:

        def compare(path: str, node: object) -> None:
            if isinstance(node, h5py.Dataset):
                assert_equal_to_h5py(converted[path], node)
                compared.append(path)

        converted: Any = zarr.open_group(out, mode="r")
        file.visititems(compare)
    assert len(compared) > 20
    assert not secrets_in(archive, tmp_path, ran.stdout + ran.stderr)
