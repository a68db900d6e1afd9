"""A job's report: one HTML file that needs nothing but itself."""

from lindi_dask.cli.job_report.page import report_page
from lindi_dask.cli.job_report.writing import write_report

__all__ = ["report_page", "write_report"]
