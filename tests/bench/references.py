"""How fast, and in how much memory, a reference file of a million chunks is opened, beside the packages that read such.

Each measurement is a process of its own, in which the same reader opened a file of a few chunks before: imports are
not counted. All readers have to locate the same thousand chunks at the same bytes, compared by a digest. Run by
`make bench`; takes a few minutes. `--full` parses ten million chunks too; without it, only their index is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from peers.files import Array, digest, make_arrays, sample, write_indexed, write_references
from table import Target, print_table, print_targets, show

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RUNS = 3
SLOW_S = 15.0  # a reader that takes longer is run once
SAMPLED = 999
SETTLED_S = 3  # fingerprints of files that were changed so lately are not remembered
FEW, MILLION, MANY = 24, 1_000_000, 10_000_000


# Measuring


@dataclass(slots=True)
class Reader:
    """What opens the file, and what came of it."""

    name: str
    module: str
    """of the folder `peers`"""
    python: str
    path: Path
    few: Path
    """a small file of the same kind"""
    index: str = "false"
    """folder of our index cache; "new" for an empty one at each run"""
    neighbour: bool = False
    """whether another process of this machine has the same references open meanwhile"""
    runs: list[dict[str, Any]] = field(default_factory=list)

    def median(self, key: str) -> float:
        return float(median(run[key] for run in self.runs))

    def needs_run(self, at_most: int) -> bool:
        return not self.runs or (len(self.runs) < at_most and self.runs[0]["seconds"] < SLOW_S)


class Bench:
    """Measurements of one set of chunks.

    Parameters
    ----------
    arrays
        What the files refer to.
    folder
        For temporary files.
    """

    def __init__(self, arrays: list[Array], folder: Path) -> None:
        self._folder = folder
        names, self.expected = sample(arrays, SAMPLED)
        few_names, _ = sample(make_arrays(FEW), SAMPLED)
        array = arrays[0].path
        self._task = {"array": array, "names": names, "warm_names": few_names[array][:1]}

    def run(self, readers: list[Reader], rounds: int) -> None:
        """Run readers in turns."""
        for number in range(rounds):
            for reader in readers:
                if reader.needs_run(rounds):
                    show(f"{reader.name}, run {number + 1}")
                    reader.runs.append(self._measured(reader))
        show("")

    def fill(self, reader: Reader) -> None:
        """Let a process write the index that a reader is to find."""
        show("writing the index")
        newest = max(path.stat().st_ctime for path in (reader.path, reader.few))
        time.sleep(max(newest + SETTLED_S - time.time(), 0))
        self._only(reader, reader.index, {})

    def _measured(self, reader: Reader) -> dict[str, Any]:
        first = not reader.runs
        with tempfile.TemporaryDirectory(dir=self._folder) as new:
            index = new if reader.index == "new" else reader.index
            store = Path(new, "store.pickle")
            if reader.neighbour:
                with self._process(reader, index, {"hold": True}):
                    return self._only(reader, index, {})
            result = self._only(reader, index, {"pickle": first, "keep": str(store)})
            if store.exists():
                result["unpickled"] = self._only(reader, index, {"unpickle": str(store)})
            return result

    def _only(self, reader: Reader, index: str, more: dict[str, Any]) -> dict[str, Any]:
        with self._process(reader, index, more) as result:
            return result

    @contextmanager
    def _process(self, reader: Reader, index: str, more: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """A process that measured; it lives until the context is left."""
        task = self._task | {"path": str(reader.path), "warm": str(reader.few)} | more
        command = [reader.python, "-m", "peers.measure", reader.module, json.dumps(task)]
        paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {
            "DASK_LINDI_DASK__INDEX_CACHE": index,
            "PYTHONPATH": paths,
            "PYTHONWARNINGS": "ignore",
        }
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                sys.exit(f"{reader.name} failed: its process says why above.")
            yield json.loads(line)
            process.communicate()

    def digests(self, reader: Reader) -> set[str]:
        return {digest(run["located"]) for run in reader.runs}


# Tables

COLUMNS = ("reader", "open, s", "peak, MB", "kept", "private", "store, KB", "graph", "elsewhere", "runs", "located")
WORDS = {"reader", "located"}
LEGEND = f"""\
indexed: an opening before wrote the index; 2nd process: another one of this machine has it open meanwhile.
open: from the call to an array that can be read (lindi_dask: a dask array with its graph; others: a zarr or h5py-like
  array). peak: most resident memory meanwhile, and in sizes of the file; kept: resident after a garbage collection;
  private: after {SAMPLED} chunks were located, without pages that other processes have as well. MB, above the process
  after its imports and the opening of a file of {FEW} chunks. Files are in the page cache.
store, graph: pickled; the graph is that of a dask array in blocks of about 128 MiB, the store included.
elsewhere: seconds until a new process has unpickled the store and located a chunk.
located: digest of where {SAMPLED} chunks lie. Medians of alternating runs; who takes {SLOW_S:.0f} s runs once."""


def row(reader: Reader, digests: set[str], *, listed: bool) -> tuple[str, ...]:
    """Return what the table says of a reader; `listed`: whether its file holds the chunks."""
    pickled, unpickled = reader.runs[0].get("pickled") or {}, reader.runs[0].get("unpickled")
    peak = reader.median("peak")
    return (
        reader.name,
        f"{reader.median('seconds'):.3f}",
        figure(peak / 1e6) + (f" ({peak / reader.path.stat().st_size:.1f} x)" if listed else ""),
        figure(reader.median("kept") / 1e6),
        figure(reader.median("private") / 1e6),
        *(figure(pickled[key] / 1e3) if isinstance(pickled.get(key), int) else "" for key in ("store", "graph")),
        f"{unpickled['seconds']:.3f}" if unpickled else "",
        str(len(reader.runs)),
        " ".join(sorted(digests)),
    )


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def print_readers(title: str, bench: Bench, readers: list[Reader], *, listed: bool = True) -> bool:
    """Print a table; return whether all readers located the chunks where they lie."""
    digests = [bench.digests(reader) for reader in readers]
    rows = [row(reader, found, listed=listed) for reader, found in zip(readers, digests, strict=True)]
    print_table(title, COLUMNS, rows, words=WORDS)
    return all(found == {bench.expected} for found in digests)


def our_readers(path: Path, few: Path, index: Path) -> list[Reader]:
    ours = partial(Reader, module="ours", python=sys.executable, path=path, few=few)
    return [
        ours("lindi_dask, no index"),
        ours("lindi_dask, writing it", index="new"),
        ours("lindi_dask, indexed", index=str(index)),
        ours("lindi_dask, 2nd process", index=str(index), neighbour=True),
    ]


def million(folder: Path, peers: str, lindi: str, rounds: int) -> tuple[bool, list[Target]]:
    """Measure all readers with a million chunks."""
    arrays, few = make_arrays(MILLION), make_arrays(FEW)
    path, small = write_references(folder / "1m.json", arrays), write_references(folder / "few.json", few)
    flat = write_references(folder / "1m-flat.json", arrays, flat=True)
    small_flat = write_references(folder / "few-flat.json", few, flat=True)
    ours = our_readers(path, small, folder / "index")
    others = [
        Reader("fsspec + zarr", "fsspec_zarr", peers, path, small),
        Reader("VirtualiZarr (*)", "virtual_zarr", peers, flat, small_flat),
        Reader("LINDI", "lindi_h5py", lindi, path, small),
    ]
    bench = Bench(arrays, folder)
    bench.fill(ours[2])
    bench.run([*ours, *others], rounds)
    size, flat_size = path.stat().st_size / 1e6, flat.stat().st_size / 1e6
    agreed = print_readers(f"{MILLION:,} chunks in 3 arrays, {size:.1f} MB of JSON", bench, [*ours, *others])
    print(
        f"(*) expands no templates, and opens arrays of one group: it has an equal file of {flat_size:.1f} MB,\n"
        "    with the arrays in the root and a short URL in place of the template. All others open the same file."
    )
    for reader in (ours[0], *others):
        print(f"{reader.name}: {reader.runs[0]['versions']}")
        for key, reason in reader.runs[0]["pickled"].items():
            if isinstance(reason, str):
                print(f"  its {key} can't be pickled: {reason}")
    best = min(reader.median("seconds") for reader in others)
    return agreed, million_targets(ours, best)


def million_targets(ours: list[Reader], best: float) -> list[Target]:
    """Return our targets; `best`: seconds that the quickest of the others took to open."""
    cold, _, indexed, second = ours
    pickled = cold.runs[0]["pickled"]
    opened = f"open, no index: 1.5 s, or 1/8 of the best other ({best / 8:.2f} s)"
    return [
        Target(opened, cold.median("seconds"), max(1.5, best / 8), "s"),
        Target("peak, no index", cold.median("peak") / cold.path.stat().st_size, 3, "x file"),
        Target("kept, no index", cold.median("kept") / 1e6, 40, "MB"),
        Target("open, indexed", indexed.median("seconds"), 0.1, "s"),
        Target("kept, indexed", indexed.median("kept") / 1e6, 40, "MB"),
        Target("private, 2nd process", second.median("private") / 1e6, 10, "MB"),
        Target("pickled factory", pickled["factory"] / 1e3, 2, "KB"),
        Target("pickled store", pickled["store"] / 1e3, 2, "KB"),
    ]


def many(folder: Path, rounds: int, *, full: bool) -> tuple[bool, list[Target]]:
    """Measure ours with ten million chunks: from their index, and if `full` from their JSON as well."""
    show(f"writing {MANY:,} chunks")
    arrays, index = make_arrays(MANY), folder / "index"
    small = write_references(folder / "few.json", make_arrays(FEW))
    path = folder / "10m.json"
    if full:
        write_references(path, arrays)
    else:
        write_indexed(path, arrays, index)
    readers = our_readers(path, small, index)[0 if full else 2 :]
    bench = Bench(arrays, folder)
    bench.fill(readers[-2])
    bench.run(readers, rounds)
    size = f"{path.stat().st_size / 1e6:,.1f} MB of JSON" if full else "only their index written"
    agreed = print_readers(f"{MANY:,} chunks in 3 arrays, {size}", bench, readers, listed=full)
    return agreed, [Target(f"open, indexed, {MANY:,} chunks", readers[-2].median("seconds"), 0.1, "s")]


def main() -> None:
    parser = argparse.ArgumentParser(description="A reference file of a million chunks, opened by who can.")
    for name in ("peers", "lindi"):
        default = os.environ.get(f"BENCH_{name.upper()}_PYTHON", str(ROOT / f".venv-{name}" / "bin" / "python"))
        parser.add_argument(f"--{name}", default=default, help=f"interpreter with peers/{name}.txt (%(default)s)")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each reader (%(default)s)")
    parser.add_argument("--full", action="store_true", help="parse ten million chunks, too")
    options = parser.parse_args()
    for python in (options.peers, options.lindi):
        if not Path(python).exists():
            sys.exit(f"There is no {python}: `make bench` makes it, or say which by an option.")
    with tempfile.TemporaryDirectory() as folder:
        agreed, targets = million(Path(folder), options.peers, options.lindi, options.runs)
    with tempfile.TemporaryDirectory() as folder:
        agreed_on_many, more = many(Path(folder), options.runs, full=options.full)
    print_targets([*targets, *more])
    print(LEGEND)
    print(f"{os.cpu_count()} cores, {platform.machine()}.")
    if not (agreed and agreed_on_many):
        sys.exit("The readers do not agree: see what they located.")


if __name__ == "__main__":
    main()
