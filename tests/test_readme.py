"""The README's examples, run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import lindi_dask

if TYPE_CHECKING:
    from collections.abc import Callable

    import h5py

    from lindi_dask.testing import EmbeddedArchive

README = Path(__file__).parents[1] / "README.md"


def test_the_python_blocks_run_as_they_stand(
    embedded_archive: EmbeddedArchive,
    session_refs: Callable[..., dict[str, Any]],
    session_h5: h5py.File,
    data: Path,
    tmp_path: Path,
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 5
    url = embedded_archive.add(data / "session.nwb").url
    (tmp_path / "session.lindi.json").write_text(json.dumps(session_refs(url)))
    script = tmp_path / "script.py"
    first, *others = blocks
    others = "".join(others).replace("/scratch/lindi", str(tmp_path / "scratch")).splitlines()
    script.write_text(first + "".join(f"    {line}\n" for line in others) + "    client.close()\n")
    environ = {**os.environ, **embedded_archive.environ()}
    ran = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path, env=environ
    )
    assert ran.returncode == 0, ran.stderr
    values = session_h5["processing/ecephys/LFP/LFP/data"][...].astype("float64")
    *rms, read = ran.stdout.splitlines()
    printed = np.array(" ".join(rms).replace("[", "").replace("]", "").split(), "float64")
    assert list((tmp_path / "scratch").glob("*/*.range"))
    np.testing.assert_allclose(printed, (values**2).mean(axis=0) ** 0.5, rtol=1e-4)
    assert re.match(r"\d+ chunks \(.* by \d+ requests .* 0 retries", read)


def test_every_error_that_it_names_exists() -> None:
    text = README.read_text("utf-8")
    table = text[text.index("## When something goes wrong") : text.index("## Test against an archive")]
    named = set(re.findall(r"`([A-Z]\w+)`", table))
    assert named
    assert named <= set(lindi_dask.errors.__all__)
    of_jobs = {kind.__name__ for kind in lindi_dask.errors.JobError.__subclasses__()} & set(lindi_dask.errors.__all__)
    assert named >= of_jobs
