from __future__ import annotations

import pytest

from lindi_dask.archive.instances import BUILTIN, api_key, configured_instances, make_instance
from lindi_dask.errors import ConfigurationError
from lindi_dask.types import Instance

VARIABLES = {
    "dandi": ("https://api.dandiarchive.org/api", "DANDI_API_KEY"),
    "dandi-sandbox": ("https://api.sandbox.dandiarchive.org/api", "DANDI_SANDBOX_API_KEY"),
    "dandi-staging": ("https://api-staging.dandiarchive.org/api", "DANDI_STAGING_API_KEY"),
    "linc": ("https://api.lincbrain.org/api", "LINC_API_KEY"),
    "linc-staging": ("https://staging-api.lincbrain.org/api", "LINC_STAGING_API_KEY"),
    "ember-dandi": ("https://api-dandi.emberarchive.org/api", "EMBER_DANDI_API_KEY"),
    "ember-dandi-sandbox": ("https://api-dandi.sandbox.emberarchive.org/api", "EMBER_DANDI_SANDBOX_API_KEY"),
}


def test_the_known_archives_are_built_in() -> None:
    assert {known.name: (known.api_url, known.key_variables[0]) for known in BUILTIN} == VARIABLES
    assert not any(known.is_loopback for known in BUILTIN)


@pytest.mark.parametrize("name", [*VARIABLES, "DANDI", "Dandi_Sandbox", "ember_dandi"])
def test_a_built_in_instance_cannot_be_redefined(name: str) -> None:
    with pytest.raises(ConfigurationError, match="built in"):
        make_instance(name, "https://evil.org/api")


@pytest.mark.parametrize(
    ("name", "instance_name", "variable"),
    [
        ("local", "local", "LOCAL_API_KEY"),
        ("my-lab", "my-lab", "MY_LAB_API_KEY"),
        ("My_Lab2", "my-lab2", "MY_LAB2_API_KEY"),
    ],
)
def test_the_key_is_in_the_variable_of_the_instances_name(name: str, instance_name: str, variable: str) -> None:
    made = make_instance(name, "https://archive.example/api")
    assert made == Instance(instance_name, "https://archive.example/api", (variable,))


@pytest.mark.parametrize(
    "name",
    ["", "1st", "-x", "a b", "a.b", "a/b", "a=b", "\u00e9", "a" * 65, "a\n", "path\x00"],
)
def test_a_name_that_makes_no_variable_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="letters, digits"):
        make_instance(name, "https://archive.example/api")


URLS = {
    "https://archive.example/api": "https://archive.example/api",
    "https://archive.example/api/": "https://archive.example/api",
    "https://Archive.Example:443/api": "https://archive.example/api",
    "https://archive.example": "https://archive.example",
    "https://10.0.0.1:8443/api": "https://10.0.0.1:8443/api",
    "http://127.0.0.1:8901/api": "http://127.0.0.1:8901/api",
    "http://localhost:8901/api": "http://localhost:8901/api",
    "http://[::1]:8901/api": "http://[::1]:8901/api",
}


@pytest.mark.parametrize("url", URLS)
def test_the_url_is_kept_in_one_form(url: str) -> None:
    made = make_instance("local", url)
    assert made.api_url == URLS[url]
    assert made.is_loopback is url.startswith("http:")


REFUSED = {
    "http://archive.example/api": "loopback",
    "http://10.0.0.1/api": "loopback",
    "http://0.0.0.0:8901/api": "loopback",
    "http://127.0.0.1.evil.org/api": "loopback",
    "http://localhost.evil.org/api": "loopback",
    "http://127.1/api": "plain name or address",
    "https://user@archive.example/api": "plain name or address",
    "https://archive.example/api?x=1": "query",
    "ftp://archive.example/api": "https nor http",
    "archive.example": "https nor http",
    "": "https nor http",
}


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_no_key_should_go_to_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED[url]) as caught:
        make_instance("local", url)
    assert "lindi-dask.instances.local.api-url" in str(caught.value)


def test_instances_of_the_configuration_come_after_the_built_in_ones() -> None:
    config = {"local": {"api-url": "http://127.0.0.1:1/api"}, "my_lab": {"api_url": "https://archive.example/api"}}
    found = configured_instances(config)
    assert found[: len(BUILTIN)] == BUILTIN
    assert [instance.name for instance in found[len(BUILTIN) :]] == ["local", "my-lab"]


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        "dandi",
        {"local": None},
        {"local": "https://archive.example/api"},
        {"local": {}},
        {"local": {"api-url": 1}},
        {"local": {"url": "https://archive.example/api"}},
        {"dandi": {"api-url": "https://evil.org/api"}},
        {1: {"api-url": "https://archive.example/api"}},
    ],
)
def test_a_configuration_that_makes_no_sense_is_an_error(config: object) -> None:
    with pytest.raises(ConfigurationError):
        configured_instances(config)


# Keys

LOCAL = Instance("local", "http://127.0.0.1:8901/api", ("LOCAL_API_KEY", "OLD_API_KEY"))


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({}, None),
        ({"LOCAL_API_KEY": ""}, None),
        ({"LOCAL_API_KEY": "  \n"}, None),
        ({"LOCAL_API_KEY": "abc"}, "abc"),
        ({"LOCAL_API_KEY": " abc\n"}, "abc"),
        ({"OLD_API_KEY": "old"}, "old"),
        ({"LOCAL_API_KEY": " ", "OLD_API_KEY": "old"}, "old"),
        ({"LOCAL_API_KEY": "abc", "OLD_API_KEY": "old"}, "abc"),
        ({"DANDI_API_KEY": "another archive's"}, None),
    ],
)
def test_the_first_variable_that_is_set_and_not_blank_wins(environ: dict[str, str], key: str | None) -> None:
    assert api_key(LOCAL, environ) == key


@pytest.mark.parametrize("between", ["\n", "\r\n", " ", "\t", "\x00", "\x7f", "\u00e9", "\u2028"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(between: str) -> None:
    with pytest.raises(ConfigurationError, match="LOCAL_API_KEY") as caught:
        api_key(LOCAL, {"LOCAL_API_KEY": f"planted{between}secret"})
    assert "planted" not in repr(caught.value)
    assert "secret" not in repr(caught.value)
    assert not vars(caught.value)
