"""The DANDI archives that are known by name, those that the user adds, and where their keys are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lindi_dask.archive.urls import split_url
from lindi_dask.errors import ConfigurationError, UrlRefused
from lindi_dask.types import Instance

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BUILTIN", "api_key", "checked_key", "configured_instances", "make_instance"]

BUILTIN: tuple[Instance, ...] = (
    Instance("dandi", "https://api.dandiarchive.org/api", ("DANDI_API_KEY",)),
    Instance("dandi-sandbox", "https://api.sandbox.dandiarchive.org/api", ("DANDI_SANDBOX_API_KEY",)),
    Instance(
        "dandi-staging",
        "https://api-staging.dandiarchive.org/api",
        ("DANDI_STAGING_API_KEY", "DANDI_SANDBOX_API_KEY"),
    ),
    Instance("linc", "https://api.lincbrain.org/api", ("LINC_API_KEY",)),
    Instance("linc-staging", "https://staging-api.lincbrain.org/api", ("LINC_STAGING_API_KEY",)),
    Instance("ember-dandi", "https://api-dandi.emberarchive.org/api", ("EMBER_DANDI_API_KEY",)),
    Instance(
        "ember-dandi-sandbox",
        "https://api-dandi.sandbox.emberarchive.org/api",
        ("EMBER_DANDI_SANDBOX_API_KEY",),
    ),
)
"""As in dandi-cli's list of known instances; dandi-staging is the sandbox's former name."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")


def make_instance(name: str, api_url: str) -> Instance:
    """Return the instance `name`, checked.

    Parameters
    ----------
    name
        Letters, digits, "-" and "_"; the key is looked up in the variable of this name in capitals, plus `_API_KEY`.
    api_url
        Base of the API, usually ending in `/api`: https, or http on a loopback address.

    Raises
    ------
    ConfigurationError
        If the name is a built-in one, or name or URL make no sense.
    """
    name = name.lower().replace("_", "-")
    where = f"the instance {name!r} (configuration lindi-dask.instances.{name}.api-url)"
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{where}: a name is made of letters, digits and '-', and starts with a letter.")
    if any(name == known.name for known in BUILTIN):
        raise ConfigurationError(f"{where} is built in and can't be redefined; choose another name.")
    reason = None
    try:
        url = split_url(api_url)
    except UrlRefused as refused:
        reason = refused.reason
    if reason is None and url.query:
        reason = "it has a query"
    if reason is None and url.scheme == "http" and not url.is_loopback:
        reason = "a key is only sent over https (plain http is for loopback addresses)"
    if reason is not None:
        raise ConfigurationError(f"{where}: its URL can't be used: {reason}.")
    return Instance(name, url.rebuilt.rstrip("/"), (f"{name.upper().replace('-', '_')}_API_KEY",))


def configured_instances(config: object) -> tuple[Instance, ...]:
    """Return the built-in instances and those of a configuration.

    Parameters
    ----------
    config
        The value of dask's configuration at `lindi-dask.instances`: `{name: {"api-url": url}}`.

    Raises
    ------
    ConfigurationError
        If an entry makes no sense.
    """
    if not isinstance(config, dict):
        raise ConfigurationError("lindi-dask.instances must be a mapping of names to {api-url: ...}.")
    return BUILTIN + tuple(make_instance(str(name), _api_url(str(name), entry)) for name, entry in config.items())


def _api_url(name: str, entry: Any) -> str:  # noqa: ANN401 - configuration is whatever the user wrote
    if isinstance(entry, dict):
        for key in ("api-url", "api_url"):
            if isinstance(entry.get(key), str):
                return str(entry[key])
    raise ConfigurationError(
        f"lindi-dask.instances.{name} needs an api-url, such as http://127.0.0.1:8901/api "
        f"(environment: DASK_LINDI_DASK__INSTANCES__{name.upper().replace('-', '_')}__API_URL)."
    )


def api_key(instance: Instance, environ: Mapping[str, str]) -> str | None:
    """Return the instance's key out of `environ`, or None; the first variable that is set and not blank wins.

    Raises
    ------
    ConfigurationError
        If the key holds what no header can (such as a line break in its midst); the message does not show it.
    """
    for variable in instance.key_variables:
        key = checked_key(environ.get(variable, ""), variable)
        if key is not None:
            return key
    return None


def checked_key(text: str, place: str) -> str | None:
    """Return a key, or None for a blank; `ConfigurationError`, which does not show it, if no header can hold it."""
    key = text.strip()
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(f"{place} does not hold an API key: it has blanks or characters outside ASCII.")
    return key
