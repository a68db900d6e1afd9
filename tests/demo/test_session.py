import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from lindi_dask.demo.session import SessionInfo, write_session
from lindi_dask.demo.signals import MICROVOLTS_PER_COUNT
from lindi_dask.hdf5 import index_hdf5
from lindi_dask.refs import INLINE


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> SessionInfo:
    return write_session(tmp_path_factory.mktemp("session") / "session.nwb", seconds=2.0, seed=7)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads(
    session: SessionInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    again = write_session(tmp_path / "again.nwb", seconds=2.0, seed=7)
    other = write_session(tmp_path / "other.nwb", seconds=2.0, seed=8)
    assert digest(again.path) == digest(session.path)
    assert digest(other.path) != digest(session.path)


def test_it_compresses_as_ephys_does(session: SessionInfo) -> None:
    assert session.nbytes == 60_000 * 64 * 2
    assert 1.4 < session.nbytes / session.stored_nbytes < 3
    assert session.stored_nbytes < session.file_nbytes == session.path.stat().st_size


def test_the_recording_is_laid_out_as_promised(session: SessionInfo) -> None:
    assert (session.shape, session.chunks, session.seconds) == ((60_000, 64), (8192, 64), 2.0)
    with h5py.File(session.path) as file:
        data = file[session.dataset]
        assert (data.shape, data.chunks, data.dtype) == (session.shape, session.chunks, np.dtype("<i2"))
        assert (data.compression, data.compression_opts, data.shuffle) == ("gzip", 4, True)
        assert data.attrs["conversion"] == session.conversion == MICROVOLTS_PER_COUNT * 1e-6
        assert data.attrs["unit"] == "volts"
        start = data.parent["starting_time"]
        assert (start[()], start.attrs["rate"], start.attrs["unit"]) == (0.0, 30_000.0, "seconds")


def test_the_rest_of_the_file_is_in_the_manner_of_nwb(session: SessionInfo) -> None:
    with h5py.File(session.path) as file:
        assert file.attrs["neurodata_type"] == "NWBFile"
        assert file.attrs["nwb_version"]
        series = file["acquisition/ElectricalSeries"]
        table = file[series["electrodes"].attrs["table"]]
        assert table.name == "/general/extracellular_ephys/electrodes"
        assert table["location"].asstr()[20:24].tolist() == ["cortex", "cortex", "CA1", "CA1"]
        assert file[table["group"][0]]["device"].name == "/general/devices/probe"
        assert {len(table[name]) for name in ("id", *table.attrs["colnames"])} == {64}
        ids: list[str] = []
        file.visititems(lambda _, node: ids.append(node.attrs.get("object_id", f"none {len(ids)}")))
        assert len(set(ids)) == len(ids)


def test_it_looks_like_a_recording(session: SessionInfo) -> None:
    with h5py.File(session.path) as file:
        microvolts = file[session.dataset][:].astype("f4") * MICROVOLTS_PER_COUNT
    rms = microvolts.std(axis=0)
    assert rms.min() > 20
    assert rms.max() < 400
    assert np.abs(microvolts).max() < 3000
    assert np.corrcoef(microvolts[:, 10], microvolts[:, 11])[0, 1] > 0.9
    steps = np.abs(np.diff(microvolts, axis=0))
    edges = np.arange(session.chunks[0], session.shape[0], session.chunks[0]) - 1
    assert steps[edges].mean() < 1.5 * steps.mean()  # no seams between chunks


def test_the_whole_of_it_can_be_indexed(session: SessionInfo) -> None:
    references = index_hdf5(session.path, "https://example.org/session.nwb")
    assert not references.unreadable
    in_file = {}
    for path, manifest in references.manifests.items():
        found = manifest.locate(manifest.present())
        in_file[path] = found[found.sources != INLINE].lengths
    assert len(in_file[session.dataset]) == 8
    assert int(in_file.pop(session.dataset).sum()) == session.stored_nbytes
    assert not any(map(len, in_file.values()))


@pytest.mark.parametrize(
    ("seconds", "channels", "rate_hz"), [(0.001, 1, 1000.0), (0.01, 1, 30_000.0), (1.0, 3, 100.0), (0.5, 5, 25_000.0)]
)
def test_odd_sizes_can_be_written(tmp_path: Path, seconds: float, channels: int, rate_hz: float) -> None:
    ticks: list[None] = []
    info = write_session(
        tmp_path / "odd.nwb", seconds=seconds, channels=channels, rate_hz=rate_hz, advance=lambda: ticks.append(None)
    )
    with h5py.File(info.path) as file:
        assert file[info.dataset][:].shape == info.shape == (round(seconds * rate_hz), channels)
    assert len(ticks) == -(-info.shape[0] // info.chunks[0])


@pytest.mark.parametrize(("seconds", "channels"), [(0.0, 4), (-1.0, 4), (1.0, 0)])
def test_nothing_is_no_session(tmp_path: Path, seconds: float, channels: int) -> None:
    with pytest.raises(ValueError, match="needs a sample and a channel"):
        write_session(tmp_path / "none.nwb", seconds=seconds, channels=channels)
    assert not (tmp_path / "none.nwb").exists()
