from __future__ import annotations

import posixpath
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.archive.instances import BUILTIN, make_instance
from lindi_dask.archive.urls import UrlPolicy, check_prefix, split_url
from lindi_dask.errors import UrlRefused
from lindi_dask.refs.references import Source
from lindi_dask.types import Asset, Base, BundleFile, LocalFile, LocalFolder, RemoteFolder, Target

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


# Sources of references


FOLDER = LocalFolder("/data/session.lindi.d")
REMOTE = RemoteFolder("https://example.org/data/session.lindi.d?X-Amz-Signature=planted")
BASES: dict[str, Base] = {
    "dict": None,
    "folder": FOLDER,
    "remote": REMOTE,
    "bundle": BundleFile(LocalFile("/data/session.lindi.tar")),
}


def place(url: str, base: Base = None, allow: tuple[str, ...] = ()) -> Asset | LocalFile:
    return UrlPolicy((*BUILTIN, LOCAL), allow).target(Source(url), base).asset


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("url", [*ASSETS, *PLAIN])
def test_a_url_in_full_stands_for_the_same_wherever_the_references_lie(url: str, base: str) -> None:
    assert place(url, BASES[base]) == POLICY.asset(url)


def test_what_the_references_claim_of_a_source_comes_along() -> None:
    asset = POLICY.asset(DOWNLOAD)
    assert POLICY.target(Source(DOWNLOAD), None) == Target(asset, None, None)
    assert POLICY.target(Source(DOWNLOAD, size=7, etag="abc"), None) == Target(asset, "abc", 7)


def test_bytes_that_are_here_have_no_target() -> None:
    with pytest.raises(TypeError):
        POLICY.target(Source("", data=memoryview(b"")), None)


OBJECTS = {
    "s3://bucket/key": "https://bucket.s3.amazonaws.com/key",
    "S3://bucket/key": "https://bucket.s3.amazonaws.com/key",
    "s3://my-bucket-2/a/b.nwb": "https://my-bucket-2.s3.amazonaws.com/a/b.nwb",
    "s3://bucket/a b+c?d#e%f&g=h": "https://bucket.s3.amazonaws.com/a%20b%2Bc%3Fd%23e%25f%26g%3Dh",
    "s3://bucket/%2e%2e/a": "https://bucket.s3.amazonaws.com/%252e%252e/a",
    "s3://bucket//a//b/": "https://bucket.s3.amazonaws.com//a//b/",
    "s3://bucket/a\\b": "https://bucket.s3.amazonaws.com/a%5Cb",
    "s3://bucket/\u00e9@:": "https://bucket.s3.amazonaws.com/%C3%A9%40%3A",
    "s3://bucket/-_.~": "https://bucket.s3.amazonaws.com/-_.~",
    "s3://bucket/...": "https://bucket.s3.amazonaws.com/...",
    "gs://bucket/key": "https://storage.googleapis.com/bucket/key",
    "gcs://my_bucket.org/a b": "https://storage.googleapis.com/my_bucket.org/a%20b",
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("url", OBJECTS)
def test_an_object_is_read_by_its_public_https_url(url: str, base: str) -> None:
    assert place(url, BASES[base]) == Asset(None, OBJECTS[url])


NO_OBJECTS = [
    "s3://bucket",
    "s3://bucket/",
    "s3:///key",
    "s3:bucket/key",
    "s3:/bucket/key",
    "s3://my.bucket/key",
    "s3://Bucket/key",
    "s3://ab/key",
    f"s3://{'a' * 64}/key",
    "s3://-bucket/key",
    "s3://bucket-/key",
    "s3://xn--bucket/key",
    "s3://bucket_1/key",
    "s3://evil.org#/key",
    "s3://evil.org?/key",
    "s3://user@bucket/key",
    "s3://bucket:80/key",
    "s3://bucket\\@evil/key",
    "s3://b\u00fccket/key",
    "s3://bucket/../key",
    "s3://bucket/a/./b",
    "s3://bucket/a/..",
    "s3://bucket/.",
    "s3://bucket/a\x00b",
    "s3://bucket/a\nb",
    "s3://bucket/\ud800",
    "gs://..a/key",
    "gs://a/../key",
    "gs://bucket/../../other/key",
    "gs://Bucket/key",
    "gs://bucket",
    "gs://bucket%2f/key",
]


@pytest.mark.parametrize("url", NO_OBJECTS)
def test_an_object_without_a_sure_https_url_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        place(url)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_an_objects_key_comes_back_out_of_its_url(key: str) -> None:
    try:
        asset = place(f"s3://bucket/{key}")
    except UrlRefused:
        assert any(c < " " or c == "\x7f" for c in key) or {".", ".."} & set(key.split("/"))
        return
    assert isinstance(asset, Asset)
    parts = split_url(asset.id)
    assert (parts.host, unquote(parts.path), parts.query) == ("bucket.s3.amazonaws.com", f"/{key}", "")


# Relative ones


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("./blobs/x", "blobs/x"),
        ("blobs/x", "blobs/x"),
        ("x", "x"),
        ("a b%20#?.nwb", "a b%20#?.nwb"),
        ("./a:b", "a:b"),
        ("\u00e9", "\u00e9"),
        ("../x", "../x"),  # whether it leads out is seen when it is opened
        ("a/../../x", "a/../../x"),
        (".", "."),
    ],
)
@pytest.mark.parametrize("folder", ["/data/session.lindi.d", "/data/session.lindi.d/"])
def test_a_relative_url_is_a_file_that_must_lie_in_the_references_folder(url: str, path: str, folder: str) -> None:
    assert place(url, LocalFolder(folder)) == LocalFile(f"/data/session.lindi.d/{path}", (folder,))
    allow = ("/other/", "https://x.org/", "file:///third%20one")
    assert place(url, LocalFolder(folder), allow) == LocalFile(
        f"/data/session.lindi.d/{path}", (folder, "/other/", "/third one")
    )


BELOW = {
    "./blobs/x": "blobs/x",
    "blobs/x": "blobs/x",
    "a/./b": "a/./b",
    "a//b": "a//b",
    "a b": "a%20b",
    "a%20b": "a%20b",
    "\u00e9": "%C3%A9",
    "x?a=b": "x?a=b",
    "x#y": "x",
    "./a:b": "a:b",
    "...": "...",
    "x..y": "x..y",
    "user@host": "user@host",
    "%252e%252e/x": "%252e%252e/x",
}


@pytest.mark.parametrize("base", ["https://example.org/data/d", "https://EXAMPLE.org:443/data/d/", f"{REMOTE.url}"])
@pytest.mark.parametrize("url", BELOW)
def test_a_relative_url_of_remote_references_is_a_url_below_their_folder(url: str, base: str) -> None:
    folder = base.partition("?")[0].rstrip("/").rpartition("/")[2]
    assert place(url, RemoteFolder(base)) == Asset(None, f"https://example.org/data/{folder}/{BELOW[url]}")


NOT_BELOW = [
    "..",
    "../x",
    "./../x",
    "a/../../x",
    "a/../x",
    "a/..",
    "%2e%2e/x",
    "%2E./x",
    ".%2e/x",
    "a/%2e%2e/x",
    "a%2f..%2f..%2fx",
    "a%2F%2E%2E%2Fx",
    "..%2fx",
    "..\\x",
    "a\\..\\..\\x",
    "..%5cx",
    "a%2eb",
    "//evil.org/x",
    "a\nb",
    "a\x00b",
    "\ud800",
]


@pytest.mark.parametrize("url", NOT_BELOW)
def test_a_relative_url_never_leads_out_of_a_remote_folder(url: str) -> None:
    for allow in ((), ("https://example.org/",)):
        with pytest.raises(UrlRefused):
            place(url, REMOTE, allow)


@given(st.text("a./%2eE5cCfF\\:@?#[] \u00e9", max_size=16))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_no_mangled_relative_url_leads_out_of_a_remote_folder(url: str) -> None:
    try:
        asset = place(url, RemoteFolder("https://example.org/a/d/"))
    except UrlRefused:
        return
    assert isinstance(asset, Asset)
    joined = urljoin("https://example.org/a/d/", asset.id)
    assert joined.startswith("https://example.org/a/d/")
    assert posixpath.normpath(unquote(urlsplit(joined).path).replace("\\", "/")).startswith("/a/d")


def test_a_remote_folder_has_the_policy_of_all_urls() -> None:
    loopback = RemoteFolder("http://127.0.0.1:8000/data/")
    with pytest.raises(UrlRefused, match="plain http"):
        place("x", loopback)
    assert place("x", loopback, ("http://127.0.0.1:8000/data",)) == Asset(
        None, "http://127.0.0.1:8000/data/x", ("http://127.0.0.1:8000/data",)
    )
    with pytest.raises(UrlRefused, match="not at an asset's download"):
        place("x", RemoteFolder(f"{API}/assets/"))


def test_a_relative_url_needs_a_folder_that_it_starts_from() -> None:
    for url in ("x", "./x", "../x", "a/b"):
        with pytest.raises(UrlRefused, match="a dict lies in no folder"):
            place(url, None)
        with pytest.raises(UrlRefused, match="has no such file"):
            place(url, BASES["bundle"])


@pytest.mark.parametrize("file", [LocalFile("/data/session.lindi.tar"), Asset(BUILTIN[0], ID)])
def test_an_empty_url_is_the_bundle_that_the_references_lie_in(file: Asset | LocalFile) -> None:
    assert place("", BundleFile(file)) == file
    for base in (None, FOLDER, REMOTE):
        with pytest.raises(UrlRefused, match="these lie in none"):
            place("", base)


# Local paths

ABSOLUTE = {
    "/data/x.nwb": "/data/x.nwb",
    "/data/a b%20#?": "/data/a b%20#?",
    "/data/../etc/passwd": "/data/../etc/passwd",  # where it leads is seen when it is opened
    "file:///data/x.nwb": "/data/x.nwb",
    "FILE:///data/x.nwb": "/data/x.nwb",
    "file://localhost/data/x.nwb": "/data/x.nwb",
    "file:///data/a%20b%23": "/data/a b#",
    "file:///data/%2e%2e/x": "/data/../x",
    "file:///data/\u00e9": "/data/\u00e9",
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("url", ABSOLUTE)
def test_a_local_path_is_refused_until_its_folder_is_allowed(url: str, base: str) -> None:
    for allow in ((), ("https://example.org/",)):
        with pytest.raises(UrlRefused, match="allow=") as caught:
            place(url, BASES[base], allow)
    remedy = caught.value.reason.partition("allow=['")[2].partition("']")[0]
    assert place(url, BASES[base], (remedy,)) == LocalFile(ABSOLUTE[url], (remedy,))


NO_PATHS = [
    "//host/x",
    "file:x",
    "file:/x",
    "file://",
    "file://x",
    "file://host/x",
    "file://../x",
    "file:///x?y",
    "file:///x#y",
    "file:///a%00b",
    "file:///a%0ab",
    "file:///%ff",
    "file:////host/x",
    "/a\x00b",
    "/a\nb",
    "/\ud800",
    "C:/x",
    "c:\\x",
    "memory://x",
    "simplecache::https://example.org/x",
    "data:text/plain,x",
    "javascript:alert(1)",
    "abfs://x/y",
    "https:/example.org/x",
]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("url", NO_PATHS)
def test_what_is_no_path_is_refused_whatever_is_allowed(url: str, base: str) -> None:
    with pytest.raises(UrlRefused):
        place(url, BASES[base], ("/", "https://example.org/"))


def test_an_allowed_folder_allows_no_url() -> None:
    for allow in ("/", "file:///"):
        with pytest.raises(UrlRefused, match="plain http"):
            place("http://example.org/x", None, (allow,))


@pytest.mark.parametrize("prefix", ["/data", "/data/", "/", "file:///data/", "https://x.org/", "http://127.0.0.1:1/a"])
def test_a_prefix_that_makes_sense_passes(prefix: str) -> None:
    check_prefix(prefix)


@pytest.mark.parametrize(
    "prefix", ["", "data", "./data", "//data", "/a\0b", "file://host/x", "file:///a%00", "s3://b/k"]
)
def test_a_prefix_that_makes_none_is_refused(prefix: str) -> None:
    with pytest.raises(UrlRefused):
        check_prefix(prefix)


def test_no_value_shows_what_a_url_may_sign_with() -> None:
    url = "https://bucket.example/x?X-Amz-Signature=planted"
    for value in (
        POLICY.asset(url),
        POLICY.target(Source(url), None),
        RemoteFolder(url),
        BundleFile(POLICY.asset(url)),
    ):
        assert "planted" not in f"{value!r} {value}"
