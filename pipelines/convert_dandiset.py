"""Convert all sessions of a dandiset to Zarr v3 on a dask cluster.

    python pipelines/convert_dandiset.py pipelines/convert_dandiset.toml

May be ended and started again at any time: what is done is not done again. Exit codes: 0 done, 1 unexpected, 2
configuration, 3 partial, start again, 5 access denied, 75 try later, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from clusters import CLUSTER, cluster_of
from conversions import CONVERT, Progression, described
from records import Records
from scripts import main_of, say
from sessions import make_folder, only_run, output_of, sessions_at, work_off
from settings import read_settings

import lindi_dask as ld

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from sessions import Session

TABLES: Final[dict[str, dict[str, Any]]] = {
    "dandiset": {"address": str},
    "output": {"folder": str},
    "convert": dict(CONVERT),
    "run": {"at_once": 2},
    "cluster": dict(CLUSTER),
    "keys": {"key_file": (str,)},
}


def run(path: Path) -> int:
    """Do what the file says."""
    settings = read_settings(path, TABLES)
    how, folder = settings["convert"], path.parent / settings["output"]["folder"]
    outs = {session: output_of(session, folder, ".zarr") for session in sessions_at(settings["dandiset"]["address"])}
    job = folder / ".convert-job"
    make_folder(job)
    with only_run(job):
        records = Records(job / "done.jsonl", how)
        due = [session for session, out in outs.items() if not records.has(session, out)]
        say(f"{len(outs)} sessions, {len(outs) - len(due)} of them are done.")
        if not due:
            return 0
        with (
            cluster_of(settings["cluster"], say) as client,
            ld.distribute(client, key_file=settings["keys"]["key_file"]),
        ):

            def convert(session: Session, ending: threading.Event) -> str:
                out = outs[session]
                records.check(session, out)
                make_folder(out.parent)
                tell = Progression(f"{session.path}: ", say, ending)
                done = ld.convert(session.address, out, client=client, resume=True, progress=tell, **how)
                records.add(session)
                return described(done)

            return work_off(due, convert, client, at_once=settings["run"]["at_once"], say=say)


if __name__ == "__main__":
    sys.exit(main_of(__doc__, run))
