"""The examples, run as they stand: each checks its own result against what it planted."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.image import imread

EXAMPLES = Path(__file__).parents[2] / "examples"
BOUND_S = 60  # of an example, on an idle machine
SAID = {
    "lfp_spectrogram": r"theta is right to within 0\.\d+ Hz in all of 97 windows: ",
    "spike_triggered_average": r"3 averages correlate with what was planted by 0\.9\d and more: ",
    "two_photon": r"6 traces correlate with what was planted by (0\.9\d|1\.00) and more: ",
}


def test_each_script_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} - {"served"} == set(SAID)


@pytest.mark.timeout(3 * BOUND_S)
@pytest.mark.parametrize("name", SAID)
def test_an_example_checks_its_result_and_draws_it(name: str, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", tmp_path],
        capture_output=True, text=True, check=False, env=environ, cwd=tmp_path, timeout=3 * BOUND_S - 10,
    )  # fmt: skip
    print(f"{name}: {time.monotonic() - started:.1f} s")
    assert done.returncode == 0, done.stderr
    picture = tmp_path / f"{name}.png"
    assert re.fullmatch(SAID[name] + re.escape(str(picture)) + "\n", done.stdout), done.stdout
    pixels = imread(picture)
    assert pixels.shape[0] > 300
    assert pixels.shape[1] > 600
    assert len({tuple(pixel) for pixel in pixels[::7, ::7].reshape(-1, pixels.shape[-1])}) > 20  # something is drawn
    assert not re.search(r"\bTraceback\b|X-Amz-Signature", done.stderr)


def test_an_example_fails_when_its_result_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    two_photon = importlib.import_module("two_photon")
    path = tmp_path / "two_photon.nwb"
    two_photon.write_session(path)
    shape = (two_photon.SIDE, two_photon.SIDE)
    wrong = xr.Dataset({"image": (("x", "y"), np.zeros(shape)), "traces": (("time", "roi"), two_photon.calcium())})
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        two_photon.check(wrong, path)
    wrong["traces"] = wrong["traces"][::-1]
    with pytest.raises(AssertionError, match="a trace is not what was planted"):
        two_photon.check(wrong, path)
