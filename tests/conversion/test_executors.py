"""Who runs tasks."""

from __future__ import annotations

from distributed import Client, LocalCluster

from lindi_dask import process
from lindi_dask.conversion.executors import Cluster


def test_what_workers_that_are_gone_had_read_stays_counted() -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        executor = Cluster(client)
        client.run(lambda: process.counters().add(requests=3))
        assert executor.counts().requests == 3
        client.restart()
        client.run(lambda: process.counters().add(requests=2))
        assert executor.counts().requests == 5
