from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

from lindi_dask import errors
from lindi_dask.errors import LindiError

if TYPE_CHECKING:
    from collections.abc import Callable


def tree(kind: type[LindiError] = LindiError) -> list[type[LindiError]]:
    found = [kind]
    for below in kind.__subclasses__():
        found += tree(below)
    return [kind for kind in found if kind.__module__ == errors.__name__]


ALL = tree()
KNOWN: dict[str, str] = {}
ATTRIBUTES: dict[str, Any] = {
    "key": "a/0",
    "reason": "odd",
    "asset": "dandi:1",
    "retry_after_s": 1.5,
    "attempts": 3,
    "cls": 1,
}


def test_all_errors_are_exported() -> None:
    assert sorted(kind.__name__ for kind in ALL) == errors.__all__ == sorted(errors.__all__)
    assert all(getattr(errors, name) in ALL for name in errors.__all__)


def test_the_modules_docstring_draws_the_tree_that_there_is() -> None:
    drawn = [line for line in (errors.__doc__ or "").splitlines() if "──" in line]
    parents = {0: "LindiError"}
    for line in drawn:
        depth, name = line.index("──") // 4, line.partition("──")[2].split()[0]
        parents[depth] = name
        assert getattr(errors, name).__base__.__name__ == parents[depth - 1]
    assert {line.partition("──")[2].split()[0] for line in drawn} | {"LindiError"} == set(errors.__all__)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_no_error_is_one_that_zarr_takes_for_a_missing_chunk(kind: type[LindiError]) -> None:
    assert not issubclass(kind, (LookupError, OSError, ValueError, TypeError))


@pytest.mark.parametrize(
    "copy",
    [
        lambda error: pickle.loads(pickle.dumps(error)),
        lambda error: pickle.loads(pickle.dumps(error, protocol=2)),
        lambda error: pickle.loads(cloudpickle.dumps(error)),
        LindiError.fresh,
    ],
    ids=["pickled", "pickled by protocol 2", "cloudpickled", "fresh"],
)
@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_a_copy_has_the_type_the_message_and_the_attributes(
    kind: type[LindiError], copy: Callable[[LindiError], LindiError]
) -> None:
    error = LindiError.__new__(kind)
    LindiError.__init__(error, "what happened", **ATTRIBUTES)
    again = copy(error)
    assert type(again) is kind
    assert again is not error
    assert (again.args, str(again)) == (("what happened",), "what happened")
    assert vars(again) == ATTRIBUTES


def test_a_fresh_error_has_neither_traceback_nor_context_nor_notes() -> None:
    try:
        try:
            KNOWN["a secret"]
        except KeyError:
            raise LindiError("what happened", key=1)  # noqa: B904 - the context is what is tried
    except LindiError as caught:
        error = caught
    error.add_note("a note")
    again = error.fresh()
    assert (again.__traceback__, again.__context__, again.__cause__) == (None, None, None)
    assert vars(again) == {"key": 1}


def test_attributes_that_were_not_given_have_their_defaults() -> None:
    error = errors.StorageUnavailable("what happened")
    assert (error.retry_after_s, error.attempts) == (None, 1)
