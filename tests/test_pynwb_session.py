"""`open_nwb` beside pynwb's own reader of the HDF5 file."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest

import lindi_dask as ld
from lindi_dask import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import h5py

    from lindi_dask.testing import EmbeddedArchive

SCRIPTS = Path(__file__).parent / "pynwb_sessions"
LFP = "processing/ecephys/LFP/LFP/data"

reads = pytest.mark.skipif(sys.version_info < (3, 12), reason="hdmf-zarr 0.14 needs Python 3.12")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="what Python 3.11 is told")
def test_on_python_3_11_the_error_says_what_reads_the_session_there(data: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"needs Python 3\.12 or newer.*open_array and xarray"):
        ld.open_nwb(data / "session.lindi.json")


@reads
def test_without_hdmf_zarr_the_error_says_what_to_install(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdmf_zarr.nwb", None)
    with pytest.raises(errors.ConfigurationError, match=r"hdmf_zarr.nwb, which is not.*lindi-dask\[nwb\]"):
        ld.open_nwb(data / "session.lindi.json")


# Equality


def values_of(data: Any) -> Any:
    """Return a dataset as what compares: plain values, bytes of numbers; references as object ids."""
    if hasattr(data, "object_id"):
        return f"-> {data.object_id}"
    if hasattr(data, "builder"):  # a reference that was not resolved
        return f"-> {data.builder.attributes['object_id']}"
    if isinstance(data, bytes):
        return data.decode()
    if isinstance(data, np.void):
        return [values_of(data[name]) for name in data.dtype.names or ()]
    if isinstance(data, np.generic):
        return values_of(data.item())
    if isinstance(data, float):
        return repr(data)  # NaN is equal to NaN here
    if hasattr(data, "isoformat"):
        return data.isoformat()
    if isinstance(data, dict):
        return {key: values_of(value) for key, value in sorted(data.items())}
    if isinstance(data, list | tuple | set):
        return [values_of(item) for item in data]
    if hasattr(data, "shape") and data.shape == ():
        return values_of(np.asarray(data)[()])
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str):
        items = data[:]
        if isinstance(items, np.ndarray) and items.dtype.kind in "biuf" and items.size > 100:  # attributes are lists
            return items.dtype.name, items.shape, items.tobytes()
        return [values_of(item) for item in items]
    return data


def described(nwbfile: Any) -> dict[str, Any]:
    """Return all fields of all containers of a session, by object id."""
    found = {}
    for object_id, container in nwbfile.objects.items():
        fields = {name: values_of(value) for name, value in container.fields.items()}
        if hasattr(container, "data"):
            fields["data"] = values_of(container.data)
        found[object_id] = {"type": type(container).__name__, "name": container.name, **fields}
    return found


@pytest.fixture
def on_hdf5() -> Iterator[Callable[[Path], Any]]:
    """Opens sessions by pynwb's own reader of HDF5."""
    from pynwb import NWBHDF5IO  # noqa: PLC0415 - not in every environment of the other tests

    opened = []

    def read(path: Path) -> Any:
        opened.append(NWBHDF5IO(path, "r"))
        return opened[-1].read()

    yield read
    for io in opened:
        io.close()


@pytest.fixture
def session(
    embedded_archive: EmbeddedArchive,
    own_key: Callable[[EmbeddedArchive], dict[str, str]],
    session_refs: Callable[..., dict[str, Any]],
    data: Path,
) -> Any:
    """The sample session, embargoed."""
    refs = session_refs(embedded_archive.add(data / "session.nwb").url)
    return ld.open_nwb(refs, instances=own_key(embedded_archive))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a session by one of the scripts, in a process of its own."""

    def run(name: str) -> Path:
        path = tmp_path / f"{name}.nwb"
        done = subprocess.run(
            [sys.executable, SCRIPTS / f"{name}.py", path], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return path

    return run


@reads
def test_all_datasets_of_the_session_are_what_pynwb_reads_from_the_hdf5_file(
    session: Any, session_h5: h5py.File, on_hdf5: Callable[[Path], Any], data: Path
) -> None:
    truth = on_hdf5(data / "session.nwb")
    found = datasets(session.read_io.read_builder())
    expected = datasets(truth.read_io.read_builder())
    names: list[str] = []
    session_h5.visititems(lambda name, node: names.append(f"/{name}") if hasattr(node, "shape") else None)
    assert len(names) == 54
    assert sorted(found) == sorted(names) == sorted(expected)
    for name in names:
        assert values_of(found[name].data) == values_of(expected[name].data), name
        assert values_of(dict(found[name].attributes)) == values_of(dict(expected[name].attributes)), name


def datasets(group: Any) -> dict[str, Any]:
    """Return the datasets at and below a builder of a group, by path; soft links left out."""
    found = {}
    for dataset in group.datasets.values():
        found[f"{'' if dataset.location == '/' else dataset.location}/{dataset.name}"] = dataset
    for one in group.groups.values():
        found |= datasets(one)
    return found


@reads
def test_every_container_has_the_fields_that_pynwb_reads_from_the_hdf5_file(
    session: Any, on_hdf5: Callable[[Path], Any], data: Path
) -> None:
    truth = described(on_hdf5(data / "session.nwb"))
    assert len(truth) > 30
    assert described(session) == truth


@reads
def test_references_and_links_lead_to_the_objects_themselves(session: Any) -> None:
    recording = session.acquisition["ElectricalSeries"]
    lfp = session.processing["ecephys"]["LFP"]["LFP"]
    assert lfp.electrodes is recording.electrodes  # a soft link
    assert recording.electrodes.table is session.electrodes  # a reference of an attribute
    assert session.electrodes["group"][0] is session.electrode_groups["shank0"]  # a dataset of references
    assert session.acquisition["TwoPhotonSeries"].imaging_plane is session.imaging_planes["plane"]


@reads
@pytest.mark.parametrize("table", ["electrodes", "trials", "units"])
def test_tables_are_the_data_frames_that_pynwb_makes(
    table: str, session: Any, on_hdf5: Callable[[Path], Any], data: Path
) -> None:
    found, truth = getattr(session, table).to_dataframe(), getattr(on_hdf5(data / "session.nwb"), table).to_dataframe()
    assert list(found.columns) == list(truth.columns)
    assert list(found.index) == list(truth.index)
    for column in found.columns:
        assert [cell(value) for value in found[column]] == [cell(value) for value in truth[column]], column


def cell(value: Any) -> Any:
    """Return a cell of a data frame as plain values; one that is a table itself as lists."""
    return (
        value.drop(columns="group", errors="ignore").to_dict("list") if hasattr(value, "columns") else values_of(value)
    )


@reads
@pytest.mark.filterwarnings("ignore:EnumData is experimental")
@pytest.mark.parametrize("name", ["odds", "extension"])
def test_other_sessions_are_what_pynwb_reads_from_the_hdf5_file(
    name: str,
    write: Callable[[str], Path],
    lindi_refs: Callable[[Path, str], dict[str, Any]],
    on_hdf5: Callable[[Path], Any],
    embedded_archive: EmbeddedArchive,
    own_key: Callable[[EmbeddedArchive], dict[str, str]],
) -> None:
    path = write(name)
    refs = lindi_refs(path, embedded_archive.add(path).url)
    found = ld.open_nwb(refs, instances=own_key(embedded_archive))
    truth = on_hdf5(path)
    assert described(found) == described(truth)
    assert validated(found) == validated(truth)
    if name == "extension":
        assert type(found.acquisition["numbered"]).__name__ == "TimeSeriesWithID"
        assert found.acquisition["numbered"].id == 42
        nose = found.processing["behavior"]["PoseEstimation"]["nose"]
        assert type(nose).__name__ == "PoseEstimationSeries"
        assert nose.data.shape == (1500, 2)


def validated(nwbfile: Any) -> list[str]:
    """Return what pynwb's validator says of an open session."""
    from pynwb import validate  # noqa: PLC0415

    return sorted(map(str, validate(io=nwbfile.read_io)))


@reads
@pytest.mark.filterwarnings("ignore:No cached namespaces found")
def test_the_validator_says_the_same_as_of_the_hdf5_file(
    session: Any, on_hdf5: Callable[[Path], Any], data: Path
) -> None:
    assert validated(session) == validated(on_hdf5(data / "session.nwb"))


@reads
@pytest.mark.filterwarnings("ignore:No cached namespaces found")
def test_the_validator_finds_the_same_fault_in_a_session_that_has_one(
    embedded_archive: EmbeddedArchive,
    own_key: Callable[[EmbeddedArchive], dict[str, str]],
    lindi_refs: Callable[[Path, str], dict[str, Any]],
    on_hdf5: Callable[[Path], Any],
    data: Path,
    tmp_path: Path,
) -> None:
    import h5py  # noqa: PLC0415

    path = tmp_path / "session.nwb"
    path.write_bytes((data / "session.nwb").read_bytes())
    with h5py.File(path, "a") as file:
        del file["acquisition/ElectricalSeries/data"].attrs["unit"]
    refs = lindi_refs(path, embedded_archive.add(path).url)
    found = validated(ld.open_nwb(refs, instances=own_key(embedded_archive)))
    assert found == validated(on_hdf5(path))
    assert any("unit" in fault for fault in found)


# Reading


@reads
def test_datasets_are_read_by_dask(session: Any, session_h5: h5py.File) -> None:
    lfp = da.from_zarr(session.processing["ecephys"]["LFP"]["LFP"].data)
    assert lfp.shape == (40_000, 16)
    assert lfp.numblocks[0] > 1
    truth = session_h5[LFP][...]
    np.testing.assert_array_equal(lfp.compute(), truth)


@reads
def test_datasets_are_read_by_dask_in_other_processes_which_have_keys_of_their_own(
    session: Any, session_h5: h5py.File, embedded_archive: EmbeddedArchive
) -> None:
    recording = session.acquisition["ElectricalSeries"].data
    pickled = pickle.dumps(recording)
    assert embedded_archive.owner_token.encode() not in pickled
    assert len(pickled) < 8192
    found = da.from_zarr(recording).max(axis=0).compute(scheduler="processes", num_workers=2)
    np.testing.assert_array_equal(found, session_h5["acquisition/ElectricalSeries/data"][...].max(axis=0))


@reads
def test_opening_reads_what_the_references_do_not_hold_and_no_data(
    embedded_archive: EmbeddedArchive,
    own_key: Callable[[EmbeddedArchive], dict[str, str]],
    session_refs: Callable[..., dict[str, Any]],
    data: Path,
) -> None:
    refs = session_refs(embedded_archive.add(data / "session.nwb").url)
    nwbfile = ld.open_nwb(refs, instances=own_key(embedded_archive))
    assert str(nwbfile.session_start_time) == "2026-01-01 12:00:00+00:00"
    to_open = len(embedded_archive.requests)
    assert to_open == 0
    nwbfile.acquisition["ElectricalSeries"].data[:10]
    requests = embedded_archive.requests
    assert [request.plane for request in requests] == ["api", "s3"]


@reads
def test_an_array_that_cannot_be_read_leaves_the_rest_of_the_session(data: Path, session_h5: h5py.File) -> None:
    nwbfile = ld.open_nwb(data / "session.lindi.json")  # its LFP is a link only
    lfp = nwbfile.processing["ecephys"]["LFP"]["LFP"]
    assert lfp.data.shape == session_h5[LFP].shape
    with pytest.raises(errors.UnsupportedArray, match="lindi-dask expand"):
        lfp.data[:10]
    assert len(nwbfile.units) == 8


@reads
def test_without_a_key_the_error_of_the_archive_comes_through(
    embedded_archive: EmbeddedArchive,
    session_refs: Callable[..., dict[str, Any]],
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOCAL_API_KEY", raising=False)
    refs = session_refs(embedded_archive.add(data / "session.nwb").url)
    refs["refs"]["session_description/0"] = ["{{u1}}", 0, 100]  # a scalar that lies in the file: read at opening
    refs["refs"]["session_description/.zarray"] = {
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "<U25", "fill_value": "", "order": "C",
        "compressor": None, "filters": None,
    }  # fmt: skip
    with pytest.raises(errors.AuthenticationError, match="LOCAL_API_KEY") as caught:
        ld.open_nwb(refs, instances={"local": embedded_archive.api_url})
    assert caught.value.__cause__ is None


@reads
def test_references_of_something_else_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "climate.json"
    path.write_text(json.dumps({".zgroup": {"zarr_format": 2}}))
    with pytest.raises(errors.RefsError, match=r"is not an NWB session.*open_group"):
        ld.open_nwb(path)


@reads
def test_references_that_lost_what_pynwb_needs_say_so(data: Path) -> None:
    with pytest.raises(errors.RefsError, match=r"as kerchunk's don't.*Write them with LINDI"):
        ld.open_nwb(data / "peers" / "kerchunk.json")


@reads
def test_links_in_a_circle_are_an_error_with_a_name(session_refs: Callable[..., dict[str, Any]]) -> None:
    refs = session_refs("https://example.org/session.nwb")
    refs["refs"]["processing/ecephys/up/.zgroup"] = {"zarr_format": 2}
    refs["refs"]["processing/ecephys/up/.zattrs"] = {"_SOFT_LINK": {"path": "/processing"}}
    with pytest.raises(errors.RefsError, match="a link in this session leads to a group that it lies in"):
        ld.open_nwb(refs)


@reads
@pytest.mark.parametrize("place", ["link", "attribute", "text"])
def test_a_session_cannot_make_the_reader_open_other_files(
    place: str, session_refs: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    import zarr  # noqa: PLC0415

    elsewhere = tmp_path / "elsewhere.zarr"
    zarr.create_group(elsewhere).create_array("secret", data=np.arange(3))
    refs = session_refs("https://example.org/session.nwb")
    reference = {"source": str(elsewhere), "path": "/secret", "name": "notes"}
    attributes = refs["refs"]
    if place == "link":
        attributes["acquisition/.zattrs"] = {"_LINKS": [reference]}
    elif place == "attribute":
        attributes["units/electrodes/.zattrs"] = {
            **loaded(attributes["units/electrodes/.zattrs"]),
            "table": {"zarr_dtype": "object", "value": reference},
        }
    else:
        group = "general/extracellular_ephys/electrodes/group"
        item = {"_REFERENCE": {"source": ".", "path": json.dumps(reference)}}
        attributes[f"{group}/0"] = json.dumps([*[item] * 16, "|O", [16]])
        attributes[f"{group}/.zarray"] = {
            **loaded(attributes[f"{group}/.zarray"]), "compressor": None,
        }  # fmt: skip
    refused = False
    try:
        nwbfile = ld.open_nwb(refs)
        nwbfile.electrodes["group"][0]
    except errors.UrlRefused as error:
        refused = "another file" in str(error)
    assert refused


def loaded(value: Any) -> dict[str, Any]:
    """Return metadata of a reference file, which are text or objects."""
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found


# Converted sessions


@pytest.fixture
def on_zarr() -> Iterator[Callable[[Path], Any]]:
    """Opens sessions by hdmf-zarr's own reader, which knows nothing of this package."""
    from hdmf_zarr.nwb import NWBZarrIO  # noqa: PLC0415 - not for Python 3.11

    opened = []

    def read(path: Path) -> Any:
        opened.append(NWBZarrIO(str(path), "r"))
        return opened[-1].read()

    yield read
    for io in opened:
        io.close()


@reads
@pytest.mark.filterwarnings("ignore:No cached namespaces found")
def test_a_converted_session_is_what_pynwb_reads_from_the_hdf5_file(
    session_refs: Callable[..., dict[str, Any]],
    on_hdf5: Callable[[Path], Any],
    on_zarr: Callable[[Path], Any],
    data: Path,
    tmp_path: Path,
) -> None:
    layout = {LFP: {"chunks": (1000, -1), "shards": (8000, -1)}}
    refs, out = session_refs(str(data / "session.nwb")), tmp_path / "session.nwb.zarr"
    assert ld.convert(refs, out, layout=layout, allow=[f"{data}/"]).made == 58
    found, truth = on_zarr(out), on_hdf5(data / "session.nwb")
    assert described(found) == described(truth)
    assert validated(found) == validated(truth)
    builders, expected = datasets(found.read_io.read_builder()), datasets(truth.read_io.read_builder())
    assert len(expected) == 54
    assert sorted(builders) == sorted(expected)
    for name, dataset in expected.items():
        assert values_of(builders[name].data) == values_of(dataset.data), name
        assert values_of(dict(builders[name].attributes)) == values_of(dict(dataset.attributes)), name


@reads
@pytest.mark.filterwarnings("ignore:EnumData is experimental")
@pytest.mark.parametrize("name", ["odds", "extension"])
def test_other_converted_sessions_are_what_pynwb_reads_from_the_hdf5_file(
    name: str,
    write: Callable[[str], Path],
    on_hdf5: Callable[[Path], Any],
    on_zarr: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    path, out = write(name), tmp_path / "out.nwb.zarr"
    ld.convert(ld.index(path), out, allow=[f"{tmp_path}/"], threads=2)
    found, truth = on_zarr(out), on_hdf5(path)
    assert described(found) == described(truth)
    assert validated(found) == validated(truth)
