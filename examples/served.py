"""What the examples share: a file served as embargoed data are, and a cluster to read it with."""

from __future__ import annotations

import argparse
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client, LocalCluster

import lindi_dask as ld
from lindi_dask.testing import EmbeddedArchive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pynwb import NWBFile

WORKERS = 2


def folder_of(arguments: list[str] | None, description: str | None) -> Path:
    """Return the folder that the command line names for all files of an example; made if need be."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("lindi-dask-examples"))
    folder: Path = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(nwbfile: NWBFile, path: Path) -> None:
    """Write a session as the HDF5 file that a lab would upload."""
    from pynwb import NWBHDF5IO  # noqa: PLC0415 - workers don't need it

    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)


@contextmanager
def embargoed(path: Path) -> Iterator[Path]:
    """Serve a file from an archive on this machine, under embargo; the value is the reference file to read it by.

    In place of this, you have the reference file of a session on DANDI, and your key in `DANDI_API_KEY`.
    """
    with EmbeddedArchive(lifetime_s=2, latency_s=0.01) as archive:
        refs = path.with_suffix(".lindi.json")
        ld.index(path, url=archive.add(path).url).save(refs, overwrite=True)
        os.environ.update(archive.environ())  # workers inherit the key
        instances = {"local": {"api-url": archive.api_url}}
        small = "2 MiB"  # of a block, since the sessions are small, too
        with dask.config.set({"lindi-dask.instances": instances, "array.chunk-size": small}):
            yield refs


@contextmanager
def cluster() -> Iterator[Client[Any]]:
    """Start dask workers, each a process."""
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=2, dashboard_address="127.0.0.1:0") as workers,
        Client(workers) as client,
    ):
        yield client
