"""A second opinion on S3: leases on s3rver, which is not ours, and refuses presigned URLs that have expired.

Of presigned URLs (SigV4) it checks the expiry by its own clock, and that the access key is known; the signature it does
not check.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import botocore.session
import dask
import numpy as np
import pytest
import requests
from botocore.config import Config
from distributed import Client, LocalCluster

import lindi_dask as ld
from lindi_dask.testing import EmbeddedArchive
from lindi_dask.testing.hosting import Port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = "3.7.1"
BUCKET = "blobs"
LIFETIME_S = 2
BLOCKS = 24
VALUES = np.random.default_rng(11).integers(1, 2**62, (BLOCKS, 1000))


class S3rver:
    """s3rver as a process of its own, and a client of it."""

    def __init__(self, command: list[str], folder: Path) -> None:
        port = Port()
        port.release()
        self.url = f"http://127.0.0.1:{port.number}"
        options = ["-d", str(folder), "-a", "127.0.0.1", "-p", str(port.number), "--no-vhost-buckets"]
        self.log = (folder.parent / "s3rver.log").open("w+")
        self.process = subprocess.Popen(
            [*command, *options, "--configure-bucket", BUCKET], stdout=self.log, stderr=subprocess.STDOUT
        )
        self.client: Any = botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id="S3RVER",
            aws_secret_access_key="S3RVER",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                requests.get(self.url, timeout=1)
            except requests.ConnectionError:
                assert self.process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                return

    def presign(self, key: str, lifetime_s: int) -> str:
        parameters = {"Bucket": BUCKET, "Key": key}
        return str(self.client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=lifetime_s))


@pytest.fixture(scope="module")
def s3rver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3rver]:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not here: s3rver is theirs")
    folder = tmp_path_factory.mktemp("s3rver")
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), f"s3rver@{VERSION}"]
    installed = subprocess.run(install, capture_output=True, text=True, check=False, timeout=120)
    if installed.returncode:
        pytest.skip(f"npm can't install s3rver here: {installed.stderr.strip()[-200:]}")
    data = folder / "data"
    data.mkdir()
    server = S3rver([str(folder / "node_modules" / ".bin" / "s3rver")], data)
    try:
        server.wait()
        yield server
    finally:
        server.process.terminate()
        server.process.wait(20)
        server.log.close()


def status(url: str) -> int:
    return requests.get(url, headers={"Range": "bytes=0-0"}, timeout=10).status_code


def test_what_it_enforces(s3rver: S3rver) -> None:
    s3rver.client.put_object(Bucket=BUCKET, Key="x", Body=b"abc")
    url = s3rver.presign("x", 60)
    assert status(url) == 206
    assert status(url.replace("S3RVER", "OTHERS")) == 403
    assert status(re.sub("(?<=X-Amz-Signature=)[0-9a-f]{8}", "0" * 8, url)) == 206  # that it does not look at
    expiring = s3rver.presign("x", 1)
    time.sleep(2.1)
    answer = requests.get(expiring, timeout=10)
    assert (answer.status_code, "Request has expired" in answer.text) == (403, True)


def test_a_cluster_reads_on_while_its_leases_expire_on_a_server_that_is_not_ours(
    s3rver: S3rver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedArchive(lifetime_s=LIFETIME_S, presign=s3rver.presign) as archive:
        asset = archive.add(VALUES.tobytes(), path="session.bin")
        entry = archive._registry.find(asset.id)
        assert entry is not None
        assert entry.blob is not None
        s3rver.client.put_object(Bucket=BUCKET, Key=entry.blob.key, Body=VALUES.tobytes())
        zarray = {"zarr_format": 2, "shape": VALUES.shape, "chunks": [1, 1000], "dtype": "<i8", "fill_value": 0}
        refs: dict[str, Any] = {
            ".zgroup": {"zarr_format": 2},
            "a/.zarray": {**zarray, "order": "C", "compressor": None, "filters": None},
            **{f"a/{i}.0": [asset.url, 8000 * i, 8000] for i in range(BLOCKS)},
        }
        path = tmp_path / "refs.json"
        path.write_text(json.dumps({"refs": refs}))
        for name, value in archive.environ().items():
            monkeypatch.setenv(name, value)
        with (
            dask.config.set({"lindi-dask.instances": {"local": {"api-url": archive.api_url}}}),
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
            Client(cluster) as client,
        ):
            array = ld.open_array(path, "a", chunks=(1, 1000))
            started = time.monotonic()
            found = client.compute(array.map_blocks(_slowly, dtype=array.dtype)).result(120)
            took_s = time.monotonic() - started
        np.testing.assert_array_equal(found, VALUES)
        exchanges = archive.counts()["exchanges"]
        assert took_s > 2 * LIFETIME_S
        assert exchanges >= 3  # a lease of 2 seconds can't do
        assert all(request.plane == "api" for request in archive.requests)  # all data came from the other server
    print(f"{BLOCKS} blocks in {took_s:.1f} s: {exchanges} exchanges")


def _slowly(block: Any) -> Any:
    time.sleep(0.5)
    return block
