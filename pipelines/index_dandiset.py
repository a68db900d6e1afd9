"""Index a whole dandiset on a dask cluster, and write a catalogue of what it holds.

    python pipelines/index_dandiset.py pipelines/index_dandiset.toml

May be ended and started again at any time: what is done is not done again. Exit codes: 0 done, 1 unexpected, 2
configuration, 3 partial, start again, 5 access denied, 75 try later, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from clusters import CLUSTER, cluster_of
from scripts import code_of, main_of, say
from settings import nbytes_of, read_settings

import lindi_dask as ld
from lindi_dask import errors

if TYPE_CHECKING:
    from pathlib import Path

    from lindi_dask.batch import DandisetIndex, Progress

TABLES: Final[dict[str, dict[str, Any]]] = {
    "dandiset": {"address": str},
    "output": {"folder": str, "ending": ".lindi.json"},
    "run": {"attempts": 3, "split": "100 GB"},
    "cluster": dict(CLUSTER),
    "keys": {"key_file": (str,)},
}


def run(path: Path) -> int:
    """Do what the file says."""
    settings = read_settings(path, TABLES)
    output = settings["output"]
    split = nbytes_of(settings["run"]["split"], f"{path}: [run] split")
    with (
        cluster_of(settings["cluster"], say) as client,
        ld.distribute(client, key_file=settings["keys"]["key_file"]),
    ):
        index = ld.index_dandiset(
            settings["dandiset"]["address"],
            path.parent / output["folder"],
            client=client,
            ending=output["ending"],
            attempts=settings["run"]["attempts"],
            split=split,
            progress=tell,
        )
    for failed, failure in index.failures.items():
        say(f"Failed: {failed}: {failure.reason}")
    say(f"{index.done} of {index.total} assets are indexed, {index.skipped} of them before.")
    say(f"Catalogue: {index.catalogue[1]} and {index.catalogue[0]}")
    return code_of_index(index)


def code_of_index(index: DandisetIndex) -> int:
    """Return the exit code of a run that came to its end."""
    if not index.failures:
        return 0
    # Where nothing at all could be read, the reason that all have in common says more than "partial" does
    codes = {code_of(getattr(errors, failure.kind, errors.LindiError)) for failure in index.failures.values()}
    return codes.pop() if not index.done and codes in ({5}, {75}) else 3


def tell(progress: Progress) -> None:
    """Say where the run is."""
    count = f"[{progress.done}/{progress.total}]"
    if progress.path is None:
        say(f"{count} {progress.workers} workers, no asset for {progress.seconds:.0f} s")
    elif progress.reason is None:
        say(f"{count} {progress.path} ({progress.seconds:.1f} s)")
    else:
        say(f"{count} {progress.path}: {progress.reason}")


if __name__ == "__main__":
    sys.exit(main_of(__doc__, run))
