import struct
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from lindi_dask.demo.analysis import Analysis
from lindi_dask.demo.picture import draw
from lindi_dask.demo.report import DemoReport
from lindi_dask.demo.session import SessionInfo

INFO = SessionInfo(
    path=Path("session.nwb"), shape=(60_000, 64), chunks=(8192, 64), rate_hz=30_000.0, conversion=1.95e-7,
    regions=(("cortex", 0), ("CA1", 22), ("DG", 42)), stored_nbytes=4_300_000, file_nbytes=4_400_000,
)  # fmt: skip


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def made_up(windows: int, channels: int) -> Analysis:
    random = np.random.default_rng(0)
    return Analysis(
        rms=random.uniform(100, 500, channels),
        theta=random.exponential(1e4, (windows, channels)),
        ripple=random.exponential(1e3, (8 * windows, channels)),
    )


def test_it_is_a_png_of_a_known_size(report: DemoReport, tmp_path: Path) -> None:
    draw(made_up(3, 64), INFO, report, tmp_path / "demo.png")
    png = (tmp_path / "demo.png").read_bytes()
    assert size_of(png) == (1650, 1080)
    assert len(png) > 20_000


@pytest.mark.parametrize(("windows", "channels"), [(0, 64), (1, 1)])
def test_a_session_without_a_window_or_with_one_channel_is_drawn(
    report: DemoReport, tmp_path: Path, windows: int, channels: int
) -> None:
    info = replace(INFO, shape=(60_000, channels), regions=(("cortex", 0),))
    draw(made_up(windows, channels), info, replace(report, exact=False), tmp_path / "demo.png")
    assert size_of((tmp_path / "demo.png").read_bytes()) == (1650, 1080)


def test_silence_is_drawn(report: DemoReport, tmp_path: Path) -> None:
    silence = Analysis(rms=np.zeros(64), theta=np.zeros((3, 64)), ripple=np.zeros((24, 64)))
    draw(silence, INFO, report, tmp_path / "demo.png")
    assert (tmp_path / "demo.png").stat().st_size


def test_matplotlibs_own_state_is_left_alone(report: DemoReport, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    draw(made_up(3, 64), INFO, report, tmp_path / "demo.png")
    assert dict(mpl.rcParams) == before
