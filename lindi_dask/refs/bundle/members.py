"""Members of a tar that only its index vouches for: checked before their bytes pass for data. Pure.

Over a network each check is a request. Where references point into few members, all are checked at once; else those
of the chunks that are asked for, so that opening does not cost more the more there are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from lindi_dask.refs.bundle.tar_headers import BLOCK, invalid, is_header_of
from lindi_dask.refs.manifest import ChunkManifest, ColumnManifest
from lindi_dask.types import ByteRange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lindi_dask.refs.bundle.tar import Tar
    from lindi_dask.refs.manifest import Locations
    from lindi_dask.refs.references import References

    ReadMany: TypeAlias = Callable[[Sequence[ByteRange]], list[bytes]]

__all__ = ["checked"]

_AT_ONCE: Final = 8  # members that are checked where the references are opened


def checked(references: References, tar: Tar, read: ReadMany) -> References:
    """Return references into a tar, so that no chunk is ever read from a place where its member is not.

    Parameters
    ----------
    references
        Of the tar's document, located in the tar by its index; `Source("")` is the tar.
    tar
        Its members.
    read
        Returns the bytes of some ranges of the tar, in their order; raises `LindiError`s only. It is called here if
        there are few members to check, else where chunks are located.

    Raises
    ------
    InvalidReferences
        If a member does not lie where the index says; here, or later by `ChunkManifest.locate`.
    """
    number = next((i for i in range(1, len(references.sources)) if references.sources[i].url == ""), None)
    if tar.verified or number is None:
        return references
    members = _Members(tar, number, read)
    inside = {
        path: manifest
        for path, manifest in references.manifests.items()
        if isinstance(manifest, ColumnManifest) and bool((manifest.columns.sources == number).any())
    }
    used = [members.of(manifest.columns) for manifest in inside.values()]
    wanted = np.unique(np.concatenate(used)) if used else np.empty(0, np.intp)
    if len(wanted) <= _AT_ONCE:
        members.check(wanted)
        return references
    manifests = {path: _CheckedManifest(manifest, members) for path, manifest in inside.items()}
    return replace(references, manifests={**references.manifests, **manifests})


class _CheckedManifest(ChunkManifest):
    """A manifest that gives out places in a tar after it has looked whether their members lie there. Thread-safe."""

    def __init__(self, manifest: ColumnManifest, members: _Members) -> None:
        self.grid = manifest.grid
        self._manifest = manifest
        self._members = members

    def locate(self, places: NDArray[np.uint64]) -> Locations:
        """Return where the chunks at these places of the grid lie."""
        found = self._manifest.locate(places)
        self._members.check(self._members.of(found))
        return found

    def present(self) -> NDArray[np.uint64]:
        """Return the places of the listed chunks, ascending; checks nothing."""
        return self._manifest.present()


class _Members:
    """The members of a tar by their places, and which were checked. Thread-safe: two may check the same, once each."""

    def __init__(self, tar: Tar, source: int, read: ReadMany) -> None:
        items = sorted(tar.members.items(), key=lambda item: item[1].offset)
        self._names = [name for name, _ in items]
        self._places = [place for _, place in items]
        self._starts = np.array([place.offset for place in self._places], np.uint64)
        self._checked = np.zeros(len(items), bool)
        self._source = source
        self._read = read

    def of(self, locations: Locations) -> NDArray[np.intp]:
        """Return the numbers of the members that hold chunks, each once."""
        offsets = locations.offsets[locations.sources == self._source]
        return np.unique(np.searchsorted(self._starts, offsets, side="right") - 1)

    def check(self, numbers: NDArray[np.intp]) -> None:
        """Raise `InvalidReferences` if one of these members does not lie where the index says."""
        new = numbers[~self._checked[numbers]].tolist()
        if not new:
            return
        headers = self._read([ByteRange(self._places[i].offset - BLOCK, BLOCK) for i in new])
        for i, header in zip(new, headers, strict=True):
            if not is_header_of(header, self._names[i], self._places[i].length):
                raise invalid(self._names[i], "the bundle's index says that it lies where it does not")
        self._checked[new] = True
