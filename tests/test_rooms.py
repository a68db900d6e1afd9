"""The rooms of the design: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lindi_dask

PACKAGE = Path(lindi_dask.__file__).parent

# Each room imports only from those in the lines above its own (and from itself). Docs: docs/design.md, "Rooms".
LEVELS = [
    {"errors", "types", "config", "cpython"},
    {"retry", "network", "private_files", "secrecy", "jobs"},
    {"refs"},
    {"archive"},
    {"transport"},
    {"hdf5", "index_file", "content_cache"},
    {"index_cache", "decode", "object_codecs", "blocks", "grid"},
    {"process"},
    {"remote", "reporting", "block_read", "hdf5_files"},
    {"finding", "codecs"},
    {"loading"},
    {"lazy"},
    {"saving", "listing"},
    {"store", "session_card"},
    {"factory"},
    {"expanding"},
    {"arrays", "assets", "cluster"},
    {"nwb", "indexing", "conversion", "combining"},
    {"refreshing"},
    {"xarray_backend", "estimating"},
    {"testing"},
    {"describing", "pynwb_session"},
    {"catalogue"},
    {"batch"},
    {"__init__"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
STANDS_ALONE = {"testing"}  # the archive to test against must not share a mistake with what it tests


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module] if node.module != "lindi_dask" else [f"lindi_dask.{a.name}" for a in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "lindi_dask":
                rooms.add(parts[1] if len(parts) > 1 and parts[1] in LEVEL else "__init__")
    return rooms


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(PACKAGE)) for path in SOURCES])
def test_a_room_imports_only_from_rooms_above_it(path: Path) -> None:
    room = room_of(path)
    assert room in LEVEL, f"{room} is a new room: give it a place in LEVELS and in docs/design.md"
    upward = {other for other in imported_rooms(path) - {room} if LEVEL[other] >= LEVEL[room]}
    assert not upward, f"{room} looks up to {upward}"
    if room in STANDS_ALONE:
        assert imported_rooms(path) <= {room}


def test_the_planners_and_readings_of_answers_do_no_io() -> None:
    pure = [
        "refs",
        "archive/urls.py",
        "archive/expiry.py",
        "archive/answers.py",
        "archive/addresses.py",
        "secrecy.py",
        "listing.py",
    ]
    pure += ["transport/plan.py", "transport/etags.py", "transport/outcomes.py", "transport/compression.py"]
    pure += ["session_card.py", "transport/intervals.py", "transport/hits.py", "batch/plan.py", "catalogue/rows.py"]
    pure += [
        f"conversion/{name}.py" for name in ("codecs", "history", "layout", "manifest", "plan", "planning", "shards")
    ]
    io = {"requests", "obstore", "socket", "urllib.request", "http.client", "aiohttp", "time", "os", "subprocess"}
    for name in pure:
        place = PACKAGE / name
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            imports = {
                alias.name
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Import)
                for alias in node.names
            }
            assert not imports & io, f"{path.name} imports {imports & io}"


def test_the_public_names_are_these() -> None:
    assert sorted(lindi_dask.__all__) == lindi_dask.__all__
    assert set(lindi_dask.__all__) == {
        "LindiStore",
        "References",
        "StoreFactory",
        "combine",
        "convert",
        "distribute",
        "errors",
        "estimate",
        "expand",
        "index",
        "index_dandiset",
        "list_assets",
        "open_array",
        "open_group",
        "open_nwb",
        "open_store",
        "plan",
        "refresh",
        "stats",
        "verify",
    }
