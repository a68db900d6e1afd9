"""A job's TOML file -> its tables: what is unknown or of the wrong type is an error that says what was meant."""

from __future__ import annotations

import difflib
import tomllib
from typing import TYPE_CHECKING, Any

from dask.utils import parse_bytes, parse_timedelta

from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Table = dict[str, Any]

__all__ = ["nbytes_of", "read_settings", "seconds_of", "table_of"]


def read_settings(path: Path, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Table]:
    """Return the tables of a file, each with all its keys.

    Parameters
    ----------
    path
        Of the file.
    tables
        By the name of a table: its keys with their defaults. A default that is a type is that of a key that must be
        there; one that is a tuple of types, of one that may be left out.

    Raises
    ------
    ConfigurationError
        If the file can't be read, or holds something else.
    """
    reason = None
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = str(error)
    if reason is not None:
        raise ConfigurationError(f"{path} can't be read: {reason}.")
    for name in content:
        _check_name(name, tables, f"{path}: there is no table", "[{}]")
    return {name: table_of(content.get(name, {}), keys, f"{path}: [{name}]") for name, keys in tables.items()}


def table_of(table: object, keys: Mapping[str, Any], where: str) -> Table:
    """Return a table with all its keys; errors are those of `read_settings`."""
    if not isinstance(table, dict):
        raise ConfigurationError(f"{where} is not a table.")
    for name in table:
        _check_name(name, keys, f"{where} has no key", "{}")
    found = {}
    for name, default in keys.items():
        kinds = default if isinstance(default, tuple) else (default if isinstance(default, type) else type(default),)
        if name in table:
            value = table[name]
            if type(value) not in kinds:
                wanted = " or ".join(_KINDS.get(kind, kind.__name__) for kind in kinds)
                raise ConfigurationError(f"{where} {name} must be {wanted}, not {value!r}.")
        elif isinstance(default, type):
            raise ConfigurationError(f"{where} needs the key {name}.")
        else:
            value = None if isinstance(default, tuple) else default
        found[name] = value
    return found


_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table", list: "a list"}


def _check_name(name: str, known: Mapping[str, Any], what: str, form: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Is it {form.format(near[0])}?" if near else f"There are {', '.join(map(form.format, known))}."
        raise ConfigurationError(f"{what} {form.format(name)}. {hint}")


def nbytes_of(text: str, where: str) -> int:
    """Return bytes of a text such as "100 GB"."""
    return int(_parsed(parse_bytes, text, where, '"100 GB"'))


def seconds_of(text: str, where: str) -> float:
    """Return seconds of a text such as "10 minutes"."""
    return float(_parsed(parse_timedelta, text, where, '"10 minutes"'))


def _parsed(parse: Any, text: str, where: str, example: str) -> Any:  # noqa: ANN401 - dask's functions have no types
    try:
        return parse(text)
    except (ValueError, KeyError, TypeError):
        pass
    raise ConfigurationError(f"{where} must be like {example}, not {text!r}.")
