"""Processes that answer one line of JSON for each that they are sent."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["HERE", "ROOT", "Died", "Talker"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LONGEST_S = 300.0  # that an answer may take


class Died(Exception):
    """A process ended, or was ended as it took too long, before it answered."""


class Talker:
    """A process, which is started here.

    Parameters
    ----------
    command
        Interpreter and arguments. Modules of this folder can be imported, and those of the project.
    environ
        Added to this process's environment, which is passed on without keys of archives.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        paths = {"PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)]), "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            command,
            env=inherited | paths | dict(environ or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # `receive` says so
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Return the next answer.

        Raises
        ------
        Died
            If there is none.
        """
        assert self._process.stdout is not None
        timer = threading.Timer(LONGEST_S, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise Died(f"it ended with {self._process.wait()}, or took more than {LONGEST_S:.0f} s")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        self.send(message)
        return self.receive()

    def close(self) -> None:
        """End the process: it does so itself at the end of its input."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
