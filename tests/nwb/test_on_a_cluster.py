"""xarray over an embargoed asset on a cluster of processes, with leases that expire in mid-job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import xarray as xr
from distributed import Client, LocalCluster

from lindi_dask.testing import EmbeddedArchive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py

WORKERS = 4


def test_a_reduction_is_right_on_four_processes_with_leases_of_2_s(
    session_refs: Callable[..., Any], session_h5: h5py.File, data: Path, tmp_path: Path
) -> None:
    with EmbeddedArchive(lifetime_s=2, latency_s=0.3) as archive:
        refs = tmp_path / "session.lindi.json"
        refs.write_text(json.dumps(session_refs(archive.add(data / "session.nwb").url)))
        options: dict[str, Any] = {"engine": "lindi", "instances": {"local": archive.api_url}}
        with (
            LocalCluster(
                n_workers=WORKERS,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                env={"LOCAL_API_KEY": archive.owner_token},
            ) as cluster,
            Client(cluster),
        ):
            # No key here: all that opening needs is in the references
            dataset = xr.open_dataset(refs, group="processing/ecephys/LFP/LFP", **options).chunk(time=320)
            raw = xr.open_dataset(refs, group="acquisition/ElectricalSeries", chunks={}, **options)
            graph = cloudpickle.dumps(dataset["data"].data.dask)
            assert archive.owner_token.encode() not in graph
            assert b"X-Amz" not in graph
            assert len(graph) <= 300 * dataset["data"].data.npartitions + 10_000
            rms = ((dataset["data"].astype("f8") ** 2).mean("time") ** 0.5).compute()
            middle = raw["data"].sel(time=slice(2.0, 2.5)).mean("time").compute()
        assert archive.renewals() >= WORKERS
    truth = session_h5["processing/ecephys/LFP/LFP/data"][...].astype("f8") * 1e-6
    np.testing.assert_allclose(rms, (truth**2).mean(axis=0) ** 0.5, rtol=1e-6)
    series = session_h5["acquisition/ElectricalSeries"]
    volts = series["data"][15_000:30_001] * (1.95e-7 * series["channel_conversion"][...])
    np.testing.assert_allclose(middle, volts.mean(axis=0), rtol=1e-3, atol=1e-9)
