"""The table `[cluster]` of a job -> a client of a dask cluster."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import dask
from distributed import Client, LocalCluster, WorkerPlugin
from distributed.security import Security
from settings import seconds_of, table_of

from lindi_dask.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from distributed import Worker

    from lindi_dask.errors import LindiError

    Table = dict[str, Any]

__all__ = ["CLUSTER", "cluster_of"]

CLUSTER: Final[Mapping[str, Any]] = {
    "kind": "local",
    "workers": 4,
    "adapt": (dict,),
    "wait": "10 minutes",
    "address": (str,),
    "tls": (dict,),
    "options": {},
}
"""the keys of the table with their defaults, as `read_settings` takes them"""

_KINDS: Final = ("local", "slurm", "kubernetes", "address")
_TLS: Final = {"ca_file": str, "cert": str, "key": str}
_ADAPT: Final = {"minimum": 0, "maximum": int}
_SAY_AFTER_S: Final = 60.0
_DEATHS: Final = 2  # of workers, that a task is put back after; at the third it is set aside


@contextmanager
def cluster_of(table: Table, say: Callable[[str], None]) -> Iterator[Client]:
    """Have a cluster, with at least one worker, for as long as the block lasts. API keys stay with the scheduler.

    Parameters
    ----------
    table
        Of `CLUSTER`.
    say
        Is told what is waited for.

    Raises
    ------
    ConfigurationError
        If the table makes no sense, or a package is missing.
    UnavailableError
        If the scheduler does not answer, or no worker comes.
    """
    kind, adapt = table["kind"], table["adapt"]
    if kind not in _KINDS:
        raise ConfigurationError(f"[cluster] kind must be one of {', '.join(_KINDS)}, not {kind!r}.")
    if kind == "address" and (adapt is not None or table["options"]):
        raise ConfigurationError("[cluster] of the kind address has its own workers: leave out adapt and options.")
    if kind != "address" and (table["address"] is not None or table["tls"] is not None):
        raise ConfigurationError(f"[cluster] address and tls are for the kind address, not for {kind}.")
    if adapt is not None:
        adapt = table_of(adapt, _ADAPT, "[cluster] adapt:")
    wait_s = seconds_of(table["wait"], "[cluster] wait")
    with ExitStack() as stack, dask.config.set({"distributed.scheduler.allowed-failures": _DEATHS}):
        if kind == "address":
            client = stack.enter_context(_connected(table))
        else:
            make = {"local": _local, "slurm": _slurm, "kubernetes": _kubernetes}[kind]
            cluster = stack.enter_context(make(table))
            if adapt is not None:
                cluster.adapt(**adapt)
            elif kind != "local":
                cluster.scale(table["workers"])
            client = stack.enter_context(Client(cluster))
        _await_workers(client, kind, wait_s, say)
        if kind == "local":
            client.register_plugin(IgnoreInterrupts())
        yield client


class IgnoreInterrupts(WorkerPlugin):  # type: ignore[misc] # distributed has no types
    """Leaves Ctrl-C to the client: a terminal sends it to all processes of this machine that it started."""

    name = "ignore-interrupts"

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 - distributed's signature
        """Do so: called by a worker, in its main thread."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _local(table: Table) -> Any:  # noqa: ANN401 - distributed has no types
    options = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "processes": True, **table["options"]}
    options["n_workers"] = 0 if table["adapt"] is not None else table["workers"]
    options["env"] = {**_environ(options), **dict.fromkeys(_keys(), "")}  # an empty one counts as none
    return _made(LocalCluster, options)


def _slurm(table: Table) -> Any:  # noqa: ANN401 - likewise
    found = _module("dask_jobqueue", "dask-jobqueue").SLURMCluster
    options = dict(table["options"])
    # Jobs inherit the environment that they are submitted from, and SLURM keeps it in files: a copy without keys, both
    # times, as options may bring an --export of their own
    export = ",".join(["--export=ALL", *(f"{name}=" for name in _keys())])
    options["job_extra_directives"] = [export, *options.get("job_extra_directives", [])]
    options["job_script_prologue"] = [f"unset {' '.join(_keys())}", *options.get("job_script_prologue", [])]
    return _made(found, options)


def _kubernetes(table: Table) -> Any:  # noqa: ANN401 - likewise; pods inherit no environment
    found = _module("dask_kubernetes.operator", "dask-kubernetes").KubeCluster
    options = dict(table["options"])
    options["env"] = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(_DEATHS), **_environ(options)}
    return _made(found, options)


def _keys() -> list[str]:
    """Return the environment variables here that hold keys: workers are not to inherit them."""
    return sorted(name for name in os.environ if name.endswith("_API_KEY"))


def _environ(options: Table) -> Table:
    environ = options.get("env", {})
    if not isinstance(environ, dict):
        raise ConfigurationError("[cluster] options: env must be a table.")
    return environ


def _connected(table: Table) -> Client:
    address, security = table["address"], None
    if not address:
        raise ConfigurationError('[cluster] kind = "address" needs the scheduler\'s address, such as tls://host:8786.')
    if table["tls"] is not None:
        files = table_of(table["tls"], _TLS, "[cluster] tls:")
        names = {"tls_ca_file": "ca_file", "tls_client_cert": "cert", "tls_client_key": "key"}
        security = Security(require_encryption=True, **{option: files[name] for option, name in names.items()})
    reason = None
    try:
        return Client(address, security=security, timeout=_SAY_AFTER_S)
    except (OSError, TimeoutError, ValueError, RuntimeError, TypeError) as error:
        reason = str(error) or type(error).__name__
    raise UnavailableError(f"The scheduler at {address} does not answer ({reason}). Does it run, and is it reached?")


def _made(make: Callable[..., Any], options: Table) -> Any:  # noqa: ANN401 - likewise
    failure: LindiError
    try:
        return make(**options)
    except OSError as error:
        failure = UnavailableError(f"{make.__name__} can't be started now ({error or type(error).__name__}).")
    except (TypeError, ValueError, RuntimeError) as error:
        failure = ConfigurationError(
            f"[cluster] options: {make.__name__} can't be started with them ({error or type(error).__name__})."
        )
    raise failure


def _module(name: str, package: str) -> Any:  # noqa: ANN401 - they have no types
    try:
        return import_module(name)
    except ModuleNotFoundError:
        pass
    raise ConfigurationError(f"This kind of cluster needs {package}: pip install {package}")


_WHY: Final = {
    "local": "the lines above say why, if they don't start",
    "slurm": "`squeue -u $USER` shows whether the jobs wait, and why",
    "kubernetes": "`kubectl get pods` shows whether they are started, and why not",
    "address": "start `dask worker ADDRESS` where they are to run",
}


def _await_workers(client: Client, kind: str, wait_s: float, say: Callable[[str], None]) -> None:
    """Wait for the first worker, and say so once a minute."""
    until = time.monotonic() + wait_s
    while True:
        left = until - time.monotonic()
        try:
            client.wait_for_workers(1, timeout=max(min(left, _SAY_AFTER_S), 0.1))
        except TimeoutError:
            if time.monotonic() < until:
                say(f"No worker has come yet: {_WHY[kind]}.")
                continue
        else:
            return
        break
    raise UnavailableError(f"No worker came within {wait_s:g} s ([cluster] wait): {_WHY[kind]}.")
