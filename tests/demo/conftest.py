import pytest

from lindi_dask.demo.report import DemoReport, RunNumbers
from lindi_dask.transport import Counts


@pytest.fixture
def report() -> DemoReport:
    return DemoReport(
        title="A synthetic session",
        shape=(60_000, 64),
        nbytes=7_680_000,
        file_nbytes=4_400_000,
        lease_s=3.0,
        pace="25 ms, 40 MB/s a connection",
        serial=RunNumbers(
            processes=1,
            seconds=4.0,
            blocks=2,
            logical_nbytes=7_680_000,
            read=Counts(bytes_fetched=4_400_000, requests=8, exchanges=3, renewals=2),
        ),
        cluster=RunNumbers(
            processes=4,
            seconds=1.0,
            blocks=2,
            logical_nbytes=7_680_000,
            read=Counts(bytes_fetched=4_400_000, requests=1234, exchanges=6, renewals=5),
        ),
        renewals=5,
        exact=True,
    )
