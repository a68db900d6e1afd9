"""The assets of a dandiset, as `lindi-dask ls` shows them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from lindi_dask.cli.terminal import draw, plain, this_look
from lindi_dask.cli.wording import counted, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lindi_dask.cli.terminal import Span
    from lindi_dask.types import AssetInfo

__all__ = ["show_assets"]


def show_assets(address: str, *, as_json: bool, instances: dict[str, str] | None) -> None:
    """Print what lies at an address: a table, or one JSON object."""
    from lindi_dask.assets import list_assets  # noqa: PLC0415 - only this command needs it

    found = list_assets(address, instances=instances)
    if as_json:
        click.echo(json.dumps({"address": address, "assets": [_described(info) for info in found]}))
    else:
        draw(_table(found), this_look())


def _described(info: AssetInfo) -> dict[str, Any]:
    return {
        "path": info.path,
        "size": info.size,
        "modified": info.modified.isoformat(),
        "id": info.asset.id,
        "url": info.url,
        "address": info.address,
        "blob": info.blob,
        "zarr": info.zarr,
    }


def _table(found: list[AssetInfo]) -> Iterator[list[Span]]:
    rows = [
        (plain(info.path), size_text(info.size) if info.zarr is None else "Zarr", f"{info.modified:%Y-%m-%d %H:%M}")
        for info in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for (path, size, modified), info in zip(rows, found, strict=True):
        yield [
            (f"{path:{widths[0]}}", ""),
            (f"  {size:>{widths[1]}}", "shape"),
            (f"  {modified}", ""),
            (f"  {info.asset.id}", "dim"),
        ]
    yield [("", "")]
    yield [(f"{counted(len(found), 'asset') or 'no assets'}, {size_text(sum(info.size for info in found))}", "")]
