"""Where API keys come from: a function of the user's, the environment, dandi-cli's entry in the keyring.

They are looked up at each exchange, and never kept.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from lindi_dask.archive.instances import api_key, checked_key
from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lindi_dask.types import Instance

    KeyFunction: TypeAlias = Callable[[], str | None]

__all__ = ["Key", "find_key", "offer_keys"]

_lock: Final = threading.Lock()
_offered: Final[dict[Instance, KeyFunction]] = {}


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, on its way into a request."""

    value: str = field(repr=False)
    place: str
    """where it was found, for messages"""


def offer_keys(instances: tuple[Instance, ...], functions: Mapping[str, KeyFunction]) -> None:
    """Have the keys of some archives asked from functions, by everything that this process reads from now on.

    Parameters
    ----------
    instances
        That are known.
    functions
        By the instance's name: each returns the key, or None, and is called at each exchange, from any thread. It
        takes the place of the one that was offered for the same instance before.

    Raises
    ------
    ConfigurationError
        If there is no such instance, or no function.
    """
    known = {instance.name: instance for instance in instances}
    for name, function in functions.items():
        if name not in known:
            raise ConfigurationError(f"api_keys: there is no instance {name!r}; there are {', '.join(known)}.")
        if not callable(function):  # and what it is, is not shown: it may be the key
            raise ConfigurationError(f"api_keys[{name!r}] must be a function that returns the key, not the key itself.")
    with _lock:
        _offered.update({known[name]: function for name, function in functions.items()})


def find_key(instance: Instance, environ: Mapping[str, str]) -> Key | None:
    """Return the key of an instance: from the function offered for it, else from `environ`, else from the keyring.

    The keyring is asked where the `keyring` package is installed, and only in a process that no other Python process
    started: it may want to ask a person, who does not sit at a worker.

    Raises
    ------
    ConfigurationError
        If it holds what no header can (such as a line break in its midst), or the function fails; no message shows it.
    """
    with _lock:
        function = _offered.get(instance)
    key = None if function is None else _called(instance, function)
    if key is not None:
        return key
    value = api_key(instance, environ)
    return _from_keyring(instance) if value is None else Key(value, instance.key_variables[0])


def _called(instance: Instance, function: KeyFunction) -> Key | None:
    place = f"the function in api_keys[{instance.name!r}]"
    try:
        return _checked(function(), place)
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it may hold the key: ours is raised outside this block
        kind = type(error).__name__
    raise ConfigurationError(f"{place} failed ({kind}).")


def _from_keyring(instance: Instance) -> Key | None:
    """Look where dandi-cli keeps keys: service `dandi-api-<instance>`, user `key`."""
    if multiprocessing.parent_process() is not None or importlib.util.find_spec("keyring") is None:
        return None
    import keyring  # noqa: PLC0415 - it is optional, and takes a while to load
    from keyring.errors import KeyringError  # noqa: PLC0415

    service = f"dandi-api-{instance.name}"
    try:
        value = keyring.get_password(service, "key")
    except (KeyringError, OSError, RuntimeError):  # no keyring, or one that is locked
        return None
    return _checked(value, f"the keyring's entry {service}")


def _checked(value: object, place: str) -> Key | None:
    """Return a key; None for one that is not there or blank."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConfigurationError(f"{place} holds no text.")
    key = checked_key(value, place)
    return None if key is None else Key(key, place)
