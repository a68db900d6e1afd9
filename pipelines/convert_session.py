"""Convert a session to Zarr v3 on a dask cluster.

    python pipelines/convert_session.py pipelines/convert_session.toml

May be ended and started again at any time: what is done is not done again. Started again when all is done, it checks
the output, and makes anew what is damaged. Exit codes: 0 done, 1 unexpected, 2 configuration, 3 partial, start again,
5 access denied, 75 try later, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from clusters import CLUSTER, cluster_of
from conversions import CONVERT, Progression, described
from scripts import main_of, place_of, say
from settings import read_settings

import lindi_dask as ld

if TYPE_CHECKING:
    from pathlib import Path

TABLES: Final[dict[str, dict[str, Any]]] = {
    "session": {"refs": str},
    "output": {"place": str},
    "convert": dict(CONVERT),
    "cluster": dict(CLUSTER),
    "keys": {"key_file": (str,)},
}


def run(path: Path) -> int:
    """Do what the file says."""
    settings = read_settings(path, TABLES)
    refs, out = (place_of(text, path) for text in (settings["session"]["refs"], settings["output"]["place"]))
    with (
        cluster_of(settings["cluster"], say) as client,
        ld.distribute(client, key_file=settings["keys"]["key_file"]),
    ):
        done = ld.convert(refs, out, client=client, resume=True, progress=Progression("", say), **settings["convert"])
    say(f"{out}: {described(done)}")
    return 0


if __name__ == "__main__":
    sys.exit(main_of(__doc__, run))
