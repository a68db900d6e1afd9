"""`lindi-dask`: finds the command, and turns errors into a line and an exit code."""

from __future__ import annotations

import sys

import click

from lindi_dask import __version__
from lindi_dask.cli.cache import cache
from lindi_dask.cli.combine import combine
from lindi_dask.cli.convert import convert
from lindi_dask.cli.demo import demo
from lindi_dask.cli.expand import expand
from lindi_dask.cli.index import index
from lindi_dask.cli.info import info
from lindi_dask.cli.ls import ls
from lindi_dask.cli.plan import plan
from lindi_dask.cli.refresh import refresh
from lindi_dask.cli.report import report
from lindi_dask.cli.status import status
from lindi_dask.cli.verify import verify
from lindi_dask.errors import (
    AccessError,
    ConfigurationError,
    JobConflict,
    JobIncomplete,
    LindiError,
    UnavailableError,
    VerificationFailed,
)

__all__ = ["main"]

_EXIT_CODES: tuple[tuple[type[LindiError], int], ...] = (
    (ConfigurationError, 2),
    (JobConflict, 2),
    (JobIncomplete, 3),
    (VerificationFailed, 4),
    (AccessError, 5),
    (UnavailableError, 75),
    (LindiError, 1),
)
_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lindi-dask")
def commands() -> None:
    """Read embargoed DANDI data through LINDI references, in parallel, on a whole dask cluster."""


commands.add_command(cache)
commands.add_command(combine)
commands.add_command(convert)
commands.add_command(demo)
commands.add_command(expand)
commands.add_command(index)
commands.add_command(info)
commands.add_command(ls)
commands.add_command(plan)
commands.add_command(refresh)
commands.add_command(report)
commands.add_command(status)
commands.add_command(verify)


def main() -> None:
    """Run a command.

    Exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 partial and resumable, 4 verification mismatch, 5
    access denied, 75 try later, 130 interrupted.
    """
    try:
        commands.main(prog_name="lindi-dask", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(_INTERRUPTED)
    except LindiError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(next(code for kind, code in _EXIT_CODES if isinstance(error, kind)))
