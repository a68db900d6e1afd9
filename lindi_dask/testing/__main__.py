"""``python -m lindi_dask.testing FILE...``: the embedded archive on the command line."""

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from lindi_dask.testing.archive import EmbeddedArchive
from lindi_dask.testing.assets import Asset

EXAMPLE = """\
example:
  python -m lindi_dask.testing session.nwb --lifetime 3 --latency-ms 30 --mb-per-s 50

It prints the asset's URL and two lines to paste into the shell in which lindi-dask will run, serves until Ctrl-C,
and then prints what it counted.
"""


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lindi_dask.testing",
        description="Serve files as DANDI does: an API host and an S3 host on loopback, presigned URLs that expire.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file to serve as an asset")
    parser.add_argument("--asset-id", metavar="UUID", help="the asset's identifier (with one FILE only)")
    parser.add_argument("--public", action="store_true", help="no embargo: no key is needed")
    parser.add_argument("--lifetime", type=int, default=3, metavar="S", help="URLs are signed for S seconds (3)")
    parser.add_argument("--latency-ms", type=float, default=0, metavar="MS", help="pause before each S3 answer (0)")
    parser.add_argument("--mb-per-s", type=float, metavar="MB", help="pace of the S3 host's link (no limit)")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of the API host (any)")
    parser.add_argument("--s3-port", type=int, default=0, metavar="N", help="port of the S3 host (any)")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop after N seconds (at Ctrl-C)")
    parser.add_argument(
        "--json", action="store_true", help="print one line of JSON at the start and one of counters at the end"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the end; the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.asset_id is not None and len(options.files) > 1:
        parser.error("--asset-id goes with one FILE")
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    try:
        archive = EmbeddedArchive(
            lifetime_s=options.lifetime,
            latency_s=options.latency_ms / 1000,
            bytes_per_s=None if options.mb_per_s is None else options.mb_per_s * 1e6,
            port=options.port,
            s3_port=options.s3_port,
        )
        with archive:
            assets = [
                archive.add(file, asset_id=options.asset_id, embargoed=not options.public) for file in options.files
            ]
            _say(_greeting_json(archive, assets) if options.json else _greeting(archive, assets))
            ending.wait(options.seconds)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    counters = {**archive.counts(), "renewals": archive.renewals()}
    _say(json.dumps(counters) if options.json else "\n".join(f"{name:18}{n:>15,}" for name, n in counters.items()))
    return 0


def _greeting(archive: EmbeddedArchive, assets: Sequence[Asset]) -> str:
    lines = [f"{asset.url}  {asset.path}, {asset.nbytes / 1e6:,.1f} MB" for asset in assets]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in archive.environ().items()]
    return "\n".join([*lines, "", *exports, "", f"URLs are signed for {archive.lifetime_s} s. Ctrl-C ends it."])


def _greeting_json(archive: EmbeddedArchive, assets: Sequence[Asset]) -> str:
    value = {
        "api_url": archive.api_url,
        "s3_url": archive.s3_url,
        "urls": [asset.url for asset in assets],
        "token": archive.owner_token,
        "environ": archive.environ(),
    }
    return json.dumps(value)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
