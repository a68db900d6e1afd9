"""Options that commands share: what references are read with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["access_options"]

Command = TypeVar("Command", bound="Callable[..., Any]")


def access_options(command: Command) -> Command:
    """Add `--instance` and `--allow`: the arguments `instances` and `allow` of a `StoreFactory`, None if not given."""
    command = click.option(
        "--allow",
        multiple=True,
        metavar="PREFIX",
        callback=lambda _, __, prefixes: prefixes or None,
        help="A URL prefix or folder that may be read besides public https; may be repeated.",
    )(command)
    return click.option(
        "--instance",
        "instances",
        multiple=True,
        metavar="NAME=URL",
        callback=lambda _, __, pairs: _named(pairs),
        help="An archive besides the built-in ones, and its API's URL; may be repeated.",
    )(command)


def _named(pairs: Sequence[str]) -> dict[str, str] | None:
    instances = dict[str, str]()
    for pair in pairs:
        name, _, url = pair.partition("=")
        if not (name and url):
            raise click.BadParameter(f"{pair!r} is not NAME=URL.", param_hint="--instance")
        instances[name] = url
    return instances or None
