"""Where keys come from, on real requests to the embedded archive; the keyring is a real one, in a file."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import keyring
import pytest
from keyrings.alt.file import PlaintextKeyring

import lindi_dask as ld
from lindi_dask.archive import keys
from lindi_dask.archive.instances import BUILTIN
from lindi_dask.archive.keys import find_key, offer_keys
from lindi_dask.errors import AuthenticationError, ConfigurationError
from lindi_dask.types import Instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from lindi_dask.testing import EmbeddedArchive

LOCAL = Instance("local", "http://127.0.0.1:8901/api", ("LOCAL_API_KEY",))
KNOWN = (*BUILTIN, LOCAL)
LFP = "processing/ecephys/LFP/LFP/data"

# In a process that multiprocessing started, as dask's nannies start workers
CHILD = """
import multiprocessing, sys
def ask(pipe):
    from lindi_dask.archive.keys import find_key
    from lindi_dask.types import Instance
    found = find_key(Instance("local", "http://127.0.0.1:8901/api", ("LOCAL_API_KEY",)), {})
    pipe.send(None if found is None else found.value)
if __name__ == "__main__":
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=ask, args=(there,))
    ask(there)
    print(here.recv())
    child.start()
    print(here.recv())
    child.join()
"""


@pytest.fixture(autouse=True)
def _nothing_offered() -> Iterator[None]:
    yield
    keys._offered.clear()


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], None]:
    """A keyring in a file, as of this process and those that it starts; keeps keys in it as dandi-cli does."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
    monkeypatch.setattr(keyring.core, "_keyring_backend", PlaintextKeyring())
    return lambda instance, key: keyring.set_password(f"dandi-api-{instance}", "key", key)


def test_a_function_comes_before_the_environment_and_that_before_the_keyring(kept: Callable[[str, str], None]) -> None:
    environ: dict[str, str] = {}
    assert find_key(LOCAL, environ) is None
    kept("local", "of-keyring")
    assert (found := find_key(LOCAL, environ)) is not None
    assert (found.value, found.place) == ("of-keyring", "the keyring's entry dandi-api-local")
    environ["LOCAL_API_KEY"] = "of-environment"
    assert (found := find_key(LOCAL, environ)) is not None
    assert (found.value, found.place) == ("of-environment", "LOCAL_API_KEY")
    offer_keys(KNOWN, {"local": lambda: "of-function"})
    assert (found := find_key(LOCAL, environ)) is not None
    assert found.value == "of-function"
    assert "of-function" not in repr(found)
    offer_keys(KNOWN, {"local": lambda: None})
    assert (found := find_key(LOCAL, environ)) is not None
    assert found.value == "of-environment"


def test_a_function_is_asked_for_its_own_archive_only() -> None:
    offer_keys(KNOWN, {"dandi": lambda: "of-dandi"})
    namesake = Instance("dandi", "https://api.evil.example/api", ("DANDI_API_KEY",))
    found = [find_key(instance, {}) for instance in (BUILTIN[0], LOCAL, BUILTIN[1], namesake)]
    assert [one and one.value for one in found] == ["of-dandi", None, None, None]


@pytest.mark.parametrize(
    ("offered", "message"),
    [({"nowhere": lambda: "x"}, "no instance 'nowhere'"), ({"dandi": "planted-key"}, "must be a function")],
)
def test_what_is_no_function_of_a_known_archive_is_refused_unshown(offered: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        offer_keys(KNOWN, offered)
    assert "planted" not in f"{caught.value!r}{vars(caught.value)}"


def _fails() -> str:
    raise RuntimeError("planted-key")


@pytest.mark.parametrize("function", [_fails, lambda: "planted\nkey", lambda: b"planted"])
def test_a_function_that_fails_is_an_error_that_shows_nothing_of_it(function: Any) -> None:
    offer_keys(KNOWN, {"local": function})
    with pytest.raises(ConfigurationError, match=r"api_keys\['local'\]") as caught:
        find_key(LOCAL, {"LOCAL_API_KEY": "x"})
    assert "planted" not in f"{caught.value!r}{vars(caught.value)}{caught.value.__context__!r}"


def test_the_keyring_is_asked_in_a_process_of_the_users_and_not_in_one_that_it_started(
    kept: Callable[[str, str], None], tmp_path: Path
) -> None:
    kept("local", "of-keyring")
    script = tmp_path / "script.py"
    script.write_text(CHILD)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["of-keyring", "None"]


def test_a_key_by_function_reads_and_never_leaves_the_process(
    embedded_archive: EmbeddedArchive, session_refs: Callable[..., dict[str, Any]], session_h5: Any, data: Path
) -> None:
    asked = 0

    def ask() -> str:
        nonlocal asked
        asked += 1
        return embedded_archive.owner_token

    asset = embedded_archive.add(data / "session.nwb")
    options: dict[str, Any] = {"instances": {"local": embedded_archive.api_url}}
    array = ld.open_array(session_refs(asset.url), LFP, api_keys={"local": ask}, **options)
    assert asked == 0
    assert array[:10].compute().tolist() == session_h5[LFP][:10].tolist()
    assert asked == embedded_archive.counts()["exchanges"] == 1
    factory = ld.StoreFactory(session_refs(asset.url), api_keys={"local": ask}, **options)
    assert embedded_archive.owner_token.encode() not in pickle.dumps(factory)  # `ask` itself can't be pickled
    with pytest.raises(ConfigurationError, match="belong to the StoreFactory"):
        ld.open_store(factory, api_keys={"local": ask})


def test_a_bad_key_is_blamed_on_where_it_is_from(
    embedded_archive: EmbeddedArchive, session_refs: Callable[..., dict[str, Any]], data: Path
) -> None:
    asset = embedded_archive.add(data / "session.nwb")
    array = ld.open_array(
        session_refs(asset.url),
        LFP,
        api_keys={"local": lambda: "planted" * 5},
        instances={"local": embedded_archive.api_url},
    )
    with pytest.raises(AuthenticationError, match=r"the function in api_keys\['local'\]") as caught:
        array[:1].compute()
    assert "planted" not in repr(caught.value)
