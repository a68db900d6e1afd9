"""The embedded archive in a process of its own, which takes commands: JSON lines in, one answer a line out.

`{"add": PATH}` gives the asset's `url`; `{"latency_ms": 30}` sets the pause before each answer of the storage host;
`{"count": true}` gives the requests to that host, and the bytes sent, since the last count. Ends with its input.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from lindi_dask.testing import EmbeddedArchive

LIFETIME_S = 86_400  # of presigned URLs: those that know nothing of leases have one for the whole run


def do(archive: EmbeddedArchive, command: dict[str, Any], counted: int) -> dict[str, Any]:
    if "add" in command:
        return {"url": archive.add(command["add"]).url}
    if "latency_ms" in command:
        archive.latency_s = command["latency_ms"] / 1000
        return {}
    data = [request for request in archive.requests[counted:] if request.plane == "s3"]
    return {"requests": len(data), "nbytes": sum(request.nbytes for request in data)}


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    with EmbeddedArchive(lifetime_s=LIFETIME_S) as archive:
        say({"api_url": archive.api_url, "key": archive.owner_token, "environ": archive.environ()})
        counted = 0
        for line in sys.stdin:
            say(do(archive, json.loads(line), counted))
            counted = len(archive.requests)


if __name__ == "__main__":
    main()
