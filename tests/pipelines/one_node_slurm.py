"""A SLURM cluster of one node, this machine, for a test: Debian's packages `slurm-wlm` and `munge`, run as root.

All its files lie in a temporary folder, all its processes are children of this one, and nothing of the machine's own
configuration of SLURM, if there is any, is read or changed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["one_node", "what_is_missing"]

_PROGRAMS: Final = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
_PATIENCE_S: Final = 30.0
_CONFIGURATION: Final = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=normal Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def what_is_missing() -> str | None:
    """Return why there can be no such cluster here; None if there can."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not found: `make slurm` installs slurm-wlm and munge, as root on Debian"
    return None if os.geteuid() == 0 else "slurmd starts jobs as root only"


@contextmanager
def one_node() -> Iterator[dict[str, str]]:
    """Have such a cluster for as long as the block lasts; gives the environment variables of who is to use it."""
    with TemporaryDirectory(prefix="slurm-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # munged wants its socket where everybody may come
        try:
            with _one_node(folder) as environ:
                yield environ
        except TimeoutError as error:
            logs = "".join(f"{path.name}:\n{path.read_text()}\n" for path in sorted(folder.glob("*.out")))
            raise AssertionError(f"{error}\n{logs}") from error


@contextmanager
def _one_node(folder: Path) -> Iterator[dict[str, str]]:
    host = socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    ports = {"controller_port": _free_port(), "node_port": _free_port()}
    configuration.write_text(_CONFIGURATION.format(host=host, folder=folder, **ports))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    environ = {"SLURM_CONF": str(configuration)}
    own = {name: f"{folder}/munge.{name.removesuffix('-file')}" for name in ("pid-file", "log-file", "seed-file")}
    with ExitStack() as stack:

        def start(*command: str) -> None:
            stack.enter_context(_running(command, environ, folder))

        options = [f"--{name}={path}" for name, path in own.items()]
        start("munged", "--foreground", f"--key-file={key}", f"--socket={folder}/munge.socket", *options)
        _await((folder / "munge.socket").exists, "munged does not start")
        start("slurmctld", "-D", "-f", str(configuration))
        start("slurmd", "-D", "-N", host, "-f", str(configuration))
        _await(lambda: _said(["sinfo", "--noheader", "--format=%T"], environ) == "idle", "the node is not idle")
        try:
            yield environ
        finally:
            subprocess.run(["scancel", "--user=root"], env=os.environ | environ, check=False, timeout=30)
            _await(lambda: not _said(["squeue", "--noheader"], environ), "jobs do not end")


@contextmanager
def _running(command: tuple[str, ...], environ: dict[str, str], folder: Path) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("wb") as out:
        process = subprocess.Popen(command, env=os.environ | environ, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _said(command: list[str], environ: dict[str, str]) -> str:
    return subprocess.run(
        command, env=os.environ | environ, capture_output=True, text=True, check=False, timeout=30
    ).stdout.strip()


def _await(condition: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(otherwise)
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
