from dataclasses import replace

import pytest

from lindi_dask.demo.report import DemoReport


def test_rates_are_of_decompressed_bytes(report: DemoReport) -> None:
    assert report.serial.rate_mb_s == pytest.approx(1.92)
    assert report.cluster.rate_mb_s == pytest.approx(7.68)
    assert report.speedup == pytest.approx(4)


def test_a_serial_run_over_a_part_is_compared_by_its_rate(report: DemoReport) -> None:
    part = replace(report.serial, logical_nbytes=report.serial.logical_nbytes // 2, seconds=2.0)
    assert replace(report, serial=part).speedup == pytest.approx(4)


def test_a_run_that_took_no_time_has_no_rate(report: DemoReport) -> None:
    assert replace(report.serial, seconds=0.0).rate_mb_s == 0
    assert replace(report, serial=replace(report.serial, seconds=0.0)).speedup == 0
