"""How fast, and in how much memory, references are made of an HDF5 file, beside the packages that make such.

Two files: a million chunks in one dataset, and 2,000 datasets in 500 groups with the attributes, text, links and
references that NWB files have; of that one VirtualiZarr, which has none of these, gets a copy without. Each measurement
is a process of its own. Run by `make bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
from table import Target, print_table, print_targets, show

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RUNS = 3
CHUNKS = 1_000_000
GROUPS = 500
COLUMNS = ("package", "index, s", "written, s", "peak, MB", "versions")
LEGEND = """\
index: until references are there. written: with the file that they are written to, as each package writes them.
peak: most resident memory meanwhile, MB above the process after its imports and a small file. Medians."""


@dataclass(slots=True)
class Indexer:
    """What indexes the file, and what came of it."""

    name: str
    module: str
    python: str
    path: Path
    warm: Path
    runs: list[dict[str, Any]] = field(default_factory=list)

    def run(self, folder: Path) -> None:
        out = Path(tempfile.mkdtemp(dir=folder), "out")
        command = [self.python, "-m", "peers.index_measure", self.module, *map(str, (self.warm, self.path, out))]
        paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"{self.name} failed: its process says why above.")
        self.runs.append(json.loads(done.stdout.splitlines()[-1]))

    def median(self, key: str) -> float:
        return float(median(run[key] for run in self.runs))


def write_million(path: Path, count: int = CHUNKS) -> Path:
    with h5py.File(path, "w") as file:
        x = file.create_dataset("data", (count, 64), "<i2", chunks=(1, 64), compression="gzip")
        chunk = zlib.compress(bytes(128))
        for i in range(count):
            x.id.write_direct_chunk((i, 0), chunk)
    return path


def write_nwb_like(path: Path, groups: int = GROUPS, *, plain: bool = False) -> Path:
    """Write four datasets a group; `plain`: numbers only, and no links or references."""
    with h5py.File(path, "w") as file:
        for number in range(groups):
            group = file.create_group(f"acquisition/series{number}")
            about = {"neurodata_type": "TimeSeries", "namespace": "core", "description": "a series", "comments": "none"}
            group.attrs.update({**about, "object_id": f"{number:036d}"})
            data = group.create_dataset("data", data=np.ones((400, 8), "<i2"), chunks=(100, 8), compression="gzip")
            data.attrs.update({"unit": "V", "conversion": 1e-6, "resolution": -1.0})
            timestamps = group.create_dataset("timestamps", data=np.arange(400.0))
            timestamps.attrs.update({"unit": "seconds", "interval": 1})
            group.create_dataset("gain", data=1.5)
            if plain:
                group.create_dataset("labels", data=np.arange(8))
                continue
            group.create_dataset("labels", data=[f"l{i}" for i in range(8)], dtype=h5py.string_dtype())
            group["electrodes"] = h5py.SoftLink("/acquisition/series0/labels")
            group.attrs["table"] = file["acquisition/series0"].ref
            data.attrs["timestamps"] = timestamps.ref
    return path


def measure(title: str, indexers: list[Indexer], folder: Path, runs: int) -> None:
    for number in range(runs):
        for indexer in indexers:
            show(f"{indexer.name}, run {number + 1}")
            indexer.run(folder)
    show("")
    rows = [
        (
            one.name,
            f"{one.median('index'):.2f}",
            f"{one.median('seconds'):.2f}",
            f"{one.median('peak') / 1e6:,.0f}",
            ", ".join(f"{name} {number}" for name, number in one.runs[0]["versions"].items()),
        )
        for one in indexers
    ]
    print_table(
        title, ("package", "index, s", "written, s", "peak, MB", "versions"), rows, words={"package", "versions"}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="References made of HDF5 files, by who can.")
    for name in ("peers", "lindi"):
        default = os.environ.get(f"BENCH_{name.upper()}_PYTHON", str(ROOT / f".venv-{name}" / "bin" / "python"))
        parser.add_argument(f"--{name}", default=default, help=f"interpreter with peers/{name}.txt (%(default)s)")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each package (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        show("writing the files")
        few = write_million(folder / "few.h5", 24)
        small, plain = write_nwb_like(folder / "small.h5", 3), write_nwb_like(folder / "plain-small.h5", 3, plain=True)

        def lineup(path: Path, warm: Path, bare: Path, bare_warm: Path) -> list[Indexer]:
            return [
                Indexer("lindi_dask", "index_ours", sys.executable, path, warm),
                Indexer("kerchunk", "index_kerchunk", options.peers, path, warm),
                Indexer("VirtualiZarr", "index_virtualizarr", options.peers, bare, bare_warm),
                Indexer("LINDI", "index_lindi", options.lindi, path, warm),
            ]

        million = write_million(folder / "million.h5")
        first = lineup(million, few, million, few)
        measure(f"{CHUNKS:,} chunks in one dataset", first, folder, options.runs)
        nwb = write_nwb_like(folder / "nwb.h5")
        second = lineup(nwb, small, write_nwb_like(folder / "nwb-plain.h5", plain=True), plain)
        measure(f"{4 * GROUPS:,} datasets in {GROUPS} groups, with links and references", second, folder, options.runs)
    ours, _, _, lindi = first
    like, _, virtual, _ = second
    tenth, half = lindi.median("seconds") / 10, virtual.median("index") / 2
    print_targets(
        [
            Target(f"a million chunks, written: 1/10 of LINDI's ({tenth:.2f} s)", ours.median("seconds"), tenth, "s"),
            Target("peak, a million chunks", ours.median("peak") / 1e6, 150, "MB"),
            Target(
                f"2,000 datasets: 1/2 of VirtualiZarr's without links ({half:.2f} s)", like.median("index"), half, "s"
            ),
        ]
    )
    print(LEGEND)


if __name__ == "__main__":
    main()
