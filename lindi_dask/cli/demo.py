"""`lindi-dask demo`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["demo"]


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("lindi-dask-demo"),
    show_default=True,
    help="Folder for the recording, its references and the picture.",
)
def demo(out: Path) -> None:
    """Do the main job on this machine: offline, without credentials, in about a minute.

    Writes a recording, serves it under embargo from an archive on this machine, whose presigned URLs live for 3 s,
    and reads it on a dask cluster of processes. Needs the extra: pip install 'lindi-dask[demo]'

    \b
    Example:
      lindi-dask demo --out demo
    """
    missing = None
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra

        from lindi_dask.demo.run import run_demo  # noqa: PLC0415
    except ModuleNotFoundError as error:
        missing = error.name
    except ImportError as error:
        missing = str(error)
    if missing is not None:
        raise click.UsageError(f"the demo needs {missing}: pip install 'lindi-dask[demo]'")
    report = run_demo(Console(), out)
    if not report.exact or not report.renewals:
        raise click.ClickException("the demo did not show what it should: see the lines above.")
