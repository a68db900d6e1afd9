from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.archive.instances import BUILTIN, make_instance
from lindi_dask.archive.urls import UrlPolicy, split_url
from lindi_dask.errors import UrlRefused

ID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
API = "https://api.dandiarchive.org/api"
DOWNLOAD = f"{API}/assets/{ID}/download/"
LOCAL = make_instance("local", "http://127.0.0.1:8901/api")
POLICY = UrlPolicy((*BUILTIN, LOCAL))

ASSETS = {
    DOWNLOAD: "dandi",
    DOWNLOAD.removesuffix("/"): "dandi",
    DOWNLOAD.upper()
    .replace("/API/", "/api/")
    .replace("/ASSETS/", "/assets/")
    .replace("/DOWNLOAD/", "/download/"): "dandi",
    f"{DOWNLOAD}?content_disposition=attachment": "dandi",
    f"{DOWNLOAD}#fragment": "dandi",
    f"{API}/dandisets/000123/versions/draft/assets/{ID}/download/": "dandi",
    f"{API}/dandisets/000123/versions/0.210831.2033/assets/{ID}/download": "dandi",
    f"https://api.dandiarchive.org:443/api/assets/{ID}/download/": "dandi",
    f"https://api.dandiarchive.org:0443/api/assets/{ID}/download/": "dandi",
    f"https://api.dandiarchive.org./api/assets/{ID}/download/": "dandi",
    f"https://API.DandiArchive.ORG/api/assets/{ID}/download/": "dandi",
    f"HTTPS://api.dandiarchive.org/api/assets/{ID}/download/": "dandi",
    f"https://api.sandbox.dandiarchive.org/api/assets/{ID}/download/": "dandi-sandbox",
    f"https://api-dandi.emberarchive.org/api/assets/{ID}/download/": "ember-dandi",
    f"http://127.0.0.1:8901/api/assets/{ID}/download/": "local",
}


@pytest.mark.parametrize("url", ASSETS)
def test_a_download_url_of_an_instance_is_that_asset(url: str) -> None:
    asset = POLICY.asset(url)
    assert asset.instance is not None
    assert (asset.instance.name, asset.id) == (ASSETS[url], ID)


@pytest.mark.parametrize("instance", BUILTIN, ids=lambda instance: instance.name)
def test_each_built_in_instance_knows_its_own_urls(instance: object) -> None:
    known = next(known for known in BUILTIN if known is instance)
    assert POLICY.asset(f"{known.api_url}/assets/{ID}/download/").instance is known


PLAIN = {
    "https://example.org/a/b.nwb": "https://example.org/a/b.nwb",
    "https://Example.ORG:443/a": "https://example.org/a",
    "https://example.org./a": "https://example.org/a",
    "https://example.org:8443/a?x=1&y=2#z": "https://example.org:8443/a?x=1&y=2",
    "https://example.org": "https://example.org/",
    "https://example.org?x=1": "https://example.org/?x=1",
    "https://example.org/a:b@c/d": "https://example.org/a:b@c/d",
    "https://example.org/%41%20b": "https://example.org/%41%20b",
    "https://dandiarchive.s3.amazonaws.com/blobs/0f1/e2d/x": "https://dandiarchive.s3.amazonaws.com/blobs/0f1/e2d/x",
    "https://8.8.8.8/a": "https://8.8.8.8/a",
    "https://[2606:4700:4700::1111]:8443/a": "https://[2606:4700:4700::1111]:8443/a",
    "https://1e100.net/a": "https://1e100.net/a",
    "https://0x7f.example/a": "https://0x7f.example/a",
    "https://xn--bcher-kva.example/a": "https://xn--bcher-kva.example/a",
}


@pytest.mark.parametrize("url", PLAIN)
def test_any_other_https_url_stands_for_itself_rebuilt_from_its_parts(url: str) -> None:
    asset = POLICY.asset(url)
    assert (asset.instance, asset.id) == (None, PLAIN[url])


LOOK_ALIKES = [
    f"https://api.dandiarchive.org.evil.org/api/assets/{ID}/download/",
    f"https://evil.org/api.dandiarchive.org/api/assets/{ID}/download/",
    f"https://evil.org/?https://api.dandiarchive.org/api/assets/{ID}/download/",
    f"https://evil.org/#@api.dandiarchive.org/api/assets/{ID}/download/",
    f"https://evil.org?@api.dandiarchive.org/api/assets/{ID}/download/",
    f"https://evilapi.dandiarchive.org/api/assets/{ID}/download/",
    f"https://api-dandiarchive.org/api/assets/{ID}/download/",
    f"https://dandiarchive.org/api/assets/{ID}/download/",
    f"https://api.dandiarchive.org:444/api/assets/{ID}/download/",
    f"https://api.dandiarchive.org:8443/api/assets/{ID}/download/",
    f"https://api.dandiarchive.org/assets/{ID}/download/",
    f"https://api.dandiarchive.org/API/assets/{ID}/download/",
    f"https://api.dandiarchive.org//api/assets/{ID}/download/",
    f"https://api.dandiarchive.org/apix/assets/{ID}/download/",
    f"https://api.dandiarchive.org/x/../api/assets/{ID}/download/",
    f"https://api.dandiarchive.org/%61pi/assets/{ID}/download/",
    f"https://api.dandiarchive.org/api;/assets/{ID}/download/",
]


@pytest.mark.parametrize("url", LOOK_ALIKES)
def test_a_look_alike_of_an_instance_is_a_plain_url_that_gets_no_key(url: str) -> None:
    assert POLICY.asset(url).instance is None


@given(
    st.sampled_from(["https", "http", "HTTPS"]),
    st.text("api.dndrchveog-@:/\\#?%[]0148 \t\n\u2024\uff0e\u3002", max_size=24),
    st.sampled_from(["api.dandiarchive.org", "127.0.0.1:8901", ""]),
    st.text("api.dndrchveog-@:/\\#?%[]0148 \t\n\u2024\uff0e\u3002", max_size=8),
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_no_mangled_authority_is_taken_for_an_instance(scheme: str, before: str, host: str, after: str) -> None:
    """Only the exact host, its case, a trailing dot and its default port aside."""
    try:
        asset = POLICY.asset(f"{scheme}://{before}{host}{after}/api/assets/{ID}/download/")
    except UrlRefused:
        return
    if asset.instance is None:
        return
    port = after.removeprefix(".").removeprefix(":").lstrip("0")
    assert not before
    assert scheme.lower() == asset.instance.api_url.partition(":")[0]
    assert port in {"", "443"} if asset.instance.name == "dandi" else not port


NOT_DOWNLOADS = [
    API + "/",
    f"{API}/assets/{ID}/",
    f"{API}/assets/{ID}/info/",
    f"{API}/assets/{ID}/download/extra",
    f"{API}/assets/{ID}/download//",
    f"{API}/assets/{ID[:-1]}/download/",
    f"{API}/assets/{ID}x/download/",
    f"{API}/assets/../users/me/download/",
    f"{API}/assets/%30{ID[1:]}/download/",
    f"{API}/dandisets/000123/assets/{ID}/download/",
    f"{API}/dandisets/a/b/versions/draft/assets/{ID}/download/",
    f"{API}/users/me/?x=/assets/{ID}/download/",
    f"{API}//assets/{ID}/download/",
    f"{API}/../api/assets/{ID}/download/",
    f"{API}/dandisets/000123/versions/draft/assets/{ID}/download/\u00e9",
]


@pytest.mark.parametrize("url", NOT_DOWNLOADS)
def test_an_instances_api_is_good_for_downloads_only(url: str) -> None:
    with pytest.raises(UrlRefused, match="not at an asset's download"):
        POLICY.asset(url)


MALFORMED = {
    "user": f"https://user@api.dandiarchive.org/api/assets/{ID}/download/",
    "user and password": "https://user:pass@example.org/",
    "empty user": "https://@example.org/",
    "an instance for a user": f"https://api.dandiarchive.org@evil.org/api/assets/{ID}/download/",
    "an instance and its port for a user": "https://api.dandiarchive.org:443@evil.org/",
    "a backslash before the at sign": f"https://api.dandiarchive.org\\@evil.org/api/assets/{ID}/download/",
    "a backslash for a slash": "https:\\\\evil.org/",
    "a backslash in the path": "https://example.org/a\\b",
    "a percent sign in the host": "https://api%2edandiarchive.org/",
    "a percent sign at the end of the host": "https://api.dandiarchive.org%2f@evil.org/",
    "a zero byte": "https://example.org\x00.evil.org/",
    "a blank before": " https://example.org/",
    "a blank in the host": "https://example .org/",
    "a blank in the path": "https://example.org/a b",
    "a tab": "https://exa\tmple.org/",
    "a line break": "https://example.org/\r\nHost: evil.org",
    "a delete": "https://example.org/\x7f",
    "half a character": "https://example.org/\ud800",
    "a Cyrillic letter": "https://\u0430pi.dandiarchive.org/",
    "a German letter": "https://b\u00fccher.example/",
    "a full-width stop": "https://api\uff0edandiarchive.org/",
    "an ideographic stop": "https://api.dandiarchive\u3002org/",
    "full-width digits": "https://\uff11\uff12\uff17.0.0.1/",
    "a soft hyphen": "https://api.dandi\u00adarchive.org/",
    "no host": "https:///path",
    "a port without a host": "https://:443/",
    "a dot for a host": "https://./",
    "two dots for a host": "https://../",
    "two trailing dots": "https://example.org../",
    "an empty label": "https://api..dandiarchive.org/",
    "a leading dot": "https://.dandiarchive.org/",
    "an empty port": "https://example.org:/",
    "a port of 65536": "https://example.org:65536/",
    "a port of words": "https://example.org:https/",
    "a negative port": "https://example.org:-1/",
    "two ports": "https://example.org:443:443/",
    "brackets that stay open": "https://[::1/",
    "brackets around a name": "https://[example.org]/",
    "brackets around IPv4": "https://[127.0.0.1]/",
    "a zone": "https://[fe80::1%25eth0]/",
    "IPv6 without brackets": "https://::1/",
    "ftp": "ftp://example.org/",
    "file": "file:///etc/passwd",
    "s3": "s3://bucket/key",
    "a path": "/etc/passwd",
    "a relative path": "session.nwb",
    "a scheme alone": "https:",
    "one slash": "https:/example.org/",
    "no slashes": "https:example.org",
    "no scheme": "//example.org/",
    "nothing": "",
    "javascript": "javascript://example.org/%0aalert(1)",
}
DISGUISED = {
    "two parts": "127.1",
    "three parts": "127.0.1",
    "five parts": "127.0.0.0.1",
    "decimal": "2130706433",
    "zero": "0",
    "hexadecimal": "0x7f000001",
    "hexadecimal parts": "0x7f.1",
    "upper-case hexadecimal": "0X7F.0.0.1",
    "a hexadecimal last part": "127.0.0.0x1",
    "an empty hexadecimal part": "127.0.0.0x",
    "octal parts": "0177.0.0.1",
    "octal for a private network": "012.0.0.1",
    "a part too large": "127.0.0.256",
    "a trailing dot": "127.1.",
    "a number under a name": "localhost.1",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_url_that_parsers_may_disagree_about_is_refused(name: str) -> None:
    with pytest.raises(UrlRefused) as caught:
        POLICY.asset(MALFORMED[name])
    assert "pass@" not in str(caught.value)
    assert caught.value.reason in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", DISGUISED)
def test_an_ipv4_address_is_four_decimal_numbers_or_refused(name: str, scheme: str) -> None:
    with pytest.raises(UrlRefused, match="plain name or address"):
        UrlPolicy((), (f"{scheme}://127.0.0.1/",)).asset(f"{scheme}://{DISGUISED[name]}/")


PRIVATE = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "api.localhost",
    "printer.local",
    "metadata.google.internal",
    "127.0.0.1",
    "127.0.0.1.",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]",
    "[2002:7f00:1::]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[ff02::1]",
    "[2001:db8::1]",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_this_machine_and_private_networks_are_refused_with_the_remedy(host: str) -> None:
    url = f"https://{host}/x"
    with pytest.raises(UrlRefused, match="allow=") as caught:
        POLICY.asset(url)
    remedy = caught.value.reason.partition("allow=['")[2].partition("']")[0]
    assert UrlPolicy((), (remedy,)).asset(url).instance is None


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "http://8.8.8.8/x",
        "http://[2606:4700:4700::1111]/x",
        "http://127.0.0.1:8000/x",
        f"http://api.dandiarchive.org/api/assets/{ID}/download/",
        f"http://api.dandiarchive.org:443/api/assets/{ID}/download/",
        f"http://127.0.0.1:8902/api/assets/{ID}/download/",
        f"http://localhost:8901/api/assets/{ID}/download/",
    ],
)
def test_plain_http_is_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(UrlRefused, match="plain http") as caught:
        POLICY.asset(url)
    remedy = caught.value.reason.partition("allow=['")[2].partition("']")[0]
    assert UrlPolicy((), (remedy,)).asset(url).instance is None


def test_a_refusal_shows_neither_path_nor_query() -> None:
    with pytest.raises(UrlRefused) as caught:
        POLICY.asset("http://example.org/secret-path?X-Amz-Signature=abcdef")
    assert "secret-path" not in str(caught.value)
    assert "abcdef" not in str(caught.value)


# allow=

ALLOW = UrlPolicy(BUILTIN, ("http://127.0.0.1:8000/data", "https://10.0.0.1/files/"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/data",
        "http://127.0.0.1:8000/data/",
        "http://127.0.0.1:8000/data/a/b?x=..",
        "http://127.0.0.1:8000/data?x=/../",
        "http://127.0.0.1:8000/data/a..b",
        "http://127.0.0.1:8000/data/...",
        "https://10.0.0.1/files/",
        "https://10.0.0.1:443/files/x",
        "HTTPS://10.0.0.1./files/x",
    ],
)
def test_what_lies_below_an_allowed_prefix_may_be_read(url: str) -> None:
    assert ALLOW.asset(url).instance is None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/",
        "http://127.0.0.1:8000/database",
        "http://127.0.0.1:8000/data.bak",
        "http://127.0.0.1:8000/data;x/y",
        "http://127.0.0.1:8000/DATA/x",
        "http://127.0.0.1:8000//data/x",
        "http://127.0.0.1:8000/data/..",
        "http://127.0.0.1:8000/data/../x",
        "http://127.0.0.1:8000/data/a/../../x",
        "http://127.0.0.1:8000/data/%2e%2e/x",
        "http://127.0.0.1:8000/data/%2E./x",
        "http://127.0.0.1:8000/data/.%2e",
        "http://127.0.0.1:8000/data/a%2f..%2f..%2fx",
        "http://127.0.0.1:8000/data/a%2F%2e%2e%2Fx",
        "http://127.0.0.1:8000/data/a%5c..%5cx",
        "http://127.0.0.1:8001/data/x",
        "http://127.0.0.1/data/x",
        "https://127.0.0.1:8000/data/x",
        "http://localhost:8000/data/x",
        "http://127.0.0.2:8000/data/x",
        "https://10.0.0.1/files",
        "https://10.0.0.1/",
        "http://10.0.0.1/files/x",
    ],
)
def test_what_lies_beside_an_allowed_prefix_may_not(url: str) -> None:
    with pytest.raises(UrlRefused):
        ALLOW.asset(url)


def test_an_allowed_prefix_takes_no_key_from_an_instance() -> None:
    policy = UrlPolicy(BUILTIN, ("https://api.dandiarchive.org/",))
    assert policy.asset(DOWNLOAD).instance is BUILTIN[0]
    with pytest.raises(UrlRefused):
        policy.asset(f"{API}/users/me/")


@given(
    st.text(st.characters(codec="utf-8"), max_size=30)
    | st.text("htps:/@[]?#.%\\x0127", max_size=20).map("https://{}".format)
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_what_is_rebuilt_splits_into_the_same_parts(url: str) -> None:
    try:
        parts = split_url(url)
    except UrlRefused:
        return
    assert split_url(parts.rebuilt) == parts
    assert split_url(parts.root).origin == parts.origin
