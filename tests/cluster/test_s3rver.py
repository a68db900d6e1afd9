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
from lindi_dask import errors
from lindi_dask.testing import EmbeddedArchive
from lindi_dask.testing.hosting import Port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lindi_dask.conversion import Progress

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


def test_a_conversion_to_a_bucket_is_open_to_readers_when_all_of_it_is_there(
    s3rver: S3rver, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "ENDPOINT_URL": s3rver.url,
        "ALLOW_HTTP": "true",
        "REGION": "us-east-1",
        "ACCESS_KEY_ID": "S3RVER",
        "SECRET_ACCESS_KEY": "S3RVER",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.chdir(tmp_path)  # the job's folder comes to lie there
    refs = json.loads((data / "session.expanded.lindi.json").read_text("utf-8"))
    refs["templates"] = {"u1": str(data / "session.nwb")}
    layout = {"processing/ecephys/LFP/LFP/data": {"chunks": (1000, -1), "shards": (4000, -1)}}
    options: dict[str, Any] = {"allow": [f"{data}/"], "layout": layout, "threads": 2}
    out = "s3://blobs/some/out.zarr"

    def interrupt(progress: Progress) -> None:
        if progress.done >= 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ld.convert(refs, out, progress=interrupt, **options)
    begun = objects(s3rver, "some/out.zarr/")
    assert len(begun) >= 10  # the job's mark, and objects
    assert not any(key.endswith("zarr.json") for key in begun)
    with pytest.raises(errors.JobConflict, match="unfinished output of another job"):
        ld.convert(refs, out, job="other-job", **{**options, "layout": None})
    with pytest.raises(errors.JobConflict, match="holds other objects"):
        ld.convert(refs, "s3://blobs/some", **options)
    done = ld.convert(refs, out, resume=True, **options)
    assert done.kept >= 9
    assert done.made + done.kept == done.plan.tasks
    ld.verify(out, threads=2)
    ld.convert(refs, tmp_path / "out.zarr", **options)
    files = [path for path in (tmp_path / "out.zarr").rglob("*") if path.is_file()]
    here = {path.relative_to(tmp_path / "out.zarr").as_posix(): path.read_bytes() for path in files}
    assert objects(s3rver, "some/out.zarr/") == here
    lost = "processing/ecephys/LFP/LFP/data/c/3/0"
    s3rver.client.delete_object(Bucket=BUCKET, Key=f"some/out.zarr/{lost}")
    with pytest.raises(errors.VerificationFailed) as failed:
        ld.verify(out, threads=2)
    assert failed.value.problems == {lost: "it is missing"}
    assert ld.convert(refs, out, resume=True, **options).made == 1
    assert objects(s3rver, "some/out.zarr/") == here


def test_credentials_that_a_bucket_refuses_end_a_job_with_what_to_set(
    s3rver: S3rver, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "another-secret-of-somebody"
    for name, value in {"ENDPOINT_URL": s3rver.url, "ALLOW_HTTP": "true", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.chdir(tmp_path)
    refs = json.loads((data / "session.expanded.lindi.json").read_text("utf-8"))
    with pytest.raises(errors.TargetError, match="AWS_ACCESS_KEY_ID") as refused:
        ld.convert(refs, "s3://blobs/refused/out.zarr", threads=2)
    assert secret not in str(refused.value)


def objects(s3rver: S3rver, prefix: str) -> dict[str, bytes]:
    """All objects below a prefix."""
    pages = s3rver.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
    return {key.removeprefix(prefix): s3rver.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
