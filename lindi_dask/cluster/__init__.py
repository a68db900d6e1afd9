"""One exchange an asset and lifetime for a whole cluster, and references for workers that can't reach them.

::

    worker                                 scheduler                                  client
    LeaseCache -> WorkerLink  -- RPC -->   LeaseBroker -> SharedLeases -> Resolver    distribute()
    StoreFactory -> WorkerLink -- RPC -->  LeaseBroker -> ReferenceRelay  -- RPC -->  Offers

Nothing that travels here holds a key, but for `tokens=`, once. Leases travel from the scheduler to workers only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lindi_dask.archive import BUILTIN, configured_instances
from lindi_dask.config import configured
from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed import Client

    from lindi_dask.cluster.distribution import Distribution

__all__ = ["distribute"]


def distribute(
    client: Client,
    *,
    instances: Mapping[str, str] | None = None,
    key_file: str | None = None,
    tokens: Mapping[str, str | Callable[[], str]] | None = None,
) -> Distribution:
    """Let a cluster's scheduler get leases for all its workers, which then need no key.

    One exchange an asset and lifetime is made for the whole cluster, ahead of need, and only for assets that are being
    read. It goes for workers that are there and for those that come later. References that workers can't reach by their
    path, or that were given as a dict, are sent to them, once a process, by the clients that called this.

    Parameters
    ----------
    client
        Of the cluster; the package must be installed where its scheduler runs. With an asynchronous one, await this.
    instances
        Archives besides the built-in ones, as for `StoreFactory`; from the configuration `lindi-dask.instances` if not
        given. Keys are sent to no others.
    key_file
        Path, on the scheduler's machine, of a file of lines such as `DANDI_API_KEY=...` with mode 600, looked at before
        the environment of the scheduler's process. In a `LocalCluster`, with dask-jobqueue and in most notebooks that
        process is this one.
    tokens
        Keys by the name of their instance (`{"dandi": ...}`), or what returns one: sent to the scheduler, once, and
        looked at before the file and the environment. Refused where they would cross a network in plain text.

    Returns
    -------
    Distribution
        Its `repr` shows assets, the ages of their leases and how long workers wait; `close()` undoes all of it. Calling
        this again changes nothing, unless the arguments differ.

    Raises
    ------
    ConfigurationError
        If an argument makes no sense, or the scheduler can't take the broker.
    """
    from lindi_dask.cluster.distribution import Distribution  # noqa: PLC0415 - distributed takes its time to import

    entries = configured("instances") if instances is None else {k: {"api-url": v} for k, v in instances.items()}
    known = configured_instances(entries)
    unknown = sorted(set(tokens or {}) - {instance.name for instance in known})
    if unknown:
        raise ConfigurationError(f"tokens: there is no instance {', '.join(unknown)}; add it to instances=.")
    own = tuple((instance.name, instance.api_url) for instance in known[len(BUILTIN) :])
    started: Distribution = client.sync(Distribution(client, own, key_file).start, dict(tokens or {}))
    return started
