"""How fast, and in how much memory, references are made of an HDF5 file, beside the packages that make such.

A million chunks in one dataset; and 2,000 datasets in 500 groups with the attributes, text, links and references that
NWB files have, of which VirtualiZarr, which has none of these, gets a copy without: a local file, and one with 300 KB
of data a group behind a storage host that answers after 30 ms. There we start from the archive's download URL, the
others from a presigned one. Each measurement is a process of its own. Run by `make bench`.
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
import requests
from table import Target, print_table, print_targets, show
from talk import Talker

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RUNS = 3
CHUNKS = 1_000_000
GROUPS = 500
LATENCY_MS = 30
ROWS = {"local": 400, "remote": 13_600}
LEGEND = """\
index: until references are there. written: with the file that they are written to, as each package writes them.
peak: most resident memory meanwhile, MB above the process after its imports and a small file. requests, MB read: as the
storage host counts them. Medians."""


@dataclass(slots=True)
class Indexer:
    """What indexes the file, and what came of it."""

    name: str
    module: str
    python: str
    path: str
    warm: str
    environ: dict[str, str] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def run(self, folder: Path) -> None:
        out = Path(tempfile.mkdtemp(dir=folder), "out")
        command = [self.python, "-m", "peers.index_measure", self.module, self.warm, self.path, str(out)]
        paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"} | self.environ
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


def write_nwb_like(path: Path, groups: int = GROUPS, *, rows: int = ROWS["local"], plain: bool = False) -> Path:
    """Write four datasets a group; `plain`: numbers only, and no links or references."""
    noise = np.random.default_rng(3)
    with h5py.File(path, "w") as file:
        for number in range(groups):
            group = file.create_group(f"acquisition/series{number}")
            about = {"neurodata_type": "TimeSeries", "namespace": "core", "description": "a series", "comments": "none"}
            group.attrs.update({**about, "object_id": f"{number:036d}"})
            values = noise.integers(-2000, 2000, (rows, 8), "<i2")
            data = group.create_dataset("data", data=values, chunks=(rows // 4, 8), compression="gzip")
            data.attrs.update({"unit": "V", "conversion": 1e-6, "resolution": -1.0})
            timestamps = group.create_dataset("timestamps", data=np.arange(float(rows)))
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


def measure(title: str, indexers: list[Indexer], folder: Path, runs: int, host: Talker | None = None) -> None:
    for number in range(runs):
        for indexer in indexers:
            show(f"{indexer.name}, run {number + 1}")
            indexer.run(folder)
            if host is not None:
                indexer.runs[-1] |= host.ask({"count": True})
    show("")
    counts = ("requests", "MB read") if host is not None else ()
    rows = [
        (
            one.name,
            f"{one.median('index'):.2f}",
            f"{one.median('seconds'):.2f}",
            f"{one.median('peak') / 1e6:,.0f}",
            *((f"{one.median('requests'):,.0f}", f"{one.median('nbytes') / 1e6:,.0f}") if host is not None else ()),
            ", ".join(f"{name} {number}" for name, number in one.runs[0]["versions"].items()),
        )
        for one in indexers
    ]
    print_table(
        title,
        ("package", "index, s", "written, s", "peak, MB", *counts, "versions"),
        rows,
        words={"package", "versions"},
    )


def moved(indexers: list[Indexer], host: Talker) -> None:
    """Put the files behind the host: ours by their download URLs, the others' by presigned ones."""
    hello = host.receive()
    for one in indexers:
        one.environ = hello["environ"] if one.name == "lindi_dask" else {}
        one.path = host.ask({"add": one.path})["url"]
        if one.name != "lindi_dask":
            key = {"Authorization": f"token {hello['key']}"}
            one.path = requests.get(one.path, headers=key, allow_redirects=False, timeout=10).headers["Location"]
    host.ask({"latency_ms": LATENCY_MS})
    host.ask({"count": True})


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
                Indexer("lindi_dask", "index_ours", sys.executable, str(path), str(warm)),
                Indexer("kerchunk", "index_kerchunk", options.peers, str(path), str(warm)),
                Indexer("VirtualiZarr", "index_virtualizarr", options.peers, str(bare), str(bare_warm)),
                Indexer("LINDI", "index_lindi", options.lindi, str(path), str(warm)),
            ]

        million = write_million(folder / "million.h5")
        first = lineup(million, few, million, few)
        measure(f"{CHUNKS:,} chunks in one dataset", first, folder, options.runs)
        nwb = write_nwb_like(folder / "nwb.h5")
        second = lineup(nwb, small, write_nwb_like(folder / "nwb-plain.h5", plain=True), plain)
        measure(f"{4 * GROUPS:,} datasets in {GROUPS} groups, with links and references", second, folder, options.runs)
        show("writing the remote files")
        far = write_nwb_like(folder / "far.h5", rows=ROWS["remote"])
        third = lineup(far, small, write_nwb_like(folder / "far-plain.h5", rows=ROWS["remote"], plain=True), plain)
        title = f"the same with {far.stat().st_size / 1e6:.0f} MB, {LATENCY_MS} ms away"
        host = Talker([sys.executable, str(HERE / "serve.py")])
        try:
            moved(third, host)
            measure(title, third, folder, options.runs, host)
        finally:
            host.close()
    ours, _, _, lindi = first
    like, _, virtual, _ = second
    remote, _, far_virtual, _ = third
    tenth, half = lindi.median("seconds") / 10, virtual.median("index") / 2
    part = far_virtual.median("index") / 2.5
    print_targets(
        [
            Target(f"a million chunks, written: 1/10 of LINDI's ({tenth:.2f} s)", ours.median("seconds"), tenth, "s"),
            Target("peak, a million chunks", ours.median("peak") / 1e6, 150, "MB"),
            Target(
                f"2,000 datasets: 1/2 of VirtualiZarr's without links ({half:.2f} s)", like.median("index"), half, "s"
            ),
            Target(f"remote: 1/2.5 of VirtualiZarr's ({part:.2f} s)", remote.median("index"), part, "s"),
            Target("remote: requests", remote.median("requests"), 40, ""),
            Target("remote: read", remote.median("nbytes") / 1e6, 150, "MB"),
        ]
    )
    print(LEGEND)


if __name__ == "__main__":
    main()
