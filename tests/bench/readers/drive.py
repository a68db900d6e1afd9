"""One reader, in its own interpreter, takes commands: JSON lines in, one answer a line out.

`python -m readers.drive READER SETTINGS`: READER is a module beside this one with `PACKAGES`, `open_array(given,
settings)` and `read(opened, task)`; SETTINGS a JSON object. It greets with the versions of its packages. Commands:
`{"open": GIVEN}`, `{"read": TASK}`, `{"digests": ROWS}` of what was read last, of so many rows each; it is then let go.
Needs nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import time
import warnings
from typing import Any

from readers.task import Given, Task
from usage import memory, settle, versions


class Driver:
    """Holds what is open, and what was read."""

    def __init__(self, reader: Any, settings: dict[str, Any]) -> None:
        self._reader = reader
        self._settings = settings
        self._opened: Any = None
        self._values: Any = None

    def do(self, command: dict[str, Any]) -> dict[str, Any]:
        if "open" in command:
            self._opened = None
            self._opened = self._reader.open_array(Given(**command["open"]), self._settings)
            return {}
        if "read" in command:
            return self._read(Task(**command["read"]))
        values, self._values = self._values, None
        parts = (values[at : at + command["digests"]] for at in range(0, len(values), command["digests"]))
        digests = [hashlib.sha256(part.data).hexdigest() for part in parts]
        del values, parts
        settle()  # the next reader finds the memory
        return {"digests": digests}

    def _read(self, task: Task) -> dict[str, Any]:
        self._values = None
        idle = settle()
        cpu, started = time.process_time(), time.monotonic()
        self._values = self._reader.read(self._opened, task)
        ended, cpu = time.monotonic(), time.process_time() - cpu
        return {"started": started, "ended": ended, "cpu": cpu, "peak": memory().peak - idle}


def main() -> None:
    warnings.simplefilter("ignore")
    # What packages print is not an answer
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    reader = importlib.import_module(f"readers.{sys.argv[1]}")
    driver = Driver(reader, json.loads(sys.argv[2]))
    print(json.dumps(versions(reader.PACKAGES)), file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer = driver.do(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever it is: the table says that this reader could not
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
