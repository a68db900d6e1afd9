"""What a dandiset holds: a table for programs (parquet), a page for people (HTML)."""

from lindi_dask.catalogue.writing import check_catalogue, write_catalogue

__all__ = ["check_catalogue", "write_catalogue"]
