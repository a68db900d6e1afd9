"""The folder of a job: where its results go, and what it keeps for the next run."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson
import zstandard

from lindi_dask.batch.plan import place_of
from lindi_dask.errors import ConfigurationError
from lindi_dask.factory import StoreFactory
from lindi_dask.jobs.writing import writing
from lindi_dask.refs import SourceTable
from lindi_dask.saving import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from lindi_dask.batch.asset_task import Indexed
    from lindi_dask.refs import References
    from lindi_dask.types import AssetInfo

__all__ = ["JobFolder"]

_CARD: Final = ".card.json.zst"
_UNFINISHED: Final = re.compile(r"\.[0-9a-f]{12}\.part$")  # of `write_file` and `References.save`


class JobFolder:
    """A folder of references, under the paths of their assets.

    Parameters
    ----------
    folder
        Absolute.
    ending
        Of the references.
    """

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder = folder
        self.table = folder / "catalogue.parquet"
        self.page = folder / "catalogue.html"
        self.ledger = folder / ".job" / "ledger.jsonl"
        self.lock = folder / ".job" / "lock"
        self._cards = folder / ".job" / "cards"
        self._ending = ending

    def make(self) -> None:
        """Make the folder; `ConfigurationError` if that can't be done."""
        with writing(self.folder):
            self.lock.parent.mkdir(parents=True, exist_ok=True)

    def tidy(self) -> None:
        """Remove what was being written when an earlier run died; under the lock."""
        with writing(self.folder):
            for path in [path for path in self.folder.rglob(".*.part") if _UNFINISHED.search(path.name)]:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def references(self, info: AssetInfo) -> Path:
        """Return where the references of an asset are; `ConfigurationError` if its path can't be that of a file."""
        return self.folder / place_of(info.path, self._ending)

    def has(self, info: AssetInfo) -> bool:
        """Return whether the results of an asset are there."""
        try:
            return self.references(info).exists() and self._card(info).exists()
        except ConfigurationError:
            return False

    def save(self, info: AssetInfo, indexed: Indexed) -> None:
        """Write the results of an asset, each as a whole or not at all; what can't be translated is left out.

        Raises
        ------
        LindiError
            If that can't be done.
        """
        self._write(info, indexed.references(), indexed.card)

    def move(self, info: AssetInfo) -> None:
        """Give references the URL of an asset that took the place of theirs; errors are those of `save`."""
        references, _ = StoreFactory(self.references(info)).load()
        for manifest in references.manifests.values():
            manifest.locate(manifest.present())  # those that are read when they are needed enter their sources then
        sources = (references.sources[number] for number in range(len(references.sources)))
        moved = [
            replace(source, url=info.url, address=info.address) if source.data is None else source for source in sources
        ]
        self._write(info, replace(references, sources=SourceTable(tuple(moved))), self.card(info))

    def _write(self, info: AssetInfo, references: References, card: dict[str, Any]) -> None:
        path = self.references(info)
        form: Literal["kerchunk"] | None = "kerchunk" if self._ending == ".json" else None
        known = {
            "path": info.path,
            "asset": info.asset.id,
            "address": info.address,
            "size": info.size,
            "references": path.relative_to(self.folder).as_posix(),
        }
        with writing(path):
            for folder in (path.parent, self._card(info).parent):
                folder.mkdir(parents=True, exist_ok=True)
            references.save(path, form=form, skip_unreadable=True)
            write_file(self._card(info), [zstandard.compress(orjson.dumps({**card, **known}))])

    def card(self, info: AssetInfo) -> dict[str, Any]:
        """Return the card of an asset that is done."""
        card: dict[str, Any] = orjson.loads(zstandard.decompress(self._card(info).read_bytes()))
        return card

    def _card(self, info: AssetInfo) -> Path:
        return self._cards / place_of(info.path, _CARD)
