"""dask's configuration at `lindi-dask`, with the defaults of `lindi-dask.yaml`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import dask
import yaml

__all__ = ["configured"]


def configured(option: str) -> Any:  # noqa: ANN401 - whatever the user wrote; the caller checks
    """Return the value of `lindi-dask.<option>`."""
    return dask.config.get(f"lindi-dask.{option}", default=_defaults()[option])


@cache
def _defaults() -> dict[str, Any]:
    text = resources.files("lindi_dask").joinpath("lindi-dask.yaml").read_text("utf-8")
    defaults: dict[str, Any] = yaml.safe_load(text)["lindi-dask"]
    return defaults
